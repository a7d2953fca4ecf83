"""Who said it: direct logit attribution, the parts of one logit (nostalgebraist 2020; Elhage et al. 2021).

The stream is a sum, and with every norm on the way kept at the scale that it had, a logit is linear in it: it is the
sum of what the embedding, each head, each feed-forward layer and each bias wrote into the stream at this place, read
in one direction. That direction is the head's row for the token, pulled back through the frozen norms from the last
layer to the first. What a part did for others that came after it is not counted here; patching and ablation count it.

Letters: L layers, H heads, E head size, D model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..config import InputError
from ..infer.reader import resting
from ..model.attention import Attention, capped
from ..model.heads import LanguageHead, MaskedHead
from ..model.layers import LayerNorm, Linear, RMSNorm
from ..model.stack import Block
from .capture import Seam, Trace, words_of

# How far the sum may be from the logit, as a share of the largest logit there: what rounding leaves.
LIMITS = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}


@dataclass(frozen=True)
class Direct:
    """The parts of `logit`, that of a target, or its difference to that of `minus`, at a place.

    embedding: of tokens, positions and types, what there is; heads (L, H); attention_bias (L,): of the layer's output;
    cross (L, H) and cross_bias (L,) of an encoder-decoder's decoder; feed_forward (L,), its bias too; constants: what
    the head's and the norms' biases say of every text. total: the sum of all these; size: the largest logit there, by
    magnitude; gap: |total - logit| / size; limit: how large rounding may make it.
    """

    target: int
    minus: int | None
    place: int
    logit: float
    embedding: Mapping[str, float]
    heads: Tensor
    attention_bias: Tensor
    cross: Tensor | None
    cross_bias: Tensor | None
    feed_forward: Tensor
    constants: Mapping[str, float]
    size: float
    limit: float

    @property
    def total(self) -> float:
        parts = (self.heads, self.attention_bias, self.cross, self.cross_bias, self.feed_forward)
        written = sum(float(part.sum()) for part in parts if part is not None)
        return written + sum(self.embedding.values()) + sum(self.constants.values())

    @property
    def attention(self) -> Tensor:
        """(L,), heads and bias."""
        return self.heads.sum(1) + self.attention_bias

    @property
    def crossing(self) -> Tensor | None:
        """(L,), heads and bias."""
        return None if self.cross is None or self.cross_bias is None else self.cross.sum(1) + self.cross_bias

    @property
    def gap(self) -> float:
        return abs(self.total - self.logit) / (self.size or 1.0)


@torch.no_grad()
def direct(trace: Trace, place: int, target_id: int, minus_id: int | None = None, row: int = 0) -> Direct:
    """Of the logit of a target id at a place of a row of the batch; minus: of its difference to that of another id.

    Raises InputError where no head says tokens, or there is no such place or id.
    """
    head = words_of(trace.model)
    batch, places = trace.tokens.shape
    vocab = trace.model.config.vocab_size
    if not 0 <= place < places or not 0 <= row < batch:
        raise InputError(f"place={place} of row={row}, wanted places 0 to {places - 1} of rows 0 to {batch - 1}")
    for id in (target_id, minus_id):
        if id is not None and not 0 <= id < vocab:
            raise InputError(f"id={id}, wanted 0 to {vocab - 1}")
    with resting(trace.model):
        return _parted(trace, head, place, target_id, minus_id, row)


def _parted(trace: Trace, head: nn.Module, place: int, target_id: int, minus_id: int | None, row: int) -> Direct:
    logits = trace.logits(slice(place, place + 1))[row, 0].detach().cpu().double()
    spot = Spot(trace, row, place)
    way = spot.said(head, spot.of(trace.hidden), target_id)
    if minus_id is not None:
        other = spot.said(head, spot.of(trace.hidden), minus_id)
        way = Way(way.along - other.along, {name: way.biases[name] - other.biases[name] for name in way.biases})
    way = way.before(trace.own.stack.norm, spot.of(trace.own.last))
    layers = []
    for layer in reversed(range(len(trace.own.blocks))):
        way, parts = _through(spot, layer, way)
        layers.append(parts)
    layers.reverse()
    way, embedding = _embedded(spot, way)
    crossed = [parts.cross for parts in layers if parts.cross is not None]
    return Direct(
        target_id, minus_id, place, float(logits[target_id] - (0 if minus_id is None else logits[minus_id])), embedding,
        torch.stack([parts.attention.heads for parts in layers]),
        torch.stack([parts.attention.bias for parts in layers]),
        torch.stack([wrote.heads for wrote in crossed]) if crossed else None,
        torch.stack([wrote.bias for wrote in crossed]) if crossed else None,
        torch.stack([parts.feed_forward for parts in layers]),
        way.biases, float(logits.abs().max()), LIMITS[trace.model.dtype],
    )  # fmt: skip


class Frozen(NamedTuple):
    """A norm with the scale that it had: x -> centred x * scale + bias, linear in x."""

    scale: Tensor | float = 1.0
    bias: Tensor | float = 0.0
    centred: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        return (x - x.mean(-1, keepdim=True) if self.centred else x) * self.scale + self.bias

    def back(self, along: Tensor) -> Tensor:
        """The direction in x that a direction in the result comes from."""
        along = along * self.scale
        return along - along.mean(-1, keepdim=True) if self.centred else along


def frozen(norm: nn.Module, x: Tensor) -> Frozen:
    """A norm as it was for x (D,). Raises InputError for one that is not known."""
    if isinstance(norm, nn.Identity):
        return Frozen()
    if isinstance(norm, RMSNorm):
        return Frozen(norm.gain().to(x) * (x.square().mean() + norm.eps).rsqrt())
    if isinstance(norm, LayerNorm):
        scale = norm.weight.to(x) * (x.var(correction=0) + norm.eps).rsqrt()
        return Frozen(scale, 0.0 if norm.bias is None else norm.bias.to(x), centred=True)
    raise InputError(f"found the norm {type(norm).__name__}; wanted one that can be frozen: rms or layer")


class Way(NamedTuple):
    """Where a logit is read in the stream: its direction (D,), and what biases have said so far."""

    along: Tensor
    biases: Mapping[str, float]

    def before(self, norm: nn.Module, x: Tensor) -> Way:
        """The same in front of a norm that was given x (D,)."""
        still = frozen(norm, x)
        said = float((self.along * still.bias).sum()) + self.biases["norms"]
        return Way(still.back(self.along), {**self.biases, "norms": said})


class Wrote(NamedTuple):
    """What an attention wrote: heads (H,), and its bias ()."""

    heads: Tensor
    bias: Tensor


class Parts(NamedTuple):
    attention: Wrote
    cross: Wrote | None
    feed_forward: Tensor


class Spot:
    """One place of one row of a trace. What is added up is in fp64, so that all rounding is the model's own."""

    def __init__(self, trace: Trace, row: int, place: int) -> None:
        self.trace, self.row, self.place = trace, row, place
        self.wide = torch.promote_types(trace.hidden.dtype, torch.float32)  # of products with weights

    def of(self, x: Tensor) -> Tensor:
        """x (B, T, D) -> (D,)."""
        return _exact(x[self.row, self.place])

    def wrote(self, attention: Attention, seam: Seam, along: Tensor) -> Wrote:
        """What each head wrote along a direction: what came of it (E) through its own columns of the output alone."""
        y = seam.y[self.row, :, self.place].to(self.wide)
        alone = torch.block_diag(*y)
        nothing = attention.out(torch.zeros_like(alone[:1]))
        return Wrote(_exact(attention.out(alone) - nothing) @ along, (_exact(nothing) @ along)[0])

    def said(self, head: nn.Module, hidden: Tensor, target: int) -> Way:
        """Where a head reads a token's logit in the last hidden state (D,). What is not linear in it, a cap or an
        activation, is frozen as the factor that it was."""
        if isinstance(head, MaskedHead):
            transform = head.transform
            dense = _exact(transform.dense(hidden.to(self.trace.model.device, self.wide)))
            acted = transform.act(dense)
            way = self.said(head.out, frozen(transform.norm, acted)(acted), target).before(transform.norm, acted)
            along, bias = self.back(transform.dense, way.along * torch.where(dense == 0, 0.0, acted / dense))
            return Way(along, {**way.biases, "head": way.biases["head"] + bias})
        if not isinstance(head, LanguageHead):
            raise InputError(f"found the head {type(head).__name__}; wanted lm or masked, whose logits are sums")
        along, bias = self.back(head, torch.eye(1, head.out_features, dtype=torch.float64).roll(target)[0])
        along = along * head.scale
        uncapped = hidden @ along + bias
        factor = float(capped(uncapped, head.cap) / uncapped) if uncapped else 1.0
        return Way(along * factor, {"head": bias * factor, "norms": 0.0})

    def back(self, linear: Linear, along: Tensor) -> tuple[Tensor, float]:
        """A direction (out,) in what a layer gives -> that in what it is given (in,), and what its bias says. By its
        own forward pass: its weight may be quantised, or not all that it adds."""
        device = self.trace.model.device
        with torch.enable_grad():
            x = torch.zeros(1, linear.in_features, dtype=self.wide, device=device, requires_grad=True)
            y = Linear.forward(linear, x)[0]  # without the cap and the scale of a head
            (back,) = torch.autograd.grad(y, x, along.to(y))
        return _exact(back[0]), float(_exact(y) @ along)


