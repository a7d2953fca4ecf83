"""Examples for probes from the world's own stories, in which what is true is written down: no parser guesses it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from ..config import InputError
from ..data.world.ontology import LANGUAGES
from ..data.world.tasks import records
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer
from .linear import Example
from .panel import Words
from .subject import Token, covering, read

Record = Mapping[str, Any]


class Found(NamedTuple):
    """A label at characters [start, end) of a story; group: what is tested apart, kind: what a control knows it by."""

    start: int
    end: int
    label: str
    group: str
    kind: str


class Task(NamedTuple):
    """What is asked of a story's states, and how it is found in its record."""

    title: Words
    about: Words
    find: Callable[[Record, str], Iterator[Found]]


def entities(record: Record, story: str) -> Iterator[Found]:
    """What kind of thing a word names. Tested on words that were not trained on."""
    for span in record["spans"]:
        if not span.get("pronoun"):
            word = record["text"][span["start"] : span["end"]].lower()
            yield Found(span["start"], span["end"], span["type"], word, word)


def roles(record: Record, story: str) -> Iterator[Found]:
    """Of persons and animals alone, so that the word does not tell: who acts, and who is acted on."""
    spans = record["spans"]
    found: dict[int, set[str]] = {}
    for arc in record["arcs"]:
        if arc["relation"] in ("does", "to-whom", "from-whom"):
            found.setdefault(arc["from"], set()).add("acts")
            found.setdefault(arc["to"], set()).add("acted on")
    for number, labels in sorted(found.items()):
        span = spans[number]
        if len(labels) == 1 and span["type"] in ("person", "animal") and not span.get("pronoun"):
            yield Found(span["start"], span["end"], min(labels), story, span["entity"])


def relations(record: Record, story: str) -> Iterator[Found]:
    """Whether a sentence tells a cause, a contrast or neither, at its end."""
    yield from _sentences(record, story, ("cause", "contrast"), "none")


def intents(record: Record, story: str) -> Iterator[Found]:
    """Whether a sentence tells what somebody meant to do, at its end."""
    yield from _sentences(record, story, ("intent",), "none")


def _sentences(record: Record, story: str, types: tuple[str, ...], none: str) -> Iterator[Found]:
    for sentence in record["sentences"]:
        start, end = sentence["start"], sentence["end"]
        told = {link["type"] for link in record["links"] if start <= link["start"] < end} & set(types)
        if len(told) < 2:
            words = record["text"][start:end].lower().rstrip(".。!?！？")
            last = words.split()[-1] if words.isascii() else words[-2:]
            yield Found(start, end, min(told, default=none), story, last)


TASKS: dict[str, Task] = {
    "entity": Task(
        Words("what a word names", "词指的是什么"),
        Words(
            "person, animal, thing, place or food, at the last token of the word; tested on words not trained on",
            "人、动物、物品、地点或食物，取该词最后一个词元；用训练中未见的词测试",
        ),
        entities,
    ),
    "role": Task(
        Words("who does it to whom", "谁对谁做"),
        Words(
            "a person or animal acts or is acted on, at the last token of its name; tested on other stories",
            "人或动物是施事还是受事，取名字最后一个词元；用其他故事测试",
        ),
        roles,
    ),
    "relation": Task(
        Words("cause or contrast", "因果或转折"),
        Words(
            "a sentence tells a cause, a contrast or neither, at its last token; tested on other stories",
            "句子表达因果、转折或两者皆非，取句末词元；用其他故事测试",
        ),
        relations,
    ),
    "intent": Task(
        Words("intent", "意图"),
        Words(
            "a sentence tells what somebody meant to do or not, at its last token; tested on other stories",
            "句子是否说出某人的打算，取句末词元；用其他故事测试",
        ),
        intents,
    ),
}


def spoken(tokenizer: Tokenizer) -> tuple[str, ...]:
    """The world's languages whose stories a tokenizer can spell; where it can spell none, all."""
    found = []
    for code in LANGUAGES:
        (text,) = (record["text"] for record in records(f"world:stories?facts=0&lang={code}&count=1"))
        if tokenizer.decode(tokenizer.encode(text)) == text:
            found.append(code)
    return tuple(found) or LANGUAGES


class Read(NamedTuple):
    """A story as a model reads it, and its record."""

    record: Record
    tokens: tuple[Token, ...]


def stories(
    model: Transformer, tokenizer: Tokenizer, count: int, seed: int = 0, languages: Sequence[str] = ()
) -> tuple[list[Read], int]:
    """So many annotated stories in these languages, by default those that are spelt, as the model reads them, an
    encoder-decoder's encoder, and how many of them are too long for it and left out.

    Raises InputError where sources have a vocabulary of their own.
    """
    spelt = ",".join(languages or spoken(tokenizer))
    address = f"world:stories?annotate=1&facts=0&seed={seed}&lang={spelt}&count={count}"
    target = "." if model.config.encoder_layers else ""
    frame = len(tokenizer.document(""))
    read_all, long = [], 0
    for record in records(address):
        if len(tokenizer.encode(record["text"])) + frame > model.config.max_positions:
            long += 1
            continue
        subject = read(model, tokenizer, record["text"], target=target)
        read_all.append(Read(record, subject.source or subject.tokens))
    return read_all, long


def examples(task: Task, told: Sequence[Read], most: int = 200) -> list[Example]:
    """Of each class the first `most`, in the order of the stories; classes of fewer than a tenth of that are left out.

    Raises InputError where fewer than two classes are left.
    """
    found: list[Example] = []
    for number, (record, tokens) in enumerate(told):
        ids = [token.id for token in tokens]
        for start, end, label, group, kind in task.find(record, str(number)):
            if places := covering(tokens, start, end):
                found.append(Example(ids, places[-1], label, group, kind))
    counts = Counter(example.label for example in found)
    wanted = {label for label, count in counts.items() if count >= most / 10}
    if len(wanted) < 2:
        raise InputError(
            f"found {len(wanted)} classes with {most // 10} examples or more in {len(told)} stories; read more of them"
        )
    taken: Counter[str] = Counter()

    def take(example: Example) -> bool:
        taken[example.label] += 1
        return example.label in wanted and taken[example.label] <= most

    return list(islice(filter(take, found), len(wanted) * most))
