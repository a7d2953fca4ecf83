"""One Transformer: what it is, is written in its config.

Letters: B batch, T queries, S keys, D model, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..batch import View
from ..config import InputError, ModelConfig
from .cache import KVCache, LayerCache
from .layers import (
    MLPS,
    NORMS,
    POSITIONS,
    RESIDUALS,
    Attention,
    Embedding,
    Linear,
    Rotation,
    capped,
    entry,
    frequencies_of,
)


class Block(nn.Module):
    """Attention, then a feed-forward layer, each joined to the stream as the config says."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        norm = entry(NORMS, "norm", config.norm)
        self.attention = Attention(config)
        self.feed_forward = entry(MLPS, "mlp", config.mlp)(config)
        self.attention_norm = norm(config.d_model, config.norm_eps)
        self.feed_forward_norm = norm(config.d_model, config.norm_eps)
        after = norm if config.residual == "both" else NORMS["none"]
        self.attention_after = after(config.d_model, config.norm_eps)
        self.feed_forward_after = after(config.d_model, config.norm_eps)
        self.join = entry(RESIDUALS, "residual", config.residual)
        self.drop = nn.Dropout(config.dropout) if config.dropout else nn.Identity()

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        causal: bool = False,
        rotation: Rotation | None = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """x (B, T, D) -> (B, T, D)."""
        x = self.join(
            x,
            self.attention_norm,
            self.attention_after,
            lambda y: self.drop(self.attention(y, mask, causal, rotation, cache)),
        )
        return self.join(x, self.feed_forward_norm, self.feed_forward_after, lambda y: self.drop(self.feed_forward(y)))


