"""What an answer loses when a part is left out, and where a difference between two texts is carried.

Ablation takes one head or sublayer away after the other; patching puts the state of one place, or the output of one
head, in from a pass over another text (Vig et al. 2020; Meng et al. 2022). Both change the pass and look at what is
said, so that what a part does through later ones is counted, as it is not by direct contributions.

Many changes are made at once, one in each row of a batch of copies, and a pass goes on from the layer where it is
changed: what stands before it is the same. Letters: R rows, T tokens, S tokens of the source, D model, H heads,
L layers, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ..config import InputError
from ..infer.reader import resting
from .attribution import Aim, spread
from .capture import Side, Trace, capture, words_of
from .direct import Spot, direct
from .intervene import Part, Which, ablated, replayed, skipped, swapped
from .panel import Unfit, Words

TOKENS_AT_ONCE = 8192  # of copies of a text that are read together
LOGITS_AT_ONCE = 2**24
SAME = 1e-6  # of the largest logit: two texts whose answers differ by less do not differ
# Joins of a block to the stream where what a head says reaches the stream as it is.
PLAIN = ("pre", "parallel")


class Lost(NamedTuple):
    """What is lost without each of some parts: the change of the logit that is asked about, and KL(before || without)
    in nats; of heads (layers, H), of sublayers (L,)."""

    change: Tensor
    kl: Tensor


@dataclass(frozen=True)
class Restored:
    """How much of the difference between two texts is restored by each patch: 0 none, 1 all; beyond 1 it overshoots,
    below 0 it turns away.

    states (rows, T): by the stream at a place of each of `rows`, numbers of the stream; heads (layers, H); aim: the
    logit that is compared, or what it has more than another; ends: what it is of this text, which is 0, and of the
    other, which is 1.
    """

    states: Tensor
    rows: list[int]
    heads: Tensor
    aim: Aim
    ends: tuple[float, float]


class Onward:
    """Goes on with a pass over one text from any layer of a stack -> the logits at the place that is asked about.

    drift: how far rows that nothing was done to have been from the pass itself, as a share of the largest logit.
    """

    def __init__(self, trace: Trace, side: Side, place: int) -> None:
        """Raises InputError where no head says tokens, and for a batch of several texts."""
        if len(trace.tokens) != 1:
            raise InputError(f"found a batch of {len(trace.tokens)} texts; wanted one")
        self.trace, self.side, self.place = trace, side, place
        self.head = words_of(trace.model)
        self.given: list[tuple[Any, ...]] = []
        with ExitStack() as hooks, resting(trace.model), torch.no_grad():
            for block in side.blocks:  # what each is given besides the stream
                hooks.callback(block.register_forward_pre_hook(lambda _, given: self.given.append(given[1:])).remove)
            trace.model.hidden(
                trace.tokens, view=trace.view, source=trace.source, source_view=trace.source_view
            )  # fmt: skip
        self.before = trace.logits(slice(place, place + 1))[0, 0].detach().double().cpu()
        self.size = float(self.before.abs().max()) or 1.0
        self.drift = 0.0

    def __call__(self, layer: int, x: Tensor) -> Tensor:
        """x (R, T, D), the stream in front of a layer, or behind the last -> (R, V) in fp64."""
        return self.said(self.states(layer, x))

    def said(self, states: Tensor) -> Tensor:
        """states (R, D) behind the last norm -> (R, V) in fp64."""
        with resting(self.trace.model), torch.no_grad():
            return self.head(states[:, None])[:, 0].double().cpu()

    def states(self, layer: int, x: Tensor) -> Tensor:
        """x (R, T, D), as in a call -> (R, D) behind the last norm, at the place."""
        model, trace = self.trace.model, self.trace
        with resting(model), torch.no_grad():
            for block, (seen, kept, memory, crossing) in zip(self.side.blocks[layer:], self.given[layer:]):
                x = block(x, seen, kept, None if memory is None else memory.expand(len(x), -1, -1), crossing)
            x = self.side.stack.norm(x)
            if self.side is not trace.own:
                x = model.hidden(
                    trace.tokens.expand(len(x), -1), memory=x, view=spread(trace.view, len(x)),
                    source_view=spread(trace.source_view, len(x)),
                )  # fmt: skip
            return x[:, self.place]

    def with_one_as_it_was(self, layer: int, x: Tensor) -> Tensor:
        """As a call, of rows of which the last is a copy that nothing was done to: (R - 1, V)."""
        logits = self(layer, x)
        gap = float((logits[-1] - self.before).abs().max()) / self.size
        self.drift = gap if gap != gap else max(self.drift, gap)
        return logits[:-1]

    def batches(self, count: int) -> Iterator[range]:
        """So many rows at once that memory does not grow with them."""
        longest = max(self.trace.tokens.shape[1], 0 if self.trace.source is None else self.trace.source.shape[1])
        step = max(1, min(TOKENS_AT_ONCE // longest, LOGITS_AT_ONCE // len(self.before)))
        return (range(start, min(start + step, count)) for start in range(0, count, step))


def without_heads(
    onward: Onward,
    aim: Aim,
    which: Which = "self",
    how: Literal["zero", "mean"] = "zero",
    layers: Sequence[int] | None = None,
) -> Lost:
    """Each head of these layers, or of all, ablated alone. Raises InputError where there is no such attention."""
    found = [
        _lost(onward, aim, logits)
        for layer in range(len(onward.side.blocks)) if layers is None or layer in layers
        for logits in [
            _by_head(onward, layer, which, lambda heads: ablated(
                onward.trace.model, heads, how, side=onward.side.name, which=which, each=True,
            ))
        ]
    ]  # fmt: skip
    return Lost(*(torch.stack(part) for part in zip(*found)))


def without_parts(onward: Onward, aim: Aim) -> dict[str, Lost]:
    """attention, cross and feed_forward, as far as there are such: each layer's skipped alone."""
    side = onward.side
    names: list[Part] = ["attention", *(["cross"] if side.crossed else []), "feed_forward"]  # type: ignore[list-item]
    found: dict[str, Lost] = {}
    for name in names:
        said = []
        for layer, x in enumerate(side.inputs):
            with skipped(onward.trace.model, [(layer, name)], side=side.name):
                said.append(onward.states(layer, x))
        found[name] = _lost(onward, aim, onward.said(torch.cat(said)))
    return found


