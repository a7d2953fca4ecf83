"""What a machine can do at most, and what a model asks of it.

A step of decoding reads every weight once, however many streams there are, and the keys and values of each stream; it
multiplies with every weight once for each stream. The longer of the two times is the floor of a step.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ..config import ModelConfig
from ..model.transformer import Transformer

TRIES = 5
MOMENT = 0.1  # seconds
EXACT = 1e-5  # relative error of a product that still counts as fp32


@dataclass(frozen=True)
class Limits:
    """What a machine was measured to do at most. bandwidth: bytes read a second; products: operations a second in
    matrix products, by precision, where a multiplication and a sum are two."""

    bandwidth: float
    products: dict[str, float]

    def floor(self, read: float, operations: float, dtype: str) -> float:
        """The least seconds that so many bytes and operations take."""
        return max(read / self.bandwidth, operations / self.products[dtype])


def measure_limits(device: torch.device, *, megabytes: int = 256, size: int = 1024) -> Limits:
    """Read a tensor far larger than the caches, and multiply matrices of at most size x size; the best of five tries.

    Weights may be widened before they are multiplied, so a narrow precision is never given less than a wider one; fp32
    by the faster path of a CPU counts where it keeps fp32 accuracy.
    """
    bandwidth = _bandwidth(torch.randn(megabytes << 18, device=device))
    fp32 = _product_rate(torch.float32, device, size)
    if device.type == "cpu":
        fp32 = max(fp32, _faster_fp32(size))
    bf16 = max(fp32, _product_rate(torch.bfloat16, device, size))
    fp16 = max(fp32, _product_rate(torch.float16, device, size))
    int8 = max(bf16, _product_rate(torch.int8, device, size))
    return Limits(bandwidth, {"fp32": fp32, "bf16": bf16, "fp16": fp16, "int8": int8, "int4": int8})


def _bandwidth(numbers: Tensor) -> float:
    """Bytes a second, by whichever of three ways of reading is the fastest."""
    ways: list[Callable[[], Tensor]] = [numbers.sum, numbers.amax, lambda: torch.dot(numbers, numbers)]
    return numbers.nbytes / min(_best(way, numbers.device) for way in ways)


def _best(work: Callable[[], Tensor], device: torch.device, tries: int = TRIES) -> float:
    """Seconds of the fastest of several tries."""
    times = []
    for _ in range(tries):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return min(times)


def _product_rate(dtype: torch.dtype, device: torch.device, most: int) -> float:
    """Operations a second of square products in one dtype: of ever larger ones, until one takes more than a moment, for
    a CPU without instructions for a dtype may be a thousand times slower in it."""
    best, size = 0.0, 128
    multiply = torch.mm if dtype.is_floating_point else torch._int_mm
    while size <= most:
        a, b = (torch.randn(size, size, device=device).mul(8).to(dtype) for _ in range(2))
        work = partial(multiply, a, b)
        seconds = min(_best(work, device, 1), _best(work, device, 1))  # the first warms up
        if seconds < MOMENT:
            seconds = _best(work, device)
        best = max(best, 2 * size**3 / seconds)
        if seconds > MOMENT:
            break
        size *= 2
    return best


def _faster_fp32(size: int) -> float:
    """fp32 products by the other path of a CPU, which on some computes in bf16: 0 where it is not as exact."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        a, b = torch.randn(2, 256, 256, generator=torch.Generator().manual_seed(0))
        right = a.double() @ b.double()
        exact = float(((a @ b).double() - right).norm() / right.norm()) <= EXACT
        return _product_rate(torch.float32, torch.device("cpu"), size) if exact else 0.0
    finally:
        torch.set_float32_matmul_precision(before)


def read_bytes(model: Transformer, streams: int = 1) -> float:
    """Bytes of weights that one step reads: all but an encoder and tables in which only rows are looked up; of experts
    as many as so many streams are expected to take."""
    needed = {id(weight) for weight in model.heads.parameters()}
    tables = {id(table.weight) for table in model.modules() if isinstance(table, nn.Embedding)} - needed
    shares: dict[int, float] = {}
    for layer in model.experts:
        count = len(layer.experts)
        share = 1 - (1 - layer.used / count) ** streams
        shares |= {id(weight): share for weight in _tensors(layer.experts).values()}
    return sum(
        tensor.nbytes * shares.get(id(tensor), 1.0)
        for name, tensor in _tensors(model).items()
        if id(tensor) not in tables and not name.startswith(("encoder.", "positions."))
    )


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return dict(module.named_parameters()) | dict(module.named_buffers())


def key_bytes(config: ModelConfig, context: float, itemsize: int) -> float:
    """Bytes of keys and values that one stream of so many tokens reads in a step; a window reads no more than it."""
    reach = [min(context, window or context) for window in config.windows or (0,) * config.layers]
    return 2 * config.kv_heads * config.head_size * itemsize * sum(reach)


def multiplied(config: ModelConfig) -> tuple[int, int]:
    """Weights that one token is multiplied with: in the blocks of the decoder, and in the head."""
    width, queries, keys = config.d_model, config.heads * config.head_size, config.kv_heads * config.head_size
    attention = 2 * width * (queries + keys)
    if config.encoder_layers:
        attention += 2 * width * queries  # the keys of a source are computed once
    matrices = 3 if config.mlp == "gated" else 2
    dense = len(config.dense_layers) if config.experts else config.layers
    taken = (config.layers - dense) * config.experts_used * config.d_expert
    feed = matrices * width * (dense * config.d_ff + taken)
    return config.layers * attention + feed, width * config.vocab_size


def prompt_operations(config: ModelConfig, length: int) -> float:
    """Operations of reading a prompt, or a source: products, attention, and the head once."""
    _, head = multiplied(config)
    reader = config.encoder() if config.encoder_layers else config
    blocks, _ = multiplied(reader)
    scores = (2 if reader.causal else 4) * reader.heads * reader.head_size * length * length * reader.layers
    return 2 * (blocks * length + head) + scores


def step_operations(config: ModelConfig, streams: int, context: float) -> float:
    """Operations of saying one token in each of so many streams."""
    blocks, head = multiplied(config)
    scores = 4 * config.heads * config.head_size * context * config.layers
    return streams * (2 * (blocks + head) + scores)


def peak_bytes(device: torch.device) -> int | None:
    """The most memory that was held so far: by tensors on a GPU, by this process on a CPU. None where nobody
    tells."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows has no such module
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
