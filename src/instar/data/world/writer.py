"""One record in the making: its story, its language, its sources of chance, and the sentences that come of them."""

from __future__ import annotations

from random import Random
from typing import Any

from .address import Address
from .annotate import Annotations, Notes
from .facts import Fact, answers, by_relation, facts
from .manners import worded
from .ontology import World, world
from .questions import Question, Scene, mention, questions
from .realise import Language, language
from .simulate import Story, tell
from .split import seed_of

Record = dict[str, Any]

# how often a kind is drawn for the further turns of a dialogue; what few stories can answer is drawn more
SHARES = {
    "who": 4, "whom": 4, "where": 5, "has": 5, "why": 8, "wanted": 8, "colour": 5, "count": 8, "yesno": 4, "order": 7,
    "two-hop": 4, "unknown": 2,
}  # fmt: skip


class Writer:
    """What both languages share draws from `chance`, wording from `words`, manners from `manners`; the seed leaves the
    language out.

    So the same number at two addresses that differ in one language is the same story in each.
    """

    def __init__(self, address: Address, number: int) -> None:
        self.address = address
        self.world: World = world(address.size)
        self.code = address.lang[number % len(address.lang)]
        self.language: Language = language(self.code)
        turn = number // len(address.lang)
        self.threads = address.threads[turn % len(address.threads)]
        self.events = address.events[turn // len(address.threads) % len(address.events)] if address.events else 0
        self.kind = address.kinds[turn // len(address.threads) % len(address.kinds)]
        self.train = address.split == "train"
        seed = seed_of(address.task, address.size, address.split, address.seed, self.threads, number)
        self.chance = Random(seed)
        self.words = Random(seed ^ 0x5DEECE66D).random
        self.manners = Random(seed ^ 0x2545F4914).random

    def pick(self, options: Any) -> Any:
        return options[int(self.chance.random() * len(options))]

    def notes(self) -> Annotations | None:
        return Annotations(self.language.index) if self.address.annotate else None

    def tell(self) -> Story:
        """A story of the split: in training without held-out facts, in a test with at least one."""
        while True:
            story = tell(
                self.world, self.chance, threads=self.threads, kind=self.kind, train=self.train, events=self.events
            )
            if self.train or any(event.held_out for event in story.events):
                return story

    def told(self, story: Story, notes: Notes | None = None) -> str:
        events = story.events + [event.retold() for event in story.events if self.address.recap]
        return self.language.story(events, self.words, self.address.templates == "held-out", notes)

    def asked(self, most: int) -> tuple[Story, list[Question]]:
        """A story and questions about it; in a test they are those of the record's kind whose fact is held out."""
        while True:
            story = self.tell()
            chosen = self.several(story, most) if self.train else self.tested(story, most)
            if chosen:
                return story, chosen

    def tested(self, story: Story, most: int) -> list[Question]:
        return [question for question in questions(Scene(story), self.kind) if question.held_out][:most]

    def several(self, story: Story, most: int) -> list[Question]:
        """The kind that the story was made for first, then kinds by their shares; nothing is asked twice."""
        scene = Scene(story)
        kinds = [kind for kind in self.address.kinds if kind in SHARES]
        shares = [SHARES[kind] for kind in kinds]
        order = [self.kind, *self.chance.choices(kinds, shares, k=3 * most)]
        pools: dict[str, list[Question]] = {}
        chosen: dict[tuple[object, ...], Question] = {}
        for kind in order:
            if kind not in pools:
                pools[kind] = questions(scene, kind)
            if pools[kind]:
                question = pools[kind].pop()
                chosen.setdefault((question.form, *question.roles.values()), question)
            if len(chosen) == most:
                break
        return list(chosen.values())

    def turn(self, question: Question) -> Record:
        """What is known of a question: its kind, level, wording, answer and the candidates that the story names."""
        words = self.language
        return {
            "kind": question.kind,
            "difficulty": question.level,
            "question": words.question(question, self.words()),
            "answer": words.answer(question.answer),
            "candidates": list(dict.fromkeys(map(words.answer, question.candidates))),
        }

    def mannered(self, turn: Record) -> Record:
        """The turn with "said", its answer in the manner of the address, and "manner"; a bare one as it is. What is
        said for friendliness alone stays."""
        if self.address.manner == "bare" or turn["kind"] == "talk":
            return turn
        manner, said = worded(self.address.manner, self.language.index, turn["answer"], self.manners)
        return turn | {"said": said, "manner": manner}

    def mentions(self, question: Question) -> list[str]:
        """The word that names each candidate in the story, "" where none does."""
        names = {}
        for answer in question.candidates:
            role, form = mention(answer), "colour" if answer[0] == "colour" else "name"
            name = answer[1][role].forms[self.language.index][form] if role else ""
            names[self.language.answer(answer)] = name
        return list(names.values())

    def fact_turn(self, fact: Fact) -> Record:
        """A question about a fixed fact, among four answers of its relation."""
        rest = [each for each in answers(fact.relation) if each is not fact.roles["o"]]
        others = self.chance.sample(rest, 3)
        options = [Fact(fact.relation, {**fact.roles, "o": each}) for each in (fact.roles["o"], *others)]
        return {
            "kind": "fact",
            "difficulty": 1,
            "question": self.language.fact_question(fact, self.words(), self.address.templates == "held-out"),
            "answer": self.language.fact_answer(fact),
            "candidates": sorted(map(self.language.fact_answer, options)),
        }

    def some_facts(self, most: int, held_out: bool | None) -> list[Fact]:
        """Distinct fixed facts; relations have equal shares. None takes held-out ones too."""
        chosen: list[Fact] = []
        while len(chosen) < most:
            fact = self.pick(by_relation()[self.pick(sorted(by_relation()))])
            if fact not in chosen and held_out in (None, fact.held_out):
                chosen.append(fact)
        return chosen

    def one_fact(self, number: int) -> Fact:
        """The held-out facts in turn."""
        kept = [fact for fact in facts() if fact.held_out]
        return kept[number % len(kept)]