def difference(one: Onward, other: Trace, aim: Aim) -> tuple[Aim, tuple[float, float]]:
    """What is restored: the logit that is asked about less that of the other text's likeliest token, where it is
    another; and what it is of both texts. Raises InputError where they do not differ in it."""
    said = other.logits(slice(aim.place, aim.place + 1))[0, 0].detach().double().cpu()
    minus = int(said.argmax())
    aim = Aim(aim.place, aim.target, None if minus == aim.target else minus)
    ends = float(aim.of(one.before)), float(aim.of(said))
    if not abs(ends[1] - ends[0]) > SAME * max(one.size, float(said.abs().max())):
        raise InputError(
            f"the two texts have the same answer at place {aim.place}, and no difference to be restored; ask about "
            "another place or token, or take another text"
        )
    return aim, ends


def patch(
    onward: Onward, other: Trace, aim: Aim, rows: Sequence[int], places: Sequence[int], which: Which = "self",
    layers: Sequence[int] | None = None,
) -> Restored:  # fmt: skip
    """States of these rows of the stream, from 0 to L, at these places, and the heads of these layers, or of all, put
    in from the other pass, each alone.

    What both passes have to the bit, and what the place that is asked about cannot see, restores exactly nothing and
    is not run. Raises InputError where the two do not differ in their answers.
    """
    side, theirs = onward.side, _same_side(other, onward.side)
    aim, (start, end) = difference(onward, other, aim)

    def share(logits: Tensor) -> Tensor:
        return (aim.of(logits) - start) / (end - start)

    states = torch.zeros(len(rows), side.inputs[0].shape[1], dtype=torch.float64)
    for number, row in enumerate(rows):
        mine, new = side.stream[row], theirs.stream[row]
        kept = [
            place for place in places if _reaches(onward, row, place) and not torch.equal(mine[0, place], new[0, place])
        ]
        for part in onward.batches(len(kept)):
            chosen = kept[part.start : part.stop]
            x = mine.expand(len(chosen) + 1, -1, -1).clone()
            x[range(len(chosen)), chosen] = new[0, chosen]
            states[number, chosen] = share(onward.with_one_as_it_was(row, x))
    heads = [
        share(_by_head(onward, layer, which, lambda heads: swapped(
            onward.trace.model, other, heads, side=side.name, which=which, each=True,
        )))
        for layer in range(len(side.blocks)) if layers is None or layer in layers
    ]  # fmt: skip
    return Restored(states, list(rows), torch.stack(heads), aim, (start, end))


