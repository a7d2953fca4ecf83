"""How the weights of a model lie in memory, and in what its products are computed, as is fastest on this machine.

A product with one row only reads the weights: whether a library reads rows or columns of them faster depends on the
CPU, and so does whether it has products in half precision at all. Both are measured, on each shape once, and nothing
changes but time: a weight that lies in columns is the same parameter with other strides.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model.layers import Linear
from ..model.transformer import Transformer

WORTH = 1 << 20  # weights of a matrix that does not stay in a cache
FRESH = 1 << 23  # weights that are read in one measurement, so that no cache holds them
SLICE = 4096  # rows of a matrix that are enough to measure with
PROMPT, FEW = 64, (2, 4, 8, 16)
GAIN = 0.9  # another way must take less than this share of the time
TRIES = 3
HALF = (torch.bfloat16, torch.float16)


class Way(NamedTuple):
    """columns: the weights lie in columns; widen: more rows than this are multiplied in fp32, 0 for none."""

    columns: bool = False
    widen: int = 0


@torch.no_grad()
def tune(model: Transformer) -> dict[str, Way]:
    """Let the large products of a model on a CPU be computed in the fastest way -> what was chosen, by shape."""
    chosen: dict[str, Way] = {}
    if model.device.type != "cpu":
        return chosen
    tied = model.embed.weight
    for linear in model.modules():
        if not isinstance(linear, Linear) or type(linear).product is not Linear.product:
            continue
        weight = linear.weight
        if weight.numel() < WORTH or (model.compute or weight.dtype) != weight.dtype:
            continue
        way = fastest(*weight.shape, weight.dtype, torch.get_num_threads())
        linear.widen = way.widen
        if way.columns and weight is not tied and weight.is_contiguous():  # a row of an embedding is read whole
            weight.data = weight.data.t().contiguous().t()
        chosen[f"{tuple(weight.shape)} {weight.dtype}".replace("torch.", "")] = way
    return chosen


@lru_cache(maxsize=256)
def fastest(rows: int, columns: int, dtype: torch.dtype, threads: int) -> Way:
    """The fastest way for weights (rows, columns)."""
    rows = min(rows, SLICE)
    count = max(2, FRESH // (rows * columns))
    straight = [torch.full((rows, columns), 0.01, dtype=dtype) for _ in range(count)]
    turned = [weight.t().contiguous().t() for weight in straight]

    def seconds(weights: list[Tensor], x: Tensor, product: Callable[[Tensor, Tensor], Tensor] = F.linear) -> float:
        best = float("inf")
        for _ in range(TRIES):
            started = time.perf_counter()
            for weight in weights:
                product(x, weight)
            best = min(best, (time.perf_counter() - started) / len(weights))
        return best

    one, many = (torch.full((size, columns), 0.01, dtype=dtype) for size in (1, PROMPT))
    in_columns = seconds(turned, one) < GAIN * seconds(straight, one)
    if in_columns and dtype not in HALF:
        in_columns = seconds(turned[:1], many) < seconds(straight[:1], many) / GAIN
    weights = (turned if in_columns else straight)[:1]
    for few in FEW if dtype in HALF else ():
        x = torch.full((few, columns), 0.01, dtype=dtype)
        if seconds(weights, x, _wide) < GAIN * seconds(weights, x):
            return Way(in_columns, few - 1)
    return Way(in_columns)


def _wide(x: Tensor, weight: Tensor) -> Tensor:
    return F.linear(x.float(), weight.float()).to(x.dtype)
