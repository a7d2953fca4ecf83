"""Whether a head says again what it looks at, read off its weights alone.

Letters: D model, H heads, K key-value heads, E head size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor

from ..infer.reader import resting
from ..model.attention import Attention
from ..model.heads import MaskedHead
from ..model.layers import Linear
from ..model.transformer import Transformer
from .capture import Side, attention_of, words_of

ROWS = 256  # rows of the stream that are turned into words at a time


def copying(model: Transformer, side: Side, which: str = "self") -> Tensor | None:
    """How much each head makes a token that it looks at likelier to be said: sum(l) / sum(|l|) over the eigenvalues l
    of W_E W_V W_O W_U (V, V), from -1 to 1 (Elhage et al. 2021) -> (L, H) in fp32, 1 where all are positive.

    They are those of the small matrix W_O W_U W_E W_V (E, E), and zeros. What stands between is left out: norms with
    their gains, positions, biases, caps and other layers, of a masked head all but its last product. None where there
    is nothing to compare: an encoder whose states another stack reads, a model without words, a source with a
    vocabulary of its own.
    """
    with resting(model):
        seen = _circuit(model, side, which)
        if seen is None:
            return None
        found = []
        for layer in range(len(side.blocks)):
            found.append([_share(circuit) for circuit in circuits(attention_of(side, layer, which), seen)])
        return torch.tensor(found)


@torch.no_grad()
def trace_gap(model: Transformer, side: Side, which: str, layer: int, head: int) -> float:
    """How far the sum of a head's eigenvalues is from the trace of the whole matrix (V, V), taken word by word, in
    parts of the sum of their sizes: the two are equal, and the first never sees a word. NaN where `copying` is None."""
    with resting(model):
        seen = _circuit(model, side, which)
        return float("nan") if seen is None else _trace_gap(model, side, which, layer, head, seen)


def _trace_gap(model: Transformer, side: Side, which: str, layer: int, head: int, seen: Tensor) -> float:
    attention = attention_of(side, layer, which)
    values = torch.linalg.eigvals(list(circuits(attention, seen))[head].double())
    size, own = attention.size, head // (attention.heads // attention.kv_heads)
    embeddings = model.embed(torch.arange(model.config.vocab_size, device=model.device)).to(seen)
    moved = embeddings @ matrix(attention.v).to(seen)[:, own * size : (own + 1) * size]  # (V, E)
    outputs = matrix(attention.out).to(seen)[head * size : (head + 1) * size]
    words, wide = _words(model), model.config.d_model
    said = outputs.new_zeros(size, model.config.vocab_size)  # (E, V)
    for start in range(0, wide, ROWS):
        said += outputs[:, start : start + ROWS] @ matrix(words, start, min(start + ROWS, wide)).to(seen)
    whole = (moved.double() * said.T.double()).sum()
    return float((values.real.sum() - whole).abs() / values.abs().sum().clamp(min=1e-30))


def circuits(attention: Attention, seen: Tensor) -> Iterator[Tensor]:
    """W_O seen W_V of each head (E, E), where seen (D, D) takes the stream to words and back to their embeddings."""
    size, groups = attention.size, attention.heads // attention.kv_heads
    values = matrix(attention.v).to(seen.dtype).unflatten(1, (attention.kv_heads, size))
    outputs = matrix(attention.out).to(seen.dtype).unflatten(0, (attention.heads, size))
    for head in range(attention.heads):
        yield outputs[head] @ seen @ values[:, head // groups]


@torch.no_grad()
def matrix(layer: Linear, start: int = 0, stop: int | None = None) -> Tensor:
    """Rows [start, stop) of what a layer multiplies its input by, with its adapters and however its weights are kept:
    (in, out), without the bias."""
    first = next(chain(layer.parameters(), layer.buffers()))
    stop = layer.in_features if stop is None else stop
    wide = torch.promote_types(first.dtype, torch.float32)
    ones = torch.zeros(stop - start, layer.in_features, dtype=wide, device=first.device)
    ones[torch.arange(stop - start), torch.arange(start, stop)] = 1.0
    # past what a head of words does after its product
    return Linear.forward(layer, ones) - Linear.forward(layer, torch.zeros_like(ones[:1]))


def _words(model: Transformer) -> Linear:
    """The last product of the head that says tokens."""
    head = words_of(model)
    words = head.out if isinstance(head, MaskedHead) else head
    assert isinstance(words, Linear)
    return words


@torch.no_grad()
def _circuit(model: Transformer, side: Side, which: str) -> Tensor | None:
    """W_U W_E (D, D), a few rows of the stream at a time: there is never a second matrix of all words."""
    if side.stack is not model or (which == "cross" and model.config.source_vocab_size):
        return None
    if not {"lm", "masked"} & set(model.heads):
        return None
    words, size = _words(model), model.config.d_model
    embeddings = model.embed(torch.arange(model.config.vocab_size, device=model.device))
    embeddings = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
    starts = range(0, size, ROWS)
    return torch.cat([matrix(words, start, min(start + ROWS, size)).to(embeddings) @ embeddings for start in starts])


def _share(circuit: Tensor) -> float:
    values = torch.linalg.eigvals(circuit.double())
    total = float(values.abs().sum())
    return float(values.real.sum()) / total if total else 0.0
