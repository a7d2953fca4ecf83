"""Adapters as a model sees them: what hangs below its layers, and which of it they heed. What they are is not known
here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from torch import nn

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
