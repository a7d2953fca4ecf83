"""Minimal pairs (BLiMP, Warstadt et al. 2020; SLING, Song et al. 2022): is the good sentence the likelier one?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer
from . import fields
from .likelihood import score, whole

WANTED = '{"good", "bad"}'
GROUPS = ("term", "field", "paradigm")  # what a record may say it should be counted under


@dataclass(frozen=True)
class Pair:
    """Two sentences that differ in what is tested. groups: what the pair is counted under."""

    good: str
    bad: str
    groups: dict[str, str]


@dataclass(frozen=True)
class Judged:
    """A pair with the log-probability of each sentence, in nats; same: both are the same tokens, as where a vocabulary
    lacks the script, so that no model could tell them apart."""

    pair: Pair
    good: float
    bad: float
    same: bool = False

    @property
    def right(self) -> bool:
        return self.good > self.bad and not self.same


def pair_of(record: Mapping[str, Any]) -> Pair:
    """A record {"good", "bad"}. Raises InputError for another shape."""
    good, bad = (fields.text(record, name, WANTED) for name in ("good", "bad"))
    return Pair(good, bad, fields.groups(record, GROUPS))


def judge(
    model: Transformer,
    tokenizer: Tokenizer,
    pairs: Sequence[Pair],
    *,
    batch: int = 64,
    each: Callable[[int], None] = lambda done: None,
) -> list[Judged]:
    """Both sentences of each pair, each behind the begin token where the tokenizer has one, without an end.

    each: called with how many more sentences were read. Raises InputError for a sentence that the model cannot read.
    """
    windows = whole(model, tokenizer, [text for pair in pairs for text in (pair.good, pair.bad)])
    found = [one.logprob for one in score(model, windows, batch=batch, each=each)]
    same = [a.ids == b.ids for a, b in zip(windows[::2], windows[1::2])]
    return [Judged(*one) for one in zip(pairs, found[::2], found[1::2], same)]


def report(judged: Sequence[Judged]) -> dict[str, Any]:
    """records; acc, the share of pairs whose good sentence is likelier; same, that of pairs which are the same tokens;
    and all of it for each value of the groups."""
    rows = [{"acc": float(one.right), "same": float(one.same)} for one in judged]
    return fields.by_groups(rows, [one.pair.groups for one in judged], GROUPS, fields.means)
