"""The blocks of one kind of layer: who uses each, what is known of it, and which are free."""

from __future__ import annotations

import heapq
import math
import mmap
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor

from ..config import ModelConfig

BLOCK = 16  # tokens in a block


class Pool:
    """The blocks of all layers of one kind: those that see everything, those of one window, or those of sources.

    A block is in use where rows refer to it, and free otherwise; a free one may still be known by its key.
    """

    def __init__(
        self, config: ModelConfig, layers: Sequence[int], blocks: int, rows: int, width: int, *,
        window: int = 0, dtype: torch.dtype, device: torch.device,
    ) -> None:  # fmt: skip
        """width: blocks of the longest row; window: how far the layers look back, 0 for all the way."""
        shape = (2, blocks, BLOCK, config.kv_heads, config.head_size)
        # zeros: 0 * uninitialised memory may be NaN behind the mask
        self.stores = {layer: untouched(shape, dtype, device) for layer in layers}
        self.window, self.total = window, blocks
        self.table = np.zeros((rows, width), dtype=np.int64)
        self.first = np.zeros(rows, dtype=np.int64)  # the first block that a row still keeps
        self.count = np.zeros(rows, dtype=np.int64)  # blocks of a row, those given back included
        self.home = blocks // rows
        self.owed = 0  # blocks that are kept free for rows that must find one
        self._users = np.zeros(blocks, dtype=np.int64)
        self._written = np.zeros(blocks, dtype=bool)  # whether anything was ever put there
        self._empty, self._heap = set(range(blocks)), list(range(blocks))
        self._known: dict[bytes, int] = {}
        self._keys: dict[int, bytes] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()  # known and not in use, the longest unused first
        self._scratch = torch.zeros(0, dtype=dtype, device=device)

    @property
    def free(self) -> int:
        """Blocks that no row uses."""
        return len(self._empty) + len(self._idle)

    @property
    def room(self) -> int:
        """Blocks that are free for all."""
        return self.free - self.owed

    @property
    def allocated(self) -> int:
        """Blocks that rows use."""
        return int((self._users > 0).sum())

    @property
    def nbytes(self) -> int:
        """Memory of all blocks: 2 * layers * blocks * BLOCK * K * E elements."""
        return sum(store.nbytes for store in self.stores.values())

    def users(self, block: int) -> int:
        """How many rows use a block."""
        return int(self._users[block])

    def find(self, key: bytes) -> int | None:
        """The block that is known by a key."""
        return self._known.get(key)

    def take(self, near: int = -1) -> int:
        """A block for writing: the one that is wanted where nothing is in it, else any empty one, else the one whose
        contents were not used for the longest time. Whoever calls has looked that one is free."""
        if near not in self._empty:
            while self._heap and self._heap[0] not in self._empty:
                heapq.heappop(self._heap)
            near = self._heap[0] if self._heap else -1
        if near >= 0:
            self._empty.remove(near)
        else:
            near, _ = self._idle.popitem(last=False)
            del self._known[self._keys.pop(near)]
        self._users[near], self._written[near] = 1, True
        return near

    def share(self, block: int) -> int:
        """One more row uses a block."""
        if not self._users[block]:
            del self._idle[block]
        self._users[block] += 1
        return block

    def drop(self, block: int) -> None:
        """One row less uses a block."""
        self._users[block] -= 1
        if self._users[block]:
            return
        if block in self._keys:
            self._idle[block] = None
        else:
            self._free(block)

    def _free(self, block: int) -> None:
        """Nothing is in a block any more. What is taken near others stays in the heap, so that it is made anew at
        times."""
        self._empty.add(block)
        heapq.heappush(self._heap, block)
        if len(self._heap) > 2 * self.total:
            self._heap = sorted(self._empty)

    def know(self, block: int, key: bytes) -> None:
        """A block is full: it can be found by its key from now on. Of two with the same contents the first is."""
        if block not in self._keys and key not in self._known:
            self._known[key] = block
            self._keys[block] = key

    def forget(self) -> None:
        """No block is known any more."""
        for block in self._idle:
            self._free(block)
        self._idle.clear()
        self._known.clear()
        self._keys.clear()

    def append(self, row: int, block: int) -> None:
        """A row goes on in this block."""
        self.table[row, self.count[row]] = block
        self.count[row] += 1

    def wanted(self, row: int) -> int:
        """Which block the next of a row should be: so that rows lie one after the other, equally far apart, and are
        read where they lie; behind its last one otherwise."""
        count = int(self.count[row])
        if count < self.home:
            return row * self.home + count
        return int(self.table[row, count - 1]) + 1 if count else -1

    def close(self, row: int) -> None:
        """Give back all that a row keeps. Its end comes first, so that beginnings stay known for longer."""
        for block in self.table[row, self.first[row] : self.count[row]][::-1].tolist():
            self.drop(block)
        self.first[row] = self.count[row] = 0

    def slide(self, row: int, length: int) -> None:
        """Give back what no token from position `length` on will see."""
        keep = max(0, length - self.window + 1) // BLOCK
        for block in self.table[row, self.first[row] : keep].tolist():
            self.drop(block)
        self.first[row] = max(keep, self.first[row])

    def own(self, places: Sequence[tuple[int, int]]) -> None:
        """Each row gets a copy of the block at a place of its table, where others use it as well. Whoever calls has
        looked that there are free ones."""
        shared, copies = [], []
        for row, place in places:
            if self._users[block := int(self.table[row, place])] > 1:
                self.drop(block)
                self.table[row, place] = new = self.take()
                shared.append(block)
                copies.append(new)
        if copies:
            old, into = torch.tensor([shared, copies], device=next(iter(self.stores.values())).device)
            for store in self.stores.values():
                store.index_copy_(1, into, store.index_select(1, old))

    def follow(self, rows: np.ndarray, parents: np.ndarray, lengths: np.ndarray) -> None:
        """Rows become as their parents stand, of so many tokens, and use the same blocks; those that a parent has got
        ready behind its end are for it alone to write to."""
        counts = np.minimum(self.count[parents], -(-lengths // BLOCK))
        begin = int(min(self.first[rows].min(), self.first[parents].min()))
        end = int(max(self.count[rows].max(), self.count[parents].max()))
        old, new = self.table[rows, begin:end], self.table[parents, begin:end]
        had, has = self._kept(rows, begin, end), self._kept(parents, begin, end)
        has &= np.arange(begin, end) < counts[:, None]
        same = had & has & (old == new)
        np.add.at(self._users, new[has & ~same], 1)
        for block in old[had & ~same].tolist():
            self.drop(block)
        self.table[rows, begin:end] = new
        self.first[rows], self.count[rows] = self.first[parents], counts

    def held(self, rows: np.ndarray, starts: np.ndarray) -> int:
        """Blocks that rows use behind their first so many, each counted once."""
        begin, end = int(starts.min()), int(self.count[rows].max())
        behind = np.arange(begin, end) >= starts[:, None]
        used = np.zeros(self.total, dtype=bool)
        used[self.table[rows, begin:end][behind & self._kept(rows, begin, end)]] = True
        return int(used.sum())

    def _kept(self, rows: np.ndarray, begin: int, end: int) -> np.ndarray:
        """Which places of the tables of rows hold a block: (rows, end - begin)."""
        places = np.arange(begin, end)
        return (places >= self.first[rows][:, None]) & (places < self.count[rows][:, None])

    def clear(self) -> None:
        """Overwrite all that was ever written. Blocks that were not are left alone: they take no memory yet."""
        assert not self._users.any(), "rows are closed"
        self.forget()
        blocks = torch.from_numpy(np.flatnonzero(self._written))
        for store in self.stores.values():
            store[:, blocks.to(store.device)] = 0
        self._written[:] = False

    def scratch_for(self, store: Tensor, blocks: Tensor | tuple[int, int]) -> Tensor | None:
        """Memory into which blocks are copied together, the same for all layers, so that none is asked for at each
        step; None where blocks are read where they lie."""
        if isinstance(blocks, tuple):
            return None
        size = 2 * len(blocks) * store[0, 0].numel()
        if self._scratch.numel() < size:
            self._scratch = store.new_empty(size)
        return self._scratch[:size].view(2, len(blocks), *store.shape[2:])

    def check(self) -> None:
        """Raise AssertionError where the books do not balance."""
        used = np.zeros_like(self._users)
        for row in range(len(self.table)):
            np.add.at(used, self.table[row, self.first[row] : self.count[row]], 1)
        assert (used == self._users).all(), "users of blocks"
        assert self.allocated + self.free == self.total, "allocated + free = total"
        assert not self._empty & set(self._idle), "a block is empty or idle"
        assert all(self._users[block] == 0 for block in (*self._empty, *self._idle)), "free blocks have no users"
        assert all(self._known[key] == block for block, key in self._keys.items()), "keys"
        assert len(self._known) == len(self._keys), "each key is of one block"
        assert set(self._idle) <= set(self._keys), "idle blocks are known"
        assert self._empty <= set(self._heap), "every empty block can be found"


def untouched(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros, which on a CPU take no memory before something is written there: a server that might need gigabytes leaves
    them to others until it does."""
    size = math.prod(shape) * dtype.itemsize
    if device.type != "cpu" or size < mmap.PAGESIZE:
        return torch.zeros(shape, dtype=dtype, device=device)
    pages = mmap.mmap(-1, size)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a system without them
            pages.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(pages, dtype=dtype).view(*shape)
