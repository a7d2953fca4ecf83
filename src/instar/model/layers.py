"""The parts of a Transformer that look at one token at a time, in tables that the strings of a ModelConfig name.

Letters: B batch, T queries, S keys, D model, H heads, K key-value heads, E head size.
A part takes its weights in whatever dtype they are kept and computes in the dtype of what flows through it, so weights
being trained stay in fp32 while products run in bf16, and gradients arrive in fp32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import ModelConfig, unknown

VECTOR = 64  # elements that a loop takes at a time on any CPU: two of the longest vectors, of bf16
MANY = 16  # rows that a compiled step is planned for, unless it has one
ALONE = 16384  # elements that are not spread over threads


def entry(table: dict[str, Any], kind: str, name: str) -> Any:
    """The part that a config names. Raises InputError with the nearest name."""
    if name not in table:
        raise unknown(f"{kind}:", name, table)
    return table[name]


class Linear(nn.Linear):
    """x (..., in) -> (..., out): the one seam of products with weights. The weight is cast to the dtype of x when it is
    used."""

    # rows of every product, so that its bits do not depend on what else is computed; 0: as many as there are
    tile = 0
    # how products with 1, 2, 4, 8 ... rows are computed, and the last for all with more: in fp32, where a CPU has no
    # products in half precision; turned, as (W x^T)^T, where its library is better at few columns than at few rows
    plan: tuple[Plan, ...] = ()
    # one row is multiplied by a loop that torch compiles, in a step that it compiles
    summed = False
    # what active adapters add to the product, each a function of x
    deltas: tuple[Callable[[Tensor], Tensor], ...] = ()
    # what is added instead, where rows differ in the adapters that they heed: (x, product, tile) -> sum
    route: Callable[[Tensor, Tensor, int], Tensor] | None = None

    def reset_parameters(self) -> None:
        """Weights come from Transformer.initialise or from a file; nothing is drawn twice."""

    def forward(self, x: Tensor) -> Tensor:
        f = self.adapted if self.deltas and self.route is None else self.product
        y = in_tiles(f, x, self.tile) if self.tile else f(x)
        if self.route is None:
            return y
        return self.route(x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1]), self.tile).view(y.shape)

    def adapted(self, x: Tensor) -> Tensor:
        """The product and what adapters add to it."""
        return sum((delta(x) for delta in self.deltas), self.product(x))

    def product(self, x: Tensor) -> Tensor:
        """All rows at once."""
        if self.summed and torch.compiler.is_compiling() and x.numel() == x.shape[-1]:
            y = row_product(x.flatten(), self.weight)
            return (y if self.bias is None else y + self.bias.to(x.dtype)).view(*x.shape[:-1], -1)
        if self.plan:
            rows = x.numel() // x.shape[-1]
            if torch.compiler.is_compiling() and rows != 1:
                rows = MANY  # one program for all numbers of rows
            return self.plan[min((rows - 1).bit_length(), len(self.plan) - 1)](x, self.weight, self.bias)
        return AS_IT_IS(x, self.weight, self.bias)


class Plan(NamedTuple):
    """One way to compute a product x W^T + bias: x (..., in), weight (out, in) -> (..., out)."""

    widened: bool = False
    turned: bool = False

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        dtype = torch.float32 if self.widened else x.dtype
        flat, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
        if not self.turned:
            return F.linear(flat, weight, bias).to(x.dtype)
        rows = flat.reshape(-1, x.shape[-1])
        if len(rows) == 1:  # a product with one column would be one of a matrix and a vector again
            y = (weight @ rows.repeat(2, 1).t())[:, :1].t()
        else:
            y = (weight @ rows.t()).t()
        return (y if bias is None else y + bias).reshape(*x.shape[:-1], -1).to(x.dtype)


AS_IT_IS = Plan()


def row_product(x: Tensor, weight: Tensor) -> Tensor:
    """x (K,), weight (N, K) -> (N,): written as what it is, a sum for each row of the weights. Compiled it reads them
    twice as fast as libraries' products with one row do on some CPUs."""
    wide = torch.promote_types(x.dtype, torch.float32)
    return (weight.to(wide) * x.to(wide)).sum(-1).to(x.dtype)


def in_tiles(f: Callable[[Tensor], Tensor], x: Tensor, rows: int) -> Tensor:
    """f of x (..., in), which looks at one row at a time, for exactly so many rows in each call: libraries split a
    product by its shape, and with another split the last bits of a row are others."""
    flat = x.reshape(-1, x.shape[-1])
    full = F.pad(flat, (0, 0, 0, -len(flat) % rows))
    out = torch.cat([f(part) for part in full.split(rows)])[: len(flat)]
    return out.view(*x.shape[:-1], out.shape[-1])


