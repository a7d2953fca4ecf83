"""What this machine computes with: device, precision, and a description for the record."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..adapt.folders import load
from ..config import InputError, unknown
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
FASTER = 1.5  # how much faster bf16 products must be to be worth their casts
EXACT = 1e-5  # relative error of a product that still counts as fp32


def load_here(name: str | Path, device: str, dtype: str) -> tuple[Transformer, Tokenizer]:
    """The model and tokenizer of a folder, where and how the options want them. Raises InputError."""
    place = pick_device(device)
    return load(name, dtype=weights_dtype(dtype, place), device=place)


def weights_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of the weights of a model that is not trained; auto: bf16 on CUDA, else fp32."""
    kinds = DTYPES | {"fp16": torch.float16}
    return kinds.get(name, torch.bfloat16 if device.type == "cuda" else torch.float32)


def pick_device(name: str) -> torch.device:
    """auto takes a GPU where there is one. Raises InputError for a device this machine lacks."""
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if present[kind]))
    kind = name.partition(":")[0]
    if kind not in present:
        raise unknown("device", name, ["auto", *present])
    if not present[kind]:
        raise InputError(f"device={name} was asked for and torch finds none here; wanted --device cpu or auto")
    return torch.device(name)


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of activations and products in training; weights stay in fp32.

    auto: bf16 on CUDA and on a CPU that is measured to be faster with it, else fp32. Raises InputError for fp16, whose
    small range needs a loss scale.
    """
    if name == "fp16":
        raise InputError("dtype=fp16 cannot hold small gradients; train with --dtype bf16 or fp32")
    if name != "auto":
        return DTYPES[name]
    fast = device.type == "cuda" or (device.type == "cpu" and bf16_gain() >= FASTER)
    return torch.bfloat16 if fast else torch.float32


def bf16_gain(size: int = 512, budget: float = 0.05) -> float:
    """How many times faster a bf16 product is than an fp32 one on this CPU; the best of tries within the budget."""
    a, b = torch.randn(2, size, size)
    pairs = [(a, b), (a.bfloat16(), b.bfloat16())]
    best = [float("inf"), float("inf")]
    started = time.perf_counter()
    rounds = 0
    while rounds < 3 or time.perf_counter() - started < budget:  # the first round warms up
        best = [min(old, _product_seconds(*pair)) for old, pair in zip(best, pairs)]
        rounds += 1
    return best[0] / best[1]


def _product_seconds(a: Tensor, b: Tensor) -> float:
    started = time.perf_counter()
    torch.mm(a, b)
    return time.perf_counter() - started


@contextmanager
def fast_fp32(device: torch.device) -> Iterator[None]:
    """Inside, fp32 products take the faster path of this CPU where it keeps fp32 accuracy.

    The same setting computes in bf16 on CPUs with AMX, so its accuracy is measured, not assumed.
    """
    before = torch.get_float32_matmul_precision()
    if device.type == "cpu":
        a, b = torch.randn(2, 256, 256, generator=torch.Generator().manual_seed(0))
        right = a.double() @ b.double()
        torch.set_float32_matmul_precision("medium")
        if float(((a @ b).double() - right).norm() / right.norm()) > EXACT:
            torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def describe(device: torch.device) -> dict[str, Any]:
    """The hardware and the versions that a run is recorded with."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "system": platform.platform(),
    }


def _cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
