"""The cache as it fills: what is kept in which layer of which token, how many bytes that is, and what it saves."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..config.options import SamplingOptions
from ..infer.reader import resting
from ..infer.tune import kept_in
from ..model.pages import BLOCK, blocks_of
from .capture import Trace
from .checks import by_cache, states_gap
from .panel import Unfit, Words
from .subject import Subject
from .telling import bytes_of, engine_for, gap, heard

DECODED = 64  # tokens at the end of a text that are read one by one, at most its second half
SAMPLES = 8  # lengths at which a pass without a cache is timed


@dataclass(frozen=True)
class Held:
    """A text read with a cache: its first tokens at once, the others one by one.

    nbytes: of the cache's tensors; formula: 2 L K E (T + S) b; size: b; keys, values (L, T): the norm of what is kept
    of each token, over all heads; source_keys, source_values (L, S); gap: of the states to those of a pass without a
    cache, as a share; prefilled: tokens read at once, in `prefill` seconds, encoding of a source counted; seconds: of
    each token after them; whole: (length, seconds) of passes without a cache.
    """

    nbytes: int
    formula: int
    size: int
    keys: np.ndarray
    values: np.ndarray
    source_keys: np.ndarray
    source_values: np.ndarray
    gap: float
    prefilled: int
    prefill: float
    seconds: list[float]
    whole: list[tuple[int, float]]


@torch.no_grad()
def hold(trace: Trace) -> Held:
    """Read the text of a trace once more, with a cache. Raises InputError for an encoder, which has none."""
    model, tokens, source = trace.model, trace.tokens, trace.source
    if not model.config.causal:
        raise Unfit(Words(
            "causal=false: an encoder reads the whole text at once and keeps no keys; wanted a decoder",
            "causal=false：编码器一次读完整段文本，不保存键；需要解码器",
        ))  # fmt: skip
    length, width = tokens.shape[1], 0 if source is None else source.shape[1]
    first = max(length - DECODED, (length + 1) // 2)
    took: list[float] = []

    def timed(work: Callable[[], Tensor]) -> Tensor:
        seconds, states = _timed(model.device, work)
        took.append(seconds)
        return states

    with resting(model):
        cache, states = by_cache(trace, [first, *[1] * (length - first)], run=timed)
        lengths = sorted({round(n) for n in np.linspace(first, length, min(SAMPLES, length - first + 1))})
        whole = [(n, _timed(model.device, lambda n=n: model.hidden(tokens[:, :n], source=source))[0]) for n in lengths]
    k, v = _norms([cache[layer].read() for layer in range(model.config.layers)])
    empty = np.zeros((model.config.layers, 0), dtype=np.float32)
    source_k, source_v = _norms([kept.read() for kept in cache.cross]) if cache.cross else (empty, empty)
    size = model.dtype.itemsize
    return Held(
        cache.bytes, bytes_of(model.config, length, width, size), size, k, v, source_k, source_v,
        states_gap(states, trace.hidden[0]), first, took[0], took[1:], whole,
    )  # fmt: skip


def _timed(device: torch.device, work):  # type: ignore[no-untyped-def]
    """Seconds, and what came of it."""
    started = time.perf_counter()
    found = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started, found


def _norms(layers: list[tuple[Tensor, Tensor]]) -> tuple[np.ndarray, np.ndarray]:
    """k, v (1, K, T, E) of each layer -> their norms over heads, (L, T) each."""
    k, v = (
        torch.stack([pair[which][0].float().pow(2).sum((0, 2)).sqrt() for pair in layers]).cpu().numpy()
        for which in (0, 1)
    )
    return k, v


@dataclass(frozen=True)
class Paged:
    """The same text in the engine's blocks: bytes in use, those that are meant to be, and how far its logits behind
    the text lie from those without a cache."""

    used: int
    meant: int
    gap: float


def page(subject: Subject, trace: Trace) -> Paged | None:
    """None of a model that has no language model's head, which no engine takes."""
    model, config = trace.model, trace.model.config
    if "lm" not in config.heads_of:
        return None
    ids = [token.id for token in subject.tokens]
    source = [token.id for token in subject.source] or None
    engine = engine_for(subject, ids, source, 1)
    engine.submit(ids, SamplingOptions("greedy", max_new_tokens=1), source=source)
    with heard(engine) as rows:
        engine.run()
    _, logits, used = rows[-1]
    # what lies behind a window is given back whenever a part of the text has filled a block
    before = len(ids) - 1 - (len(ids) - 1) % engine.schedule.chunk
    slid = len(ids) if len(ids) // BLOCK > before // BLOCK else before
    meant = 0
    windows = config.windows or (0,) * config.layers
    for window in windows:
        blocks = blocks_of(len(ids))
        if window:
            blocks -= max(0, slid - window + 1) // BLOCK
        meant += 2 * BLOCK * blocks * config.kv_heads * config.head_size * kept_in(model).itemsize
    if source:
        meant += bytes_of(config, blocks_of(len(source)) * BLOCK, 0, kept_in(model).itemsize)
    return Paged(used, meant, gap(logits[0], trace.logits()[0, -1]))
