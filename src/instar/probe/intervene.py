"""What becomes of a pass when something in it is changed: a head taken away, a sublayer skipped, a state or a head's
output put in from another pass, an edge of attention cut, positions untold.

Each is a context manager, by hooks, and they stand together; a pass that is captured inside shows what went on then.
They reach whatever runs the model's modules: `capture`, a plain call, and, where nothing is told by its place in the
text, a step of a cache; `swapped`, `replayed`, `patched`, `cut` and a mean over the text raise InputError there.
Afterwards, whatever happens, the model is as it was. Letters: B batch, T queries, S keys, D model, H heads, E head
size, L layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..config import InputError
from ..model.positions import NoPositions
from ..model.stack import Block, Stack
from ..model.transformer import Transformer
from .capture import Side, Trace, attention_of

Which = Literal["self", "cross"]
Part = Literal["attention", "cross", "feed_forward"]
Where = tuple[slice | list[int], list[int]]  # rows and heads of (B, H, T, E)


@dataclass(frozen=True)
class Effect:
    """What a change did to what is said at one place: the logit of `target` and its probability before and after,
    KL(before || after) in nats, and the likeliest tokens of both as (id, p)."""

    target: int
    logit: tuple[float, float]
    p: tuple[float, float]
    kl: float
    top: tuple[list[tuple[int, float]], list[tuple[int, float]]]

    @property
    def change(self) -> float:
        """Of the logit."""
        return self.logit[1] - self.logit[0]


def effect(before: Trace, after: Trace, at: int = -1, *, target: int | None = None, k: int = 5) -> Effect:
    """Compare two passes at one place of their text; target: the id that is asked about, none takes the likeliest
    before. Raises InputError where the model has no head that says tokens, where the passes are not of one length and
    vocabulary, and for a place, an id or a k that cannot be."""
    count, vocab = before.tokens.shape[1], before.model.config.vocab_size
    if (after.tokens.shape[1], after.model.config.vocab_size) != (count, vocab):
        raise InputError(
            f"found passes of {count} and {after.tokens.shape[1]} tokens, vocabularies of {vocab} and "
            f"{after.model.config.vocab_size}; wanted the same of both"
        )
    if not -count <= at < count:
        raise InputError(f"at={at}, wanted 0 to {count - 1}, or -1 for the last")
    if target is not None and not 0 <= target < vocab:
        raise InputError(f"target={target}, wanted 0 to {vocab - 1}")
    if k < 1:
        raise InputError(f"k={k}, wanted at least 1 token")
    logits = [trace.logits(slice(at, at + 1 or None))[0, 0].double() for trace in (before, after)]
    target = int(logits[0].argmax()) if target is None else target
    logs = [x.log_softmax(-1) for x in logits]
    tops = [x.exp().topk(min(k, len(x))) for x in logs]
    first, second = ([(int(id), float(p)) for p, id in zip(*top)] for top in tops)
    return Effect(
        target,
        (float(logits[0][target]), float(logits[1][target])),
        (float(logs[0][target].exp()), float(logs[1][target].exp())),
        float((logs[0].exp() * (logs[0] - logs[1])).nan_to_num(0.0).sum()),
        (first, second),
    )


@contextmanager
def ablated(
    model: Transformer,
    heads: Iterable[tuple[int, int]],
    how: Literal["zero", "mean"] = "zero",
    *,
    side: str = "auto",
    which: Which = "self",
    each: bool = False,
    apart: bool = False,
) -> Iterator[None]:
    """Without these (layer, head): their outputs are 0, or their mean over all places of what is read, which takes
    away what they say of one place and keeps what they say everywhere.

    side: auto (the decoder, or the only stack), encoder or decoder; which: the attention to the own text, or to the
    source; each: row n of a batch of copies is without the n-th of them alone, and rows beyond are as they were; apart:
    the mean is that of each text of a batch, and not of all, so that none changes with what stands beside it.
    Raises InputError for a head that does not exist.
    """

    def change(y: Tensor, where: Where) -> Tensor:
        if how == "zero":
            return y.new_zeros(())
        return y.mean(2 if each or apart else (0, 2), keepdim=True).expand(len(y), -1, -1, -1)[where]

    with ExitStack() as hooks:
        stack = _side(model, side)
        for layer, where in _by_layer(stack, heads, each).items():
            attend = attention_of(stack, layer, which).attend
            if how == "mean":
                _whole(hooks, stack.blocks[layer], "a mean over all places of the text")
            _after(hooks, attend, lambda y, where=where: _with_heads(y, where, change(y, where)))
        yield


@contextmanager
def swapped(
    model: Transformer,
    trace: Trace,
    heads: Iterable[tuple[int, int]],
    *,
    side: str = "auto",
    which: Which = "self",
    each: bool = False,
) -> Iterator[None]:
    """With the outputs that these (layer, head) had in another pass, over a text of the same length.

    each: of a pass over one text; row n of a batch of copies has the n-th of them alone, and rows beyond are as they
    were. Raises InputError for a head that does not exist, and when the model is run over a text of another length.
    """
    with ExitStack() as hooks:
        stack, other = _side(model, side), _side_of(trace, _side(model, side).name)
        for layer, where in _by_layer(stack, heads, each).items():
            attend, kept = attention_of(stack, layer, which).attend, other.seams(which)[layer].y
            _whole(hooks, stack.blocks[layer], "outputs of another pass")

            def swap(y: Tensor, where: Where = where, kept: Tensor = kept) -> Tensor:
                kept = kept.expand(len(y), -1, -1, -1) if each and len(kept) == 1 else kept
                if y.shape != kept.shape:
                    raise InputError(
                        f"the text has {y.shape[2]} tokens (batch {y.shape[0]}), the other pass {kept.shape[2]} (batch "
                        f"{kept.shape[0]}); wanted the same of both"
                    )
                return _with_heads(y, where, kept[where].to(y))

            _after(hooks, attend, swap)
        yield


@contextmanager
def skipped(model: Transformer, parts: Iterable[tuple[int, Part]], *, side: str = "auto") -> Iterator[None]:
    """Without these (layer, attention | cross | feed_forward): the stream goes past them as if they, and a norm behind
    them, said 0. A norm after the sum (post) remains. Raises InputError for a part that does not exist."""
    with ExitStack() as hooks:
        stack = _side(model, side)
        for layer, name in parts:
            block, part = _part(stack, layer, name)
            _skip(hooks, stack.stack.config.residual, block, name, part)
        yield


@contextmanager
def replayed(
    model: Transformer, trace: Trace, parts: Iterable[tuple[int, Part]], *, side: str = "auto"
) -> Iterator[None]:
    """With what these (layer, attention | cross | feed_forward) gave in another pass over a text of the same length,
    whatever they are given now: what came before them no longer reaches anything through them. Raises InputError for a
    part that does not exist."""
    with ExitStack() as hooks:
        stack = _side(model, side)
        updates = _side_of(trace, stack.name).updates
        for layer, name in parts:
            block, part = _part(stack, layer, name)
            _whole(hooks, block, "outputs of another pass")
            _after(hooks, part, lambda y, said=updates[layer][name]: said.to(y).expand_as(y))
        yield


@contextmanager
def patched(
    model: Transformer, trace: Trace, places: Iterable[tuple[int, int]], *, side: str = "auto"
) -> Iterator[None]:
    """With the residual stream that another pass had at these (layer, position): what goes into that block there, and
    for layer L what comes out of the last (Meng et al. 2022, causal tracing).

    Raises InputError for a layer or a position that does not exist, the latter when the model is run.
    """
    with ExitStack() as hooks:
        stack = _side(model, side)
        stream = _side_of(trace, stack.name).stream
        wanted: dict[int, list[int]] = {}
        for layer, position in places:
            if not 0 <= layer < len(stream):
                raise InputError(f"layer={layer}, wanted 0 to {len(stream) - 1}, the last for what the last block says")
            wanted.setdefault(layer, []).append(position)
        for layer, positions in wanted.items():

            def patch(x: Tensor, positions: list[int] = positions, kept: Tensor = stream[layer]) -> Tensor:
                length = min(x.shape[1], kept.shape[1])
                if not all(0 <= position < length for position in positions):
                    raise InputError(f"positions={positions}, wanted 0 to {length - 1}, which both passes have")
                x = x.clone()
                x[:, positions] = kept[:, positions].to(x)
                return x

            _whole(hooks, stack.blocks[min(layer, len(stack.blocks) - 1)], "states of another pass")
            if layer < len(stack.blocks):
                _before(hooks, stack.blocks[layer], lambda given, patch=patch: (patch(given[0]), *given[1:]))
            else:
                _after(hooks, stack.blocks[-1], patch)
        yield


@contextmanager
def cut(
    model: Transformer,
    edges: Iterable[tuple[int, int | None, int, int]],
    *,
    side: str = "auto",
    which: Which = "self",
) -> Iterator[None]:
    """Without these edges of attention (layer, head or None for all, query, key): the score is -inf, so that what the
    query looks at otherwise adds up to 1 again (attention knock-out, Geva et al. 2023).

    Raises InputError for a head that does not exist, and when the model is run for a place that does not, or for a
    query that is left with nothing to look at.
    """
    with ExitStack() as hooks:
        stack = _side(model, side)
        by_layer: dict[int, list[tuple[int | None, int, int]]] = {}
        for layer, head, query, key in edges:
            if head is not None:
                _by_layer(stack, [(layer, head)])
            by_layer.setdefault(layer, []).append((head, query, key))
        for layer, found in by_layer.items():
            attend = attention_of(stack, layer, which).attend
            _whole(hooks, stack.blocks[layer], "edges by their places in the text")
            _before(hooks, attend, lambda given, found=found: _cut(given, found))
        yield


@contextmanager
def without_positions(model: Transformer) -> Iterator[None]:
    """Order is not told in any stack: nothing is turned, nothing added, no bias; a causal mask remains, and windows."""
    stacks: list[Stack] = [model] if model.encoder is None else [model.encoder, model]
    kept = [stack.positions for stack in stacks]
    try:
        for stack in stacks:
            stack.positions = NoPositions(stack.config)
        yield
    finally:
        for stack, positions in zip(stacks, kept):
            stack.positions = positions


def _side(model: Transformer, side: str) -> Side:
    """A stack of a model by its name, as `capture` names it. Raises InputError where it has no such."""
    own = "decoder" if model.config.causal else "encoder"
    if side in ("auto", own):
        return Side(own, model)
    if side == "encoder" and model.encoder is not None:
        return Side("encoder", model.encoder)
    raise InputError(f"side={side}, and the model has no such stack; wanted auto, {own}"
                     + (" or encoder" if model.encoder is not None else ""))  # fmt: skip


def _side_of(trace: Trace, name: str) -> Side:
    for side in trace.sides:
        if side.name == name:
            return side
    raise InputError(f"the other pass has no {name}; take one of the same shape")


def _part(side: Side, layer: int, name: str) -> tuple[Block, nn.Module]:
    """A block and one of its sublayers. Raises InputError for one that does not exist."""
    attention_of(side, layer)  # says what is wrong with the number
    block = side.blocks[layer]
    part = getattr(block, name, None) if name in ("attention", "cross", "feed_forward") else None
    if part is None:
        raise InputError(f"layer {layer} of the {side.name} has no {name}; wanted attention, feed_forward, or in a "
                         "decoder with an encoder cross")  # fmt: skip
    return block, part


def _by_layer(side: Side, heads: Iterable[tuple[int, int]], each: bool = False) -> dict[int, Where]:
    """layer -> where its heads stand in (B, H, ...): in all rows, or each in its own. Raises InputError for one that
    does not exist."""
    found: dict[int, tuple[list[int], list[int]]] = {}
    for row, (layer, head) in enumerate(heads):
        attention = attention_of(side, layer)
        if not 0 <= head < attention.heads:
            raise InputError(f"head={head}, wanted 0 to {attention.heads - 1} of the {side.name}")
        rows, numbers = found.setdefault(layer, ([], []))
        rows.append(row)
        numbers.append(head)
    return {layer: (rows if each else slice(None), numbers) for layer, (rows, numbers) in found.items()}


def _with_heads(y: Tensor, where: Where, new: Tensor) -> Tensor:
    """y (B, H, T, E) with these heads new."""
    y = y.clone()
    y[where] = new
    return y


def _skip(hooks: ExitStack, residual: str, block: Block, name: str, part: nn.Module) -> None:
    """Make a sublayer say nothing. Without a stream past it, it says what its norm was given."""
    if residual == "none":
        stream: list[Tensor] = []

        def remember(given: tuple[Any, ...]) -> None:
            stream[:] = [given[0]]

        _before(hooks, getattr(block, f"{name}_norm"), remember)
        _after(hooks, part, lambda y: stream[0])
        return
    _after(hooks, part, torch.zeros_like)
    behind = {"inside": f"{name}_norm", "both": f"{name}_after"}.get(residual)
    if behind is not None:  # a norm with a bias says something of nothing
        _after(hooks, getattr(block, behind), torch.zeros_like)


def _cut(given: tuple[Any, ...], edges: Sequence[tuple[int | None, int, int]]) -> tuple[Any, ...]:
    """What an Attend is given, without these edges (head, query, key)."""
    q, k, v, mask, causal = given
    queries, keys = q.shape[2], k.shape[2]
    whole = q.new_zeros(1, 1, queries, keys) if mask is None else mask
    if causal:
        whole = whole + q.new_full((queries, keys), -torch.inf).triu(1)
    whole = whole.expand(-1, q.shape[1], queries, keys).clone()
    for head, query, key in edges:
        if not (0 <= query < queries and 0 <= key < keys):
            raise InputError(f"edge from {query} to {key}, wanted 0 to {queries - 1} and 0 to {keys - 1}")
        whole[:, slice(None) if head is None else head, query, key] = -torch.inf
        if bool((whole[:, :, query] == -torch.inf).all(-1).any()):
            raise InputError(f"the token at {query} has nothing left to look at; leave it one edge")
    return q, k, v, whole, False


def _whole(hooks: ExitStack, block: Block, what: str) -> None:
    """Refuse a pass with a cache, which reads a part of the text, whose first place is not 0."""

    def refuse(given: tuple[Any, ...]) -> None:
        if given[2] is not None:
            raise InputError(f"found a pass with a cache, and {what}; wanted a pass over the whole text without one")

    _before(hooks, block, refuse)


def _before(hooks: ExitStack, module: nn.Module, change: Any) -> None:
    """change: what it is given -> what it is given instead, or None for the same."""
    hooks.callback(module.register_forward_pre_hook(lambda module, given: change(given)).remove)


def _after(hooks: ExitStack, module: nn.Module, change: Any) -> None:
    """change: what it gave -> what it gave instead."""
    hooks.callback(module.register_forward_hook(lambda module, given, y: change(y)).remove)
