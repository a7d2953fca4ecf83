"""What can be had without reading: predictions that every score is printed beside.

Each control maps records of `world:dialogues?split=test` to answers; those that need experience also see training
records. A model that does no better has not understood a story.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from random import Random
from typing import Any

Record = Mapping[str, Any]
Scores = dict[str, dict[str, tuple[int, int]]]


def turns(record: Record) -> Iterator[Record]:
    """The questions of a record: the turns of a training dialogue, or its only one. Small talk has none."""
    yield from record.get("questions", [record] if "question" in record else [])


def majority(taught: Iterable[Record], tested: Sequence[Record]) -> list[str]:
    """The most frequent training answer to questions of the kind."""
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for record in taught:
        for turn in turns(record):
            counts[record["lang"], turn["kind"]][turn["answer"]] += 1
    return [most_frequent(counts[record["lang"], record["kind"]]) for record in tested]


def most_frequent(counts: Counter[str]) -> str:
    """Ties go to the answer that sorts first, so that the order of records does not matter."""
    return min(counts, key=lambda answer: (-counts[answer], answer)) if counts else ""


def story_removed(taught: Iterable[Record], tested: Sequence[Record]) -> list[str]:
    """The most frequent training answer to the very same question, or else to questions of the kind."""
    taught = list(taught)
    same: dict[str, Counter[str]] = defaultdict(Counter)
    for record in taught:
        for turn in turns(record):
            same[turn["question"]][turn["answer"]] += 1
    return [
        most_frequent(same[record["question"]]) if record["question"] in same else guess
        for record, guess in zip(tested, majority(taught, tested))
    ]


def last_mentioned(taught: Iterable[Record], tested: Sequence[Record]) -> list[str]:
    """The candidate whose name stands last in the story; one that is never named loses."""
    return [by_place(record, max) for record in tested]


def first_mentioned(taught: Iterable[Record], tested: Sequence[Record]) -> list[str]:
    """The candidate whose name stands first in the story."""
    return [by_place(record, min) for record in tested]


def by_place(record: Record, extreme: Callable[..., str]) -> str:
    story = record["story"].lower()
    find = story.rfind if extreme is max else story.find
    places = {answer: find(name.lower()) for answer, name in zip(record["candidates"], record["mentions"]) if name}
    named = [answer for answer in places if places[answer] >= 0]
    return extreme(named, key=places.__getitem__) if named else record["candidates"][0]


def random_candidate(taught: Iterable[Record], tested: Sequence[Record]) -> list[str]:
    """One of the candidates, each as likely."""
    random = Random(0)
    return [random.choice(record["candidates"]) for record in tested]


CONTROLS: dict[str, Callable[[Iterable[Record], Sequence[Record]], list[str]]] = {
    "majority": majority,
    "first mentioned": first_mentioned,
    "last mentioned": last_mentioned,
    "random candidate": random_candidate,
    "story removed": story_removed,
}


def without_story(record: Record) -> dict[str, Any]:
    """The same record with nothing but the question in its first message, to ask a model that control."""
    first, *rest = record["messages"]
    return {**record, "story": "", "messages": [{**first, "content": record["question"]}, *rest]}


def exact(answer: str, wanted: str) -> bool:
    """Exact match, but for space around the answer."""
    return answer.strip() == wanted


def score(tested: Sequence[Record], answers: Sequence[str]) -> Scores:
    """(right, asked) by language and kind, and over all kinds as "all"."""
    right: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    for record, answer in zip(tested, answers, strict=True):
        for kind in (record["kind"], "all"):
            cell = right[record["lang"]][kind]
            cell[0] += exact(answer, record["answer"])
            cell[1] += 1
    return {code: {kind: (hit, asked) for kind, (hit, asked) in row.items()} for code, row in right.items()}
