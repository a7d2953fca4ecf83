"""Proofs made on the very text that is looked at: each a gap between two ways to the same number, and how wide it may
be. Every one of them has been seen red on a kernel, a norm or a mask that was wrong.

Letters: B batch, T queries, S keys, D model, H heads, E head size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from ..batch import View
from ..config import InputError
from ..infer.reader import resting
from ..infer.tune import kept_in
from ..model.attention import Attention
from ..model.cache import KVCache
from ..model.layers import LayerNorm, RMSNorm
from ..model.pages import Pages
from ..model.ragged import Ragged, keep_sources
from .capture import Seam, Side, Trace, words_of
from .look import Look
from .panel import Check, Words
from .routing import carried, pieces

SINGLE = 16  # last tokens of a text that are read one by one; what stands before them is read at once
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
ROWS = Words("each row of attention adds up to 1", "注意力的每一行之和为 1")
FUTURE = Words(
    "what may not be seen, the future or what lies beyond a window, has exactly no share",
    "不该看的位置（未来的词元、窗口之外）份额恰好为 0",
)
VALUES = Words(
    "the shares drawn, times the values, are what the model computed", "画出的份额乘以值，等于模型算出的输出"
)
MOVED = Words(
    "what the heads carry, added up, is what attention added to the stream",
    "各头搬运的向量之和，等于注意力写入残差流的更新",
)
WATCHED = Words("without hooks the model computes the same, bit for bit", "不挂钩子再算一遍，逐位相同")
LENS = Words("the last row of the lens is the model's output, bit for bit", "透镜的最后一行与模型输出逐位相同")
FRESH = Words("the last norm is computed anew for each layer", "末尾的归一化在每一层都重新计算")
CACHED = Words(
    "with a cache, token by token, and with the engine's pages the model computes the same",
    "用缓存逐词元计算、用引擎的分页缓存计算，结果相同",
)
UNHOOKED = Words("no hook is left on the model", "模型上没有残留的钩子")


def limit(dtype: torch.dtype, wide: float = 1e-5) -> float:
    """How far sums in this dtype may lie apart, as a share of what is summed; wide: in fp32."""
    return {torch.float64: wide * 1e-6, torch.float32: wide, torch.float16: 5e-3}.get(dtype, 2e-2)


def rows_add_up(weights: Tensor) -> Check:
    """weights (..., T, S): |sum - 1| of every row."""
    return Check("attention_rows", _largest(weights.sum(-1) - 1), 1e-5, ROWS)


def future_is_zero(weights: Tensor, side: Side, layer: int | None = None, view: View | None = None) -> Check:
    """weights (B, H, T, T) or (T, T) of a stack's own attention: the largest share of a place that may not be seen,
    exactly 0. layer: whose window counts too; view: padding, other documents and other
    branches count as well, and a window is of its positions."""
    forbidden = _forbidden(side, weights.shape[-1], layer, view).to(weights.device)
    weights = weights if weights.ndim == 4 else weights[None, None]
    return Check("future", _largest(weights.masked_fill(~forbidden, 0)), 0.0, FUTURE)


def _forbidden(side: Side, count: int, layer: int | None, view: View | None) -> Tensor:
    """Written once more, and not taken from the model, whose mask is what is to be proven: (1, 1, T, T) or (B, ...)."""
    places = torch.arange(count)
    back = places[:, None] - places
    forbidden = (back < 0 if side.causal else torch.zeros(count, count, dtype=torch.bool))[None, None]
    windows = side.stack.config.windows
    if layer is not None and windows and 0 < windows[layer] < count:
        if view is not None and view.positions is not None:  # a window counts positions, not places
            positions = view.positions.cpu()
            back = (positions[:, :, None] - positions[:, None, :])[:, None]
        forbidden = forbidden | (back.abs() >= windows[layer])
    if view is None:
        return forbidden
    if view.segments is not None:
        segments = view.segments.cpu()
        forbidden = forbidden | (segments[:, None, :, None] != segments[:, None, None, :])
    if view.branches is not None:
        branches = view.branches.cpu()
        others = (branches[:, None, None, :] != 0) & (branches[:, None, :, None] != branches[:, None, None, :])
        forbidden = forbidden | others
    if view.keep is not None:  # what padding sees nobody reads
        keep = view.keep.cpu()
        forbidden = (forbidden | ~keep[:, None, None, :]) & keep[:, None, :, None]
    return forbidden


def values_give_output(seam: Seam) -> Check:
    """Weights times values against the output that the model's own kernel gave, as a share of the largest value."""
    gap = max(_value_gap(seam, heads, weights) for heads, weights in pieces(seam))
    return Check("weights_values", gap, limit(seam.y.dtype), VALUES)


def _value_gap(seam: Seam, heads: slice, weights: Tensor) -> float:
    values = seam.values()[:, heads].to(weights.dtype)
    return _relative(weights @ values, seam.y[:, heads], size=_largest(values))


