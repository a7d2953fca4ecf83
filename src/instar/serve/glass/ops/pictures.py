"""Numbers for the page's canvases, as safetensors: an atlas of heads, one head, a rollout, the logits at one place.

What they are of is one entry of the metadata, `glass`, which is JSON: the library writes several in any order. Sizes
are bounded: a picture of more than 1,024 rows or columns is made smaller, by the largest of what each point covers, and
rows of it are sent as they are where they are asked for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save
from torch import Tensor

from ....config import InputError
from ....config.options import InspectOptions
from ....probe.capture import attention_of
from ....probe.look import Look
from ....probe.memory import afford
from ....probe.panel import Unfit, Words
from ....probe.routing import by_words, encode_shares, norm_weighted, pieces, rolling, sinkless, sinks_among
from ....probe.views.attention import lines_of, overview
from ..box import Binary, Box
from .panels import beside_of
from .question import ask_of, place_of, refusing, span_of, word_of

LARGEST = 1024  # rows and columns of a picture
MOST = 1 << 22  # numbers of the rows that are asked for
PIXELS = 128  # of a head in the atlas, each way
HALF = 6e4  # what fp16 holds, with room to spare
KINDS = ("raw", "sinkless", "norm")


def tensors(about: Mapping[str, Any], **arrays: np.ndarray) -> Binary:
    said = json.dumps(about, ensure_ascii=False, allow_nan=False)
    found = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return Binary(bytes(save(found, metadata={"glass": said})))


def look_of(box: Box, args: Mapping[str, Any], **ask: Any) -> Look:
    """A kept trace, and the side and layer that are asked for."""
    look = box.traces.find(args["trace"]).look
    said = {name: args[name] for name in ("side", "level", "layer") if name in args}
    return look.asked(ask_of({**said, **ask}, InspectOptions()))


@refusing
def atlas(box: Box, args: Mapping[str, Any]) -> Binary:
    """{trace, layers: [start, end), px, kind: raw | sinkless, side} -> `atlas` u8 (layers, H, rows, columns), shares by
    their root."""
    look, kind = look_of(box, args), word_of("kind", args.get("kind", "raw"), KINDS[:2])
    px = args.get("px", 32)
    if not 1 <= px <= PIXELS:
        raise InputError(f"px={px}, wanted 1 to {PIXELS}")
    layers = span_of("layers", args.get("layers") or [0, len(look.side.blocks)], len(look.side.blocks))
    found = overview(look, kind, px, layers, box.check)
    box.traces.counted(box.traces.find(args["trace"]))
    about = {"codec": "sqrt", "kind": kind, "layers": f"{layers.start}:{layers.stop}", "side": look.side.name,
             "which": look.which, "tokens": [len(look.tokens), len(look.keys)]}  # fmt: skip
    return tensors(about, atlas=encode_shares(found).numpy(force=True))


@refusing
@torch.no_grad()
def attention(box: Box, args: Mapping[str, Any]) -> Binary:
    """{trace, layer, head, kind: raw | sinkless | norm, level: token | word, side, rows: [start, end)}, head -1 being
    the mean -> `weights` f16: the lower triangle, row by row, of what a decoder of up to 1,024 tokens reads; else
    (rows, keys), of norms too large for it f32."""
    kind, level = (
        word_of("kind", args.get("kind", "raw"), KINDS),
        word_of("level", args.get("level", "token"), ("token", "word")),
    )
    look = look_of(box, {**args, "layer": -1})
    layer = place_of("layer", args.get("layer", -1), len(look.side.blocks))
    head, count = args.get("head", -1), look.side.stack.config.heads
    if not -1 <= head < count:
        raise InputError(f"head={head}, wanted 0 to {count - 1}, or -1 for the mean of all")
    afford(16 * len(look.tokens) * len(look.keys), "one head of this text", "shorten the text")
    weights = _head(box, look, layer, head, kind)
    about: dict[str, Any] = {
        "layer": layer, "head": head, "kind": kind, "level": level, "side": look.side.name, "which": look.which,
    }  # fmt: skip
    if level == "word":
        weights = _by_words(look, weights, about)
    lower = look.side.causal and look.which == "self" and level == "token"
    return _picture(weights, about, lower=lower, rows=args.get("rows"))


def _by_words(look: Look, weights: Tensor, about: dict[str, Any]) -> Tensor:
    """weights (T, S) of tokens -> of words, which `about` then tells: [start, end, label] of queries and of keys."""
    queries, keys = lines_of(look)
    about["words"] = [[[*span, label] for span, label in zip(line.groups, line.labels)] for line in (queries, keys)]
    return by_words(weights, queries.groups, keys.groups)


def _head(box: Box, look: Look, layer: int, head: int, kind: str) -> Tensor:
    """(T, S) of one head, or the mean of all."""
    side, which = look.side, look.which
    seam = side.seams(which)[layer]

    def routed(weights: Tensor, heads: list[int]) -> Tensor:
        if kind == "sinkless":
            return sinkless(weights, _sinks(look))
        if kind == "norm":
            return norm_weighted(seam, attention_of(side, layer, which), weights, heads)
        return weights

    if head >= 0:
        return routed(seam.weights([head]), [head])[0, 0]
    total = torch.zeros(())
    for part, weights in pieces(seam):
        box.check()
        total = total + routed(weights, list(range(part.start, part.stop)))[0].sum(0)
    return total / seam.q.shape[1]


def _sinks(look: Look) -> Tensor:
    return sinks_among(look.keys, causal=look.side.causal and look.which == "self")


@refusing
@torch.no_grad()
def rollout(box: Box, args: Mapping[str, Any]) -> Binary:
    """{trace, layer, side, level} -> `weights` f16 (T, T): what stands in each place behind this layer."""
    look = look_of(box, {**args, "layer": -1})
    if look.which == "cross":
        raise Unfit(Words(
            "a rollout follows one text through its own layers; wanted side=encoder or decoder",
            "rollout 沿一段文本自己的各层展开；需要 side=encoder 或 decoder",
        ))  # fmt: skip
    layer = place_of("layer", args.get("layer", -1), len(look.side.blocks))
    afford(16 * len(look.tokens) ** 2, "the rollout of this text", "shorten the text")
    if args.get("kind", "raw") != "raw":
        raise InputError(f"kind={args['kind']}, and a rollout knows nothing of sinks; wanted raw")
    layers = rolling(look.side)
    for _ in range(layer):
        box.check()
        next(layers)
    found = next(layers)[0]
    level = word_of("level", args.get("level", "token"), ("token", "word"))
    about: dict[str, Any] = {"layer": layer, "kind": "rollout", "level": level, "side": look.side.name}
    if level == "word":
        found = _by_words(look, found, about)
    return _picture(found, about, lower=False, rows=args.get("rows"))


@refusing
@torch.no_grad()
def logits(box: Box, args: Mapping[str, Any]) -> Binary:
    """{trace, at, vs} -> `logits` f32 (V,) as the model's own head gives them there; vs: as that of another model does,
    which may have read other tokens of the same text (`same` says so): then only behind the last one."""
    kept, look = box.traces.find(args["trace"]), look_of(box, args)
    place = place_of("at", args.get("at", -1), len(look.subject.tokens))
    about: dict[str, Any] = {}
    if args.get("vs"):
        own, look = look, beside_of(box, kept, args["vs"])
        read = [[(token.id, token.piece) for token in one.subject.tokens] for one in (own, look)]
        about["same"] = read[0] == read[1]
        if not about["same"]:
            if place < len(read[0]) - 1:
                raise InputError(f"{args['vs']} reads other tokens of this text; choose the last one")
            place = len(read[1]) - 1
    with kept.held.bare() if args.get("vs") else nullcontext():
        found = look.trace.logits(slice(place, place + 1))[0, 0]
    return tensors({"at": place, **about}, logits=found.float().numpy(force=True))


def _picture(weights: Tensor, about: dict[str, Any], *, lower: bool, rows: Iterable[int] | None) -> Binary:
    """weights (T, S) as large as a page can draw them; lower: nothing stands above the diagonal."""
    height, width = weights.shape
    part, pool = slice(0, height), 1
    if rows is not None:
        part = span_of("rows", list(rows), height)
        if (part.stop - part.start) * width > MOST:
            raise InputError(f"rows={part.start}:{part.stop} of {width:,} keys, wanted at most {MOST // width:,} rows")
        weights, lower = weights[part], False
    elif max(height, width) > LARGEST:
        pool = math.ceil(max(height, width) / LARGEST)
        weights, lower = F.max_pool2d(weights[None], pool, ceil_mode=True)[0], False
    if lower:
        weights = weights[tuple(torch.tril_indices(height, width, device=weights.device))]
    kind = np.float16 if float(weights.max() if weights.numel() else 0) < HALF else np.float32
    about |= {
        "shape": f"{height},{width}", "layout": "tril" if lower else "full", "pool": str(pool),
        "rows": f"{part.start}:{part.stop}",
    }  # fmt: skip
    return tensors(about, weights=weights.float().numpy(force=True).astype(kind))
