"""The parts of a Transformer, in tables that the strings of a ModelConfig name.

Letters: B batch, T queries, S keys, D model, H heads, K key-value heads, E head size.
A part takes its weights in whatever dtype they are kept and computes in the dtype of what flows through it, so weights
being trained stay in fp32 while products run in bf16, and gradients arrive in fp32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import ModelConfig, RopeScaling, unknown
from .cache import LayerCache


def entry(table: dict[str, Any], kind: str, name: str) -> Any:
    """The part that a config names. Raises InputError with the nearest name."""
    if name not in table:
        raise unknown(f"{kind}:", name, table)
    return table[name]


class Linear(nn.Linear):
    """x (..., in) -> (..., out). The weight is cast to the dtype of x when it is used."""

    def reset_parameters(self) -> None:
        """Weights come from Transformer.initialise or from a file; nothing is drawn twice."""

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.weight.to(x.dtype), bias)


class Embedding(nn.Embedding):
    """tokens (...) -> their rows (..., D)."""

    def reset_parameters(self) -> None:
        """As Linear's."""


class RootMeanSquare(torch.autograd.Function):
    """x (..., E), weight (E,) -> x / sqrt(mean(x^2) + eps) * weight, with its gradient in one go.

    On a CPU this is 1.5 times as fast as what autograd makes of F.rms_norm between two casts, and it keeps x in its own
    dtype and not in fp32.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        root = wide.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, root)
        return (wide * root).mul_(weight).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        """With u = x / root mean square and g the gradient times the weight: (g - u mean(g u)) / root mean square."""
        x, weight, root = ctx.saved_tensors
        unit, wide = x * root, gradient.to(root.dtype)
        along = wide * unit
        for_weight = along.flatten(0, -2).sum(0).to(weight.dtype)
        share = (along @ weight.to(root.dtype)).unsqueeze(-1).div_(-x.shape[-1])
        for_x = (wide * weight).addcmul_(unit, share).mul_(root)
        return for_x.to(x.dtype), for_weight, None


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight, in fp32 at least (Zhang and Sennrich 2019, equation 4)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.gain()
        if x.is_cpu and torch.is_grad_enabled():
            return RootMeanSquare.apply(x, weight, self.eps)
        wide = torch.promote_types(x.dtype, torch.float32)
        return F.rms_norm(x.to(wide), weight.shape, weight.to(wide), self.eps).to(x.dtype)

    def gain(self) -> Tensor:
        """What the normalised x is multiplied by."""
        return self.weight


class RMSNormOne(RMSNorm):
    """RMSNorm whose weights are stored as what they are more than one (Gemma, Mesnard et al. 2024)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__(size, eps)
        nn.init.zeros_(self.weight)

    def gain(self) -> Tensor:
        return self.weight.to(torch.promote_types(self.weight.dtype, torch.float32)) + 1


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps) * weight + bias, in fp32 at least (Ba et al. 2016)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        weight, bias = self.weight.to(wide), self.bias.to(wide)
        return F.layer_norm(x.to(wide), weight.shape, weight, bias, self.eps).to(x.dtype)


NORMS: dict[str, Callable[[int, float], nn.Module]] = {
    "rms": RMSNorm,
    "rms_one": RMSNormOne,
    "layer": LayerNorm,
    "none": lambda size, eps: nn.Identity(),
}

# How a sublayer f joins the stream x: its norm before it, after the sum (the original of 2017), on its output before
# the sum (OLMo 2), one before and one `after` it (Gemma 2), or no stream at all.
RESIDUALS: dict[str, Callable[[Tensor, nn.Module, nn.Module, Callable[[Tensor], Tensor]], Tensor]] = {
    "pre": lambda x, norm, after, f: x + f(norm(x)),
    "post": lambda x, norm, after, f: norm(x + f(x)),
    "inside": lambda x, norm, after, f: x + norm(f(x)),
    "both": lambda x, norm, after, f: x + after(f(norm(x))),
    "none": lambda x, norm, after, f: f(norm(x)),
}

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
}