@torch.no_grad()
def last_head_gap(trace: Trace, aim: Aim) -> float:
    """How far what the stream loses without a head of the last layer is from that head's direct contribution, as a
    share of the largest logit: the head with the largest, all that stands behind it held at what it said, the loss
    read along the token's direction with the norms frozen. Where there is nothing behind it, and no norm, that is the
    whole change of the logit.

    Raises InputError where a norm stands between a head and the stream.
    """
    side, model = trace.own, trace.model
    config = side.stack.config
    if config.residual not in PLAIN:
        raise Unfit(Words(
            f"residual={config.residual}: a norm stands between heads and stream, or there is no stream; wanted "
            f"{' or '.join(PLAIN)}",
            f"residual={config.residual}：头与残差流之间隔着归一化，或没有残差流；需要 {' 或 '.join(PLAIN)}",
        ))  # fmt: skip
    parts = direct(trace, aim.place, aim.target)
    layer, spot = len(side.blocks) - 1, Spot(trace, 0, aim.place)
    head = int(parts.heads[layer].abs().argmax())
    behind: list[tuple[int, Part]] = [(layer, "feed_forward")]
    behind += [(layer, "cross")] if side.crossed else []
    with replayed(model, trace, behind), ablated(model, [(layer, head)]):
        after = again(trace)
    way = spot.said(words_of(model), spot.of(trace.hidden), aim.target).before(side.stack.norm, spot.of(side.last))
    lost = float(way.along @ (spot.of(side.last) - spot.of(after.own.last)))
    return abs(lost - float(parts.heads[layer, head])) / (parts.size or 1.0)


def again(trace: Trace) -> Trace:
    """The same text once more, with what hooks are on now."""
    return capture(trace.model, trace.tokens, view=trace.view, source=trace.source, source_view=trace.source_view)


def _by_head(
    onward: Onward, layer: int, which: Which, change: Callable[[list[tuple[int, int]]], Any]
) -> Tensor:  # fmt: skip
    """Each head of a layer changed alone -> (H, V)."""
    x = onward.side.inputs[layer]
    count = onward.side.seams(which)[layer].q.shape[1]
    found = []
    for part in onward.batches(count):
        with change([(layer, head) for head in part]):
            found.append(onward.with_one_as_it_was(layer, x.expand(len(part) + 1, -1, -1)))
    return torch.cat(found)


def _lost(onward: Onward, aim: Aim, logits: Tensor) -> Lost:
    """Of logits (R, V) at the place."""
    before, after = onward.before.log_softmax(-1), logits.log_softmax(-1)
    kl = (before.exp() * (before - after)).nan_to_num(0.0).sum(-1)
    return Lost(aim.of(logits) - aim.of(onward.before), kl.clamp(min=0))


def _reaches(onward: Onward, row: int, place: int) -> bool:
    """Whether the place that is asked about can see what stands in a row of the stream at a place."""
    if onward.side is not onward.trace.own:
        return True
    if row == len(onward.side.blocks):
        return place == onward.place
    return place <= onward.place or not onward.side.causal


def _same_side(trace: Trace, side: Side) -> Side:
    """The other pass's side. Raises InputError where it read another number of tokens."""
    (found,) = [one for one in trace.sides if one.name == side.name]
    mine, theirs = side.last.shape[1], found.last.shape[1]
    if mine != theirs:
        raise InputError(f"the text has {mine} tokens, the other {theirs}; wanted as many of both")
    return found
