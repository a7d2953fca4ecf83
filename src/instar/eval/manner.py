"""The manner of answers to the world's questions, and beside it whether they hold the right answer and no other.

A model may be tuned to a manner and forget what is true, or the other way round: one report tells both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..config import InputError
from ..config.options import SamplingOptions
from ..data.world import MANNERS, OTHER, PREFERRED, check, manner_of
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer
from . import fields
from .exact import Asked, ask

WANTED = "tests of world:dialogues, or world:prompts"
GROUPS = ("lang", "kind")
Record = dict[str, Any]
Report = dict[str, Any]


@dataclass(frozen=True)
class Mannered:
    """One answer with its manner, one of MANNERS or OTHER, and what `check` pays for it: 1, 0.5 or 0. wanted: the bare
    right answer."""

    asked: Asked
    wanted: str
    manner: str
    reward: float


def judge(
    model: Transformer,
    tokenizer: Tokenizer,
    records: Sequence[Record],
    options: SamplingOptions,
    *,
    batch: int = 64,
    seed: int = 0,
    each: Callable[[int], None] = lambda done: None,
) -> list[Mannered]:
    """The model's answers to the questions of some records, judged. Raises InputError for a record that is no question
    of the world."""
    for number, record in enumerate(records):
        if missing := {"answer", "candidates"} - set(record):
            raise InputError(f"record {number + 1} lacks {', '.join(sorted(missing))}; wanted {WANTED}")
    asked = ask(model, tokenizer, records, batch=batch, sampling=options, seed=seed, each=each)
    return [
        Mannered(one, record["answer"], manner_of(one.answer), check(record, one.answer))
        for record, one in zip(records, asked)
    ]


def report(judged: Sequence[Mannered]) -> Report:
    """Shares of all answers: preferred (PREFERRED manners), each manner, right (the right answer said and no other
    candidate), exact (that and nothing else), ended by itself; reward, the mean of what `check` pays. The same per
    language and kind."""
    return fields.by_groups(judged, [one.asked.groups for one in judged], GROUPS, _figures)


def _figures(judged: list[Mannered]) -> Report:
    return fields.means(
        [
            {
                "preferred": float(one.manner in PREFERRED),
                **{name: float(one.manner == name) for name in (*MANNERS, OTHER)},
                "right": float(one.reward > 0),
                "exact": float(one.reward == 1),
                "ended": float(one.asked.ended),
                "reward": one.reward,
            }
            for one in judged
        ]
    )


def shown(judged: Sequence[Mannered], most: int) -> list[Record]:
    """The first answers as they were given."""
    return [
        {
            "question": one.asked.prompt[-1]["content"].rpartition("\n")[2],
            "wanted": one.wanted,
            "answer": one.asked.answer,
            "manner": one.manner,
            "reward": one.reward,
        }
        for one in judged[:most]
    ]
