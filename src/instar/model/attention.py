"""Attention: queries meet keys.

Letters: B batch, T queries, S keys, D model, H heads, K key-value heads, E head size.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import ModelConfig
from .layers import NORMS, Linear, entry
from .positions import Rotation

# Up to so many keys, plain products are faster in training on a CPU in bf16 than the fused kernel, whose backward pass
# is slow there: 1.4 times at 256 keys, not at 512.
SHORT = 384


class Seen(NamedTuple):
    """What the queries of one kind of layer may see, made once a forward pass: mask (B or 1, 1 or H, T or 1, S) added
    to the scores, or None and whether to be causal; and how queries and keys are turned, with `keys` for keys that are
    not those of the queries' places."""

    mask: Tensor | None = None
    causal: bool = False
    rotation: Rotation | None = None
    keys: Rotation | None = None

    def at(self, places: Tensor, length: int, dtype: torch.dtype) -> Seen:
        """For the queries at the places (B, R) alone, out of a text of `length` keys."""
        mask = self.mask
        if mask is None and self.causal:
            mask = added(torch.arange(length, device=places.device) <= places[..., None], dtype)
        elif mask is not None and mask.shape[2] > 1:
            mask = taken(mask, places)
        turns = self.rotation
        return Seen(mask, False, None if turns is None else Rotation(*(taken(x, places) for x in turns)), turns)


class Kept(Protocol):
    """Keys and values of a layer that outlive a forward pass."""

    def attend(self, attend: Attend, q: Tensor, new: tuple[Tensor, Tensor] | None, seen: Seen) -> Tensor:
        """Keep the k, v (B, K, T, E) of new tokens, where there are any, and let q (B, H, T, E) attend to all."""


def taken(x: Tensor, places: Tensor) -> Tensor:
    """x (B or 1, N, T, C) at the places (B, R) -> (B, N, R, C)."""
    rows = torch.arange(len(places), device=places.device)[:, None] % len(x)
    return x[rows, :, places].transpose(1, 2)


def added(sees: Tensor, dtype: torch.dtype) -> Tensor:
    """sees (B, T, S) -> (B, 1, T, S): 0 where a query may look and -inf where not: no score is so large that a finite
    number would do. A query that may look nowhere looks everywhere, since a softmax of nothing is not a number; nobody
    reads what it finds."""
    mask = torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill_(~sees, -torch.inf)
    return mask.masked_fill_(~sees.any(-1, keepdim=True), 0.0)[:, None]


def grouped_weights(
    q: Tensor, k: Tensor, mask: Tensor | None, causal: bool, scale: float = 0.0, cap: float = 0.0
) -> Tensor:
    """softmax(q k^T scale + mask), all in memory; scale 0 is 1/sqrt(E). q (B, H, T, E), k (B, K, S, E) ->
    (B, K, H/K T, S): the queries that share a key-value head stand one after the other. Scores are in fp32 at least, as
    fused kernels have them: in bf16 two of 20 and 20.05 would be equal."""
    scale = scale or q.shape[-1] ** -0.5
    groups, queries = q.shape[1] // k.shape[1], q.shape[2]
    wide = torch.promote_types(q.dtype, torch.float32)
    q = q.unflatten(1, (-1, groups)).flatten(2, 3)
    if torch.is_grad_enabled() and q.dtype != wide:
        scores = Scores.apply(q, k) * scale
    else:
        scores = (q.to(wide) * scale) @ k.to(wide).mT
    scores = capped(scores, cap)
    if causal:
        mask = torch.full((1, 1, queries, k.shape[2]), -torch.inf, dtype=wide, device=q.device).triu_(1)
    if mask is not None:
        if mask.shape[1] == 1:
            mask = mask if mask.shape[2] == 1 else mask.repeat(1, 1, groups, 1)  # 1: the same for all queries
        else:
            mask = mask.unflatten(1, (-1, groups)).flatten(2, 3)
        scores = scores + mask if cap or mask.requires_grad else scores.add_(mask)
    return scores.softmax(-1).to(q.dtype)


