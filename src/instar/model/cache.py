"""Keys and values of the tokens already read, so that the next token costs one step and not the whole text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..config import InputError, ModelConfig


class KVCache:
    """Rows of different lengths side by side. Prompts are read padded on the right, then `trim` forgets the padding.

    Lengths are plain integers: whoever adds tokens knows how many, so nothing waits for the device.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        capacity: int,
        *,
        source_capacity: int = 0,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        """capacity: tokens of the longest row; source_capacity: of the longest source, for an encoder-decoder."""

        def stores(room: int) -> list[Tensor]:
            shape = (2, batch, config.kv_heads, room, config.head_size)
            # zeros: 0 * uninitialised memory may be NaN behind the mask
            return [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.layers)]

        self._stores = stores(capacity)
        self._sources = stores(source_capacity) if config.encoder_layers else []
        self._lengths, self._source_lengths = [0] * batch, [0] * batch
        self._rows: list[int] | None = None
        self.capacity, self.source_capacity, self.device = capacity, source_capacity, torch.device(device)
        self._start()

    def rows(self, rows: Sequence[int]) -> KVCache:
        """Some rows of this cache, as a cache that reads and writes the same memory."""
        part = object.__new__(KVCache)
        part._stores, part._lengths, part._rows = self._stores, self._lengths, [self._own[row] for row in rows]
        part._sources, part._source_lengths = self._sources, self._source_lengths
        part.capacity, part.source_capacity, part.device = self.capacity, self.source_capacity, self.device
        part._start()
        return part

    def _start(self) -> None:
        self._own = list(self._rows) if self._rows is not None else list(range(len(self._lengths)))
        self._index = _index(self._own, self.device)
        self._next: tuple[list[int], Tensor] | None = None
        self._layers = [LayerCache(self, store) for store in self._stores]
        self.cross = [SourceCache(self, store) for store in self._sources]

    def __getitem__(self, layer: int) -> LayerCache:
        return self._layers[layer]

    def __len__(self) -> int:
        """Rows, B."""
        return len(self._own)

    @property
    def numbers(self) -> Tensor:
        """The rows of the memory that are this cache's: (B,)."""
        if isinstance(self._index, slice):
            return torch.arange(self._index.start, self._index.stop, device=self.device)
        return self._index

    @property
    def lengths(self) -> list[int]:
        """Tokens in each row."""
        return [self._lengths[row] for row in self._own]

    @property
    def source_lengths(self) -> list[int]:
        """Tokens in each row's source."""
        return [self._source_lengths[row] for row in self._own]

    @property
    def bytes(self) -> int:
        """Memory of all keys and values: 2 * layers * rows * K * (capacity + source_capacity) * E elements."""
        return sum(store.nbytes for store in [*self._stores, *self._sources])

    def attend_to(self, lengths: Sequence[int]) -> None:
        """The rows get sources of so many tokens, whose keys `cross` is about to be given."""
        if max(lengths) > self.source_capacity:
            raise InputError(
                f"the cache holds sources of {self.source_capacity} tokens; found {max(lengths)}; make a larger cache"
            )
        for row, length in zip(self._own, lengths, strict=True):
            self._source_lengths[row] = length

    def positions(self, count: int) -> Tensor:
        """Where the next `count` tokens of each row will stand: (B, count)."""
        lengths = self.lengths
        if max(lengths) + count > self.capacity:
            raise InputError(
                f"the cache holds {self.capacity} tokens a row; found {max(lengths)}, wanted {count} more; "
                "shorten the prompt or make a larger cache"
            )
        if self._next is None or self._next[0] != [*lengths, count]:  # made once for all layers
            starts = torch.tensor(lengths).to(self.device, non_blocking=True)
            self._next = [*lengths, count], starts[:, None] + torch.arange(count, device=self.device)
        return self._next[1]

    def extend(self, count: int) -> None:
        """Every row is `count` tokens longer: called once a forward pass, after its last layer."""
        for row in self._own:
            self._lengths[row] += count

    def trim(self, lengths: Sequence[int]) -> None:
        """Forget what stands behind each row's new length."""
        for row, length in zip(self._own, lengths, strict=True):
            if not 0 <= length <= self._lengths[row]:
                raise InputError(f"row {row} holds {self._lengths[row]} tokens, it cannot be trimmed to {length}")
            self._lengths[row] = length

    def release(self) -> None:
        """Empty these rows for the next requests."""
        self.trim([0] * len(self))

    def reorder(self, rows: Sequence[int], since: int = 0) -> None:
        """Row b continues as row rows[b] did, as beam search needs; positions before `since` are shared by all and
        stay where they are."""
        lengths = self.lengths
        chosen = torch.tensor([self._own[row] for row in rows], device=self.device)
        until = max(lengths)
        for store in self._stores:
            store[:, self._index, :, since:until] = store[:, chosen, :, since:until]
        for row, source in zip(self._own, rows):
            self._lengths[row] = lengths[source]


class LayerCache:
    """The keys and values of one layer."""

    def __init__(self, cache: KVCache, store: Tensor) -> None:
        self.cache, self.store = cache, store

    def update(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """k, v (B, K, T, E) of new tokens -> k, v (B, K, S, E) of all tokens, from position 0 on.

        S reaches to the longest row; what a shorter row holds behind its end is for the mask to hide.
        """
        cache, lengths, count = self.cache, self.cache.lengths, k.shape[2]
        until = max(lengths) + count
        even = min(lengths) == max(lengths)
        for store, new in zip(self.store, (k, v)):
            if even:
                store[cache._index, :, lengths[0] : until] = new.to(store.dtype)
            else:
                store[cache.numbers[:, None], :, cache.positions(count)] = new.transpose(1, 2).to(store.dtype)
        keys, values = self._up_to(until)
        return keys.to(k.dtype), values.to(v.dtype)

    def read(self) -> tuple[Tensor, Tensor]:
        """k, v (B, K, S, E) of the tokens that are kept."""
        return self._up_to(max(self.cache.lengths))

    def _up_to(self, until: int) -> tuple[Tensor, Tensor]:
        keys, values = (store[self.cache._index, :, :until] for store in self.store)
        return keys, values


class SourceCache:
    """The keys and values of one layer for what the rows are about: made once, then only read."""

    def __init__(self, cache: KVCache, store: Tensor) -> None:
        self.cache, self.store = cache, store

    def update(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keep k, v (B, K, S, E) of whole sources, padded on the right -> those up to the longest source."""
        until = max(self.cache.source_lengths)
        k, v = k[:, :, :until], v[:, :, :until]
        for store, new in zip(self.store, (k, v)):
            store[self.cache._index, :, :until] = new.to(store.dtype)
        return k, v

    def read(self) -> tuple[Tensor, Tensor]:
        """k, v (B, K, S, E); S reaches to the longest source."""
        until = max(self.cache.source_lengths)
        keys, values = (store[self.cache._index, :, :until] for store in self.store)
        return keys, values


def _index(rows: list[int], device: torch.device) -> slice | Tensor:
    """What picks these rows: a slice where they stand side by side, so that nothing is copied to read them."""
    if rows and rows == list(range(rows[0], rows[0] + len(rows))):
        return slice(rows[0], rows[0] + len(rows))
    return torch.tensor(rows, dtype=torch.int64).to(device, non_blocking=True)
