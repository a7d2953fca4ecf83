"""What a masked model makes of hidden tokens: the share that it restores, and its surprise at them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch

from ..batch import IGNORE
from ..config import InputError
from ..data.collate import fill, view_of
from ..data.noise import choose, generator
from ..infer.reader import resting
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer
from ..text.words import Words
from .likelihood import Likelihood, surprise

RATE = 0.15
CONTEXT = 512


@dataclass(frozen=True)
class Hidden:
    """ids as the model sees them, the places where it sees a mask, and what stood there; cut: how many tokens before
    and after them were left out because the model reads no more."""

    ids: list[int]
    places: list[int]
    wanted: list[int]
    cut: int = 0


def hide(
    model: Transformer,
    tokenizer: Tokenizer,
    texts: Iterable[str],
    *,
    context: int = 0,
    seed: int = 0,
    rate: float = RATE,
) -> Iterator[Hidden]:
    """Each text as a document, in windows of `context` tokens (0: the model's longest, at most 512), of which a share
    is hidden: each ordinary token with probability `rate`, at least one of a window. What is hidden depends on the
    seed and on the number of the window alone. A window without an ordinary token is left out, having nothing to hide.
    """
    mask, longest = _mask(model, tokenizer), model.config.max_positions
    context = context or min(longest, CONTEXT)
    if not 1 <= context <= longest:
        raise InputError(f"context={context}, wanted from 1 to {longest}, the longest that the model reads")
    control, number = Words(tokenizer).control, 0
    for text in texts:
        ids = np.array(tokenizer.document(text), np.int64)
        for start in range(0, len(ids), context):
            part = ids[start : start + context]
            chosen = choose(np.arange(len(part)), ~control[part], rate, generator(seed, number))
            number += 1
            if chosen.any():
                seen = np.where(chosen, mask, part)
                yield Hidden(seen.tolist(), np.flatnonzero(chosen).tolist(), part[chosen].tolist())


def hide_part(model: Transformer, tokenizer: Tokenizer, texts: Sequence[tuple[str, str, str]]) -> list[Hidden]:
    """(before, hidden, behind): every token that holds a character of the middle one is hidden.

    Of a text that is too long about as much is read before the hidden as after it. Raises InputError where the hidden
    alone is too long.
    """
    mask, longest = _mask(model, tokenizer), model.config.max_positions
    frame, head = tokenizer.document(""), len(tokenizer.prompt(""))
    found = []
    encoded = tokenizer.encode_places(["".join(parts) for parts in texts])
    for (before, missing, _), (ids, spans) in zip(texts, encoded):
        start, stop = len(before), len(before) + len(missing)
        inside = [n for n, (first, last) in enumerate(spans) if first < stop and last > start]
        if not 1 <= len(inside) <= longest:
            raise InputError(f"{missing[:40]!r} is {len(inside)} tokens, wanted from 1 to {longest}")
        full = [*frame[:head], *ids, *frame[head:]]
        places = [n + head for n in inside]
        first = max(0, min(places[0] - (longest - len(places)) // 2, len(full) - longest))
        seen = list(full)
        for place in places:
            seen[place] = mask
        seen = seen[first : first + longest]
        cut = len(full) - len(seen)
        found.append(Hidden(seen, [n - first for n in places], [full[n] for n in places], cut))
    return found


@torch.inference_mode()
def restore(
    model: Transformer,
    hidden: Iterable[Hidden],
    *,
    batch: int = 64,
    each: Callable[[int], None] = lambda done: None,
) -> list[Likelihood]:
    """The likelihood of what was hidden in each window, in their order; each hidden token is foreseen by itself.
    `batch` windows of about the same length are read at a time, which changes no figure; each: called with how many
    more were read."""
    found: dict[int, Likelihood] = {}
    numbered = enumerate(hidden)
    with resting(model):
        while held := sorted(islice(numbered, batch * 16), key=lambda one: len(one[1].ids)):
            for start in range(0, len(held), batch):
                part = held[start : start + batch]
                for (number, _), own in zip(part, _read(model, [one for _, one in part])):
                    found[number] = own
                each(len(part))
    return [found[number] for number in range(len(found))]


def report(found: Sequence[Likelihood]) -> dict[str, Any]:
    """windows and tokens hidden in them; accuracy, the share of tokens restored; loss in nats a token, perplexity."""
    if not found:
        raise InputError("no text to measure: every document is empty")
    tokens = sum(one.tokens for one in found)
    loss = -math.fsum(one.logprob for one in found) / tokens
    return {
        "accuracy": sum(one.hits for one in found) / tokens,
        "loss": loss,
        "perplexity": math.exp(min(700.0, loss)),
        "tokens": tokens,
        "windows": len(found),
    }


def _read(model: Transformer, part: Sequence[Hidden]) -> list[Likelihood]:
    rows = [[np.array(one.ids)] for one in part]
    width = max(len(one.ids) for one in part)
    targets = torch.full((len(part), width), IGNORE, dtype=torch.int64)
    for row, one in zip(targets, part):
        row[one.places] = torch.tensor(one.wanted)
    states = model.hidden(fill(rows, width, 0).to(model.device), view=view_of(rows, width).to(model.device))
    nats, hits = surprise(model, "masked", states, targets.to(model.device))
    sizes = [len(one.places) for one in part]
    return [
        Likelihood(-math.fsum(own.tolist()), len(own), int(right.sum()))
        for own, right in zip(nats.split(sizes), hits.split(sizes))
    ]


def _mask(model: Transformer, tokenizer: Tokenizer) -> int:
    """The id of the mask. Raises InputError where the model or the tokenizer knows none."""
    if "masked" not in model.heads:
        raise InputError(f"found a model with the heads {', '.join(model.heads) or '(none)'}, wanted the head masked")
    if tokenizer.mask is None:
        raise InputError("the tokenizer has no mask; train one with --masks, or use the one saved with the model")
    return tokenizer.mask
