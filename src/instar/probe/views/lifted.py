"""What the view of heads says of the entities of a text: how many times the share of chance they are given."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...config import InputError
from ..capture import Side
from ..look import Look
from ..panel import Array, Bars, Figure, Words
from ..relations import DRAWS, drawn_spans, p_value, stack_lifts
from ..spans import Span, held, spans

NAMED = 12  # entities that a note names
NONE = Words(
    "No entity shows in the writing of this text; entities can be named.",
    "此文本从写法上看不出实体；可以指明实体。",
)
ENTITIES, RANDOM = Words("entities", "实体"), Words("random spans", "随机片段")


@dataclass(frozen=True)
class Lifted:
    """mask (S,): the keys that are entities; lifts (L, H); None where there are none."""

    mask: Tensor | None = None
    lifts: Array | None = None
    data: dict[str, Any] | None = None
    figures: list[Figure] = field(default_factory=list)
    notes: list[Words] = field(default_factory=list)


def lift_of(look: Look, side: Side, which: str, sinks: Tensor) -> Lifted:
    """The lift of the words that were asked for, or of what shows in the writing. Raises InputError for a word that the
    text does not have, and for words of a text that is ids alone."""
    subject = look.subject
    if subject.tokenizer is None:
        if look.ask.entities:
            raise InputError("found entities, which are words, and no tokenizer; leave them out, or give a text")
        return Lifted()
    text = subject.source_text if which == "cross" or side is look.trace.encoder else subject.text
    found = _spans(look, text)
    mask = held(look.keys, [(one.start, one.end) for one in found]) & ~sinks
    if not bool(mask.any()):
        return Lifted(notes=[NONE])
    drawn = drawn_spans(mask, ~sinks, DRAWS, look.ask.seed)
    lifts = stack_lifts(side, torch.cat([mask[None], drawn]), which=which, sinks=sinks).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a mean of nothing is NaN, and that is meant
        layers = np.nanmean(lifts.astype(np.float64), 1)  # (L, 1 + N)
        chance = np.nanmean(layers[:, 1:], 1)
    if not np.isfinite(layers[:, 0]).any():
        return Lifted(notes=[NONE])
    p = [p_value(float(row[0]), row[1:]) for row in layers]
    data = {
        "spans": [{"start": one.start, "end": one.end, "text": text[one.start : one.end], "kind": one.kind}
                  for one in found],
        "lift": [_number(row[0]) for row in layers], "random": [_number(x) for x in chance],
        "p": [_number(x) for x in p], "draws": DRAWS,
    }  # fmt: skip
    known = [layer for layer, row in enumerate(layers) if np.isfinite(row[0])]
    figure = Bars(
        Words("How many times the share of chance entities are given", "实体得到的注意力是随机水平的几倍"),
        [str(layer) for layer in known],
        {ENTITIES: [float(layers[layer, 0]) for layer in known], RANDOM: [float(chance[layer]) for layer in known]},
        Words("mean of the layer's heads; 1 is chance", "该层各头平均；1 为随机水平"),
    )
    return Lifted(mask, lifts[..., 0].astype(np.float32), data, [figure], [_note(found, text, p)])


def _spans(look: Look, text: str) -> list[Span]:
    wanted = [word for word in (part.strip() for part in look.ask.entities.split(",")) if word]
    keys = look.keys
    if not wanted:
        often = torch.bincount(torch.tensor([key.id for key in keys]))
        return spans(text, keys, frequencies=often)
    last = max((key.end for key in keys), default=0)  # of a long text the beginning alone is read
    found = [one for one in spans(text[:last], keys, listed=wanted) if one.kind == "listed"]
    said = {text[one.start : one.end] for one in found}
    if missing := [word for word in wanted if word not in said]:
        raise InputError(f"entities: found {missing[0]!r}, and the text that is read does not have this word")
    return found


def _note(found: list[Span], text: str, p: list[float]) -> Words:
    names = list(dict.fromkeys(text[one.start : one.end] for one in found))
    more = ", ..." if len(names) > NAMED else ""
    named, chances = ", ".join(names[:NAMED]) + more, ", ".join(f"{x:.3f}" for x in p)
    return Words(
        f"Entities: {named}. p of each layer, by {DRAWS} random spans of the same lengths: {chances}. "
        f"What is near is looked at more wherever it stands, so that random spans may have more than 1.",
        f"实体：{named}。以 {DRAWS} 组等长随机片段检验，各层 p 值：{chances}。"
        f"近处的词元本来就更受关注，随机片段也可能超过 1。",
    )


def _number(x: Any) -> float | None:
    return float(x) if np.isfinite(x) else None