def _exact(x: Tensor) -> Tensor:
    """In fp64, on a CPU: not every device has that."""
    return x.detach().cpu().double()


def _through(spot: Spot, layer: int, way: Way) -> tuple[Way, Parts]:
    """From behind a block to in front of it, and what its parts wrote."""
    side = spot.trace.own
    block, update = side.blocks[layer], side.updates[layer]
    names = ["attention", "cross", "feed_forward"] if block.cross is not None else ["attention", "feed_forward"]
    kind = side.stack.config.residual
    given = _given(block, kind, spot.of(side.inputs[layer]), {name: spot.of(update[name]) for name in names})
    said: dict[str, Tensor] = {}
    wrote: dict[str, Wrote] = {}
    for name in reversed(names):
        f = spot.of(update[name])
        if kind == "post":
            way = way.before(getattr(block, f"{name}_norm"), given[name] + f)
        here = way
        if kind in ("inside", "both"):
            here = way.before(getattr(block, f"{name}_{'norm' if kind == 'inside' else 'after'}"), f)
        if name == "feed_forward":
            said[name] = here.along @ f
        else:
            module = block.attention if name == "attention" else block.cross
            assert module is not None
            seam = (side.attended if name == "attention" else side.crossed)[layer]
            wrote[name] = spot.wrote(module, seam, here.along)
        # without a stream nothing passes by
        way = Way(torch.zeros_like(way.along) if kind == "none" else way.along, here.biases)
    return way, Parts(wrote["attention"], wrote.get("cross"), said["feed_forward"])