class Plain(nn.Module):
    """act(x W1) W2 (Vaswani et al. 2017, equation 2)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = Linear(config.d_model, config.d_ff, bias=config.bias)
        self.down = Linear(config.d_ff, config.d_model, bias=config.bias)
        self.act = entry(ACTIVATIONS, "act", config.act)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.act(self.up(x)))


class Gated(nn.Module):
    """(act(x Wg) * x W1) W2 (Shazeer 2020, equation 6)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = Linear(config.d_model, config.d_ff, bias=config.bias)
        self.up = Linear(config.d_model, config.d_ff, bias=config.bias)
        self.down = Linear(config.d_ff, config.d_model, bias=config.bias)
        self.act = entry(ACTIVATIONS, "act", config.act)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.act(self.gate(x)) * self.up(x))


MLPS: dict[str, Callable[[ModelConfig], nn.Module]] = {"plain": Plain, "gated": Gated}


class Rotation(NamedTuple):
    """The angles of one forward pass: cos, sin (B or 1, 1, T, E/2)."""

    cos: Tensor
    sin: Tensor

    def turn(self, x: Tensor) -> Tensor:
        """Turn channel pairs (i, i + E/2) of x (B, H, T, E) by their angle (Su et al. 2021, equation 34)."""
        left, right = x.chunk(2, dim=-1)
        return torch.cat((left * self.cos - right * self.sin, right * self.cos + left * self.sin), dim=-1)


class NoPositions(nn.Module):
    """Order is not told. Also what the other schemes share: nothing added, nothing turned, no end."""

    limit: float = math.inf

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()

    def add(self, x: Tensor, positions: Tensor) -> Tensor:
        """Embeddings x (B, T, D) with what this scheme adds for positions (B or 1, T)."""
        return x

    def rotation(self, positions: Tensor, dtype: torch.dtype, *, window: bool = False) -> Rotation | None:
        """How queries and keys are turned at positions (B or 1, T), in layers with a window or in the others."""
        return None


class Learned(NoPositions):
    """A trained vector for each position (Radford et al. 2018)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.limit = config.max_positions
        self.weight = nn.Parameter(torch.zeros(config.max_positions, config.d_model))

    def add(self, x: Tensor, positions: Tensor) -> Tensor:
        return x + F.embedding(positions, self.weight).to(x.dtype)


class Sinusoidal(NoPositions):
    """sin and cos of positions at wavelengths from 2 pi to 10000 * 2 pi (Vaswani et al. 2017, section 3.5)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.size = config.d_model

    def add(self, x: Tensor, positions: Tensor) -> Tensor:
        angles = positions[..., None].float() * frequencies_of(self.size, 10000.0).to(x.device)
        waves = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)
        return x + waves[..., : self.size].to(x.dtype)


class Rotary(NoPositions):
    """Queries and keys are turned by angles that grow with the position (Su et al. 2021)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.size, self.theta, self.scaling = config.head_size, config.rope_theta, config.rope_scaling
        self.scale = entry(ROPE_SCALINGS, "rope_scaling.kind", self.scaling.kind)
        self.window_theta = config.window_theta

    def rotation(self, positions: Tensor, dtype: torch.dtype, *, window: bool = False) -> Rotation:
        wide = torch.promote_types(dtype, torch.float32)
        if window and self.window_theta:
            frequencies = frequencies_of(self.size, self.window_theta)
        else:
            frequencies = self.scale(frequencies_of(self.size, self.theta), self.scaling)
        frequencies = frequencies.to(positions.device, wide)
        angles = (positions[..., None].to(wide) * frequencies)[:, None]
        return Rotation(angles.cos().to(dtype), angles.sin().to(dtype))


POSITIONS: dict[str, Callable[[ModelConfig], NoPositions]] = {
    "none": NoPositions,
    "learned": Learned,
    "sinusoidal": Sinusoidal,
    "rotary": Rotary,
}


def frequencies_of(size: int, theta: float) -> Tensor:
    """theta^(-2i/size) for i = 0 .. size/2 - 1, in radians a position."""
    return theta ** (-torch.arange(0, size, 2, dtype=torch.float32) / size)


def _llama3(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Long waves are stretched in full, short ones not, those between in part (Llama 3, Grattafiori et al. 2024)."""
    turns = scaling.original_positions * frequencies / (2 * torch.pi)
    share = (turns - scaling.low_factor) / (scaling.high_factor - scaling.low_factor)
    share = share.clamp(0, 1)
    return (1 - share) * frequencies / scaling.factor + share * frequencies


