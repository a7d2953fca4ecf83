"""The models of the glass box: loaded when they are first asked for, let go when others need the room."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ...adapt.folders import NAME, load_adapted, load_model
from ...adapt.lora import using
from ...config import ModelConfig
from ...model.stack import Stack
from ...model.transformer import Transformer
from ...text.tokenizer import Tokenizer
from .index import Index, Listed, changed_at
from .trouble import no_memory


@dataclass(eq=False)
class Held:
    """A model that is loaded. tokenizer: None where its folder has none; adapter: the id of the one that is on it, ""
    for none; folder: of the adapter where there is one; bytes: of its weights; changed: when those were written; more:
    what operations keep with it, such as what probe sets say of its heads."""

    id: str
    adapter: str
    model: Transformer
    tokenizer: Tokenizer | None
    folder: Path
    listed: Listed
    bytes: int
    changed: float = 0.0
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> ModelConfig:
        return self.model.config

    def bare(self) -> Any:
        """A context in which its adapter is off; without one, nothing changes."""
        return using(self.model) if self.adapter else nullcontext()


class Stock:
    """Models by the names of `Index`, with at most `budget` bytes of weights, but always one. ward: called with a
    module before it computes, and may raise Abandoned; left: called with a model that is let go."""

    def __init__(
        self, index: Index, *, dtype: torch.dtype, device: torch.device, budget: int,
        ward: Callable[..., None], left: Callable[[Held], None] = lambda held: None,
    ) -> None:  # fmt: skip
        self.index, self.dtype, self.device, self.budget = index, dtype, device, budget
        self._ward, self._left = ward, left
        self._held: OrderedDict[tuple[str, str], Held] = OrderedDict()

    @property
    def loaded(self) -> list[str]:
        """The ids of what is loaded, of an adapter its own."""
        return sorted({adapter or model for model, adapter in self._held})

    def get(self, model: str, adapter: str = "") -> Held:
        """The model of an id, with an adapter of it on. Raises Trouble (404) for an id that there is not, InputError
        for a folder that cannot be used, Trouble (507) where its weights need more than there is."""
        listed, place = self.index.find(model), self.index.adapter(model, adapter)
        key, place = (listed.id, adapter), place or listed.folder
        changed = changed_at(place)
        if key in self._held and self._held[key].changed == changed:
            self._held.move_to_end(key)
            return self._held[key]
        if key in self._held:  # it was trained meanwhile
            self._left(self._held.pop(key))
        self._make_room(listed.facts.get("parameters", 0) * torch.empty((), dtype=self.dtype).element_size())
        began = time.monotonic()
        model_, tokenizer = self._load(place)
        size = sum(x.nbytes for x in {id(x): x for x in [*model_.parameters(), *model_.buffers()]}.values())
        held = Held(key[0], key[1], model_, tokenizer, place, listed, size, changed)
        held.more["load_seconds"] = time.monotonic() - began
        for stack in stacks(model_):
            for block in stack.blocks:
                block.register_forward_pre_hook(self._ward)
        self._held[key] = held
        return held

    def _load(self, place: Path) -> tuple[Transformer, Tokenizer | None]:
        if (place / "tokenizer.json").is_file() or (place / "adapter_config.json").is_file():
            return load_adapted(place, adapter=NAME, dtype=self.dtype, device=self.device)
        return load_model(place, dtype=self.dtype, device=self.device), None

    def _make_room(self, bytes: int) -> None:
        if bytes > self.budget:
            raise no_memory(bytes, self.budget)
        while self._held and sum(held.bytes for held in self._held.values()) + bytes > self.budget:
            _, held = self._held.popitem(last=False)
            self._left(held)


def stacks(model: Transformer) -> Iterable[Stack]:
    """The stacks of a model, its encoder's first."""
    return [model.encoder, model] if model.encoder is not None else [model]