def moved_is_update(seam: Seam, attention: Attention, update: Tensor) -> Check:
    """What each head carries by `carried`, summed, with the output layer's bias, against what attention gave (B, T, D):
    the proof of norm-weighted attention."""
    with torch.no_grad(), resting(attention):
        weights = seam.weights()
        bias = attention.out(seam.y.new_zeros(1, seam.y.shape[1] * seam.y.shape[3]))[0].to(weights.dtype)
        moved = [weights[:, head].to(x.dtype) @ x for head, x in enumerate(carried(seam.values(), attention))]
    return Check("heads_update", _relative(sum(moved, bias), update), limit(update.dtype), MOVED)


def watched_is_unwatched(trace: Trace, again: Tensor | None = None) -> Check:
    """The states behind the last norm (B, T, D) of a pass that nobody watches: the same, bit for bit, and with them
    everything that is said of them. again: such states, where they are at hand."""
    again = unwatched(trace) if again is None else again
    return Check("watched", _largest(again - trace.hidden), 0.0, WATCHED)


def unwatched(trace: Trace) -> Tensor:
    """The states of the same text once more, without a hook of ours: (B, T, D)."""
    model = trace.model
    # with gradients a CPU takes other kernels, which round otherwise
    with resting(model), torch.set_grad_enabled(trace.hidden.requires_grad):
        hidden = model.hidden(trace.tokens, view=trace.view, source=trace.source, source_view=trace.source_view)
    return hidden.detach()


def lens_is_output(trace: Trace, again: Tensor | None = None) -> Check:
    """The stream behind the last block through the last norm and the head for words, as a lens reads it, against the
    states that a pass without hooks hands to that head; the logits of the last token are compared too. Raises
    InputError where no head says words."""
    again = unwatched(trace) if again is None else again
    with torch.set_grad_enabled(trace.hidden.requires_grad):
        read = trace.own.stack.norm(trace.own.last)
    gap = _largest(read.detach() - again)
    with torch.no_grad():
        head = words_of(trace.model)
        said = _largest(head(read.detach()[:, -1:]) - head(again[:, -1:]))
    return Check("lens", _worst((gap, said)), 0.0, LENS)


@torch.no_grad()
def norm_is_fresh(trace: Trace) -> Check:
    """The last norm of each row of the stream against its formula in fp64: one that keeps the scale of another layer is
    seen."""
    norm = trace.own.stack.norm
    rows = [row.detach() for row in trace.own.stream]
    gap = _worst(_relative(norm(row).cpu(), _normed(norm, row.cpu().double())) for row in rows)
    return Check("norm", gap, limit(trace.own.last.dtype), FRESH)


def _normed(norm: nn.Module, x: Tensor) -> Tensor:
    if isinstance(norm, RMSNorm):
        return x * (x.square().mean(-1, keepdim=True) + norm.eps).rsqrt() * norm.gain().cpu().double()
    if isinstance(norm, LayerNorm):
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred * (centred.square().mean(-1, keepdim=True) + norm.eps).rsqrt() * norm.weight.cpu().double()
        return scaled if norm.bias is None else scaled + norm.bias.cpu().double()
    return x


@torch.no_grad()
def cached_is_uncached(trace: Trace) -> Check:
    """The states of each token by a KVCache, and by the pages of an engine, its last 16 tokens one by one and those
    before them at once: how far they lie from those of one pass, as a share of their size. Raises InputError for an
    encoder, which has no cache, and for texts with padding."""
    if not trace.own.causal:
        raise InputError("causal=false: an encoder sees the whole text at once and keeps no cache; wanted a decoder")
    if trace.view is not None or (trace.source_view is not None and len(trace.tokens) > 1):
        raise InputError("found a view; a cache reads texts without padding: pass each by itself")
    gaps = []
    with resting(trace.model):
        for row in range(len(trace.tokens)):
            counts = _cut(trace.tokens.shape[1])
            for states in (by_cache(trace, counts, row)[1], _by_pages(trace, counts, row)):
                gaps.append(states_gap(states, trace.hidden[row]))
    return Check("cached", _worst(gaps), cached_limit(trace.hidden.dtype), CACHED)


def states_gap(found: Tensor, wanted: Tensor) -> float:
    """How far states (T, D) lie from others, the largest of all tokens, as a share of their size."""
    found, wanted = found.detach().double(), wanted.detach().double()
    size = wanted.square().mean(-1).sqrt()
    return _largest((found - wanted).square().mean(-1).sqrt() / size.clamp(min=1e-12))


def cached_limit(dtype: torch.dtype) -> float:
    """How far states by a cache may lie from those without: every layer rounds anew, and in half precision that is
    seen."""
    wide = limit(dtype, 1e-4)
    return 5 * wide if dtype.itemsize == 2 else wide


def _cut(count: int) -> list[int]:
    """How many tokens each pass reads."""
    single = min(count, SINGLE)
    return [*([count - single] if count > single else []), *[1] * single]


