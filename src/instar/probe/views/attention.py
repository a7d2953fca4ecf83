"""The view of attention: which token takes how much from which, in one head or the mean of a layer's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..capture import Seam, attention_of
from ..checks import (
    future_is_zero,
    moved_is_update,
    no_hooks,
    rows_add_up,
    values_give_output,
    watched_is_unwatched,
)  # fmt: skip
from ..look import Look
from ..memory import afford
from ..panel import Arcs, Array, Atlas, Check, Figure, Matrix, Panel, Scale, Strip, Unfit, Words
from ..routing import (
    atlas,
    by_words,
    idle,
    norm_weighted,
    rollout,
    sinkless,
    sinks_among,
    small,
    sunk,
    words,
)  # fmt: skip
from ..subject import Token

PIXELS = 32  # of a head in the atlas, each way
NEAR = 32  # tokens that arcs are drawn between
ARCS = 3  # of one token
FAINT = 0.1  # arcs below this share of the strongest are not drawn
LISTED = 10  # strongest pairs

ROUTING = Words(
    "Attention shows where information is moved from, and explains no answer by itself.",
    "注意力显示信息从哪里搬运过来，它本身并不解释答案。",
)
KINDS = {
    "raw": Words("Attention", "注意力"),
    "sinkless": Words("Attention without its sink", "去除汇聚点的注意力"),
    "norm": Words("Attention weighted by what is moved", "按搬运向量范数加权的注意力"),
    "rollout": Words("Attention rolled out over layers", "逐层展开的注意力"),
}
TOLD = {
    "sinkless": Words(
        "Without the sink: each share is divided by what does not go to the sink, and the sink's own is 0. A row that "
        "looks at nothing else stays 0.",
        "去除汇聚点：每个份额除以不流向汇聚点的部分，汇聚点自己的一列记为 0；只看汇聚点的行全为 0。",
    ),
    "norm": Words(
        "Weighted by the norm: the length of what is moved, the share times the value through the head's part of the "
        "output layer (Kobayashi et al. 2020). These are lengths, no shares; rows do not add up to 1.",
        "按范数加权：份额乘以值、再经该头的输出投影后的向量长度（Kobayashi 等，2020）。"
        "这是长度而不是份额，每行之和不为 1。",
    ),
    "rollout": Words(
        "Rollout multiplies the layers' mean attention, half of each stream staying where it is (Abnar and Zuidema "
        "2020). It has no heads, was made for encoders, and knows nothing of values, norms and feed-forward layers.",
        "展开（rollout）把各层的平均注意力相乘，每层残差流保留一半（Abnar 与 Zuidema，2020）。"
        "它不分头，为编码器而设计，不考虑值、归一化和前馈层。",
    ),
}
ROLLED = Words("each row of the rollout adds up to 1", "展开后每一行之和为 1")
WITHOUT = Words("without the sink each row adds up to 1, or is 0", "去除汇聚点后每行之和为 1 或 0")
BY_WORDS = Words(
    "By words: what goes to a word is the sum over its tokens, what comes from one their mean.",
    "按词合并：流向一个词的份额为其各词元之和，从一个词出发的份额为其各词元的平均。",
)


@dataclass(frozen=True)
class Line:
    """Tokens or words in reading order: how they are called, and [start, end) of the tokens of each."""

    labels: list[str]
    groups: list[tuple[int, int]]


def attention(look: Look) -> Panel:
    """Shares of one head, or the mean of all heads of a layer: a matrix, the row of one token, the strongest arcs, and
    an atlas of all layers and heads.

    arrays: weights (H, T, S) of all heads of the layer, of the kind that is asked for, by tokens or words (1, T, T) of
    a rollout; shown (T, S) what is drawn; atlas (L, H, R, C). Raises InputError for a layer, head, token or side that
    does not exist, and for a rollout of attention to a source.
    """
    side, which, layer, head = look.side, look.which, look.layer, look.head
    seam = side.seams(which)[layer]
    _afford(look, seam)
    raw = seam.weights()
    sinks = sinks_among(look.keys, causal=side.causal and which == "self")
    weights, pictures, checks = _routed(look, raw, sinks)
    if which == "self":
        checks.insert(0, future_is_zero(raw, side, layer))
    checks = [rows_add_up(raw), values_give_output(seam), *checks]
    checks += [watched_is_unwatched(look.trace), no_hooks(look.subject.model)]
    queries, keys = lines_of(look)
    if look.ask.level == "word":
        weights = by_words(weights, queries.groups, keys.groups)
    head = None if look.ask.kind == "rollout" else head
    shown = weights.mean(0) if head is None else weights[head]
    at = next(n for n, (start, end) in enumerate(queries.groups) if start <= look.at < end)
    resting_heads = idle(raw[0], sinks).nonzero().flatten().tolist()
    alone = side.causal and which == "self"
    data: dict[str, Any] = {
        "tokens": told(look.tokens), "keys": told(look.keys) if which == "cross" else None,
        "words": queries.groups if look.ask.level == "word" else None,
        "side": side.name, "which": which, "layer": layer, "head": head, "kind": look.ask.kind,
        "level": look.ask.level, "at": at, "row": shown[at].tolist(),
        "strongest": _strongest(shown, queries.labels, keys.labels, alone=alone),
        "sink": {
            "keys": sinks.nonzero().flatten().tolist(), "shares": sunk(raw[0], sinks).tolist(), "idle": resting_heads,
        },
    }  # fmt: skip
    return Panel(
        "attention",
        _title(look, head),
        data,
        {"weights": _array(weights), "shown": _array(shown), "atlas": _array(pictures)},
        _figures(look, shown, pictures, queries, keys, at),
        checks,
        _notes(look, resting_heads, len(raw[0]), max(len(queries.labels), len(keys.labels))),
    )


def _afford(look: Look, seam: Seam) -> None:
    """The layer's weights, some four times over; of a rollout those of all layers, without heads."""
    weights = seam.q.shape[1] * seam.q.shape[2] * seam.k.shape[2]
    if look.ask.kind == "rollout":
        weights += len(look.side.blocks) * seam.q.shape[2] ** 2
    afford(16 * weights, "the attention of this layer to this text", "shorten the text")