class LanguageHead(Linear):
    """hidden (..., D) -> logits (..., V) in fp32 at least, capped where the config says so."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config.d_model, config.vocab_size, bias=False)
        self.cap = config.logit_cap

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        return capped(logits.to(torch.promote_types(logits.dtype, torch.float32)), self.cap)


HEADS: dict[str, Callable[[ModelConfig], nn.Module]] = {"lm": LanguageHead}


# How heads begin that look back, block by block: (offset in tokens, radians a position and their shares). Fast waves
# make a sharp peak at the offset, slow ones a broad hill round it.
SHARP, BROAD = {1.0: 0.55, 0.56: 0.27, 0.32: 0.18}, {0.18: 1.0, 0.1: 1.0, 0.056: 1.0}
LOOK_BACK = (((1, SHARP), (2, SHARP), (3, SHARP), (5, BROAD)), ((5, BROAD), (10, BROAD)))
# the first channel of every embedding in units of their std, and what is left of the rest of such a head's weights
SIGN, DIMMED = 4.0, 0.3


class Transformer(nn.Module):
    """Tokens -> hidden states -> what the heads say about them (Vaswani et al. 2017)."""

    def __init__(self, config: ModelConfig, *, seed: int | None = 0) -> None:
        """Raises InputError for a shape or a name that does not exist. seed None leaves the weights unset, for a
        file to fill."""
        super().__init__()
        if config.vocab_size < 1:
            raise InputError("vocab_size=0: a Transformer needs the tokenizer's vocabulary size")
        if config.encoder_layers:
            raise InputError(f"encoder_layers={config.encoder_layers}: there is no encoder yet, wanted 0")
        self.config = config
        # the dtype of activations and products; None follows the weights
        self.compute: torch.dtype | None = None
        # recompute each block in the backward pass instead of keeping its activations
        self.recompute = False
        self.embed = Embedding(config.vocab_size, config.d_model)
        self.positions = entry(POSITIONS, "positions", config.positions)(config)
        self.drop = nn.Dropout(config.dropout) if config.dropout else nn.Identity()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        last = "none" if config.residual == "post" else config.norm
        self.norm = entry(NORMS, "norm", last)(config.d_model, config.norm_eps)
        self.heads = nn.ModuleDict({name: entry(HEADS, "heads_of", name)(config) for name in config.heads_of})
        self.tie()
        if seed is not None:
            self.initialise(seed)

    @property
    def device(self) -> torch.device:
        return self.embed.weight.device

    def size(self) -> int:
        """How many weights there are; shared ones count once."""
        return sum(weight.numel() for weight in self.parameters())

    def tie(self) -> None:
        """Make a tied head and the embedding one parameter, as they must be again after parameters are replaced."""
        if self.config.tied and "lm" in self.heads:
            self.heads["lm"].weight = self.embed.weight

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Every weight anew, so that the stream keeps one scale and the first loss is ln V.

        A matrix keeps the variance of what it is given (std 1/sqrt(in)); the two of a block that write to the stream
        are smaller by sqrt(2 layers), so the sum does not grow with depth (Radford et al. 2019). Embeddings have unit
        variance: smaller ones drown in the first block's output, and with them which token stands where
        (`docs/log.md`). A tied embedding is also the head and must be small; all that is written to the stream then
        begins as small as it.
        """
        generator = torch.Generator(device=self.device).manual_seed(seed)
        head = min(0.02, 0.5 / math.sqrt(self.config.d_model))
        stream = head if self.config.tied else 1.0
        for name, weight in self.named_parameters():
            if weight.ndim < 2:
                weight.fill_(1.0 if name.endswith("weight") and self.config.norm != "rms_one" else 0.0)
                continue
            std = weight.shape[1] ** -0.5
            if name.startswith(("embed", "positions")):
                std = stream
            elif name.startswith("heads"):
                std = head
            elif name.endswith(("out.weight", "down.weight")):
                std *= stream / math.sqrt(2 * self.config.layers)
            nn.init.trunc_normal_(weight, std=std, a=-3 * std, b=3 * std, generator=generator)

    @torch.no_grad()
    def look_back(self) -> None:
        """Let heads of the first two blocks begin by attending to the tokens just before theirs (`LOOK_BACK`).

        A head that matches needs one below it that says what stood before, and neither earns anything without the
        other: a model waits long for both (Olsson et al. 2022). With the one given, matching forms at once
        (`benchmarks/recall.py`). Each embedding holds the same number in its first channel, from which queries and
        keys make a vector of their own, turned by the offset. Nothing is fixed: training may undo it.
        Raises InputError where positions are not rotary, which alone tell offsets.
        """
        config = self.config
        if config.positions != "rotary":
            raise InputError(f"look_back=true needs positions=rotary, found positions={config.positions}")
        size, groups = config.head_size, config.heads // config.kv_heads
        self.embed.weight[:, 0] = SIGN * float(self.embed.weight.std())
        frequencies = frequencies_of(size, config.rope_theta)
        # normalised queries and keys may be drowned in the sign; others must not be large
        strength = SIGN if config.qk_norm else math.sqrt(size) / SIGN
        for block, kinds in zip(self.blocks, LOOK_BACK):
            attention = cast(Block, block).attention
            q, k = attention.q.weight, attention.k.weight
            for head, (offset, kind) in zip(range(config.kv_heads), kinds):
                wave = torch.zeros_like(frequencies)
                for wanted, share in kind.items():
                    wave[(frequencies.log() - math.log(wanted)).abs().argmin()] += share
                wave = (wave / wave.sum()).sqrt() * strength
                key = torch.cat((wave * (frequencies * offset).cos(), wave * (frequencies * offset).sin()))
                k[head * size : (head + 1) * size] *= DIMMED
                k[head * size : (head + 1) * size, 0] = key
                q[head * groups * size : (head + 1) * groups * size] *= DIMMED
                q[head * groups * size : (head + 1) * groups * size, 0] = torch.cat((wave, 0 * wave)).repeat(groups)

    def hidden(self, tokens: Tensor, *, view: View | None = None, cache: KVCache | None = None) -> Tensor:
        """tokens (B, T) -> (B, T, D) after the last norm.

        With a cache the tokens stand behind those already in it, and it is extended. Raises InputError where the
        cache is full, or the text longer than positions were learned.
        """
        dtype = self.compute or self.embed.weight.dtype
        positions = self._where(tokens, view, cache)
        windows = self.config.windows or (0,) * len(self.blocks)
        seen = {window: self._mask(tokens, view, cache, positions, dtype, window) for window in set(windows)}
        turns = {near: self.positions.rotation(positions, dtype, window=near) for near in {w > 0 for w in windows}}
        x = self.embed(tokens).to(dtype)
        if self.config.scaled_embed:
            x = x * x.new_tensor(self.config.d_model**0.5)
        x = self.drop(self.positions.add(x, positions))
        for number, (block, window) in enumerate(zip(self.blocks, windows)):
            (mask, causal), rotation = seen[window], turns[window > 0]
            if self.recompute and self.training:
                x = checkpoint(block, x, mask, causal, rotation, use_reentrant=False)
            else:
                x = block(x, mask, causal, rotation, None if cache is None else cache[number])
        if cache is not None:
            cache.extend(tokens.shape[1])
        return self.norm(x)

    def forward(self, tokens: Tensor, *, view: View | None = None, cache: KVCache | None = None) -> Tensor:
        """tokens (B, T) -> logits (B, T, V) of the language model's head."""
        return self.heads["lm"](self.hidden(tokens, view=view, cache=cache))

    def _where(self, tokens: Tensor, view: View | None, cache: KVCache | None) -> Tensor:
        """The position of each token: (B or 1, T)."""
        if view is not None and view.positions is not None and cache is None:
            return view.positions
        reach = tokens.shape[1] + (0 if cache is None else max(cache.lengths))
        if reach > self.positions.limit:
            raise InputError(
                f"max_positions={self.config.max_positions} were learned; found a text of {reach} tokens; shorten it"
            )
        if cache is not None:
            return cache.positions(tokens.shape[1])
        return torch.arange(tokens.shape[1], device=tokens.device)[None]

    def _mask(
        self,
        tokens: Tensor,
        view: View | None,
        cache: KVCache | None,
        positions: Tensor,
        dtype: torch.dtype,
        window: int,
    ) -> tuple[Tensor | None, bool]:
        """What is added to the scores (0 or -inf), made once for all layers of a window (0: of none); or None and
        whether to be causal."""
        if cache is not None:
            if view is not None:
                raise InputError("found a view and a cache; pad prompts on the right, then trim the cache")
            lengths = cache.lengths
            until = max(lengths) + tokens.shape[1]
            if not window or until <= window:
                if until == tokens.shape[1]:  # nothing stands before these tokens
                    return None, True
                if tokens.shape[1] == 1 and min(lengths) == max(lengths):
                    return None, False
            keys = torch.arange(until, device=tokens.device)
            sees = keys <= positions[..., None]
            if window:
                sees &= keys > positions[..., None] - window
            return _added(sees, dtype), False
        near = 0 < window < tokens.shape[1]
        if (view is None or (view.segments is None and view.keep is None)) and not near:
            return None, self.config.causal
        view = view or View()
        segments = view.segments if view.segments is not None else torch.zeros_like(tokens)
        if view.keep is not None:  # padding is a document of its own
            segments = segments.masked_fill(~view.keep, -1)
        sees = segments[:, :, None] == segments[:, None, :]
        if self.config.causal:
            sees = sees.tril()
        if near:
            sees = sees & (positions[:, :, None] - positions[:, None, :] < window)
        return _added(sees, dtype), False


def _added(sees: Tensor, dtype: torch.dtype) -> Tensor:
    """sees (B, T, S) -> (B, 1, T, S): 0 where a query may look and -inf where not. Every query sees itself, so no row
    is empty."""
    return torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill_(~sees, -torch.inf)[:, None]
