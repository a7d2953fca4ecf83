"""Memory for keys and values in blocks, which texts share where they begin alike.

A row is one text that is being read or written. Its tokens lie in blocks of `BLOCK`, wherever there is room, and its
table says which. A full block is known by a digest of all tokens up to its end, so that a later text finds what an
earlier one computed; a block that several rows use is copied before one of them writes to it. Layers that look back
only so far keep only so much: the blocks behind a window are given back. Nothing here knows what is in a block; what
is in a row is told by ids.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from hashlib import sha256

import numpy as np
import torch

from ..config import InputError, ModelConfig
from .pool import BLOCK, Pool


class Pages:
    """The rows of a model's cache, all its kinds of layers together."""

    def __init__(
        self,
        config: ModelConfig,
        rows: int,
        capacity: int,
        *,
        source_capacity: int = 0,
        budget: int | None = None,
        chunk: int = 512,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        salt: bytes = b"",
    ) -> None:
        """capacity, source_capacity: tokens of the longest row and source; budget: bytes for all blocks, by default
        what every row may need; dtype: of keys and values, in which rows attend; chunk: tokens that one pass adds to a
        row at most; salt: rows are known only to those with the same. Raises InputError where the budget does not hold
        one row."""
        device = torch.device(device)
        self.capacity, self.source_capacity, self.device, self.dtype = capacity, source_capacity, device, dtype
        self.lengths = np.zeros(rows, dtype=np.int64)
        self.source_lengths = np.zeros(rows, dtype=np.int64)
        self._salt = salt
        self._keys: list[list[bytes]] = [[] for _ in range(rows)]
        self._roots: list[bytes] = [b""] * rows
        self._rows = list(range(rows))
        self._coming: dict[bytes, int] = {}  # blocks that rows are about to compute
        self._promised: dict[int, list[bytes]] = {}
        windows = config.windows or (0,) * config.layers
        width = blocks_of(capacity)
        # what one row keeps at most, in each kind of layer
        self.needs = needs = {
            window: min(width, blocks_of(window + chunk) + 2) if window else width for window in sorted(set(windows))
        }
        source_width = blocks_of(source_capacity)
        of_block = 2 * BLOCK * config.kv_heads * config.head_size * dtype.itemsize
        sizes = {window: of_block * sum(w == window for w in windows) for window in needs}
        source_size = of_block * config.layers if source_width else 0
        least = sum(sizes[window] * need for window, need in needs.items()) + source_size * source_width
        whole = least * rows
        self.budget = whole if budget is None else min(budget, whole)
        self.ample = self.budget == whole  # every row can have all that it may need
        share = self.budget / least
        if share < 1:
            raise InputError(
                f"a KV budget of {self.budget:,} bytes; one text of {capacity} tokens takes {least:,}: allow more, or "
                "ask for a smaller capacity"
            )

        def pool(layers: Iterable[int], need: int, width: int, window: int = 0) -> Pool:
            blocks = min(int(need * share), need * rows)
            return Pool(config, list(layers), blocks, rows, width, window=window, dtype=dtype, device=device)

        self.pools = {
            window: pool((n for n, w in enumerate(windows) if w == window), need, width, window)
            for window, need in needs.items()
        }
        self.sources = pool(range(config.layers), source_width, source_width) if source_width else None

    def __len__(self) -> int:
        """Rows."""
        return len(self.lengths)

    @property
    def every(self) -> list[Pool]:
        """All pools, that of sources last."""
        return [*self.pools.values(), *([self.sources] if self.sources else [])]

    @property
    def nbytes(self) -> int:
        """Memory of all blocks."""
        return sum(pool.nbytes for pool in self.every)

    @property
    def free_rows(self) -> int:
        """Rows that no text has."""
        return len(self._rows)

    def match(self, ids: Sequence[int], root: bytes = b"") -> tuple[int, bool]:
        """How many tokens of a text are known already, in whole blocks and never its last one; and whether the next
        are being computed for another row right now."""
        keys = self._digests(ids, root)[: (len(ids) - 1) // BLOCK]
        known = self._matched(keys)
        return known * BLOCK, known < len(keys) and keys[known] in self._coming

    def _matched(self, keys: Sequence[bytes]) -> int:
        """Blocks of a beginning that every kind of layer still has as far as it will look."""
        most = len(keys)
        for pool in self.pools.values():
            if not pool.window:
                most = next((n for n in range(most) if pool.find(keys[n]) is None), most)
        while most:
            gap = -1
            for pool in self.pools.values():
                start = max(0, most * BLOCK - pool.window + 1) // BLOCK if pool.window else most
                gap = max(gap, *(n for n in range(start, most) if pool.find(keys[n]) is None), -1)
            if gap < 0:
                return most
            most = gap
        return 0

    def open(self, ids: Sequence[int], root: bytes = b"") -> tuple[int, int]:
        """A row for a text, with what is known of it -> the row, and how many of its tokens. root: of what else its
        keys depend on, as a source. Whoever calls has looked that a row is free."""
        row = heapq.heappop(self._rows)
        keys = self._digests(ids, root)
        known = self._matched(keys[: (len(ids) - 1) // BLOCK])
        for pool in self.pools.values():
            if pool.window:
                pool.first[row] = pool.count[row] = max(0, known * BLOCK - pool.window + 1) // BLOCK
            for key in keys[int(pool.count[row]) : known]:
                block = pool.find(key)
                assert block is not None
                pool.append(row, pool.share(block))
        self._keys[row], self._roots[row] = keys[:known], root
        self._promised[row] = [key for key in keys[known:] if key not in self._coming]
        self._coming.update(dict.fromkeys(self._promised[row], row))
        self.lengths[row] = known * BLOCK
        return row, known * BLOCK

    def close(self, row: int) -> None:
        """A row is free again. What it computed stays known as long as there is room."""
        for pool in self.every:
            pool.close(row)
        for key in self._promised.pop(row, ()):
            self._coming.pop(key, None)
        self.lengths[row] = self.source_lengths[row] = 0
        self._keys[row] = []
        heapq.heappush(self._rows, row)

    def lacking(self, row: int, length: int) -> dict[int, int]:
        """How many blocks of each kind a row needs to grow to `length` tokens; the copy of a shared one counts."""
        lacks = {}
        for window, pool in self.pools.items():
            lacks[window] = blocks_of(length) - int(pool.count[row]) + (self._shared(pool, row) is not None)
        return lacks

    def fits(self, row: int, length: int) -> bool:
        """Whether there is room for that."""
        return all(lack <= self.pools[window].room for window, lack in self.lacking(row, length).items())

    def grow(self, row: int, length: int) -> bool:
        """Make room in a row for `length` tokens -> whether there was any; where there was not, nothing changed."""
        if not self.fits(row, length):
            return False
        self.extend([row], length - int(self.lengths[row]))
        return True

    def extend(self, rows: Sequence[int], count: int = 1) -> None:
        """Make room in rows for `count` more tokens. Whoever calls has looked that there is some, or has it owed."""
        lengths = self.lengths[list(rows)].tolist()
        begun = [(row, length // BLOCK) for row, length in zip(rows, lengths) if length % BLOCK]
        for pool in self.pools.values():
            pool.own(begun)
            for row, length in zip(rows, lengths):
                while pool.count[row] < blocks_of(length + count):
                    pool.append(row, pool.take(pool.wanted(row)))

    def cramped(self, rows: np.ndarray, count: int | np.ndarray = 1) -> np.ndarray:
        """Those of some rows that must grow before they can take `count` more tokens."""
        ends = self.lengths[rows] + count
        needs = np.zeros(len(rows), dtype=bool)
        for pool in self.pools.values():
            needs |= (ends + BLOCK - 1) // BLOCK > pool.count[rows]
            begun = self.lengths[rows] % BLOCK > 0
            last = pool.table[rows, np.maximum(self.lengths[rows] // BLOCK, 0) * begun]
            needs |= begun & (pool._users[last] > 1)
        return rows[needs]

    def _shared(self, pool: Pool, row: int) -> int | None:
        """Where in its table a row has the block that it writes to next, if others use it as well."""
        place, begun = divmod(int(self.lengths[row]), BLOCK)
        return place if begun and pool.users(int(pool.table[row, place])) > 1 else None

    def advance(self, rows: np.ndarray, counts: np.ndarray | int) -> np.ndarray:
        """Rows have so many tokens more, all computed -> those rows that filled a block: `fill` is told of what."""
        before = self.lengths[rows]
        self.lengths[rows] = after = before + counts
        return rows[after // BLOCK > before // BLOCK]

    def fill(self, row: int, text: Sequence[int]) -> None:
        """A row's full blocks can be found from now on, and those that no layer will look at are given back. text: the
        ids of the whole row."""
        keys, length = self._keys[row], int(self.lengths[row])
        while (len(keys) + 1) * BLOCK <= length:
            place = len(keys)
            parent = keys[-1] if keys else self._salt + self._roots[row]
            keys.append(key := self._digest(parent, text[place * BLOCK : (place + 1) * BLOCK]))
            self._coming.pop(key, None)
            for pool in self.pools.values():
                if place >= pool.first[row]:
                    pool.know(int(pool.table[row, place]), key)
        self.slide([row])

    def fork(self, row: int) -> int:
        """One more row with the same tokens, which are kept once."""
        new = heapq.heappop(self._rows)
        self.reorder([new], [row])
        return new

    def reorder(self, rows: Sequence[int], parents: Sequence[int]) -> None:
        """Row rows[i] goes on as parents[i] stood, as beam search needs."""
        changed = [(row, parent) for row, parent in zip(rows, parents) if row != parent]
        if not changed:
            return
        into, of = np.array(changed, dtype=np.int64).T
        for pool in self.every:
            pool.follow(into, of, (self.source_lengths if pool is self.sources else self.lengths)[of])
        self.lengths[into], self.source_lengths[into] = self.lengths[of], self.source_lengths[of]
        before = {parent: (self._keys[parent], self._roots[parent]) for parent in parents}
        for row, parent in changed:
            keys, self._roots[row] = before[parent]
            self._keys[row] = list(keys)

    def slide(self, rows: Iterable[int]) -> None:
        """Give back what no layer will look at any more."""
        for pool in self.pools.values():
            if pool.window:
                for row in rows:
                    pool.slide(row, int(self.lengths[row]))

    def attend_to(self, row: int, source: Sequence[int], root: bytes = b"") -> bool:
        """A row is about a source -> whether its keys are known already; they must be written otherwise. root: of what
        else they depend on. Whoever calls has looked that there is room."""
        assert self.sources is not None
        names = self._names(source, root)
        self.source_lengths[row] = len(source)
        found = [self.sources.find(name) for name in names]
        blocks = [block for block in found if block is not None]
        if known := len(blocks) == len(names):
            for block in blocks:
                self.sources.append(row, self.sources.share(block))
        else:
            for name in names:
                self.sources.append(row, block := self.sources.take(self.sources.wanted(row)))
                self.sources.know(block, name)
        return known

    def source_fits(self, source: Sequence[int], root: bytes = b"") -> bool:
        """Whether there is room for a source."""
        assert self.sources is not None
        if blocks_of(len(source)) <= self.sources.free:
            return True
        return all(self.sources.find(name) is not None for name in self._names(source, root))

    def _names(self, source: Sequence[int], root: bytes) -> list[bytes]:
        """The keys of a source's blocks: it is read in both directions, so each depends on all of it."""
        known = self._salt + self.root_of(source, root)
        return [known + place.to_bytes(4, "big") for place in range(blocks_of(len(source)))]

    def root_of(self, source: Sequence[int], root: bytes = b"") -> bytes:
        """By which a source is known, and what is said about it."""
        return self._digest(b"source" + root, source)

    def forget(self) -> None:
        """Nothing is known of any text any more, as it must be when the weights have changed; nor will be found what
        rows go on to compute."""
        for pool in self.every:
            pool.forget()
        self._coming.clear()
        self._promised.clear()
        self._salt = sha256(b"then" + self._salt).digest()
        # a row that has no key yet would begin with a new one, and what it has read is old
        self._roots = [b"gone" + root for root in self._roots]

    def clear(self) -> None:
        """Nothing is left of any text, once all rows are closed: numbers that are none would be seen through every
        mask, wherever a pass that failed left them."""
        self.forget()
        for pool in self.every:
            pool.clear()

    def check(self) -> None:
        """Raise AssertionError where the books do not balance."""
        for pool in self.every:
            pool.check()

    def _digests(self, ids: Sequence[int], root: bytes) -> list[bytes]:
        """The keys of all full blocks of a text."""
        keys: list[bytes] = []
        parent = self._salt + root
        for start in range(0, len(ids) - BLOCK + 1, BLOCK):
            keys.append(parent := self._digest(parent, ids[start : start + BLOCK]))
        return keys

    @staticmethod
    def _digest(parent: bytes, ids: Sequence[int]) -> bytes:
        return sha256(parent + np.asarray(ids, dtype=np.int64).tobytes()).digest()


def blocks_of(tokens: int) -> int:
    """Blocks that so many tokens fill."""
    return -(-tokens // BLOCK)
