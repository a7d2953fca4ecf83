"""Keys and values of the tokens already read, so that the next token costs one step and not the whole text.

This is the plain one, a rectangle of rows, for those who run a model by hand. The engine's is `Pages`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ..config import InputError, ModelConfig
from .attention import Attend, Kept, Seen, added

# queries (B, T), keys (B or 1, S), dtype -> what is added to the scores
Bias = Callable[[Tensor, Tensor, torch.dtype], Tensor | None]


class Cache(Protocol):
    """Whatever keeps keys and values, as a stack sees it in one forward pass."""

    capacity: int

    @property
    def cross(self) -> Sequence[Kept]:
        """Keys and values of each layer for the source, none without an encoder."""

    @property
    def source_lengths(self) -> Sequence[int]:
        """Tokens in each row's source."""

    def reach(self, count: int) -> int:
        """How long the longest row will be with `count` more tokens."""

    def positions(self, count: int) -> Tensor:
        """Where the next `count` tokens of each row will stand: (B, count)."""

    def see(self, window: int, bias: Bias, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor | None, bool]:
        """What these tokens see in layers of one window: a mask, or whether to be causal."""

    def see_source(self, dtype: torch.dtype) -> Tensor | None:
        """What they see of the source: a mask, or None for all of it."""

    def extend(self, count: int) -> None:
        """Every row is `count` tokens longer: called once a forward pass, after its last layer."""

    def __getitem__(self, layer: int) -> Kept:
        """Keys and values of one layer."""


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
        self.lengths, self.source_lengths = [0] * batch, [0] * batch  # tokens in each row, and in its source
        self.capacity, self.source_capacity, self.device = capacity, source_capacity, torch.device(device)
        self._next: tuple[list[int], Tensor] | None = None
        self._layers = [LayerCache(self, store) for store in self._stores]
        self.cross = [SourceCache(self, store) for store in self._sources]

    def __getitem__(self, layer: int) -> LayerCache:
        return self._layers[layer]

    def __len__(self) -> int:
        """Rows, B."""
        return len(self.lengths)

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
        if len(lengths) != len(self):
            raise InputError(f"{len(lengths)} sources, and the cache has {len(self)} rows; wanted one for each")
        self.source_lengths = list(lengths)

    def reach(self, count: int) -> int:
        """How long the longest row will be with `count` more tokens."""
        return max(self.lengths) + count

    def see(self, window: int, bias: Bias, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor | None, bool]:
        """What tokens at `positions` (B, T), the next of each row, see in layers of one window: a mask, or whether to
        be causal."""
        lengths, count = self.lengths, positions.shape[1]
        until = max(lengths) + count
        keys = torch.arange(until, device=positions.device)
        found = bias(positions, keys[None], dtype)
        if found is None and (not window or until <= window):
            if until == count:  # nothing stands before these tokens
                return None, True
            if count == 1 and min(lengths) == max(lengths):
                return None, False
        sees = keys <= positions[..., None]
        if window:
            sees &= keys > positions[..., None] - window
        mask = added(sees, dtype)
        return (mask if found is None else mask + found), False

    def see_source(self, dtype: torch.dtype) -> Tensor | None:
        """Which tokens are real, where sources differ in length."""
        lengths = self.source_lengths
        if min(lengths) == max(lengths):
            return None
        ends = torch.tensor(lengths).to(self.device, non_blocking=True)[:, None, None]
        return added(torch.arange(max(lengths), device=self.device) < ends, dtype)

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
        self.lengths = [length + count for length in self.lengths]

    def trim(self, lengths: Sequence[int]) -> None:
        """Forget what stands behind each row's new length."""
        for row, (length, held) in enumerate(zip(lengths, self.lengths, strict=True)):
            if not 0 <= length <= held:
                raise InputError(f"row {row} holds {held} tokens, it cannot be trimmed to {length}")
        self.lengths = list(lengths)


class LayerCache:
    """The keys and values of one layer."""

    def __init__(self, cache: KVCache, store: Tensor) -> None:
        self.cache, self.store = cache, store

    def attend(self, attend: Attend, q: Tensor, new: tuple[Tensor, Tensor] | None, seen: Seen) -> Tensor:
        """Keep the k, v (B, K, T, E) of new tokens, and let q (B, H, T, E) attend to all."""
        keys, values = self.read() if new is None else self.update(*new)
        return attend(q, keys, values, seen.mask, seen.causal)

    def update(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """k, v (B, K, T, E) of new tokens -> k, v (B, K, S, E) of all tokens, from position 0 on.

        S reaches to the longest row; what a shorter row holds behind its end is for the mask to hide.
        """
        cache, lengths, count = self.cache, self.cache.lengths, k.shape[2]
        until = max(lengths) + count
        even = min(lengths) == max(lengths)
        for store, new in zip(self.store, (k, v)):
            if even:
                store[:, :, lengths[0] : until] = new.to(store.dtype)
            else:
                rows = torch.arange(len(cache), device=store.device)[:, None]
                store[rows, :, cache.positions(count)] = new.transpose(1, 2).to(store.dtype)
        keys, values = self._up_to(until)
        return keys.to(k.dtype), values.to(v.dtype)

    def read(self) -> tuple[Tensor, Tensor]:
        """k, v (B, K, S, E) of the tokens that are kept."""
        return self._up_to(max(self.cache.lengths))

    def _up_to(self, until: int) -> tuple[Tensor, Tensor]:
        keys, values = self.store[:, :, :, :until]
        return keys, values


class SourceCache:
    """The keys and values of one layer for what the rows are about: made once, then only read."""

    def __init__(self, cache: KVCache, store: Tensor) -> None:
        self.cache, self.store = cache, store

    def attend(self, attend: Attend, q: Tensor, new: tuple[Tensor, Tensor] | None, seen: Seen) -> Tensor:
        """Let q (B, H, T, E) attend to the sources, whose k, v (B, K, S, E) are kept where they are new."""
        keys, values = self.read() if new is None else self.update(*new)
        return attend(q, keys, values, seen.mask, seen.causal)

    def update(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keep k, v (B, K, S, E) of whole sources, padded on the right -> those up to the longest source."""
        until = max(self.cache.source_lengths)
        k, v = k[:, :, :until], v[:, :, :until]
        for store, new in zip(self.store, (k, v)):
            store[:, :, :until] = new.to(store.dtype)
        return k, v

    def read(self) -> tuple[Tensor, Tensor]:
        """k, v (B, K, S, E); S reaches to the longest source."""
        keys, values = self.store[:, :, :, : max(self.cache.source_lengths)]
        return keys, values
