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
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        shape = (2, batch, config.kv_heads, capacity, config.head_size)
        # zeros: 0 * uninitialised memory may be NaN behind the mask
        self._stores = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.layers)]
        self._lengths = [0] * batch
        self._rows: list[int] | None = None
        self.capacity, self.device = capacity, torch.device(device)
        self._start()

    def rows(self, rows: Sequence[int]) -> KVCache:
        """Some rows of this cache, as a cache that reads and writes the same memory."""
        part = object.__new__(KVCache)
        part._stores, part._lengths, part._rows = self._stores, self._lengths, [self._own[row] for row in rows]
        part.capacity, part.device = self.capacity, self.device
        part._start()
        return part

    def _start(self) -> None:
        self._own = list(self._rows) if self._rows is not None else list(range(len(self._lengths)))
        whole = self._own == list(range(len(self._lengths)))
        self._index = None if whole else torch.tensor(self._own, device=self.device)
        self._layers = [LayerCache(self, store) for store in self._stores]

    def __getitem__(self, layer: int) -> LayerCache:
        return self._layers[layer]

    def __len__(self) -> int:
        """Rows, B."""
        return len(self._own)

    @property
    def lengths(self) -> list[int]:
        """Tokens in each row."""
        return [self._lengths[row] for row in self._own]

    @property
    def bytes(self) -> int:
        """Memory of all keys and values: 2 * layers * rows * K * capacity * E * bytes an element."""
        return sum(store.nbytes for store in self._stores)

    def positions(self, count: int) -> Tensor:
        """Where the next `count` tokens of each row will stand: (B, count)."""
        lengths = self.lengths
        if max(lengths) + count > self.capacity:
            raise InputError(
                f"the cache holds {self.capacity} tokens a row; found {max(lengths)}, wanted {count} more; "
                "shorten the prompt or make a larger cache"
            )
        return torch.tensor(lengths, device=self.device)[:, None] + torch.arange(count, device=self.device)

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
        own = torch.tensor(self._own, device=self.device)
        until = max(lengths)
        for store in self._stores:
            store[:, own, :, since:until] = store[:, chosen, :, since:until]
        for row, source in zip(self._own, rows):
            self._lengths[row] = lengths[source]


class LayerCache:
    """The keys and values of one layer."""

    def __init__(self, cache: KVCache, store: Tensor) -> None:
        self.cache, self.store = cache, store

    def update(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """k, v (B, K, T, E) of new tokens -> k, v (B, K, S, E) of all tokens and their positions (S,).

        S reaches to the longest row; what a shorter row holds behind its end is for the mask to hide.
        """
        cache, lengths, count = self.cache, self.cache.lengths, k.shape[2]
        until = max(lengths) + count
        new = torch.stack((k, v)).to(self.store.dtype)
        if cache._index is None and min(lengths) == max(lengths):
            self.store[:, :, :, lengths[0] : until] = new
        else:
            rows = torch.tensor(cache._own, device=self.store.device)[:, None]
            self.store[:, rows, :, cache.positions(count)] = new.permute(1, 3, 0, 2, 4)
        seen = self.store[:, :, :, :until] if cache._index is None else self.store[:, cache._index, :, :until]
        return seen[0].to(k.dtype), seen[1].to(v.dtype), torch.arange(until, device=k.device)
