"""One Transformer: what it is, is written in its config.

Letters: B batch, T queries, S keys, D model, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..batch import View
from ..config import InputError, ModelConfig
from .cache import KVCache, LayerCache
from .layers import MLPS, NORMS, POSITIONS, RESIDUALS, Attention, Embedding, Linear, Rotation, entry


class Block(nn.Module):
    """Attention, then a feed-forward layer, each joined to the stream as the config says."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        norm = entry(NORMS, "norm", config.norm)
        self.attention = Attention(config)
        self.feed_forward = entry(MLPS, "mlp", config.mlp)(config)
        self.attention_norm = norm(config.d_model, config.norm_eps)
        self.feed_forward_norm = norm(config.d_model, config.norm_eps)
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
        x = self.join(x, self.attention_norm, lambda y: self.drop(self.attention(y, mask, causal, rotation, cache)))
        return self.join(x, self.feed_forward_norm, lambda y: self.drop(self.feed_forward(y)))


class LanguageHead(Linear):
    """hidden (..., D) -> logits (..., V) in fp32 at least."""

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))


HEADS: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "lm": lambda config: LanguageHead(config.d_model, config.vocab_size, bias=False),
}


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
                weight.fill_(1.0 if name.endswith("weight") else 0.0)
                continue
            std = weight.shape[1] ** -0.5
            if name.startswith(("embed", "positions")):
                std = stream
            elif name.startswith("heads"):
                std = head
            elif name.endswith(("out.weight", "down.weight")):
                std *= stream / math.sqrt(2 * self.config.layers)
            nn.init.trunc_normal_(weight, std=std, a=-3 * std, b=3 * std, generator=generator)

    def hidden(self, tokens: Tensor, *, view: View | None = None, cache: KVCache | None = None) -> Tensor:
        """tokens (B, T) -> (B, T, D) after the last norm.

        With a cache the tokens stand behind those already in it, and it is extended. Raises InputError where the
        cache is full, or the text longer than positions were learned.
        """
        dtype = self.compute or self.embed.weight.dtype
        positions = self._where(tokens, view, cache)
        mask, causal = self._mask(tokens, view, cache, positions, dtype)
        x = self.drop(self.positions.add(self.embed(tokens).to(dtype), positions))
        rotation = self.positions.rotation(positions, dtype)
        for number, block in enumerate(self.blocks):
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
        self, tokens: Tensor, view: View | None, cache: KVCache | None, positions: Tensor, dtype: torch.dtype
    ) -> tuple[Tensor | None, bool]:
        """What is added to the scores (0 or -inf), made once for all layers; or None and whether to be causal."""
        if cache is not None:
            if view is not None:
                raise InputError("found a view and a cache; pad prompts on the right, then trim the cache")
            lengths = cache.lengths
            until = max(lengths) + tokens.shape[1]
            if until == tokens.shape[1]:  # nothing stands before these tokens
                return None, True
            if tokens.shape[1] == 1 and min(lengths) == max(lengths):
                return None, False
            sees = torch.arange(until, device=tokens.device) <= positions[..., None]
            return _added(sees, dtype), False
        if view is None or (view.segments is None and view.keep is None):
            return None, self.config.causal
        segments = view.segments if view.segments is not None else torch.zeros_like(tokens)
        if view.keep is not None:  # padding is a document of its own
            segments = segments.masked_fill(~view.keep, -1)
        sees = segments[:, :, None] == segments[:, None, :]
        if self.config.causal:
            sees = sees.tril()
        return _added(sees, dtype), False


def _added(sees: Tensor, dtype: torch.dtype) -> Tensor:
    """sees (B, T, S) -> (B, 1, T, S): 0 where a query may look and -inf where not. Every query sees itself, so no row
    is empty."""
    return torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill_(~sees, -torch.inf)[:, None]
