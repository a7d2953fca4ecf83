"""The cloze: a story with one word left out that the rest of the story determines.

- colour: another sentence names the same thing with its colour;
- thing: "the red [MASK]" was named before, and nothing else in the story is red;
- person: who gives, moves or loses a thing, or is robbed of it, is the one who has it, as told before;
- pronoun: the same sentence names whom it stands for, or opens with the pronoun for the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ...config import InputError
from .address import Address
from .annotate import PRONOUNS, phrases
from .event import Event
from .facts import Fact
from .ontology import Entity, Item
from .template import Template
from .writer import Record, Writer

MASK = "[MASK]"
TRIES = 5000
# the role of a frame that only the one who has its thing can fill
HOLDERS = {
    "put": "a", "carry": "a", "give": "a", "take": "b", "fix": "a", "lose": "a", "break": "a", "spoil": "a",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mention:
    """A hole of a told sentence: the role and form that filled it, with what, and where it begins in the story."""

    event: Event
    role: str
    form: str
    phrase: str
    at: int
    # whether it names the one who had the thing, as the story told before
    holder: bool

    @property
    def item(self) -> Item | None:
        return self.event.item(self.role) if self.role in ("x", "y") else None

    def word(self, word: str) -> tuple[int, int] | None:
        """Where a word stands that the phrase may hold."""
        inside = self.phrase.find(word)
        return None if inside < 0 else (self.at + inside, self.at + inside + len(word))


@dataclass
class Mentions:
    """All mentions of a story, collected while it is told."""

    language: int
    found: list[Mention] = field(default_factory=list)
    has: dict[Item, Entity] = field(default_factory=dict)

    def event(self, event: Event, template: Template, text: str, start: int) -> None:
        held = self.has.get(event.effects[0][1]) if event.effects else None
        holder = held is not None and event.roles.get(HOLDERS.get(event.frame, "")) is held
        for role, form, phrase, at in phrases(template, event.roles, self.language, text, start):
            self.found.append(Mention(event, role, form, phrase, at, holder and role == HOLDERS[event.frame]))
        for what, item, who in event.effects:
            self.has.pop(item, None)
            if what == "hold" and who is not None:
                self.has[item] = who

    def fact(self, fact: Fact, template: Template, text: str, start: int) -> None:
        """A cloze tells no fixed facts."""

    def blanks(self, kind: str) -> Iterator[tuple[Event, tuple[int, int]]]:
        """The determined words of a kind: the event that tells each, and its place in the story."""
        for mention in self.found:
            place = BLANKS[kind](self, mention)
            if place is not None:
                yield mention.event, place

    def colour(self, mention: Mention) -> tuple[int, int] | None:
        tint = self.tint(mention)
        elsewhere = (each for each in self.found if each.event is not mention.event and each.item is mention.item)
        return tint if tint and any(map(self.tint, elsewhere)) else None

    def tint(self, mention: Mention) -> tuple[int, int] | None:
        """Where a mention of a thing says its colour."""
        return mention.word(mention.item.colour.forms[self.language][""]) if mention.item else None

    def thing(self, mention: Mention) -> tuple[int, int] | None:
        item = mention.item
        # the form "d" of a new thing, in Chinese, looks as if it were known
        if item is None or mention.form or mention.event.roles[mention.role] is not item.old:
            return None
        others = (each.item for each in self.found if each.item not in (None, item))
        alone = all(other.colour is not item.colour for other in others if other)
        return mention.word(item.thing.forms[self.language]["name"]) if alone else None

    def person(self, mention: Mention) -> tuple[int, int] | None:
        return (mention.at, mention.at + len(mention.phrase)) if mention.holder and not mention.form else None

    def pronoun(self, mention: Mention) -> tuple[int, int] | None:
        if mention.form not in PRONOUNS:
            return None
        # an opening pronoun might be a name
        first = next(each for each in self.found if each.event is mention.event and each.role == mention.role)
        opening = mention.event.pronoun and first is mention
        return None if opening else mention.word(mention.phrase.removesuffix("的"))


BLANKS = {"colour": Mentions.colour, "thing": Mentions.thing, "person": Mentions.person, "pronoun": Mentions.pronoun}


def cloze(address: Address, number: int) -> Record:
    """{"text", "answer"}: a story with [MASK] for one word, which the rest determines; "kind" says how.

    "story" is the whole, whose letters from "start" to "end" are the answer; "fact" is what the sentence with the blank
    tells. In a test it is held out, so that no training text holds the sentence.
    """
    writer = Writer(address, number)
    turn = number // len(address.lang) // len(address.threads)
    kind = address.blanks[turn % len(address.blanks)]
    story, fact, (start, end) = _told(writer, kind)
    return {
        "text": story[:start] + MASK + story[end:], "answer": story[start:end], "story": story, "start": start,
        "end": end, "kind": kind, "fact": fact, "determined": True, "lang": writer.code, "threads": writer.threads,
    }  # fmt: skip


def _told(writer: Writer, kind: str) -> tuple[str, str, tuple[int, int]]:
    """A story that determines a word of the kind, the fact that its sentence tells, and where the word stands. Any
    question may have made the story."""
    kinds = writer.address.kinds
    for _ in range(TRIES):
        writer.kind = writer.pick(kinds)
        mentions = Mentions(writer.language.index)
        story = writer.told(writer.tell(), mentions)
        found = [(event.fact, place) for event, place in mentions.blanks(kind) if writer.train or event.held_out]
        if found:
            return story, *writer.pick(found)
    raise InputError(
        f"world:cloze?blanks={kind}&threads={writer.threads}&events={writer.events}&kinds={','.join(kinds)}: "
        f"no blank in {TRIES} stories; wanted stories that name a thing twice: more events, or kinds=who"
    )