def _routed(look: Look, raw: Tensor, sinks: Tensor) -> tuple[Tensor, Tensor, list[Check]]:
    """Of the kind that is asked for: the heads of the layer (H, T, S), the atlas, and what proves them. raw
    (1, H, T, S)."""
    kind, side, which, layer = look.ask.kind, look.side, look.which, look.layer
    if kind == "rollout":
        if which == "cross":
            raise Unfit(Words(
                "kind=rollout follows one text through its own layers; wanted side=encoder or decoder",
                "kind=rollout 沿一段文本自己的各层展开；需要 side=encoder 或 decoder",
            ))  # fmt: skip
        rolled = torch.stack([one[0] for one in rollout(side)])[:, None]
        return rolled[layer], small(rolled, PIXELS), [Check("rollout_rows", rows_add_up(rolled).gap, 1e-5, ROLLED)]
    if kind == "sinkless":
        weights = sinkless(raw, sinks)
        sums = weights.sum(-1)
        gap = rows_add_up(weights[sums > 0]).gap if bool((sums > 0).any()) else 0.0
        return weights[0], overview(look, kind), [Check("sinkless_rows", gap, 1e-5, WITHOUT)]
    if kind == "norm":
        module, seam = attention_of(side, layer, which), side.seams(which)[layer]
        proof = moved_is_update(seam, module, side.updates[layer]["attention" if which == "self" else which])
        return norm_weighted(seam, module, raw)[0], overview(look, "raw"), [proof]
    return raw[0], overview(look, "raw"), []


def overview(
    look: Look, kind: str, px: int = PIXELS, layers: slice = slice(None), watch: Callable[[], None] = lambda: None
) -> Tensor:
    """`routing.atlas` of what is asked about, raw or sinkless, whose layers are computed once for a pass."""
    side, which, found = look.side, look.which, []
    sinks = sinks_among(look.keys, causal=side.causal and which == "self") if kind == "sinkless" else None
    for layer in range(len(side.blocks))[layers]:
        key = (kind, side.name, which, px, layer)
        if key not in look.pictures:
            one = slice(layer, layer + 1)
            look.pictures[key] = atlas(look.trace, side, px, which=which, sinks=sinks, layers=one, watch=watch)[0]
        found.append(look.pictures[key])
    return torch.stack(found)


def _figures(look: Look, shown: Tensor, overview: Tensor, queries: Line, keys: Line, at: int) -> list[Figure]:
    scale: Scale = "plain" if look.ask.kind == "norm" else "share"
    row, asked = shown[at].tolist(), queries.labels[at]
    of_all = (
        Words("All layers", "所有层") if look.ask.kind == "rollout" else Words("All layers and heads", "所有层与头")
    )
    return [
        Matrix(
            Words("Rows take from columns", "行从列获取"), _array(shown), queries.labels, keys.labels, scale,
            Words("token that looks", "查询词元"), Words("token that is looked at", "被看的词元"),
        ),
        Strip(
            Words(f"What {asked!r} takes", f"「{asked}」从各处获取的份额"), keys.labels, row, scale,
            [f"{value:.3f}" for value in row],
        ),
        _arcs(shown, queries, keys, at, crossing=look.which == "cross"),
        Atlas(of_all, _array(overview)),
    ]  # fmt: skip


