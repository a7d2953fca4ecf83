"""Linear layers whose weights are kept in 4 bits of NF4, as QLoRA has them (Dettmers et al. 2023), under an adapter
that learns.

64 weights in a row share a scale, their largest magnitude; each is kept as the nearest of 16 quantiles of a normal
distribution. The scales, less their mean, are kept in 8 bits, 256 of them under one scale of their own: 4.127 bits a
weight in all. Codes and values are those of bitsandbytes' Linear4bit with compress_statistics.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .layers import Linear

BLOCK, SCALES = 64, 256  # weights under one scale, and scales under one of theirs
# Quantiles of the normal distribution, moved so that 0 is one of them (their appendix E).
LEVELS = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
LEAST = 1e-38  # of a divisor: a block may be all zeros


def dynamic() -> tuple[float, ...]:
    """The 256 values of a scale's code, in order: seven decades, of which each has twice the steps of the one below it
    (Dettmers 2016, section 3)."""
    found = [0.0, 1.0]
    for decade in range(7):
        edges = torch.linspace(0.1, 1, 2**decade + 1, dtype=torch.float32)
        middles = 10 ** (decade - 6) * ((edges[:-1] + edges[1:]) / 2)
        found += middles.tolist() + (-middles).tolist()
    return tuple(sorted(found))


STEPS = dynamic()


def nearest(values: Tensor, known: Tensor) -> Tensor:
    """Which of the known values, in order, each of some values is nearest to; from a middle, the lower."""
    return torch.bucketize(values, (known[:-1] + known[1:]) / 2)


def blocks(flat: Tensor, size: int) -> Tensor:
    """(N,) -> (blocks, size), filled up with zeros."""
    return nn.functional.pad(flat, (0, -len(flat) % size)).view(-1, size)


def largest(parts: Tensor) -> tuple[Tensor, Tensor]:
    """parts (blocks, size) -> the largest magnitude of each block (blocks,), and all over it, from -1 to 1."""
    top = parts.abs().amax(1)
    return top, (parts * (1.0 / top.clamp(min=LEAST))[:, None]).clamp(-1, 1)


class NF4Linear(Linear):
    """x (..., K) -> (..., N), as Linear, of a weight in NF4; what is trained lies beside it.

    packed: uint8 (N K / 2,), the first of two codes in the upper bits; scales: uint8, one for each block of the weight
    as it lies, row after row; tops: fp32, one for 256 scales; mean (): of the scales; levels (16,) and steps (256,):
    what codes and scales stand for. None of them is a parameter.
    """

    packed: Tensor
    scales: Tensor
    tops: Tensor
    mean: Tensor
    levels: Tensor
    steps: Tensor

    def __init__(self, rows: int, columns: int, bias: nn.Parameter | None = None) -> None:
        """Without weights, which `fill` brings."""
        nn.Module.__init__(self)
        self.in_features, self.out_features = columns, rows
        self.register_parameter("bias", bias)
        for name in ("packed", "scales", "tops", "mean"):
            self.register_buffer(name, None, persistent=False)
        self.register_buffer("levels", torch.tensor(LEVELS), persistent=False)
        self.register_buffer("steps", torch.tensor(STEPS), persistent=False)

    @classmethod
    def of(cls, layer: Linear) -> NF4Linear:
        """A linear layer in 4 bits; its bias stays what it is."""
        new = cls(layer.out_features, layer.in_features, layer.bias)
        new.fill(layer.weight.detach())
        return new.train(layer.training)

    @torch.no_grad()
    def fill(self, weight: Tensor) -> None:
        """Take over a weight (N, K)."""
        self.levels, self.steps = self.levels.to(weight.device), self.steps.to(weight.device)
        top, shares = largest(blocks(weight.flatten().float(), BLOCK))
        codes = nearest(shares.flatten()[: weight.numel()], self.levels).to(torch.uint8)
        codes = nn.functional.pad(codes, (0, len(codes) % 2), value=LEVELS.index(0.0))
        self.packed = codes[::2] << 4 | codes[1::2]
        self.mean = top.mean()
        self.tops, shares = largest(blocks(top - self.mean, SCALES))
        self.scales = nearest(shares.flatten()[: len(top)], self.steps).to(torch.uint8)

    @torch.no_grad()
    def dense(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The weight (N, K) that is computed with."""
        size = self.out_features * self.in_features
        known = blocks(self.steps[self.scales.int()], SCALES) * self.tops[:, None]
        top = known.flatten()[: len(self.scales)] + self.mean
        codes = torch.stack((self.packed >> 4, self.packed & 15), dim=1).flatten()[:size]
        values = blocks(self.levels[codes.int()], BLOCK) * top[:, None]
        return values.flatten()[:size].view(self.out_features, self.in_features).to(dtype)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """As Linear's, made anew each time; of a layer without weights, a tensor without values."""
        return torch.empty(self.out_features, self.in_features, device="meta") if self.packed is None else self.dense()

    def product(self, x: Tensor) -> Tensor:
        y = Multiply.apply(x, self)
        return y if self.bias is None else y + self.bias.to(y.dtype)


class Multiply(torch.autograd.Function):
    """x (..., K) -> x W^T (..., N), with a gradient for x alone: the spread weight is made once more for it and never
    kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, held: NF4Linear) -> Tensor:
        ctx.held = held
        return x @ held.dense(x.dtype).t()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient @ ctx.held.dense(gradient.dtype), None