ROPE_SCALINGS: dict[str, Callable[[Tensor, RopeScaling], Tensor]] = {
    "none": lambda frequencies, scaling: frequencies,
    "linear": lambda frequencies, scaling: frequencies / scaling.factor,
    "llama3": _llama3,
}


# Up to so many keys, plain products are faster in training on a CPU in bf16 than the fused kernel, whose backward pass
# is slow there: 1.4 times at 256 keys, not at 512.
SHORT = 384


def _by_products(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float = 0.0, cap: float = 0.0
) -> Tensor:
    """As Attend, with all scores in memory; scale 0 is 1/sqrt(E)."""
    scale = scale or q.shape[-1] ** -0.5
    groups = q.shape[1] // k.shape[1]
    # the queries that share a key-value head stand one after the other
    scores = (q * scale).unflatten(1, (-1, groups)).flatten(2, 3) @ k.mT
    scores = capped(scores, cap)
    if causal:
        mask = torch.full((1, 1, q.shape[2], k.shape[2]), -torch.inf, dtype=q.dtype, device=q.device).triu_(1)
    if mask is not None:
        scores = scores + mask.repeat(1, 1, groups, 1) if cap else scores.add_(mask.repeat(1, 1, groups, 1))
    return (scores.softmax(-1) @ v).unflatten(2, (groups, -1)).flatten(1, 2)


def capped(x: Tensor, cap: float) -> Tensor:
    """cap * tanh(x / cap), which leaves small values as they are (Gemma 2, Riviere et al. 2024, section 2); 0: x."""
    return (x / cap).tanh() * cap if cap else x


class Attend(nn.Module):
    """softmax(q k^T / sqrt(E)) v (Vaswani et al. 2017, equation 1): the one seam where queries meet keys."""

    def __init__(self, size: float = 0.0, cap: float = 0.0) -> None:
        """size: what stands for E; 0 takes E itself. cap: of the scores, 0 for none."""
        super().__init__()
        self.size, self.cap = size, cap

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        """q (B, H, T, E), k and v (B, K, S, E), mask (B or 1, 1, T, S) added to the scores -> (B, H, T, E)."""
        scale = (self.size or q.shape[-1]) ** -0.5
        short = q.requires_grad and q.is_cpu and q.dtype == torch.bfloat16 and k.shape[2] <= SHORT
        if short or self.cap:  # no fused kernel has a cap
            return _by_products(q, k, v, mask, causal, scale, self.cap)
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
        )


class Attention(nn.Module):
    """Multi-head attention of x to itself (Vaswani et al. 2017, section 3.2.2; shared keys: Ainslie et al. 2023)."""

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
        self.attend = Attend(config.score_size, config.score_cap)

    def forward(
        self, x: Tensor, mask: Tensor | None, causal: bool, rotation: Rotation | None, cache: LayerCache | None
    ) -> Tensor:
        """x (B, T, D) -> (B, T, D)."""
        q = self._normed(self.q(x), self.q_norm, self.heads).transpose(1, 2)
        k = self._normed(self.k(x), self.k_norm, self.kv_heads).transpose(1, 2)
        v = self._split(self.v(x), self.kv_heads).transpose(1, 2)
        if rotation is not None:
            q, k = rotation.turn(q), rotation.turn(k)
        if cache is not None:
            k, v, _ = cache.update(k, v)
        y = self.attend(q, k, v, mask, causal)
        return self.out(y.transpose(1, 2).flatten(2))

    def _normed(self, x: Tensor, norm: nn.Module, heads: int) -> Tensor:
        return self._split(norm(x), heads) if self.whole else norm(self._split(x, heads))

    def _split(self, x: Tensor, heads: int) -> Tensor:
        return x.unflatten(-1, (heads, self.size))