def in_whole_vectors(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """f of x (..., E), element by element, with the same bits wherever one stands: loops over vectors take what is left
    behind the last whole one by another function, on each thread."""
    flat = F.pad(x.reshape(-1, x.shape[-1]), (0, -x.shape[-1] % VECTOR))
    rows = max(1, ALONE // flat.shape[1])
    return torch.cat([f(part) for part in flat.split(rows)])[:, : x.shape[-1]].reshape(x.shape)


class Embedding(nn.Embedding):
    """tokens (...) -> their rows (..., D)."""

    # what active adapters add to the rows, each a function of the tokens
    deltas: tuple[Callable[[Tensor], Tensor], ...] = ()
    # as Linear's
    route: Callable[[Tensor, Tensor, int], Tensor] | None = None

    def reset_parameters(self) -> None:
        """As Linear's."""

    def forward(self, tokens: Tensor) -> Tensor:
        rows = super().forward(tokens)
        if self.route is not None:
            return self.route(tokens.flatten(), rows.flatten(0, -2), 0).view(rows.shape)
        return sum((delta(tokens) for delta in self.deltas), rows) if self.deltas else rows


class Dropout(nn.Module):
    """In training each channel of x is 0 with probability p, in 256ths, and the others are larger by as much
    (Srivastava et al. 2014).

    On a CPU torch draws one number for each channel, 30 times as slowly as eight of them are cut out of one.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.p:
            return x
        if not x.is_cpu:
            return F.dropout(x, self.p)
        drawn = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        dropped = min(max(1, round(self.p * 256)), 255)
        kept = (drawn.view(torch.uint8)[: x.numel()] >= dropped).view(x.shape)
        return x * kept.to(x.dtype).mul_(256 / (256 - dropped))


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

    def __init__(self, size: int, eps: float, *, bias: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        bias = None if self.bias is None else self.bias.to(wide)
        return F.layer_norm(x.to(wide), self.weight.shape, self.weight.to(wide), bias, self.eps).to(x.dtype)


NORMS: dict[str, Callable[[int, float], nn.Module]] = {
    "rms": RMSNorm,
    "rms_one": RMSNormOne,
    "layer": LayerNorm,
    "layer_plain": lambda size, eps: LayerNorm(size, eps, bias=False),
    "none": lambda size, eps: nn.Identity(),
}

# How a sublayer f joins the stream x: its norm before it, after the sum (the original of 2017), on its output before
# the sum (OLMo 2), one before and one `after` it (Gemma 2), or no stream at all. What `parallel` does besides is in
# `stack.ORDERS`.
RESIDUALS: dict[str, Callable[[Tensor, nn.Module, nn.Module, Callable[[Tensor], Tensor]], Tensor]] = {
    "pre": lambda x, norm, after, f: x + f(norm(x)),
    "post": lambda x, norm, after, f: norm(x + f(x)),
    "inside": lambda x, norm, after, f: x + norm(f(x)),
    "both": lambda x, norm, after, f: x + after(f(norm(x))),
    "parallel": lambda x, norm, after, f: x + f(norm(x)),
    "none": lambda x, norm, after, f: f(norm(x)),
}

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
}


def acted(act: Callable[[Tensor], Tensor], x: Tensor, *, steady: bool) -> Tensor:
    """act of x, where it is steady with bits that do not depend on what else is in x."""
    return in_whole_vectors(act, x) if steady else act(x)


class Plain(nn.Module):
    """act(x W1) W2 (Vaswani et al. 2017, equation 2)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = Linear(config.d_model, config.d_ff, bias=config.bias)
        self.down = Linear(config.d_ff, config.d_model, bias=config.bias)
        self.act = entry(ACTIVATIONS, "act", config.act)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(acted(self.act, self.up(x), steady=self.up.tile > 0))


class Gated(nn.Module):
    """(act(x Wg) * x W1) W2 (Shazeer 2020, equation 6)."""

    def __init__(self, config: ModelConfig, width: int = 0) -> None:
        """width: the inner one, 0 for d_ff."""
        super().__init__()
        width = width or config.d_ff
        self.gate = Linear(config.d_model, width, bias=config.bias)
        self.up = Linear(config.d_model, width, bias=config.bias)
        self.down = Linear(width, config.d_model, bias=config.bias)
        self.act = entry(ACTIVATIONS, "act", config.act)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(acted(self.act, self.gate(x), steady=self.gate.tile > 0) * self.up(x))


MLPS: dict[str, Callable[[ModelConfig], nn.Module]] = {"plain": Plain, "gated": Gated}
