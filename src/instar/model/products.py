"""Products with quantised weights: the kernels that torch has for them, and which is the fastest where.

Letters: R rows of activations, N output channels, K input channels, G groups of a row.
A kernel is never assumed to be fast, nor to be right: for each shape both are measured on this machine, once, when a
model is loaded. There are two general ways, which spread the weights out piece by piece, in the dtype of the
activations (`narrow`) or in fp32 (`wide`), and torch's kernels for 8 bits with one scale a row (`int8pack`) and for 4
bits in groups (`int4pack`), which wants the weights in an order of its own.
Dynamic int8 products (fbgemm) are no candidate: they round the activations of all rows together, so that what stands
beside a row in its batch would change its answer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .grid import Grid, halved, whole

ROWS = (1, 16, 64)  # what is measured for one row, for few and for many
LIMITS = (4, 48)  # most rows that are one, and few
# Largest error, as a share of the product, that a kernel may make: in bf16 that of rounding x, scales and the product.
TOLERANCES = {torch.float64: 1e-5, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 8e-3}
PIECE = 1 << 20  # weights that are spread out at once: what stays in a cache
SLICE = 256  # rows of weights that are enough to measure with
BLOCK = 64  # rows of weights within which int4pack mixes them
TRIES, ENOUGH = 5, 1e-3  # of a product that is timed, and seconds after which no more are made
GAIN = 0.9  # a kernel is preferred to one before it in the table where it takes less than this share of the time
HOPELESS = 4.0  # a kernel so many times as slow with one row is not tried with more


class Held(Protocol):
    """What a kernel reads: a QuantLinear, or a trial of one."""

    packed: Tensor
    scale: Tensor
    zero: Tensor | None
    grid: Grid
    laid: bool


class Kernel(NamedTuple):
    """product (held, x (R, K)) -> (R, N); fits: whether it computes so many rows of so many weights on this grid; laid:
    the order that it reads, None for either."""

    product: Callable[[Any, Tensor], Tensor]
    fits: Callable[[int, int, Grid], bool] = lambda rows, columns, grid: True
    laid: bool | None = None


def narrow(held: Held, x: Tensor) -> Tensor:
    """In the dtype of x."""
    scale, zero = scales(held)
    rows, columns = scale.shape[0], x.shape[1]
    if held.grid.bits == 4:  # the low halves of all bytes, then the high ones: nothing is interleaved
        x = torch.cat((x[:, ::2], x[:, 1::2]), dim=1)
    step = max(BLOCK, PIECE // columns // BLOCK * BLOCK)
    parts = []
    for start in range(0, rows, step):
        part = slice(start, start + step)
        packed = unlaid(held.packed[part]) if held.laid else held.packed[part]
        shift = None if zero is None else zero[part]
        parts.append(F.linear(x, _spread(packed, scale[part], shift, held.grid, x.dtype)))
    y = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
    return y * scale[:, 0].to(y.dtype) if _scaled_after(held.grid) else y


def _scaled_after(grid: Grid) -> bool:
    """Whether a scale belongs to a whole output channel, which can be multiplied by it instead."""
    return grid.bits == 8 and not grid.group and grid.symmetric


def _spread(packed: Tensor, scale: Tensor, zero: Tensor | None, grid: Grid, dtype: torch.dtype) -> Tensor:
    """Rows of weights (N, K) in this dtype; of 4 bits all even channels stand before all odd ones."""
    if _scaled_after(grid):
        return packed.to(dtype)
    groups = scale.shape[1]
    if grid.bits == 8:
        q = packed.to(dtype).unflatten(1, (groups, -1))
        q = q if zero is None else q.sub_(zero[..., None])
    else:  # in whole numbers as long as there are fewer bytes of them, each step over all rows at once
        halves = torch.cat((packed & 15, packed >> 4), dim=1).sub_(8).view(torch.int8)
        q = halves.view(len(packed), 2, groups, -1)
        q = (q if zero is None else q.sub_(zero[:, None, :, None])).to(dtype)
        scale = scale[:, None]
    return q.mul_(scale.to(dtype)[..., None]).flatten(1)


def wide(held: Held, x: Tensor) -> Tensor:
    """In fp32: on a CPU without bf16 products faster than those."""
    return narrow(held, x.to(torch.float32)).to(x.dtype)


def int8pack(held: Held, x: Tensor) -> Tensor:
    return torch.ops.aten._weight_int8pack_mm(x, held.packed, held.scale[:, 0].to(x.dtype))


def int4pack(held: Held, x: Tensor) -> Tensor:
    group = 2 * held.packed.shape[1] // held.scale.shape[0]
    return torch.ops.aten._weight_int4pack_mm_for_cpu(x, held.packed, group, held.scale)


def _fits_int4pack(rows: int, columns: int, grid: Grid) -> bool:
    return grid.bits == 4 and grid.group >= 32 and rows % BLOCK == 0


# In the order of preference.
KERNELS: dict[str, Kernel] = {
    "narrow": Kernel(narrow),
    "wide": Kernel(wide),
    "int8pack": Kernel(int8pack, lambda rows, columns, grid: _scaled_after(grid), laid=False),
    "int4pack": Kernel(int4pack, _fits_int4pack, laid=True),
}


# --- the order of int4pack ------------------------------------------------------------------------------------------


def lay(packed: Tensor, scale: Tensor, zero: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Weights of 4 bits as int4pack wants them: uint8 (N, K/2) in its order, and (G, N, 2) of scales and what is added
    in this dtype, from which `scales` finds both again."""
    laid = torch.empty_like(packed)
    step = max(BLOCK, PIECE // (2 * packed.shape[1]) // BLOCK * BLOCK)
    for part in (slice(start, start + step) for start in range(0, len(packed), step)):
        unsigned = (whole(packed[part]) + 8).to(torch.int32)
        laid[part] = torch.ops.aten._convert_weight_to_int4pack_for_cpu(unsigned, 1)
    shift = torch.zeros_like(scale) if zero is None else -zero * scale
    return laid, torch.stack((scale, shift), dim=2).transpose(0, 1).to(dtype).contiguous()


def unlaid(laid: Tensor) -> Tensor:
    """uint8 (N, K/2) in the order of int4pack -> as `halved` gives them."""
    places = _order(2 * laid.shape[1])
    mixed = torch.stack((laid & 15, laid >> 4), dim=2).view(-1, BLOCK * 2 * laid.shape[1])
    return halved(mixed[:, places].view(len(laid), -1).to(torch.int8) - 8)


@lru_cache(maxsize=16)
def _order(columns: int) -> Tensor:
    """Where each weight of a block of BLOCK rows stands in the order of int4pack, which differs between machines: found
    by packing the digits of each weight's own place."""
    count = BLOCK * columns
    place = torch.arange(count)
    found = torch.zeros(count, dtype=torch.int64)
    for shift in range(0, count.bit_length(), 4):
        digit = (place >> shift & 15).to(torch.int32).view(BLOCK, columns)
        laid = torch.ops.aten._convert_weight_to_int4pack_for_cpu(digit, 1)
        found |= torch.stack((laid & 15, laid >> 4), dim=-1).flatten().to(torch.int64) << shift
    return torch.empty_like(found).scatter_(0, found, place)


def scales(held: Held) -> tuple[Tensor, Tensor | None]:
    """Scales (N, G) and zero points int8 (N, G), or None, whichever order they are kept in."""
    if not held.laid:
        return held.scale, held.zero
    scale, shift = held.scale.transpose(0, 1).unbind(2)
    if held.grid.symmetric:
        return scale, None
    return scale, (-shift.float() / scale.float()).round().to(torch.int8)


# --- the choice -----------------------------------------------------------------------------------------------------


class Choice(NamedTuple):
    """Kernels by name for one row, few and many; laid: whether the weights are to lie in the order of int4pack."""

    names: tuple[str, ...]
    laid: bool


def usual(dtype: torch.dtype, device: torch.device) -> str:
    """What is taken where nothing was measured."""
    return "wide" if device.type == "cpu" and dtype in (torch.bfloat16, torch.float16) else "narrow"


def size_of(rows: int) -> int:
    """Whether so many rows are one (0), few (1) or many (2)."""
    return sum(rows > limit for limit in LIMITS)


def choose(rows: int, columns: int, grid: Grid, dtype: torch.dtype) -> Choice:
    """The fastest kernels of this machine for a layer of this shape whose activations have this dtype, of those whose
    products are right."""
    return _choose(rows, columns, grid, dtype, torch.get_num_threads())


@lru_cache(maxsize=256)
@torch.inference_mode()
def _choose(rows: int, columns: int, grid: Grid, dtype: torch.dtype, threads: int) -> Choice:
    trial = _trial(min(rows, SLICE), columns, grid, dtype)
    orders = [trial]
    if KERNELS["int4pack"].fits(rows, columns, grid):
        packed, scale = lay(trial.packed, trial.scale, trial.zero, dtype)
        orders.append(SimpleNamespace(packed=packed, scale=scale, zero=None, grid=grid, laid=True))
    dense, usable = _spread_out(trial), [name for name, kernel in KERNELS.items() if kernel.fits(rows, columns, grid)]
    if dtype == torch.float32:
        usable.remove("wide")  # it is narrow
    best = [("", math.inf)] * len(ROWS)
    laid = False
    for held in orders:
        found = _measure(held, [name for name in usable if KERNELS[name].laid in (None, held.laid)], dense, dtype, best)
        # one row and few are what decoding is made of
        if not best[0][0] or math.prod(seconds for _, seconds in found[:2]) < GAIN * best[0][1] * best[1][1]:
            best, laid = found, held.laid
    return Choice(tuple(name or usual(dtype, trial.scale.device) for name, _ in best), laid)


def _trial(rows: int, columns: int, grid: Grid, dtype: torch.dtype) -> Any:
    """Weights to measure with: the time of a product does not depend on them."""
    generator = torch.Generator().manual_seed(0)
    shape = (rows, grid.groups(columns))
    q = torch.randint(grid.least, grid.most + 1, (rows, columns), generator=generator, dtype=torch.int8)
    scale = (torch.rand(shape, generator=generator) + 0.5).bfloat16().to(dtype) / (1 << grid.bits)
    zero = None
    if not grid.symmetric:
        zero = torch.randint(-3, 4, shape, generator=generator, dtype=torch.int8)
    return SimpleNamespace(
        packed=q if grid.bits == 8 else halved(q), scale=scale, zero=zero, grid=grid, laid=False
    )  # fmt: skip


def _spread_out(held: Held) -> Tensor:
    """The weights (N, K) in fp64."""
    q = held.packed if held.grid.bits == 8 else whole(held.packed)
    wide = q.double().unflatten(1, (held.scale.shape[1], -1))
    return ((wide if held.zero is None else wide - held.zero[..., None]) * held.scale[..., None].double()).flatten(1)


def _measure(
    held: Held, names: list[str], dense: Tensor, dtype: torch.dtype, known: list[tuple[str, float]]
) -> list[tuple[str, float]]:
    """For each of ROWS the fastest of these kernels, "" where none is right, and its seconds. known: of other ones."""
    found = []
    for rows, (_, limit) in zip(ROWS, known):
        x = torch.randn(rows, dense.shape[1], generator=torch.Generator().manual_seed(rows)).to(dtype)
        right = x.double() @ dense.t()
        best = ("", math.inf)
        for name in tuple(names):
            most = HOPELESS * min(best[1], limit)
            seconds = _seconds(KERNELS[name].product, held, x, right, most)
            if seconds > most:
                names.remove(name)
            elif seconds < GAIN * best[1]:
                best = name, seconds
        found.append(best)
    return found


def _seconds(product: Callable[[Any, Tensor], Tensor], held: Held, x: Tensor, right: Tensor, most: float) -> float:
    """How long a product takes, the best of some tries; infinite where it is wrong, or the kernel refuses the dtype."""
    try:
        y = product(held, x)
    except RuntimeError:  # torch says so of a dtype or a machine that a kernel is not written for
        return math.inf
    if not (y.double() - right).norm() <= TOLERANCES[x.dtype] * right.norm():
        return math.inf
    shortest, begun = math.inf, time.perf_counter()
    for _ in range(TRIES):
        started = time.perf_counter()
        product(held, x)
        now = time.perf_counter()
        shortest = min(shortest, now - started)
        if shortest > most or now - begun > ENOUGH:
            break
    return shortest


class Multiply(torch.autograd.Function):
    """x (R, K) -> x W^T (R, N), with a gradient for x alone: no spread weight is kept for it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, held: Any) -> Tensor:
        ctx.held = held
        return product_of(held, x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient @ ctx.held.dense().to(gradient.dtype), None


def product_of(held: Any, x: Tensor) -> Tensor:
    """x (R, K) -> (R, N) by the kernel chosen for so many rows, or the usual one."""
    chosen = held.kernels if held.measured == x.dtype and x.is_cpu else None
    name = usual(x.dtype, x.device) if chosen is None else chosen[size_of(len(x))]
    return KERNELS[name].product(held, x)
