"""Annotations of a text: which words name what, who did what to whom, and where cause, contrast and intent are told.

Positions count characters, [start, end). Spans and arcs follow from the events and templates; only the words of
cause, contrast and intent are looked up, and only in frames that can hold them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .event import Event
from .facts import Fact
from .ontology import Entity
from .template import Roles, Template

PRONOUNS = frozenset({"he", "him", "his"})
TYPES = frozenset(
    {"person", "animal", "thing", "part", "place", "food", "organisation", "product", "technology", "field"}
)
# frame -> (relation, from role, to role); `does` is who did what to whom
ARCS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "find": (("does", "a", "x"), ("thing-place", "x", "p"), ("owner-thing", "a", "x")),
    "own": (("owner-thing", "a", "x"), ("owner-thing", "a", "y")),
    "put": (("does", "a", "x"), ("thing-place", "x", "p")),
    "carry": (("does", "a", "x"), ("thing-place", "x", "p")),
    "give": (("does", "a", "x"), ("to-whom", "a", "b"), ("owner-thing", "b", "x")),
    "take": (("does", "a", "x"), ("from-whom", "a", "b"), ("owner-thing", "a", "x")),
    "meet": (("does", "a", "b"), ("person-place", "a", "p")),
    "lose": (("does", "a", "x"),),
    "break": (("does", "a", "x"),),
    "spoil": (("does", "b", "x"), ("owner-thing", "a", "x")),
    "make": (("does", "a", "x"), ("owner-thing", "a", "x")),
    "buy": (("does", "a", "x"), ("owner-thing", "a", "x")),
    "see": (("does", "a", "b"), ("person-place", "b", "p")),
    "want": (("person-place", "a", "q"), ("wants-place", "a", "p")),
    "gather": (("person-place", "a", "p"),),
    "order": (("before", "a", "b"), ("person-place", "a", "p")),
    "eat": (("does", "a", "g"), ("person-place", "a", "p")),
    "fix": (("does", "a", "w"), ("part-whole", "w", "x"), ("thing-place", "x", "p")),
}
RELATIONS = {
    "home": "organisation-place", "studies": "organisation-field", "leader": "organisation-person",
    "field": "technology-field", "uses": "product-technology", "maker": "product-organisation",
    "serves": "product-field", "part": "part-whole", "den": "animal-place", "food": "animal-food",
    "young": "animal-young",
}  # fmt: skip
MARKERS: tuple[dict[str, tuple[str, ...]], ...] = (
    {
        "cause": ("because", "so"),
        "contrast": ("but", "although", "instead"),
        "intent": ("wanted to", "hoped to"),
    },
    {"cause": ("因为", "所以"), "contrast": ("但是", "可是", "虽然", "而是"), "intent": ("想去", "希望去")},
)
# only where a frame's wording can hold them
MARKED = {"cause": frozenset({"lose", "break", "spoil", "make", "buy", "see", "fix"}),
          "contrast": frozenset({"want", "take"}), "intent": frozenset({"want"})}  # fmt: skip


class Notes(Protocol):
    """What is told sentence by sentence while a text is written; `text` begins at `start`."""

    def event(self, event: Event, template: Template, text: str, start: int) -> None: ...
    def fact(self, fact: Fact, template: Template, text: str, start: int) -> None: ...


def phrases(
    template: Template, roles: Roles, language: int, text: str, start: int
) -> Iterator[tuple[str, str, str, int]]:
    """(role, form, phrase, where it begins) of each hole; `text` begins at `start`, its lead before the template."""
    words = [roles[role].forms[language][form] if role else "" for _, role, form in template]
    at = start + len(text) - sum(len(literal) + len(word) for (literal, _, _), word in zip(template, words))
    for (literal, role, form), word in zip(template, words):
        at += len(literal)
        if role:
            yield role, form, word, at
        at += len(word)


@dataclass
class Sentences:
    """Where each sentence stands, and nothing else."""

    sentences: list[dict[str, Any]] = field(default_factory=list)

    def event(self, event: Event, template: Template, text: str, start: int) -> None:
        self.sentences.append({"start": start, "end": start + len(text)})

    def fact(self, fact: Fact, template: Template, text: str, start: int) -> None:
        self.sentences.append({"start": start, "end": start + len(text)})


@dataclass
class Annotations:
    """Collected while a text is written, sentence by sentence."""

    language: int
    spans: list[dict[str, Any]] = field(default_factory=list)
    arcs: list[dict[str, Any]] = field(default_factory=list)
    links: list[dict[str, Any]] = field(default_factory=list)
    sentences: list[dict[str, Any]] = field(default_factory=list)

    def event(self, event: Event, template: Template, text: str, start: int) -> None:
        """One told event: `text` begins at `start`; its lead stands before the template's own words."""
        spoken = self.sentence(template, event.roles, text, start)
        for relation, source, target in ARCS[event.frame]:
            self.arc(relation, event.frame, spoken, source, target)
        for kind, words in MARKERS[self.language].items():
            if event.frame in MARKED[kind]:
                self.mark(kind, words, text, start)
        self.sentences.append({"start": start, "end": start + len(text), "frame": event.frame, "fact": event.fact})

    def fact(self, fact: Fact, template: Template, text: str, start: int) -> None:
        spoken = self.sentence(template, fact.roles, text, start)
        self.arc(RELATIONS[fact.relation], fact.relation, spoken, "s", "o")
        told = f"{fact.relation}|{fact.roles['s'].key}|{fact.roles['o'].key}"
        self.sentences.append({"start": start, "end": start + len(text), "frame": fact.relation, "fact": told})

    def sentence(self, template: Template, roles: Roles, text: str, start: int) -> dict[str, list[int]]:
        """Add the spans of one sentence; returns the spans of each role, in order."""
        spoken: dict[str, list[int]] = {}
        for role, form, phrase, at in phrases(template, roles, self.language, text, start):
            if form != "m":  # a measure word names nothing
                spoken.setdefault(role, []).extend(self.mentions(roles[role], form, phrase, at))
        return spoken

    def mentions(self, entity: Entity, form: str, phrase: str, at: int) -> list[int]:
        """The spans of the entity, or of a group's members, inside a phrase that begins at `at`."""
        found = []
        for each in entity.members or (entity,):
            if each.type not in TYPES:
                continue
            word = each.forms[self.language]["name"]
            if form in PRONOUNS:
                word = phrase.removesuffix("的")
            elif each.type == "food" and form == "s":  # a plural, "apples"
                word = phrase
            inside = phrase.find(word)
            span = {"start": at + inside, "end": at + inside + len(word), "type": each.type, "entity": each.key}
            if form in PRONOUNS:
                span["pronoun"] = True
            found.append(len(self.spans))
            self.spans.append(span)
        return found

    def arc(self, relation: str, frame: str, spoken: dict[str, list[int]], source: str, target: str) -> None:
        """Arcs run between first mentions, from every member of a group."""
        for one in spoken.get(source, []):
            if self.spans[one]["entity"] == self.spans[spoken[source][0]]["entity"] and one != spoken[source][0]:
                continue
            for other in spoken.get(target, [])[:1]:
                self.arcs.append({"relation": relation, "frame": frame, "from": one, "to": other})

    def mark(self, kind: str, words: Sequence[str], text: str, start: int) -> None:
        lowered = text.lower()
        for word in words:
            at = find_word(lowered, word)
            if at >= 0:
                self.links.append({"type": kind, "start": start + at, "end": start + at + len(word)})

    def record(self) -> dict[str, Any]:
        return {"spans": self.spans, "arcs": self.arcs, "links": self.links, "sentences": self.sentences}


def find_word(text: str, word: str) -> int:
    """Where a whole word stands: find_word("also so", "so") -> 5; Chinese has no spaces to look for."""
    if not word.isascii():
        return text.find(word)
    return f" {text} ".replace(",", " ").find(f" {word} ")
