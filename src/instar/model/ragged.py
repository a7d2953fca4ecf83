"""One forward pass over some tokens of many rows of `Pages`: all of them one after the other, without padding.

Everything but attention looks at one token at a time, so the tokens (1, N) of a pass are one flat row. Rows of about
the same size attend together; what each group may see is worked out once for all layers of a kind. This is the one
place that knows where keys lie, and `Attend` the one that knows what is done with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .attention import Attend, Attention, Seen, added
from .cache import Bias
from .pages import Pages
from .pool import BLOCK, Pool


class Group(NamedTuple):
    """Rows that attend together, T tokens of each; shorter ones are filled up with tokens of their own.

    rows (B,); starts, counts (B,): where their tokens stand in the row, and how many; tokens: which of the flat ones
    they are, a slice where none is filled up, else (B * T,); real: which of those to keep, None for all.
    """

    rows: np.ndarray
    starts: np.ndarray
    counts: np.ndarray
    size: int
    tokens: slice | Tensor
    real: Tensor | None


class Reach(NamedTuple):
    """What one group sees in one kind of layer: the blocks to gather (B * blocks,), or (first, apart) where they lie
    equally far apart; S keys of each row; from the key `skip` of those blocks on; mask (B or 1, 1 or H, T, S)."""

    blocks: Tensor | tuple[int, int]
    keys: int
    skip: int
    mask: Tensor | None
    causal: bool


class Ragged:
    """Which tokens of which rows are read in one pass. Room for them was made before."""

    def __init__(self, pages: Pages, rows: Sequence[int] | np.ndarray, counts: Sequence[int] | np.ndarray, *,
                 steady: bool = False) -> None:  # fmt: skip
        """counts: new tokens of each row, which stand one row after the other. steady: every token attends by itself,
        to exactly its own keys, so that what it finds has the same bits whatever is read beside it."""
        self.pages, self.steady = pages, steady
        self.device = pages.device
        self.rows, self.counts = np.asarray(rows, dtype=np.int64), np.asarray(counts, dtype=np.int64)
        self.starts = pages.lengths[self.rows]
        self.count = int(self.counts.sum())
        self.first = np.cumsum(self.counts) - self.counts  # of each row's tokens among the flat ones
        of = np.repeat(np.arange(len(self.rows)), self.counts)
        self._of = self.rows[of]
        self.places = self.starts[of] + np.arange(self.count) - self.first[of]
        self.groups = self._alone() if steady else self._together()
        self.capacity = pages.capacity
        self._positions = self._tensor(self.places[None])
        self._reaches: dict[int, list[Reach]] = {}
        self._slots = {window: self._tensor(self._written(pool)) for window, pool in pages.pools.items()}
        windows = {layer: window for window, pool in pages.pools.items() for layer in pool.stores}
        self._layers = [RaggedLayer(self, windows[layer], layer) for layer in range(len(windows))]
        self.cross = [RaggedSource(self, layer) for layer in pages.sources.stores] if pages.sources else []
        self.crossing = self._all_of_sources(pages.sources) if pages.sources else []

    def __getitem__(self, layer: int) -> RaggedLayer:
        return self._layers[layer]

    @property
    def source_lengths(self) -> list[int]:
        """Tokens in each row's source."""
        return self.pages.source_lengths[self.rows].tolist()

    def reach(self, count: int) -> int:
        """How long the longest row will be."""
        return int((self.starts + self.counts).max())

    def positions(self, count: int) -> Tensor:
        """Where each token stands in its row: (1, N)."""
        return self._positions

    def extend(self, count: int) -> None:
        """Rows grow when it is known which of their tokens are kept: `Pages.advance`."""

    def ends(self) -> np.ndarray:
        """Which of the flat tokens is the last of each row."""
        return self.first + self.counts - 1

    def see(self, window: int, bias: Bias, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor | None, bool]:
        """Prepare what is seen in one kind of layer; each group has a mask of its own."""
        pool, kept = self.pages.pools[window], self.pages.dtype
        self._reaches[window] = [self._reach(pool, group, bias, kept) for group in self.groups]
        return None, False

    def see_source(self, dtype: torch.dtype) -> Tensor | None:
        """Sources were looked at when the pass was made; each group has a mask of its own."""
        return None

    def slots(self, window: int) -> Tensor:
        """Where the keys of each token are put, as a place among all tokens of a pool: (N,)."""
        return self._slots[window]

    def reaches(self, window: int) -> list[Reach]:
        """What each group sees."""
        return self._reaches[window]

    def steadied(self) -> AbstractContextManager[None]:
        """Inside, what a token finds does not depend on how many others look as well, where it shall not."""
        return in_one_thread() if self.steady and self.device.type == "cpu" else nullcontext()

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.device, non_blocking=True)

    def _written(self, pool: Pool) -> np.ndarray:
        """Where the keys of each token are put, as a place among all tokens of the pool: (N,)."""
        return pool.table[self._of, self.places // BLOCK] * BLOCK + self.places % BLOCK

    def _together(self) -> list[Group]:
        """Groups of rows one after the other, none of which is filled up by more than as much again."""
        groups: list[Group] = []
        begin = 0
        ends = self.starts + self.counts
        while begin < len(self.rows):
            end = begin + 1
            if self.counts[begin] == 1:
                more = np.flatnonzero(self.counts[begin:] != 1)
                end = begin + int(more[0]) if len(more) else len(self.rows)
            else:
                while end < len(self.rows) and self._alike(begin, end, ends):
                    end += 1
            groups.append(self._group(begin, end))
            begin = end
        return groups

    def _alike(self, begin: int, end: int, ends: np.ndarray) -> bool:
        sizes, reach = self.counts[begin : end + 1], ends[begin : end + 1]
        return bool(sizes.max() <= 2 * sizes.min() and reach.max() <= 2 * reach.min() + BLOCK)

    def _group(self, begin: int, end: int) -> Group:
        rows, starts, counts = self.rows[begin:end], self.starts[begin:end], self.counts[begin:end]
        size, first = int(counts.max()), self.first[begin:end]
        if size == counts.min():
            return Group(rows, starts, counts, size, slice(int(first[0]), int(first[0]) + size * len(rows)), None)
        columns = np.minimum(np.arange(size), counts[:, None] - 1)
        real = np.flatnonzero((np.arange(size) < counts[:, None]).reshape(-1))
        return Group(
            rows, starts, counts, size, self._tensor((first[:, None] + columns).reshape(-1)), self._tensor(real)
        )

    def _alone(self) -> list[Group]:
        """A group of single tokens for each length, and for each length of a source."""
        groups = []
        kinds = np.stack((self.places, self.pages.source_lengths[self._of]), axis=1)
        for kind in np.unique(kinds, axis=0):
            which = np.flatnonzero((kinds == kind).all(axis=1))
            ones = np.ones(len(which), dtype=np.int64)
            groups.append(Group(self._of[which], ones * kind[0], ones, 1, self._tensor(which), None))
        return groups

    def _reach(self, pool: Pool, group: Group, bias: Bias, dtype: torch.dtype) -> Reach:
        ends = group.starts + group.counts
        begins = np.maximum(group.starts - pool.window + 1, 0) if pool.window else np.zeros_like(ends)
        first = begins // BLOCK
        blocks = int((-(-ends // BLOCK) - first).max())
        columns = np.minimum(first[:, None] + np.arange(blocks), pool.table.shape[1] - 1)
        same = len(set(first.tolist())) == 1
        # of rows that begin alike the keys before the first that is seen, and behind the last, need not be read
        skip = int(begins.min() - first[0] * BLOCK) if same and self.steady else 0
        keys = int(ends.max() - first[0] * BLOCK) - skip if same else blocks * BLOCK
        places = self._tensor((first[:, None] * BLOCK + skip + np.arange(keys)) if not same
                              else (first[:1, None] * BLOCK + skip + np.arange(keys)))  # fmt: skip
        offsets = np.minimum(np.arange(group.size), group.counts[:, None] - 1)
        queries = self._tensor(group.starts[:, None] + offsets)
        added_bias = bias(queries, places, dtype)
        found = self._laid(pool, group.rows, columns)
        plain, even = added_bias is None, bool(ends.min() == ends.max())
        if plain and (not pool.window or keys <= pool.window):
            if group.size == 1 and even:
                return Reach(found, keys, skip, None, False)
            if even and same and group.real is None and group.size == keys:
                return Reach(found, keys, skip, None, True)
        sees = places[:, None, :] <= queries[..., None]
        if pool.window:
            sees &= places[:, None, :] > queries[..., None] - pool.window
        mask = added(sees, dtype)
        return Reach(found, keys, skip, mask if added_bias is None else mask + added_bias, False)

    def _laid(self, pool: Pool, rows: np.ndarray, columns: np.ndarray) -> Tensor | tuple[int, int]:
        """Which blocks these are: by number, or how they lie where that is regular."""
        blocks = pool.table[rows[:, None], columns]
        apart = int(blocks[1, 0] - blocks[0, 0]) if len(rows) > 1 else 0
        if not self.steady and (len(rows) == 1 or apart > 0):
            start = int(blocks[0, 0])
            regular = start + apart * np.arange(len(rows))[:, None] + np.arange(columns.shape[1])
            # what stands in the table behind the end of a row is not read, but it must lie in the pool
            kept = columns < pool.count[rows][:, None]
            if bool((blocks[kept] == regular[kept]).all()) and int(regular.max()) < pool.total:
                return start, apart
        return self._tensor(blocks.reshape(-1))

    def _all_of_sources(self, pool: Pool) -> list[Reach]:
        """What each group sees of its sources: all of them."""
        reaches = []
        for group in self.groups:
            lengths = self.pages.source_lengths[group.rows]
            blocks = int((-(-lengths // BLOCK)).max())
            columns = np.minimum(np.arange(blocks), pool.table.shape[1] - 1)[None].repeat(len(group.rows), 0)
            keys = int(lengths.max())
            mask = None
            if lengths.min() < keys:
                sees = self._tensor(np.arange(keys)[None, None] < lengths[:, None, None])
                mask = added(sees, next(iter(pool.stores.values())).dtype)
            reaches.append(Reach(self._laid(pool, group.rows, columns), keys, 0, mask, False))
        return reaches


@contextmanager
def in_one_thread() -> Iterator[None]:
    """Each thread of a CPU has a part of one buffer, on which its products' last bits depend by where that begins; and
    which rows a thread is given depends on how many there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def attend_in_groups(
    attend: Attend, q: Tensor, pool: Pool, layer: int, groups: Sequence[Group], reaches: Sequence[Reach]
) -> Tensor:
    """q (1, H, N, E) of flat tokens -> (1, H, N, E), what they find in one layer of a pool."""
    store = pool.stores[layer]
    flat = q[0].transpose(0, 1)  # (N, H, E)
    parts = []
    for group, reach in zip(groups, reaches):
        batch = len(group.rows)
        k, v = keys_of(store, reach, batch, pool.scratch_for(store, reach.blocks))
        asked = flat[group.tokens].unflatten(0, (batch, group.size)).transpose(1, 2)
        y = attend(asked.to(store.dtype), k, v, reach.mask, reach.causal)
        y = y.transpose(1, 2).flatten(0, 1).to(q.dtype)
        parts.append(y if group.real is None else y[group.real])
    out = parts[0] if len(parts) == 1 else torch.cat(parts)
    if not isinstance(groups[0].tokens, slice) and groups[0].real is None:  # tokens that attended alone, in their order
        order = torch.cat([group.tokens for group in groups if isinstance(group.tokens, Tensor)])
        out = torch.empty_like(out).index_copy_(0, order, out)
    return out.transpose(0, 1)[None]


def keys_of(store: Tensor, reach: Reach, batch: int, scratch: Tensor | None) -> tuple[Tensor, Tensor]:
    """k, v (B, K, S, E) of some blocks: where they lie if that is regular, else copied together into `scratch`."""
    _, total, size, heads, width = store.shape
    if isinstance(reach.blocks, tuple):
        start, apart = reach.blocks
        token = heads * width
        shape = 2, batch, reach.keys, heads, width
        strides = total * size * token, apart * size * token, token, width, 1
        both = store.as_strided(shape, strides, (start * size + reach.skip) * token)
    else:
        found = torch.index_select(store, 1, reach.blocks, out=scratch)
        both = found.view(2, batch, -1, heads, width)[:, :, reach.skip : reach.skip + reach.keys]
    return both[0].transpose(1, 2), both[1].transpose(1, 2)


class RaggedLayer:
    """The keys and values of one layer in a pass."""

    def __init__(self, ragged: Ragged, window: int, layer: int) -> None:
        self.ragged, self.window, self.layer = ragged, window, layer

    def attend(self, attend: Attend, q: Tensor, new: tuple[Tensor, Tensor] | None, seen: Seen) -> Tensor:
        """Keep the k, v (1, K, N, E) of new tokens, and let q (1, H, N, E) attend to what each may see."""
        pool, slots = self.ragged.pages.pools[self.window], self.ragged.slots(self.window)
        for store, part in zip(pool.stores[self.layer], new or ()):
            store.flatten(0, 1).index_copy_(0, slots, part[0].transpose(0, 1).to(store.dtype))
        with self.ragged.steadied():
            return attend_in_groups(attend, q, pool, self.layer, self.ragged.groups, self.ragged.reaches(self.window))


class RaggedSource:
    """The keys and values of one layer for the sources of the rows of a pass."""

    def __init__(self, ragged: Ragged, layer: int) -> None:
        self.ragged, self.layer = ragged, layer

    def attend(self, attend: Attend, q: Tensor, new: tuple[Tensor, Tensor] | None, seen: Seen) -> Tensor:
        """q (1, H, N, E) attend to the whole source of each row."""
        pool = self.ragged.pages.sources
        assert pool is not None
        with self.ragged.steadied():
            return attend_in_groups(attend, q, pool, self.layer, self.ragged.groups, self.ragged.crossing)


def keep_sources(
    pages: Pages, rows: Sequence[int], memory: Tensor, keep: Tensor, crossings: Sequence[Attention]
) -> None:
    """Compute the keys of sources that rows are about, once, and put them into their blocks. memory (B, S, D): states
    of the sources; keep (B, S): which are real; crossings: what looks at them in each layer."""
    pool = pages.sources
    assert pool is not None
    places = np.arange(keep.shape[1])[None]
    slots = pool.table[np.asarray(rows)[:, None], np.minimum(places // BLOCK, pool.table.shape[1] - 1)] * BLOCK
    into = torch.from_numpy(slots + places % BLOCK)[keep].to(memory.device)
    keep = keep.to(memory.device)
    for layer, crossing in enumerate(crossings):
        for store, new in zip(pool.stores[layer], crossing.keys(memory)):
            store.flatten(0, 1).index_copy_(0, into, new.transpose(1, 2)[keep].to(store.dtype))
