"""Which adapter each request of a step heeds: some the bare model, others an adapter, in one pass over all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

import numpy as np

from ..config import unknown
from ..model.adapters import Deltas, Heeding, Routing, carriers
from ..model.transformer import Transformer

BARE = ""  # the adapter of a request that heeds none


def root_of(salt: bytes, adapter: str | None) -> bytes:
    """What keys of a text depend on besides it: who may share them, and what was heeded when they were computed."""
    if not salt and adapter is None:
        return b""
    named = b"\0" if adapter is None else b"\1" + adapter.encode()
    return sha256(len(salt).to_bytes(8, "big") + salt + named).digest()


class Router:
    """The adapters of a model, as the requests of an engine name them: BARE for none, and None for those that are
    active when the request is computed."""

    def __init__(self, model: Transformer) -> None:
        self.model = model
        self._attached: list[Any] = []
        self._layers: list[tuple[Any, dict[str, Any]]] = []  # each with what adapters add to it, by their names

    def check(self, name: str | None) -> None:
        """Raise InputError for an adapter that the model does not have."""
        if name and name not in self.model.attached:
            raise unknown("adapter", name, self.model.attached)

    def strays(self, names: Sequence[str | None]) -> bool:
        """Whether one of them heeds other adapters than the layers do now."""
        return any(name is not None and self._wanted(name) != self.model.active for name in names)

    def _wanted(self, name: str | None) -> tuple[str, ...]:
        if name is None:
            return self.model.active
        self.check(name)
        return (name,) if name else ()

    @contextmanager
    def heeding(self, names: Sequence[str | None], counts: Sequence[int]) -> Iterator[Routing | None]:
        """Inside, of the tokens of a flat pass the first counts[0] heed the adapter names[0], and so on. Where they
        differ, whoever hands on only some of the tokens says which: `Routing.at`."""
        if not self.strays(names):
            yield None
            return
        each = [self._wanted(name) for name in names]
        kinds = list(dict.fromkeys(each))
        layers = self._found()
        if len(kinds) == 1:
            with Heeding([(layer, self._deltas(layer, own, kinds[0])) for layer, own in layers]):
                yield None
            return
        of = np.repeat([kinds.index(wanted) for wanted in each], counts)
        groups = [(layer, [self._deltas(layer, own, wanted) for wanted in kinds]) for layer, own in layers]
        routing = Routing(groups, of, self.model.experts, self.model.device)
        with routing:
            yield routing

    def _found(self) -> list[tuple[Any, dict[str, Any]]]:
        """The layers that adapters add to, looked for again where adapters came or went."""
        attached = list(self.model.attached.values())
        if len(attached) != len(self._attached) or any(a is not b for a, b in zip(attached, self._attached)):
            self._layers = [(layer, dict(layer.adapters.items())) for _, layer in carriers(self.model)]
            self._attached = attached
        return self._layers

    def _deltas(self, layer: Any, own: dict[str, Any], wanted: tuple[str, ...]) -> Deltas:
        if wanted == self.model.active:
            return layer.deltas
        return tuple(own[name] for name in wanted if name in own)
