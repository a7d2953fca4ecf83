"""The addresses of the world: "world:dialogues?size=village&threads=2&split=test&lang=en" -> Address. Strict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...config import InputError, unknown
from .manners import MANNERS, MIXED
from .ontology import LANGUAGES
from .questions import KINDS, MAIN

TASKS = ("stories", "dialogues", "preferences", "prompts", "translation", "order", "cloze")
# what a cloze leaves out: see `cloze`
BLANKS = ("colour", "thing", "person", "pronoun")
# in what the better answer of preferences is better
ASPECTS = ("right", "polite", "brief")
WORDS = "words"  # what the sentences are made of: one record a language, whatever the other keys say
SCHEME = "world:"


@dataclass(frozen=True)
class Address:
    """What to generate; the records depend on nothing else."""

    # one of TASKS, or WORDS
    task: str
    # village or town
    size: str = "village"
    # languages; with both, records take turns
    lang: tuple[str, ...] = LANGUAGES
    # train never holds a held-out fact; test asks for nothing else
    split: str = "train"
    # another seed, other records
    seed: int = 0
    # how many records
    count: int = 10_000
    # threads of a story; with several, records take turns
    threads: tuple[int, ...] = (2,)
    # events of each thread; with several, records take turns; none leaves it to the number of threads
    events: tuple[int, ...] = ()
    # kinds of question; a test takes turns among them
    kinds: tuple[str, ...] = KINDS
    # most questions about one story in a training dialogue
    turns: int = 6
    # whether each question of a training dialogue stands by itself behind the story, else all in one conversation
    apart: bool = False
    # whether an answer of a training dialogue names the sentence that it rests on
    evidence: bool = False
    # seen, or held-out (test only): each frame's last template
    templates: str = "seen"
    # whether fixed facts are told (an eighth of the stories) and asked (a sixteenth of the dialogues)
    facts: bool = True
    # whether a sixteenth of the training dialogues is small talk
    talk: bool = True
    # whether stories carry spans and arcs
    annotate: bool = False
    # whether a story of stories or cloze is told once more at its end, in other words
    recap: bool = False
    # whether order tells of a person and an animal, else of any two
    mixed: bool = False
    # whether the texts of order are three words each, a pair mirror images of each other
    mirror: bool = False
    # what a cloze leaves out, in turn
    blanks: tuple[str, ...] = BLANKS
    # how dialogues word their answers: bare, polite, rude, rambling, or mixed: each answer by itself one of these, of
    # 40 one bare and 13 of each other
    manner: str = "bare"
    # in what the better answers of preferences are better, in turn
    aspects: tuple[str, ...] = ASPECTS


def choice(*options: str) -> Callable[[str, str], str]:
    def read(name: str, text: str) -> str:
        if text not in options:
            raise unknown(f"value of {name}:", text, options)
        return text

    return read


def choices(*options: str) -> Callable[[str, str], tuple[str, ...]]:
    def read(name: str, text: str) -> tuple[str, ...]:
        found = tuple(choice(*options)(name, part) for part in text.split(","))
        if len(set(found)) < len(found):
            raise InputError(f"{name}={text} names one value twice; name each once")
        return found

    return read


def whole(least: int, most: int = 2**63) -> Callable[[str, str], int]:
    def read(name: str, text: str) -> int:
        number = int(text) if text.isascii() and text.isdigit() else -1
        if not least <= number <= most:
            raise InputError(
                f"{name}={text}: wanted a whole number from {least}{f' to {most}' if most < 2**63 else ''}"
            )
        return number

    return read


def switch(name: str, text: str) -> bool:
    return choice("0", "1", "no", "yes", "false", "true")(name, text) in ("1", "yes", "true")


def wholes(least: int, most: int) -> Callable[[str, str], tuple[int, ...]]:
    return lambda name, text: tuple(whole(least, most)(name, part) for part in text.split(","))


READERS: dict[str, Callable[[str, str], Any]] = {
    "size": choice("village", "town"),
    "lang": choices(*LANGUAGES),
    "split": choice("train", "test"),
    "seed": whole(0),
    "count": whole(0),
    "threads": wholes(1, 4),
    "events": wholes(2, 8),
    "kinds": choices(*KINDS, "main", "fact"),
    "turns": whole(1, 24),
    "apart": switch,
    "evidence": switch,
    "templates": choice("seen", "held-out"),
    "facts": switch,
    "talk": switch,
    "annotate": switch,
    "recap": switch,
    "mixed": switch,
    "mirror": switch,
    "blanks": choices(*BLANKS),
    "manner": choice(*MANNERS, MIXED),
    "aspects": choices(*ASPECTS),
}


def parse(address: str) -> Address:
    """Read an address. Raises InputError for an unknown task, key or value, with the nearest match.

    Example: parse("world:order?lang=zh&count=10").lang -> ("zh",)
    """
    if not address.startswith(SCHEME):
        raise InputError(f"found {address!r}, wanted an address such as world:stories?lang=en")
    task, _, query = address[len(SCHEME) :].partition("?")
    if task not in (*TASKS, WORDS):
        raise unknown("task", SCHEME + task, [SCHEME + name for name in (*TASKS, WORDS)])
    values: dict[str, Any] = {}
    for pair in query.split("&") if query else []:
        name, equals, text = pair.partition("=")
        if name not in READERS:
            raise unknown("key", f"{name} in {address}", READERS) if not equals else unknown("key", name, READERS)
        if name in values:
            raise InputError(f"{address}: {name} stands twice; keep one")
        if not equals:
            raise InputError(f"{address}: {name} has no value; write {name}=...")
        values[name] = READERS[name](name, text)
    return checked(Address(task, **values), address)


def checked(found: Address, address: str) -> Address:
    if found.templates == "held-out" and found.split == "train":
        raise InputError(f"{address}: templates=held-out is never taught; add split=test")
    own = (("manner", "dialogues", "bare"), ("apart", "dialogues", False), ("evidence", "dialogues", False))
    for name, task, usual in (*own, ("aspects", "preferences", ASPECTS)):
        if found.task != task and getattr(found, name) != usual:
            raise InputError(f"{address}: {name} is for world:{task}; leave it out")
    if found.task in ("preferences", "prompts") and "fact" in found.kinds:
        raise InputError(f"{address}: kinds=fact asks about no story, and {found.task} do; name other kinds")
    kinds = [kind for name in found.kinds for kind in (MAIN if name == "main" else (name,))]
    return Address(**(vars(found) | {"kinds": tuple(dict.fromkeys(kinds))}))
