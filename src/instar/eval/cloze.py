"""Cloze: does the model say exactly what is missing, and how surprised is it by that?

A language model is asked what comes next (LAMBADA, Paperno et al. 2016), a masked one what stands at a hole in the text
(Taylor 1953).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..config import InputError
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer
from . import fields
from .choices import BLANK, join
from .likelihood import Likelihood, after, score
from .masked import hide_part, restore

NEXT, HOLE = '{"context", "continuation"}', '{"text", "answer"}, the text with [MASK] in place of the answer'
MASK = "[MASK]"
GROUPS = ("lang", "kind")  # what a record may say it should be counted under


@dataclass(frozen=True)
class Gap:
    """What is missing, between what stands before and after it."""

    before: str
    missing: str
    after: str = ""
    groups: dict[str, str] = field(default_factory=dict)


def next_of(record: Mapping[str, Any], between: str = BLANK) -> Gap:
    """A record {"context", "continuation"}, the two joined by `between`. Raises InputError for another shape."""
    context, continuation = (fields.text(record, name, NEXT) for name in ("context", "continuation"))
    return Gap(*join(context, _missing("continuation", continuation), between), groups=fields.groups(record, GROUPS))


def hole_of(record: Mapping[str, Any]) -> Gap:
    """A record {"text", "answer"} whose text has one [MASK]. Raises InputError for another shape."""
    text, answer = (fields.text(record, name, HOLE) for name in ("text", "answer"))
    if text.count(MASK) != 1:
        raise InputError(f'"text" holds {MASK} {text.count(MASK)} times, wanted once')
    before, _, behind = text.partition(MASK)
    return Gap(before, _missing("answer", answer), behind, fields.groups(record, GROUPS))


def fill(
    model: Transformer,
    tokenizer: Tokenizer,
    gaps: Sequence[Gap],
    *,
    batch: int = 64,
    each: Callable[[int], None] = lambda done: None,
) -> tuple[list[Likelihood], int]:
    """The likelihood of what is missing, and how many texts were cut because the model reads no more.

    A masked model sees a mask for each token of what is missing, and says all of them at once; a language model says
    one after the other, and sees nothing of what stands behind. each: called with how many more were read. Raises
    InputError where a gap is longer than the model reads.
    """
    if "masked" in model.heads:
        hidden = hide_part(model, tokenizer, [(gap.before, gap.missing, gap.after) for gap in gaps])
        return restore(model, hidden, batch=batch, each=each), sum(one.cut > 0 for one in hidden)
    windows = after(model, tokenizer, [(gap.before, gap.missing) for gap in gaps])
    return score(model, windows, batch=batch, each=each), sum(window.cut > 0 for window in windows)


def report(gaps: Sequence[Gap], found: Sequence[Likelihood]) -> dict[str, Any]:
    """For all and for each value of the groups: records; acc, the share of which every token is the likeliest;
    perplexity of what is missing as a whole, as lm-evaluation-harness reports LAMBADA; token_perplexity of a token of
    it; tokens."""
    return fields.by_groups(found, [gap.groups for gap in gaps], GROUPS, _figures)


def _figures(found: Sequence[Likelihood]) -> dict[str, Any]:
    nats, tokens = -math.fsum(one.logprob for one in found), sum(one.tokens for one in found)
    return {
        "records": len(found),
        "acc": sum(one.greedy for one in found) / len(found),
        "perplexity": math.exp(min(700.0, nats / len(found))),
        "token_perplexity": math.exp(min(700.0, nats / tokens)),
        "tokens": tokens,
    }


def _missing(name: str, value: str) -> str:
    if not value.strip():
        raise InputError(f'"{name}" is {value!r}, wanted a text')
    return value