def _about(trace: Trace, row: int) -> Tensor | None:
    """The source of one text, without its padding: (1, S)."""
    if trace.source is None:
        return None
    source = trace.source[row : row + 1]
    return (
        source if trace.source_view is None or trace.source_view.keep is None else source[trace.source_view.keep][None]
    )


def by_cache(
    trace: Trace,
    counts: Sequence[int],
    row: int = 0,
    run: Callable[[Callable[[], Tensor]], Tensor] = lambda work: work(),
) -> tuple[KVCache, Tensor]:
    """Read a text of a trace once more with a cache, so many tokens a pass -> the cache, full, and the states (T, D).
    run: does each pass, and may time it."""
    model, tokens, source = trace.model, trace.tokens[row : row + 1], _about(trace, row)
    room = 0 if source is None else source.shape[1]
    cache = KVCache(
        model.config, 1, tokens.shape[1], source_capacity=room, dtype=model.dtype, device=model.device
    )  # as large as the text: `dynamic` positions go by what there is room for
    found = []
    for number, part in enumerate(tokens.split(list(counts), dim=1)):
        about = None if number else source
        found.append(run(partial(model.hidden, part, cache=cache, source=about)))
    return cache, torch.cat(found, dim=1)[0]


def _by_pages(trace: Trace, counts: Sequence[int], row: int) -> Tensor:
    """-> (T, D)."""
    model, ids, source = trace.model, trace.tokens[row].tolist(), _about(trace, row)
    pages = Pages(
        model.config, 1, len(ids), source_capacity=0 if source is None else source.shape[1], chunk=len(ids),
        dtype=kept_in(model), device=model.device,
    )  # fmt: skip
    number, _ = pages.open(ids)
    if source is not None:
        pages.attend_to(number, source[0].tolist())
        memory = model.encode(source)
        keep_sources(pages, [number], memory, torch.ones(source.shape, dtype=torch.bool), model.crossings())
    found, start = [], 0
    for count in counts:
        pages.extend([number], count)
        cache = Ragged(pages, [number], [count])
        found.append(model.hidden(trace.tokens[row : row + 1, start : start + count], cache=cache)[0])
        start += count
        if len(pages.advance(np.array([number]), count)):
            pages.fill(number, ids)
    return torch.cat(found)


def no_hooks(model: nn.Module) -> Check:
    """How many hooks hang on the model and its parts."""
    count = sum(len(getattr(module, kind)) for module in model.modules() for kind in HOOKS)
    return Check("hooks", float(count), 0.0, UNHOOKED)


def all_checks(look: Look) -> list[Check]:
    """Every proof that applies to a model, over all its layers, heads and stacks, each once with its widest gap."""
    trace = look.trace
    found: list[Check] = []
    for side in trace.sides:
        view = trace.view if side is trace.own else trace.source_view
        for which in ("self", "cross") if side.crossed else ("self",):
            for layer, seam in enumerate(side.seams(which)):
                for heads, weights in pieces(seam):
                    found.append(rows_add_up(weights))
                    if which == "self":
                        found.append(future_is_zero(weights, side, layer, view))
                    gap = _value_gap(seam, heads, weights)
                    found.append(Check("weights_values", gap, limit(seam.y.dtype), VALUES))
    again = unwatched(trace)
    found.append(watched_is_unwatched(trace, again))
    if {"lm", "masked"} & set(trace.model.heads):
        found.append(lens_is_output(trace, again))
    if not isinstance(trace.own.stack.norm, nn.Identity):
        found.append(norm_is_fresh(trace))
    if trace.own.causal and trace.view is None:
        found.append(cached_is_uncached(trace))
    found.append(no_hooks(trace.model))
    return widest(found)


def widest(checks: Iterable[Check]) -> list[Check]:
    """Of each name the check with the widest gap, in the order in which names come; a gap that is no number is
    wider than any."""
    kept: dict[str, Check] = {}
    for check in checks:
        before = kept.get(check.name)
        if before is None or (not math.isnan(before.gap) and not check.gap <= before.gap):
            kept[check.name] = check
    return list(kept.values())


def _largest(gaps: Tensor) -> float:
    """The largest of some gaps, either way; 0 of none."""
    return float(gaps.detach().abs().max()) if gaps.numel() else 0.0


def _relative(found: Tensor, wanted: Tensor, size: float | None = None) -> float:
    """The largest gap as a share of `size`, by default of the largest number; of 1 where that is 0."""
    wanted = wanted.detach().to(found.device, torch.promote_types(found.dtype, torch.float32))
    return _largest(found.detach() - wanted) / ((_largest(wanted) if size is None else size) or 1.0)


def _worst(gaps: Iterable[float]) -> float:
    """The largest of some gaps; NaN where one is no number."""
    gaps = list(gaps)
    return math.nan if any(math.isnan(gap) for gap in gaps) else max(gaps)