class Scores(torch.autograd.Function):
    """q (..., T, E) and k (..., S, E) in half precision -> q k^T in fp32, whose gradient is rounded before it is
    multiplied, as fused kernels do (Dao 2023, FlashAttention-2): both products of the backward pass are of half
    precision, and only the scores themselves are not."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor) -> Tensor:
        ctx.save_for_backward(q, k)
        return q.float() @ k.float().mT

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        q, k = ctx.saved_tensors
        gradient = gradient.to(q.dtype)
        return gradient @ k, gradient.mT @ q


def attention_weights(
    q: Tensor, k: Tensor, mask: Tensor | None, causal: bool, scale: float = 0.0, cap: float = 0.0
) -> Tensor:
    """What each query takes of each key: q (B, H, T, E), k (B, K, S, E) -> (B, H, T, S), rows that add up to 1."""
    return grouped_weights(q, k, mask, causal, scale, cap).unflatten(2, (q.shape[1] // k.shape[1], -1)).flatten(1, 2)


def _by_products(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float = 0.0, cap: float = 0.0,
    dropout: float = 0.0,
) -> Tensor:  # fmt: skip
    """As Attend, with all weights in memory."""
    weights = grouped_weights(q, k, mask, causal, scale, cap)
    weights = F.dropout(weights, dropout) if dropout else weights
    return (weights @ v).unflatten(2, (q.shape[1] // k.shape[1], -1)).flatten(1, 2)


def capped(x: Tensor, cap: float) -> Tensor:
    """cap * tanh(x / cap), which leaves small values as they are (Gemma 2, Riviere et al. 2024, section 2); 0: x."""
    return (x / cap).tanh() * cap if cap else x


class Attend(nn.Module):
    """softmax(q k^T / sqrt(E)) v (Vaswani et al. 2017, equation 1): the one seam where queries meet keys."""

    def __init__(self, size: float = 0.0, cap: float = 0.0, dropout: float = 0.0) -> None:
        """size: what stands for E; 0 takes E itself. cap: of the scores, 0 for none. dropout: of the weights."""
        super().__init__()
        self.size, self.cap, self.dropout = size, cap, dropout

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        """q (B, H, T, E), k and v (B, K, S, E), mask (B or 1, 1 or H, T, S) added to the scores -> (B, H, T, E)."""
        scale = (self.size or q.shape[-1]) ** -0.5
        dropout = self.dropout if self.training else 0.0
        short = torch.is_grad_enabled() and q.is_cpu and q.dtype == torch.bfloat16 and k.shape[2] <= SHORT
        if short or self.cap:  # no fused kernel has a cap
            return _by_products(q, k, v, mask, causal, scale, self.cap, dropout)
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=causal, scale=scale, dropout_p=dropout,
            enable_gqa=q.shape[1] != k.shape[1],
        )  # fmt: skip


class Attention(nn.Module):
    """Multi-head attention of x to itself, or to the states of a source (Vaswani et al. 2017, section 3.2.2; shared
    keys: Ainslie et al. 2023)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.size = config.heads, config.kv_heads, config.head_size
        inner, outer = config.heads * config.head_size, config.kv_heads * config.head_size
        self.q = Linear(config.d_model, inner, bias=config.qkv_bias)
        self.k = Linear(config.d_model, outer, bias=config.qkv_bias)
        self.v = Linear(config.d_model, outer, bias=config.qkv_bias)
        self.out = Linear(inner, config.d_model, bias=config.bias)
        norm = entry(NORMS, "norm", config.norm if config.qk_norm or config.qk_norm_whole else "none")
        self.whole = config.qk_norm_whole
        widths = (inner, outer) if self.whole else (config.head_size, config.head_size)
        self.q_norm, self.k_norm = (norm(width, config.norm_eps) for width in widths)
        self.attend = Attend(config.score_size, config.score_cap, config.attention_dropout)

    def forward(self, x: Tensor, source: Tensor | None, seen: Seen, kept: Kept | None) -> Tensor:
        """x (B, T, D) -> (B, T, D), its keys made of source (B, S, D), or where that is None those that were kept."""
        q = self._normed(self.q(x), self.q_norm, self.heads).transpose(1, 2)
        if seen.rotation is not None:
            q = seen.rotation.turn(q)
        new = None if source is None else self.keys(source, seen.rotation if seen.keys is None else seen.keys)
        if kept is not None:
            y = kept.attend(self.attend, q, new, seen)
        else:
            assert new is not None
            y = self.attend(q, *new, seen.mask, seen.causal)
        return self.out(y.transpose(1, 2).flatten(2))

    def looks(self, x: Tensor, source: Tensor, seen: Seen, head: int) -> Tensor:
        """What one head takes of each token of source (B, S, D) for those of x (B, T, D): (B, T, S)."""
        q = self._normed(self.q(x), self.q_norm, self.heads).transpose(1, 2)[:, head : head + 1]
        q = q if seen.rotation is None else seen.rotation.turn(q)
        k, _ = self.keys(source, seen.rotation if seen.keys is None else seen.keys)
        shared = head // (self.heads // self.kv_heads)
        mask = seen.mask if seen.mask is None or seen.mask.shape[1] == 1 else seen.mask[:, head : head + 1]
        scale = (self.attend.size or self.size) ** -0.5
        return attention_weights(q, k[:, shared : shared + 1], mask, seen.causal, scale, self.attend.cap)[:, 0]

    def keys(self, source: Tensor, rotation: Rotation | None = None) -> tuple[Tensor, Tensor]:
        """source (B, S, D) -> k, v (B, K, S, E)."""
        k = self._normed(self.k(source), self.k_norm, self.kv_heads).transpose(1, 2)
        v = self._split(self.v(source), self.kv_heads).transpose(1, 2)
        return (k if rotation is None else rotation.turn(k)), v

    def _normed(self, x: Tensor, norm: nn.Module, heads: int) -> Tensor:
        return self._split(norm(x), heads) if self.whole else norm(self._split(x, heads))

    def _split(self, x: Tensor, heads: int) -> Tensor:
        return x.unflatten(-1, (heads, self.size))
