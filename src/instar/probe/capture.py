"""What a forward pass computed, seen through hooks alone: the fused kernels stay, and a pass that nobody watches has no
hook and does nothing more.

Letters: B batch, T queries, S keys, D model, H heads, K key-value heads, E head size, L layers, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..batch import View
from ..config import InputError
from ..infer.reader import resting
from ..model.attention import Attend, Attention, attention_weights
from ..model.stack import Block, Stack
from ..model.transformer import Transformer
from .panel import Unfit, Words


@dataclass(frozen=True)
class Seam:
    """One attention as it happened: q (B, H, T, E), k and v (B, K, S, E), what was added to the scores or whether they
    were causal, and y (B, H, T, E), what came of it."""

    q: Tensor
    k: Tensor
    v: Tensor
    mask: Tensor | None
    causal: bool
    scale: float
    cap: float
    y: Tensor

    def weights(self, heads: slice | Sequence[int] | None = None) -> Tensor:
        """softmax(q k^T scale + mask) of these heads, or of all -> (B, H, T, S) in fp32 at least, by the one
        implementation that the model's own attention has."""
        kept = list(range(self.q.shape[1]))
        kept = kept if heads is None else kept[heads] if isinstance(heads, slice) else [kept[head] for head in heads]
        groups = self.q.shape[1] // self.k.shape[1]
        wide = torch.promote_types(self.q.dtype, torch.float32)
        q, k, mask = self.q, self.k, self.mask
        if heads is not None:
            q, k = q[:, kept], k[:, [head // groups for head in kept]]
            mask = mask if mask is None or mask.shape[1] == 1 else mask[:, kept]
        mask = None if mask is None else mask.to(wide)
        return attention_weights(q.to(wide), k.to(wide), mask, self.causal, self.scale, self.cap)

    def values(self) -> Tensor:
        """v of each query head: (B, H, S, E)."""
        return self.v.repeat_interleave(self.q.shape[1] // self.v.shape[1], dim=1)


@dataclass
class Side:
    """One stack as it was run.

    inputs: what each block was given, L of (B, T, D); last: what the last block gave; hidden: the same after the last
    norm; attended, crossed: the attention of each layer to its own text, and to the source; updates: what attention,
    cross (where there is one) and feed_forward gave in each layer, before a norm behind them, (B, T, D).
    """

    name: str
    stack: Stack
    inputs: list[Tensor] = field(default_factory=list)
    attended: list[Seam] = field(default_factory=list)
    crossed: list[Seam] = field(default_factory=list)
    updates: list[dict[str, Tensor]] = field(default_factory=list)
    last: Tensor = field(default_factory=lambda: torch.empty(0))
    hidden: Tensor = field(default_factory=lambda: torch.empty(0))

    @property
    def stream(self) -> list[Tensor]:
        """The residual stream: what goes into each block and what comes out of the last, L + 1 of (B, T, D)."""
        return [*self.inputs, self.last]

    @property
    def blocks(self) -> list[Block]:
        return cast("list[Block]", list(self.stack.blocks))

    @property
    def causal(self) -> bool:
        return self.stack.config.causal

    def seams(self, which: str = "self") -> list[Seam]:
        """Of each layer: `self`, or `cross`. Raises InputError where a model looks at no source."""
        if which == "cross" and not self.crossed:
            raise InputError(f"found no attention to a source in the {self.name}; wanted an encoder-decoder's decoder")
        return self.crossed if which == "cross" else self.attended


@dataclass
class Trace:
    """One forward pass: tokens (B, T), what the encoder of an encoder-decoder read, and what was computed in each
    stack. `own` is the decoder, or the only stack."""

    model: Transformer
    tokens: Tensor
    view: View | None
    source: Tensor | None
    source_view: View | None
    own: Side
    encoder: Side | None = None

    @property
    def hidden(self) -> Tensor:
        """(B, T, D) after the last norm."""
        return self.own.hidden

    @property
    def sides(self) -> list[Side]:
        return [self.own] if self.encoder is None else [self.encoder, self.own]

    @property
    def bytes(self) -> int:
        """Memory of all that is kept; what several hold is counted once."""
        kept: dict[int, int] = {}
        for side in self.sides:
            seams = [x for seam in [*side.attended, *side.crossed] for x in (seam.q, seam.k, seam.v, seam.mask, seam.y)]
            updates = [x for update in side.updates for x in update.values()]
            for x in (*side.stream, side.hidden, *seams, *updates):
                if x is not None:
                    kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return sum(kept.values())

    def logits(self, at: slice | Tensor | None = None) -> Tensor:
        """What the model's own head says at these places of the text, or at all: (B, T, V) of a model with words.
        Raises InputError where it has no head for words."""
        hidden = self.hidden if at is None else self.hidden[:, at]
        with resting(self.model), _grad(self.hidden.requires_grad):
            return words_of(self.model)(hidden)


def words_of(model: Transformer) -> nn.Module:
    """The head that says tokens, `lm` or `masked`. Raises InputError where there is none."""
    for name in ("lm", "masked"):
        if name in model.heads:
            return model.heads[name]
    heads = model.config.heads_of
    raise Unfit(Words(
        f"heads_of={heads}: no head says tokens; wanted lm or masked",
        f"heads_of={heads}：没有能输出词元的头；需要 lm 或 masked",
    ))  # fmt: skip


def capture(
    model: Transformer,
    tokens: Tensor,
    *,
    view: View | None = None,
    source: Tensor | None = None,
    source_view: View | None = None,
    grad: bool = False,
) -> Trace:
    """Run tokens (B, T), with a source (B, S) for an encoder-decoder, and keep what was computed.

    grad: with gradients, for what is derived. The model is at rest meanwhile, without dropout. Raises InputError as
    `Transformer.hidden` does.
    """
    tokens = tokens.to(model.device)
    source = None if source is None else source.to(model.device)
    with resting(model), _grad(grad), watching(model) as sides:
        own = sides[-1]
        own.hidden = model.hidden(tokens, view=view, source=source, source_view=source_view)
    return Trace(model, tokens, view, source, source_view, own, sides[0] if len(sides) > 1 else None)


@contextmanager
def watching(model: Transformer) -> Iterator[list[Side]]:
    """While it lasts, each forward pass leaves what it computed in these sides, the encoder's first; the hooks are
    gone afterwards, whatever happens. Hooks that change what is computed are put on before, so that what is kept is
    what went on."""
    stacks: list[tuple[str, Stack]] = [("encoder" if not model.config.causal else "decoder", model)]
    if model.encoder is not None:
        stacks.insert(0, ("encoder", model.encoder))
    sides = [Side(name, stack) for name, stack in stacks]
    with ExitStack() as hooks:
        for side in sides:
            for number, block in enumerate(side.blocks):
                _watch(hooks, side, block, number)
            if side.name == "encoder" and model.encoder is not None:
                _on(hooks, side.stack.norm, lambda norm, given, y, side=side: setattr(side, "hidden", y))
        yield sides


def _watch(hooks: ExitStack, side: Side, block: Block, number: int) -> None:
    def begin(block: nn.Module, given: tuple[Any, ...]) -> None:
        if number == 0:
            side.inputs, side.attended, side.crossed, side.updates = [], [], [], []
        side.inputs.append(given[0])
        side.updates.append({})

    def end(block: nn.Module, given: tuple[Any, ...], y: Tensor) -> None:
        side.last = y

    hooks.callback(block.register_forward_pre_hook(begin).remove)
    _on(hooks, block, end)
    for name, part in (("attention", block.attention), ("cross", block.cross), ("feed_forward", block.feed_forward)):
        if part is not None:
            _on(hooks, part, lambda part, given, y, name=name: side.updates[-1].__setitem__(name, y))
    _on(hooks, block.attention.attend, lambda part, given, y: side.attended.append(seam_of(part, given, y)))
    if block.cross is not None:
        _on(hooks, block.cross.attend, lambda part, given, y: side.crossed.append(seam_of(part, given, y)))


def seam_of(attend: Attend, given: tuple[Any, ...], y: Tensor) -> Seam:
    """What an Attend was given and gave."""
    q, k, v, mask, causal = given
    return Seam(q, k, v, mask, causal, (attend.size or q.shape[-1]) ** -0.5, attend.cap, y)


def _on(hooks: ExitStack, module: nn.Module, hook: Any) -> None:
    hooks.callback(module.register_forward_hook(hook).remove)


def _grad(wanted: bool) -> Any:
    return nullcontext() if wanted else torch.no_grad()


def attention_of(side: Side, layer: int, which: str = "self") -> Attention:
    """The module of a seam. Raises InputError for a layer that does not exist."""
    if not 0 <= layer < len(side.blocks):
        raise InputError(f"layer={layer}, wanted 0 to {len(side.blocks) - 1} of the {side.name}")
    block = side.blocks[layer]
    found = block.cross if which == "cross" else block.attention
    if found is None:
        raise InputError(f"found no attention to a source in the {side.name}; wanted an encoder-decoder's decoder")
    return found
