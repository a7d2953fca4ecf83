"""Adapters as a model sees them: what hangs below its layers, and which of it they heed. What they are is not known
here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from .experts import Experts
from .layers import in_tiles

ADAPTERS = "adapters"  # the module below a layer that holds what adapters add to it, by their names
Deltas = tuple[Callable[..., Any], ...]
V = TypeVar("V")


def carriers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """The layers that any adapter adds something to, by name."""
    for name, module in model.named_modules():
        if ADAPTERS in module._modules:
            yield name, module


def own(weights: Mapping[str, V]) -> dict[str, V]:
    """What is the model's own among weights by name."""
    return {name: weight for name, weight in weights.items() if f".{ADAPTERS}." not in name}


def heeded(model: nn.Module) -> list[tuple[Any, Deltas]]:
    """What each layer heeds now."""
    return [(layer, layer.deltas) for _, layer in carriers(model)]


class Heeding(AbstractContextManager[None]):
    """Inside, layers heed what they did when `heeded` was asked; as often as it is entered."""

    def __init__(self, found: list[tuple[Any, Deltas]]) -> None:
        self.found = found

    def __enter__(self) -> None:
        self.before = [(layer, layer.deltas) for layer, _ in self.found]
        _set(self.found)

    def __exit__(self, *error: object) -> None:
        _set(self.before)


def _set(found: list[tuple[Any, Deltas]]) -> None:
    for layer, deltas in found:
        layer.deltas = deltas


def both_passes(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """For the forward pass of a block, and for its second one in the backward pass: other adapters may be active by
    then, and must not be heeded."""
    found = heeded(block)
    return nullcontext(), Heeding(found) if found else nullcontext()


class Routing(AbstractContextManager[None]):
    """Inside, each token of a flat pass heeds what its group does: the product with a layer's own weight is one for all
    of them, and what adapters add is computed group by group (S-LoRA, Sheng et al. 2024, section 5)."""

    def __init__(self, layers: Sequence[tuple[Any, Sequence[Deltas]]], of: np.ndarray, experts: Sequence[Experts],
                 device: torch.device) -> None:  # fmt: skip
        """layers: what each of them adds for each group; of (N,): the group of each token; experts: layers in which
        only some of the tokens meet a weight."""
        self.layers = [(layer, Route(self, groups)) for layer, groups in layers if any(groups)]
        self.experts, self.count, self.device = experts, len(layers[0][1]) if layers else 0, device
        self._look_at(of)

    def _look_at(self, of: np.ndarray) -> None:
        self.of = of
        self.rows = [torch.from_numpy(np.flatnonzero(of == group)).to(self.device) for group in range(self.count)]

    def __enter__(self) -> None:
        for layer, route in self.layers:
            layer.route = route
        for experts in self.experts:
            experts.among = self.at

    def __exit__(self, *error: object) -> None:
        # what stands on the class is found again
        for layer, _ in self.layers:
            del layer.route
        for experts in self.experts:
            del experts.among

    @contextmanager
    def at(self, which: np.ndarray) -> Iterator[None]:
        """Inside, layers are given these of the tokens alone, in this order."""
        of, rows = self.of, self.rows
        self._look_at(of[which])
        try:
            yield
        finally:
            self.of, self.rows = of, rows


class Route:
    """What one layer adds to the tokens of a pass."""

    def __init__(self, routing: Routing, groups: Sequence[Deltas]) -> None:
        self.routing, self.groups = routing, groups

    def __call__(self, x: Tensor, y: Tensor, tile: int = 0) -> Tensor:
        """x (N, ...): what the layer was given; y (N, out): what it says by itself, which may be written to. tile: as
        `Linear.tile`. In the order of sums that the layer has where all tokens heed the same."""
        for rows, deltas in zip(self.routing.rows, self.groups):
            if not len(rows) or not deltas:
                continue
            part = x[rows]
            for delta in deltas:
                more = in_tiles(delta, part, tile) if tile else delta(part)
                wide = torch.promote_types(y.dtype, more.dtype)
                y = y.to(wide).index_add_(0, rows, more.to(wide))
        return y
