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

from ..model.layers import AS_IT_IS, Linear, Plan, row_product
from ..model.transformer import Transformer

WORTH = 1 << 18  # weights of a matrix that does not stay in a cache
FRESH = 1 << 23  # weights that are read in one measurement, so that no cache holds them
SLICE = 4096  # rows of a matrix that are enough to measure with
ROWS = (1, 2, 4, 8, 16, 32, 64)  # of a product; what is best for the last is taken for all longer ones
GAIN = 0.9  # another way must take less than this share of the time
TRIES = 3
HALF = (torch.bfloat16, torch.float16)


class Way(NamedTuple):
    """columns: the weights lie in columns; plan: how products with so many rows are computed; summed: one row by a loop
    that torch compiles."""

    columns: bool = False
    plan: tuple[Plan, ...] = ()
    summed: bool = False


@torch.no_grad()
def tune(model: Transformer, *, compiles: bool = False) -> dict[str, Way]:
    """Let the large products of a model on a CPU be computed in the fastest way -> what was chosen, by shape. compiles:
    the decoding step will be compiled, and with it what it multiplies."""
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
        way = fastest(*weight.shape, weight.dtype, torch.get_num_threads(), compiles)
        linear.plan, linear.summed = way.plan, way.summed
        if not way.columns:
            weight.data = weight.data.contiguous()
        elif weight is not tied and weight.is_contiguous():  # a row of an embedding is read whole
            weight.data = weight.data.t().contiguous().t()
        chosen[f"{tuple(weight.shape)} {weight.dtype}".replace("torch.", "")] = way
    return chosen


@lru_cache(maxsize=256)
def fastest(rows: int, columns: int, dtype: torch.dtype, threads: int, compiles: bool = False) -> Way:
    """The fastest way for weights (rows, columns)."""
    rows = min(rows, SLICE)
    count = max(2, FRESH // (rows * columns))
    straight = [torch.full((rows, columns), 0.01, dtype=dtype) for _ in range(count)]
    turned = [weight.t().contiguous().t() for weight in straight]

    sizes = [torch.full((size, columns), 0.01, dtype=dtype) for size in ROWS]
    one, many = sizes[0], sizes[-1]
    best, in_columns = _seconds(straight, one, _quickest(straight, one)), False
    summed = compiles and _summed_seconds(straight, one) < GAIN * best
    if not summed and _seconds(turned, one) < GAIN * best:
        in_columns = dtype in HALF or _seconds(turned[:1], many) < _seconds(straight[:1], many) / GAIN
    weights = turned if in_columns else straight
    plans = tuple(_quickest(weights, x) for x in sizes)
    return Way(in_columns, () if set(plans) == {AS_IT_IS} else plans, summed)


def _quickest(weights: list[Tensor], x: Tensor) -> Plan:
    """The plan of these rows: as it is, unless another gains."""
    best, least = AS_IT_IS, GAIN * _seconds(weights, x)
    for widened in {False, x.dtype in HALF}:
        for turned in (False, True):
            plan = Plan(widened, turned)
            if plan != AS_IT_IS and (took := _seconds(weights, x, plan)) < least:
                best, least = plan, took
    return best


def _seconds(weights: list[Tensor], x: Tensor, product: Callable[[Tensor, Tensor], Tensor] | Plan = AS_IT_IS) -> float:
    """How long a product takes, the best of some tries."""
    best = float("inf")
    for _ in range(TRIES):
        started = time.perf_counter()
        for weight in weights:
            product(x, weight)
        best = min(best, (time.perf_counter() - started) / len(weights))
    return best


def _summed_seconds(weights: list[Tensor], x: Tensor) -> float:
    """The same of the compiled loop, infinite where it cannot be compiled."""
    product = _row_product()
    try:
        product(x[0], weights[0])
    except Exception:  # whatever compilers of other machines may say: there are other ways
        return float("inf")
    return _seconds(weights, x[0], product)


@lru_cache(maxsize=1)
def _row_product() -> Callable[[Tensor, Tensor], Tensor]:
    return torch.compile(row_product, dynamic=True)


def kept_in(model: Transformer) -> torch.dtype:
    """In what keys and values of a model are kept, and rows attend."""
    on_cpu = model.device.type == "cpu"
    return attention_dtype(model.dtype, torch.get_num_threads()) if on_cpu else model.dtype


@lru_cache(maxsize=8)
def attention_dtype(dtype: torch.dtype, threads: int) -> torch.dtype:
    """In what rows attend on this CPU: in half precision where that is not slower, else in fp32, in which keys and
    values are then kept."""
    if dtype not in HALF:
        return dtype
    shape = (2, 8, 256, 64)

    def took(kind: torch.dtype) -> float:
        q, k = torch.full((2, 8, 1, 64), 0.1, dtype=kind), torch.full(shape, 0.1, dtype=kind)
        return _seconds([k] * 4, q, lambda q, k: F.scaled_dot_product_attention(q, k, k))

    return torch.float32 if took(torch.float32) < GAIN * took(dtype) else dtype