def _given(block: Block, kind: str, x: Tensor, updates: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The stream that each part of a block is joined to, where norms stand behind the sum."""
    given = {}
    for name, f in updates.items():
        given[name] = x
        if kind == "post":
            norm = getattr(block, f"{name}_norm")
            x = frozen(norm, x + f)(x + f)
    return given


def _embedded(spot: Spot, way: Way) -> tuple[Way, dict[str, float]]:
    """What the token itself, its position and its type wrote."""
    trace = spot.trace
    stack, config, view = trace.own.stack, trace.own.stack.config, trace.view
    token = trace.tokens[spot.row, spot.place, None]
    x = trace.model.embed(token).to(spot.wide)
    parts = {"tokens": x * config.d_model**0.5 if config.scaled_embed else x}
    where = torch.tensor(spot.place, device=token.device)
    if view is not None and view.positions is not None:
        where = view.positions[spot.row % len(view.positions), spot.place]
    added = stack.positions.add(torch.zeros_like(x)[None], where[None, None])[0]
    if config.positions in ("learned", "sinusoidal", "sinusoidal_halves", "sinusoidal_t2t"):
        parts["positions"] = added
    if config.token_types:
        types = (
            torch.zeros_like(token) if view is None or view.types is None else view.types[spot.row, spot.place, None]
        )
        parts["types"] = stack.types(types)
    exact = {name: _exact(part[0]) for name, part in parts.items()}
    way = way.before(stack.embed_norm, torch.stack(list(exact.values())).sum(0))
    return way, {name: float(part @ way.along) for name, part in exact.items()}
