"""Quantising a model: which layers, with what they are really given as a measure, and in which order.

Every plain linear layer is rounded whose rows fill their groups. Embeddings, heads, and what chooses experts stay as
they are: a tied head is the embedding, and all three are small where a model is large.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..config import InputError
from ..hub.packed import linear
from ..model.experts import Experts
from ..model.grid import Grid, halved
from ..model.layers import Linear
from ..model.nf4 import NF4Linear
from ..model.quantized import QuantLinear, refuse_quantized, replace, settle
from ..model.transformer import Transformer
from .rounding import compensated, nearest, search

MEMORY = 1 << 30  # bytes of what is summed up about inputs at a time
# The group that is taken for so many bits: measured to cost at most 0.3 % of the perplexity with 8, and 3 % with 4.
GROUP = {8: 0, 4: 32}
Read = Callable[[], None]


class Done(NamedTuple):
    """layers: how many are quantised; left: names of those that are not, though they are plain linear layers; weights:
    how many are whole numbers now; seen: whether what the layers are given was looked at."""

    layers: int
    left: list[str]
    weights: int
    seen: bool


def quantize(
    model: Transformer, grid: Grid, read: Read | None = None, *, each: Callable[[int], None] = lambda done: None
) -> Done:
    """Put QuantLinear in the place of the linear layers of a model.

    read: lets the model read text as it will be used, whatever it is; without it scales are searched for and weights
    rounded to their nearest. each: called with how many more layers are done. Raises InputError for a model that is
    quantised, and where no layer can be.
    """
    refuse_quantized(model, "the model", "quantise")
    routers = {id(module.router) for module in model.modules() if isinstance(module, Experts)}
    plain = [(name, layer) for name, layer in linear(model) if id(layer) not in routers]
    chosen = [(name, layer) for name, layer in plain if grid.fits(layer.in_features)]
    if not chosen:
        widths = sorted({layer.in_features for _, layer in plain})
        raise InputError(
            f"no layer can be quantised: rows have {', '.join(map(str, widths))} weights, wanted multiples of "
            f"{grid.group or 32 // grid.bits}; take another group, or 0 for whole rows"
        )
    was = model.training
    model.eval()
    dtype = model.embed.weight.dtype
    for part in _parts(chosen) if read else [chosen]:
        seconds = _seconds(model, part, read) if read else {}
        for name, layer in part:
            replace(model, name, rounded(layer, grid, seconds.get(name)))
            each(1)
    settle(model, dtype)
    model.train(was)
    names = {name for name, _ in chosen}
    left = [name for name, _ in plain if name not in names]
    return Done(len(chosen), left, sum(layer.out_features * layer.in_features for _, layer in chosen), read is not None)


@torch.no_grad()
def rounded(layer: Linear, grid: Grid, second: Tensor | None = None) -> QuantLinear:
    """A linear layer on a grid. second (K, K): the sum of x x^T over what it is given."""
    weight = layer.weight.detach()
    scale, zero = search(weight, grid)
    if second is None or not second.diagonal().sum() > 0:  # an expert that no token chose was given nothing
        q = nearest(weight, scale, zero, grid)
    else:
        q = compensated(weight, scale, zero, grid, second.to(weight.device))
    new = QuantLinear(layer.out_features, layer.in_features, grid, layer.bias)
    new.fill(q if grid.bits == 8 else halved(q), scale.to(weight.dtype), None if grid.symmetric else zero)
    return new.train(layer.training)


def _parts(layers: Sequence[tuple[str, Linear]]) -> Iterable[list[tuple[str, Linear]]]:
    """Layers one after the other, as many at a time as what is summed up about them fits into MEMORY: those that come
    later see what the rounding of earlier ones did."""
    part: list[tuple[str, Linear]] = []
    held = 0
    for name, layer in layers:
        size = 4 * layer.in_features**2
        if part and held + size > MEMORY:
            yield part
            part, held = [], 0
        part.append((name, layer))
        held += size
    yield part


@torch.no_grad()
def _seconds(model: nn.Module, layers: Iterable[tuple[str, Linear]], read: Read) -> dict[str, Tensor]:
    """Name -> the sum of x x^T (K, K) over all that the layer is given while the model reads."""
    found: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def add(layer: nn.Module, given: tuple[Any, ...]) -> None:
            x = given[0].detach().flatten(0, -2).float()
            if name in found:
                found[name].addmm_(x.t(), x)
            else:
                found[name] = x.t() @ x

        return add

    with ExitStack() as stack:
        for name, layer in layers:
            stack.callback(layer.register_forward_pre_hook(watch(name)).remove)
        read()
    return found


def bytes_of(model: Transformer) -> int:
    """Bytes of all weights, those of few bits as they lie in memory."""
    tensors: dict[int, Tensor] = {id(weight): weight for weight in model.parameters()}
    for layer in model.modules():
        if isinstance(layer, QuantLinear | NF4Linear):
            tensors |= {id(buffer): buffer for buffer in layer.buffers(recurse=False)}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