def _array(x: Tensor) -> Array:
    return x.detach().float().numpy(force=True)


def told(tokens: Sequence[Token]) -> list[dict[str, Any]]:
    """Tokens as JSON knows them."""
    return [{"id": token.id, "piece": token.piece, "start": token.start, "end": token.end} for token in tokens]


def lines_of(look: Look) -> tuple[Line, Line]:
    """What looks, and what is looked at."""
    subject, encodes = look.subject, look.side is look.trace.encoder
    queries = _line(look.tokens, subject.source_text if encodes else subject.text, look.ask.level)
    if look.which != "cross":
        return queries, queries
    return queries, _line(look.keys, subject.source_text, look.ask.level)


def _line(tokens: Sequence[Token], text: str, level: str) -> Line:
    if level == "token":
        return Line([token.piece for token in tokens], [(n, n + 1) for n in range(len(tokens))])
    groups = words(tokens, text)
    labels = []
    for start, end in groups:
        spelt = text[tokens[start].start : tokens[end - 1].end].strip(" ")
        labels.append(tokens[start].piece if tokens[start].control or not spelt else spelt)
    return Line(labels, groups)


def _title(look: Look, head: int | None) -> Words:
    kind, side = KINDS[look.ask.kind], look.side.name
    stack = Words(side, {"encoder": "编码器", "decoder": "解码器"}[side])
    if look.which == "cross":
        stack = Words("decoder to source", "解码器到源文")
    if look.ask.kind == "rollout":
        where = Words(f"{stack.en}, up to layer {look.layer}", f"{stack.zh}，至第 {look.layer} 层")
    else:
        of = Words("mean of heads", "各头平均") if head is None else Words(f"head {head}", f"第 {head} 头")
        where = Words(f"{stack.en}, layer {look.layer}, {of.en}", f"{stack.zh}，第 {look.layer} 层，{of.zh}")
    return Words(f"{kind.en}: {where.en}", f"{kind.zh}：{where.zh}")


def _strongest(shown: Tensor, queries: list[str], keys: list[str], *, alone: bool) -> list[dict[str, Any]]:
    """The pairs that most is moved between, the strongest first; alone: the first row sees itself alone, and is no
    finding."""
    shown = shown.clone()
    shown[: int(alone)] = 0
    values, places = shown.flatten().topk(min(LISTED, shown.numel()))
    found = [(value, *divmod(place, shown.shape[1])) for value, place in zip(values.tolist(), places.tolist())]
    return [
        {"from": query, "to": key, "weight": value, "pair": [queries[query], keys[key]]}
        for value, query, key in found
        if value > 0
    ]


def _arcs(shown: Tensor, queries: Line, keys: Line, at: int, *, crossing: bool) -> Arcs:
    """The strongest few of each row, between the tokens that stand near the one that is asked about."""
    first = max(0, min(at - NEAR // 2, len(queries.labels) - NEAR))
    last = min(first + NEAR, len(queries.labels))
    low, high = (0, min(2 * NEAR, len(keys.labels))) if crossing else (first, last)
    part = shown[first:last, low:high]
    floor = FAINT * float(part.max())
    arcs = []
    for query, row in enumerate(part):
        values, places = row.topk(min(ARCS, len(row)))
        arcs += [
            (query, key, value)
            for value, key in zip(values.tolist(), places.tolist())
            if value > 0 and value >= floor and (crossing or key != query)
        ]
    title = Words("The strongest of each token", "每个词元最强的几条")
    return Arcs(title, queries.labels[first:last], arcs, keys.labels[low:high] if crossing else ())


ALL_HEADS = Words(
    "A rollout goes over all heads and layers; the head that was asked for changes nothing here.",
    "rollout 涵盖所有层和头；此处指定的头不起作用。",
)


def _notes(look: Look, resting_heads: list[int], heads: int, longest: int) -> list[Words]:
    notes = [ROUTING]
    if look.ask.kind in TOLD:
        notes.append(TOLD[look.ask.kind])
    if look.ask.kind == "rollout" and look.head is not None:
        notes.append(ALL_HEADS)
    if look.ask.level == "word":
        notes.append(BY_WORDS)
    if resting_heads:
        which = ", ".join(map(str, resting_heads)) if len(resting_heads) < heads else f"0-{heads - 1}"
        notes.append(
            Words(
                f"Idle here: head {which} leaves more than 0.9 to the sink.",
                f"此处空闲：第 {which} 头把 0.9 以上的份额留给了汇聚点。",
            )
        )
    if longest > NEAR:
        notes.append(
            Words(
                f"Arcs are drawn between {NEAR} tokens near the one asked about.", f"弧线只画所问词元附近的 {NEAR} 个。"
            )
        )
    return notes
