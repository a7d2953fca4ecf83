"""A stack of blocks: encoder and decoder are this one class, and what they differ in is written in their configs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..batch import View
from ..config import InputError, ModelConfig
from .adapters import both_passes
from .attention import Attention, Kept, Seen, added
from .cache import Cache
from .experts import Experts
from .layers import MLPS, NORMS, RESIDUALS, Dropout, Embedding, entry
from .noise import noise
from .positions import POSITIONS

# A norm, one for behind, and what a sublayer does between them.
Part = tuple[nn.Module, nn.Module, Callable[[Tensor], Tensor]]
Join = Callable[[Tensor, nn.Module, nn.Module, Callable[[Tensor], Tensor]], Tensor]


def _in_turn(x: Tensor, join: Join, parts: Sequence[Part]) -> Tensor:
    for norm, after, f in parts:
        x = join(x, norm, after, f)
    return x


def _at_once(x: Tensor, join: Join, parts: Sequence[Part]) -> Tensor:
    """Every part is given the same stream (GPT-J, Wang and Komatsuzaki 2021)."""
    return x + torch.stack([f(norm(x)) for norm, _, f in parts]).sum(0)


ORDERS: dict[str, Callable[[Tensor, Join, Sequence[Part]], Tensor]] = {"parallel": _at_once}


# where a sublayer is given the stream itself, and not a norm of it
BARE = {"post", "inside"}


class Block(nn.Module):
    """Attention, in a decoder with an encoder attention to the source, then a feed-forward layer, each joined to the
    stream as the config says."""

    def __init__(self, config: ModelConfig, number: int = 0) -> None:
        super().__init__()
        own = entry(NORMS, "norm", config.norm)
        behind = own if config.residual == "both" else NORMS["none"]
        first = own if config.first_norm or number else NORMS["none"]
        mlp = entry(MLPS, "mlp", config.mlp)
        self.attention = Attention(config)
        many = config.experts and number not in config.dense_layers
        self.feed_forward = Experts(config) if many else mlp(config)
        self.attention_norm = first(config.d_model, config.norm_eps)
        self.feed_forward_norm = own(config.d_model, config.norm_eps)
        self.attention_after = behind(config.d_model, config.norm_eps)
        self.feed_forward_after = behind(config.d_model, config.norm_eps)
        self.cross: Attention | None = None
        if config.encoder_layers:
            self.cross = Attention(config)
            self.cross_norm = own(config.d_model, config.norm_eps)
            self.cross_after = behind(config.d_model, config.norm_eps)
        self.join = entry(RESIDUALS, "residual", config.residual)
        self.bare = config.residual in BARE
        self.order = ORDERS.get(config.residual, _in_turn)
        self.drop = Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        seen: Seen = Seen(),  # noqa: B008  a tuple cannot change
        kept: Kept | None = None,
        memory: Tensor | None = None,
        crossing: Seen = Seen(),  # noqa: B008
        recalled: Kept | None = None,
        places: Tensor | None = None,
    ) -> Tensor:
        """x (B, T, D) -> (B, T, D). memory (B, S, D): states of the source, or None where `recalled` holds its keys.
        places (B, R): all that is wanted, without a cache: (B, R, D), and the other tokens are keys alone."""
        if places is not None:
            return self._at(places, x, seen, memory, crossing)
        return self.order(
            x, self.join, self._parts(lambda y: self.attention(y, y, seen, kept), memory, crossing, recalled)
        )

    def _at(self, places: Tensor, x: Tensor, seen: Seen, memory: Tensor | None, crossing: Seen) -> Tensor:
        """For the places alone, but where experts are balanced by what all places ask of them."""
        if isinstance(self.feed_forward, Experts):
            return rows_at(self(x, seen, None, memory, crossing), places)
        count, here = x.shape[1], rows_at(x, places)
        source = self.attended(x)
        seen, crossing = seen.at(places, count, x.dtype), crossing.at(places, 0, x.dtype)
        return self.order(
            here, self.join, self._parts(lambda y: self.attention(y, source, seen, None), memory, crossing)
        )

    def attended(self, x: Tensor) -> Tensor:
        """What attention is given of the stream x."""
        return x if self.bare else self.attention_norm(x)

    def _parts(
        self,
        attend: Callable[[Tensor], Tensor],
        memory: Tensor | None,
        crossing: Seen,
        recalled: Kept | None = None,
    ) -> list[Part]:
        parts: list[Part] = [(self.attention_norm, self.attention_after, lambda y: self.drop(attend(y)))]
        if (cross := self.cross) is not None:
            parts.append((self.cross_norm, self.cross_after, lambda y: self.drop(cross(y, memory, crossing, recalled))))
        parts.append((self.feed_forward_norm, self.feed_forward_after, lambda y: self.drop(self.feed_forward(y))))
        return parts


def rows_at(x: Tensor, places: Tensor) -> Tensor:
    """x (B, T, D) at the places (B, R) -> (B, R, D)."""
    rows = places + x.shape[1] * torch.arange(len(places), device=places.device)[:, None]
    return x.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, rows.shape)


class Stack(nn.Module):
    """tokens -> hidden states. The embedding is its own, or handed to it where two stacks share one."""

    def __init__(self, config: ModelConfig, *, embeds: bool = True) -> None:
        super().__init__()
        self.config = config
        # the dtype of activations and products; None follows the weights
        self.compute: torch.dtype | None = None
        # recompute each block in the backward pass instead of keeping its activations
        self.recompute = False
        # noise on the embeddings in training (NEFTune), as a multiple of 1 / sqrt(T D); 0: none
        self.neftune = 0.0
        norm = entry(NORMS, "norm", config.norm)
        if embeds:
            self.embed = Embedding(config.vocab_size, config.d_model)
        if config.token_types:
            self.types = Embedding(config.token_types, config.d_model)
        self.positions = entry(POSITIONS, "positions", config.positions)(config)
        self.embed_norm = (norm if config.embed_norm else NORMS["none"])(config.d_model, config.norm_eps)
        self.drop = Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, number) for number in range(config.layers))
        last = "none" if config.residual == "post" else config.norm
        self.norm = entry(NORMS, "norm", last)(config.d_model, config.norm_eps)

    def states(
        self,
        tokens: Tensor,
        embed: Embedding,
        *,
        view: View | None = None,
        cache: Cache | None = None,
        memory: Tensor | None = None,
        memory_view: View | None = None,
        places: Tensor | None = None,
    ) -> Tensor:
        """tokens (B, T) -> (B, T, D) after the last norm. memory (B, S, D): states of the source; a cache that knows
        the source needs none. places (B, R): all that is wanted, without a cache: (B, R, D), for which the last block
        computes no more than that."""
        if places is not None and cache is not None:
            raise InputError("found places and a cache, which keeps every token; leave one of them out")
        dtype = self.compute or embed.weight.dtype
        positions = self._where(tokens, view, cache)
        windows = self.config.windows or (0,) * len(self.blocks)
        seen = self._all_seen(tokens, view, cache, positions, dtype, set(windows))
        crossing = self._crossing(view, cache, memory_view, dtype)
        x = self._embedded(tokens, embed, view, positions, dtype)
        for number, (block, window) in enumerate(zip(self.blocks, windows)):
            if cache is None:
                few: dict[str, Any] = {} if places is None or number < len(self.blocks) - 1 else {"places": places}
                inputs = (x, seen[window], None, memory, crossing)
                if self.recompute and self.training:
                    passes = partial(both_passes, block)
                    x = checkpoint(block, *inputs, use_reentrant=False, context_fn=passes, **few)
                else:
                    x = block(*inputs, **few)
            else:
                recalled = cache.cross[number] if cache.cross else None
                x = block(x, seen[window], cache[number], memory, crossing, recalled)
        if cache is not None:
            cache.extend(tokens.shape[1])
        return self.norm(x)

    def _embedded(
        self, tokens: Tensor, embed: Embedding, view: View | None, positions: Tensor, dtype: torch.dtype
    ) -> Tensor:
        x = embed(tokens).to(dtype)
        if self.neftune and self.training:
            x = x + noise(x, view, self.neftune)
        if self.config.scaled_embed:
            x = x * x.new_tensor(self.config.d_model**0.5)
        x = self.positions.add(x, positions)
        if self.config.token_types:
            types = torch.zeros_like(tokens) if view is None or view.types is None else view.types
            x = x + self.types(types).to(dtype)
        return self.drop(self.embed_norm(x))

    def _where(self, tokens: Tensor, view: View | None, cache: Cache | None) -> Tensor:
        """The position of each token: (B or 1, T)."""
        if view is not None and view.positions is not None and cache is None:
            return view.positions
        reach = tokens.shape[1] if cache is None else cache.reach(tokens.shape[1])
        if reach > self.positions.limit:
            raise InputError(
                f"max_positions={self.config.max_positions} were learned; found a text of {reach} tokens; shorten it"
            )
        if cache is not None:
            return cache.positions(tokens.shape[1])
        return torch.arange(tokens.shape[1], device=tokens.device)[None]

    def _all_seen(
        self,
        tokens: Tensor,
        view: View | None,
        cache: Cache | None,
        positions: Tensor,
        dtype: torch.dtype,
        windows: set[int],
    ) -> dict[int, Seen]:
        """Per window (0: none) what its layers see, made once for all of them."""
        length = tokens.shape[1] if cache is None else cache.capacity
        turns = {
            near: self.positions.rotation(positions, dtype, window=near, length=length)
            for near in {window > 0 for window in windows}
        }
        if cache is not None:
            if view is not None:
                raise InputError("found a view and a cache; pad prompts on the right, then trim the cache")
            look = {window: cache.see(window, self.positions.bias, positions, dtype) for window in windows}
            return {window: Seen(*look[window], turns[window > 0]) for window in windows}
        bias = self.positions.bias(positions, positions, dtype)
        seen = {}
        for window in windows:
            sees, causal = self._sees(tokens, view, positions, window, plain=bias is None)
            mask = None if sees is None else added(sees, dtype)
            if bias is not None:
                mask = bias if mask is None else mask + bias
            seen[window] = Seen(mask, causal, turns[window > 0])
        return seen

    def _sees(
        self,
        tokens: Tensor,
        view: View | None,
        positions: Tensor,
        window: int,
        *,
        plain: bool,
    ) -> tuple[Tensor | None, bool]:
        """Which tokens each may look at (B or 1, T, S); or None and whether to be causal, which `plain` allows."""
        count, causal = tokens.shape[1], self.config.causal
        near = 0 < window < count
        whole = view is None or (view.segments is None and view.keep is None and view.branches is None)
        if whole and not near and (plain or not causal):
            return None, causal
        view = view or View()
        if whole:
            sees = torch.ones(1, count, count, dtype=torch.bool, device=tokens.device)
        else:
            segments = view.segments if view.segments is not None else torch.zeros_like(tokens)
            if view.keep is not None:  # padding is a document of its own
                segments = segments.masked_fill(~view.keep, -1)
            sees = segments[:, :, None] == segments[:, None, :]
            if view.branches is not None:
                keys = view.branches[:, None, :]
                sees = sees & ((keys == 0) | (keys == view.branches[:, :, None]))
        if causal:
            sees = sees.tril()
        if near:
            sees = sees & ((positions[:, :, None] - positions[:, None, :]).abs() < window)
        return sees, False

    def _crossing(self, view: View | None, cache: Cache | None, memory_view: View | None, dtype: torch.dtype) -> Seen:
        """What is seen of the source: its real tokens, and only those of the same segment where both are packed."""
        if not self.config.encoder_layers:
            return Seen()
        if cache is not None:
            return Seen(cache.see_source(dtype))
        if memory_view is None or (memory_view.keep is None and memory_view.segments is None):
            return Seen()
        sees = None if memory_view.keep is None else memory_view.keep[:, None, :]
        if memory_view.segments is not None and view is not None and view.segments is not None:
            same = view.segments[:, :, None] == memory_view.segments[:, None, :]
            sees = same if sees is None else sees & same
        return Seen() if sees is None else Seen(added(sees, dtype))
