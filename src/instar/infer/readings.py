"""Texts that are read and not answered, for their vectors or for how likely they are, a bounded piece at a time: in
between the answers of others go on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..adapt.lora import using
from ..model.transformer import Transformer
from .reader import resting
from .surprise import Surprise, check_text, pieces
from .vectors import Pooling, check_rows, vectors_of

Found = Tensor | Surprise | Exception


@dataclass(eq=False)
class Vectors:
    """Rows of ids whose vectors are wanted; left: those that were not read yet, the longest last."""

    rows: Sequence[Sequence[int]]
    adapter: str
    left: list[int]
    found: Tensor

    @property
    def ready(self) -> bool:
        return not self.left


@dataclass(eq=False)
class Chances:
    """A text whose tokens' chances are wanted, and what is known of it."""

    parts: Iterator[Surprise]
    adapter: str
    found: Surprise = field(default_factory=lambda: Surprise([], []))
    begun: bool = False
    ready: bool = False


class Readings:
    """All that is to be read, by the number of whoever asks; each gets a piece in turn, but that of the texts whose
    chances are wanted, which keep keys and values between two pieces, one is read to its end before the next begins."""

    def __init__(self, model: Transformer, *, pooling: Pooling = "mean", chunk: int = 512, longest: int = 0) -> None:
        """chunk: tokens of one piece, with their padding; a text that is longer than that is a piece of its own where
        its vector is wanted. longest: tokens of such a text, by default what the model reads."""
        self.model, self.pooling, self.chunk, self.longest = model, pooling, chunk, longest
        self._work: dict[int, Vectors | Chances] = {}

    def __len__(self) -> int:
        """How many wait."""
        return len(self._work)

    def embed(self, id: int, rows: Sequence[Sequence[int]], adapter: str = "") -> None:
        """Want vectors. adapter: its name on the model, none for the bare one. Raises InputError for rows that cannot
        be read."""
        check_rows(self.model.config, rows, self.longest)
        order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
        self._work[id] = Vectors(rows, adapter, order, torch.empty(len(rows), self.model.config.d_model))

    def score(self, id: int, ids: Sequence[int], top: int = 0, adapter: str = "") -> None:
        """Want the chances of a text's tokens. Raises InputError for one that cannot be read."""
        check_text(self.model, ids)
        self._work[id] = Chances(pieces(self.model, ids, top=top, chunk=self.chunk), adapter)

    def drop(self, id: int) -> bool:
        """Nobody waits for it any more -> whether it was there."""
        return self._work.pop(id, None) is not None

    def go_on(self) -> list[tuple[int, Found]]:
        """Read one piece, for whoever's turn it is and those whose rows there is room for beside -> what is ready, or
        what came to grief. A pass that fails for several is tried again for each."""
        id, first = self._next()
        chosen = [] if isinstance(first, Chances) else self._chosen(first.adapter)
        self._work[id] = self._work.pop(id)  # the next one's turn
        owners = list(dict.fromkeys([id, *(owner for owner, *_ in chosen)]))
        if len(owners) > 1:
            with suppress(Exception):  # whoever it fails for is found below
                self._read(first.adapter, chosen)
                chosen = []
        own = {owner: [each for each in chosen if each[0] == owner] for owner in owners}
        return [found for owner in owners for found in self._try(owner, self._work[owner], own[owner])]

    def probe(self) -> None:
        """Read a text that any model in order can read. Raises whatever comes of it where it is in none."""
        with resting(self.model), self._heeding(""):
            vectors_of(self.model, [[0]], self.pooling)

    def _next(self) -> tuple[int, Vectors | Chances]:
        """Whose turn it is."""
        begun = any(isinstance(work, Chances) and work.begun for work in self._work.values())
        return next(
            (id, work) for id, work in self._work.items() if not begun or not isinstance(work, Chances) or work.begun
        )

    def _try(self, id: int, work: Vectors | Chances, chosen: list[tuple[int, Vectors, int]]) -> list[tuple[int, Found]]:
        """Read on for one -> what is ready then, or came to grief."""
        try:
            if isinstance(work, Vectors):
                self._read(work.adapter, chosen)
            else:
                with resting(self.model), self._heeding(work.adapter):
                    read_on(work)
        except Exception as error:  # whatever it is, it is the fault of this text, and others go on
            self.drop(id)
            return [(id, error)]
        return [(id, self._work.pop(id).found)] if work.ready else []

    def _read(self, adapter: str, chosen: list[tuple[int, Vectors, int]]) -> None:
        """One pass."""
        if not chosen:
            return
        rows = [work.rows[number] for _, work, number in chosen]
        with resting(self.model), self._heeding(adapter):
            vectors = vectors_of(self.model, rows, self.pooling)
        for (_, work, number), vector in zip(chosen, vectors):
            work.found[number] = vector
            work.left.remove(number)

    def _heeding(self, adapter: str) -> AbstractContextManager[None]:
        """With this adapter, or the bare model."""
        if not self.model.attached:
            return nullcontext()
        return using(self.model, *([adapter] if adapter else []))

    def _chosen(self, adapter: str) -> list[tuple[int, Vectors, int]]:
        """Rows for one pass, with whose they are, of all that heed the same adapter, as far as there is room."""
        chosen: list[tuple[int, Vectors, int]] = []
        longest = 0
        for owner, work in self._work.items():
            if not isinstance(work, Vectors) or work.adapter != adapter:
                continue
            for number in work.left:
                longest = max(longest, len(work.rows[number]))
                if chosen and longest * (len(chosen) + 1) > self.chunk:
                    return chosen
                chosen.append((owner, work, number))
        return chosen


def read_on(work: Chances) -> None:
    """Read the next piece of a text; `ready` where there is none."""
    work.begun = True
    part = next(work.parts, None)
    work.ready = part is None
    if part is not None:
        work.found.logprobs.extend(part.logprobs)
        work.found.alternatives.extend(part.alternatives)
