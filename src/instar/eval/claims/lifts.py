"""How much more than chance gives every head looks at some words of a text."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...model.transformer import Transformer
from ...probe.relations import DRAWS, drawn_spans, p_value, stack_lifts
from ...probe.routing import sinks_among
from ...probe.spans import held
from ...probe.subject import Subject, read
from ...text.tokenizer import Tokenizer
from .verdict import Array

ALL, OTHERS = "entities", "other content words"
FEWER = 40  # draws where nothing but their mean is asked


@dataclass(frozen=True)
class Lifts:
    """Of one text. heads: by group of words, (L, H), 1 where all is looked at alike, NaN where a head says nothing of
    it. chance: by group, what spans of the same lengths at random places get, the mean over draws and heads: more than
    1 where heads look at what is near. random (N,): each of the draws of all entities."""

    heads: Mapping[str, Array]
    chance: Mapping[str, float]
    random: Array

    def mean(self, group: str = ALL) -> float:
        """Over heads."""
        return float(known_mean(self.heads[group]))

    def more(self, group: str = ALL) -> float:
        """By how much the group is looked at more than random spans are."""
        return self.mean(group) - self.chance[group]


def reads(model: Transformer, tokenizer: Tokenizer, text: str) -> Subject | None:
    """A text as the model reads it, in the encoder of an encoder-decoder; None where it is too long for it. Raises
    InputError where sources have a vocabulary of their own."""
    if len(tokenizer.document(text)) > model.config.max_positions:
        return None
    return read(model, tokenizer, text, target="." if model.config.encoder_layers else "")


def lifts(
    model: Transformer,
    tokenizer: Tokenizer,
    text: str,
    places: Sequence[tuple[int, int, str]],
    others: Sequence[tuple[int, int]] = (),
    *,
    seed: int = 0,
) -> Lifts | None:
    """Of entities (start, end, kind), characters [start, end); others: words that are none. The sink and what a token
    takes of itself are left out (`stack_lifts`). None where the text is too long for the model, or no head says
    anything of it."""
    subject = reads(model, tokenizer, text)
    if subject is None:
        return None
    trace = subject.capture()
    side = trace.own if trace.encoder is None else trace.encoder
    tokens = subject.source or subject.tokens
    sinks = sinks_among(tokens, causal=side.causal)
    masks = {ALL: held(tokens, [(start, end) for start, end, _ in places]) & ~sinks}
    if others:
        masks[OTHERS] = held(tokens, others) & ~sinks & ~masks[ALL]
    for kind in sorted({kind for _, _, kind in places}):
        masks[kind] = held(tokens, [(start, end) for start, end, named in places if named == kind]) & ~sinks
    drawn = [
        torch.cat([mask[None], drawn_spans(mask, ~sinks, DRAWS if name == ALL else FEWER, seed)])
        for name, mask in masks.items()
    ]
    parts = (
        stack_lifts(side, torch.cat(drawn), sinks=sinks).double().split([len(draws) for draws in drawn], -1)
    )  # of (L, H, 1 + draws)
    tables = {name: part.numpy() for name, part in zip(masks, parts) if bool(part[..., 0].isfinite().any())}
    if ALL not in tables:
        return None
    return Lifts(
        {name: table[..., 0] for name, table in tables.items()},
        {name: float(known_mean(table[..., 1:])) for name, table in tables.items()},
        known_mean(tables[ALL][..., 1:], (0, 1)),
    )


def known_mean(values: Array, axis: int | tuple[int, ...] | None = None) -> Array:
    """The mean of what is no NaN, NaN where there is nothing else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a mean of nothing is NaN, and that is meant
        return np.nanmean(values, axis)


def p_of(found: Sequence[Lifts]) -> float:
    """How often random spans get as much as the entities do, over all texts; at least 1 / (draws + 1)."""
    drawn = known_mean(np.stack([each.random for each in found]), 0)
    mean = float(np.mean([each.mean() for each in found]))
    return p_value(mean, drawn)


def best_head(found: Sequence[Lifts], seed: int) -> tuple[tuple[int, int], Array]:
    """The head with the highest lift in one half of the texts, and its lifts in the other half."""
    half = np.random.default_rng(seed).permutation(len(found)) % 2 == 0
    tables = np.stack([each.heads[ALL] for each in found])
    chosen = known_mean(tables[half], 0)
    layer, head = np.unravel_index(int(np.where(np.isnan(chosen), -np.inf, chosen).argmax()), chosen.shape)
    values = tables[~half, layer, head]
    return (int(layer), int(head)), values[np.isfinite(values)]
