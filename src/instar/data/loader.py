"""Rows in an order that depends on (seed, step) alone: not on ranks, workers, micro-batches or where a run resumed.

The rows of all epochs form one endless sequence; a step takes the next `batch_rows` of it, also across the end of an
epoch, so none is dropped. Within an epoch the order is a bijection computed entry by entry, so going on in the middle
costs nothing, a billion rows need no memory, and no library's random stream can change the order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from ..batch import Batch
from ..config import InputError
from .hashes import mix

AHEAD = 2  # micro-batches each worker prepares before they are asked for
ROUNDS = 6


class Place(NamedTuple):
    """Where a row stands: its number in the endless sequence, and which row it is. Neither depends on ranks, workers
    or micro-batches, so draws made from them do not either."""

    number: int
    row: int


def shuffled(places: np.ndarray, size: int, seed: int, epoch: int) -> np.ndarray:
    """places (N,) int64 in [0, size) -> the rows that stand there in this epoch's order: a bijection of [0, size).

    A Feistel network over the next power of four, walking on until it lands inside (Black and Rogaway,
    https://doi.org/10.1007/3-540-45760-7_9).
    """
    half = np.uint64(max(3, ((size - 1).bit_length() + 1) // 2))
    keys = mix(np.array([seed, epoch], np.uint64).astype(np.uint64))
    rows = places.astype(np.uint64)
    outside = np.ones(len(rows), bool)
    while outside.any():
        rows[outside] = _feistel(rows[outside], half, keys)
        outside = rows >= size
    return rows.astype(np.int64)


def _feistel(values: np.ndarray, half: np.uint64, keys: np.ndarray) -> np.ndarray:
    low = np.uint64((1 << int(half)) - 1)
    left, right = values >> half, values & low
    for number in range(ROUNDS):
        word = mix(right ^ mix(keys[0] + np.uint64(number)) ^ keys[1])
        left, right = right, left ^ (word & low)
    return (left << half) | right


class Loader(Iterator[Batch]):
    """Micro-batches for ever: `micro_batches` of them are one optimizer step of this rank."""

    def __init__(
        self,
        rows: Sequence[Any],
        collate: Callable[..., Batch],
        *,
        batch_rows: int,
        micro_rows: int = 0,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
    ) -> None:
        """batch_rows: rows of one step over all ranks; micro_rows: rows at a time on one rank, 0 for all of its own;
        workers: threads that collate ahead. A collator whose `wants_places` is true is called with the Place of each
        row too. Raises InputError where there are no rows or ranks would be uneven."""
        if not len(rows):
            raise InputError("no rows to train on: the data is empty, or all of it is held out")
        if batch_rows < 1 or batch_rows % world:
            raise InputError(
                f"a batch of {batch_rows} rows does not divide among {world} ranks; wanted a multiple of it"
            )
        self.rows, self.collate = rows, collate
        self.batch_rows, self.seed, self.rank, self.world = batch_rows, seed, rank, world
        share = batch_rows // world
        self.micro_rows = min(micro_rows or share, share)
        self.micro_batches = -(-share // self.micro_rows)
        self.step = self.micro = 0
        self._pool = ThreadPoolExecutor(workers) if workers else None
        self._ahead: deque[Future[Batch]] = deque()
        self._workers = workers
        self._drawn: tuple[int, list[int]] = (-1, [])

    @property
    def epoch(self) -> int:
        """The epoch of the next step's first row, from 0."""
        return self.step * self.batch_rows // len(self.rows)

    @property
    def steps_per_epoch(self) -> int:
        """Steps until every row was seen; the last one may reach into the next epoch."""
        return self.steps(1.0)

    def steps(self, epochs: float) -> int:
        """The steps of so many passes over the rows, at least one."""
        return max(1, -(-round(epochs * len(self.rows)) // self.batch_rows))

    def row_ids(self, step: int) -> list[int]:
        """The rows of a step over all ranks, in order: rank r takes every `world`-th from r on."""
        known, rows = self._drawn  # a step's micro-batches ask for the same rows
        if known != step:
            rows = self._draw(step)
            self._drawn = step, rows
        return rows

    def _draw(self, step: int) -> list[int]:
        places = np.arange(step * self.batch_rows, (step + 1) * self.batch_rows, dtype=np.int64)
        epochs = places // len(self.rows)
        rows = np.empty_like(places)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            here = epochs == epoch
            rows[here] = shuffled(places[here] % len(self.rows), len(self.rows), self.seed, epoch)
        return rows.tolist()

    def micro_ids(self, step: int, micro: int) -> list[int]:
        """The rows of one micro-batch of this rank."""
        own = self.row_ids(step)[self.rank :: self.world]
        return own[micro * self.micro_rows : (micro + 1) * self.micro_rows]

    def __next__(self) -> Batch:
        step, micro = self.step, self.micro
        if self._pool is None:
            batch = self._make(step, micro)
        else:
            first = step * self.micro_batches + micro
            for number in range(first + len(self._ahead), first + 1 + AHEAD * self._workers):
                self._ahead.append(self._pool.submit(self._make, *divmod(number, self.micro_batches)))
            batch = self._ahead.popleft().result()
        self.step, self.micro = divmod(step * self.micro_batches + micro + 1, self.micro_batches)
        return batch

    def state_dict(self) -> dict[str, int]:
        """Where the sequence stands, counting only what was handed out, and what it is a sequence of."""
        return {
            "step": self.step, "micro": self.micro, "seed": self.seed, "rows": len(self.rows),
            "batch_rows": self.batch_rows, "micro_rows": self.micro_rows, "world": self.world,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on exactly there. Raises InputError where the sequence is another one; ranks and micro-batches may
        change between steps, not within one."""
        own = self.state_dict()
        fixed = ["seed", "rows", "batch_rows"] + (["micro_rows", "world"] if state["micro"] else [])
        for name in fixed:
            if state[name] != own[name]:
                raise InputError(
                    f"cannot resume: {name} was {state[name]} and is {own[name]}; use the same data and options, "
                    "or begin a new run"
                )
        self._forget()
        self.step, self.micro = state["step"], state["micro"]

    def close(self) -> None:
        """Stop the workers."""
        self._forget()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _make(self, step: int, micro: int) -> Batch:
        rows = self.micro_ids(step, micro)
        first = step * self.batch_rows + self.rank + micro * self.micro_rows * self.world
        return _collated(self.rows, self.collate, [Place(first + n * self.world, row) for n, row in enumerate(rows)])

    def _forget(self) -> None:
        for future in self._ahead:
            future.cancel()
        self._ahead.clear()


def once(
    rows: Sequence[Any], collate: Callable[..., Batch], *, micro_rows: int, rank: int = 0, world: int = 1
) -> Iterator[Batch]:
    """Every row once, in order, for evaluation; rank r reads every `world`-th from r on. Its Place is its number."""
    own = range(rank, len(rows), world)
    for start in range(0, len(own), micro_rows):
        yield _collated(rows, collate, [Place(row, row) for row in own[start : start + micro_rows]])


def _collated(rows: Sequence[Any], collate: Callable[..., Batch], places: Sequence[Place]) -> Batch:
    chosen = [rows[place.row] for place in places]
    return collate(chosen, places) if getattr(collate, "wants_places", False) else collate(chosen)
