"""A GGUF file from a folder: one tensor in memory at a time, written beside the real name and renamed when it is whole.

The format: keys and values, a list of tensors, the tensors (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...config import InputError, ModelConfig
from ...model.positions import ROPE_SCALINGS, frequencies_of
from ...text.tokenizer import Tokenizer, check_fits
from ..files import Weights, write_whole
from .arch import Arch, Change, sizes
from .families import arch_of, notes_of
from .tokens import token_keys

WIDE = torch.float32
# what a file may hold matrices in -> its name, the number of general.file_type, and how numpy sees it
DTYPES: dict[torch.dtype, tuple[str, int, torch.dtype]] = {
    torch.float32: ("F32", 0, torch.float32),
    torch.float16: ("F16", 1, torch.float16),
    torch.bfloat16: ("BF16", 32, torch.int16),
}
_LAYER, _EXPERT = re.compile(r"\bblocks\.(\d+)\."), re.compile(r"\bexperts\.(\d+)\.")


@dataclass(frozen=True)
class Entry:
    """A tensor of the file: what it is called, its shape and dtype, and how it comes to be."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]


def export(
    folder: str | Path, path: str | Path, *, dtype: torch.dtype | None = None, done: Callable[[int], None] | None = None
) -> dict[str, Any]:
    """Write the model and the tokenizer of a folder as one GGUF file.

    dtype: of the matrices; None keeps that of the folder; vectors are fp32. done: called with how many weights more are
    written. Returns {"path", "architecture", "dtype", "tensors", "bytes", "context", "notes"}. Raises Unwritable where
    llama.cpp would not compute the same, and InputError where the gguf library is missing.
    """
    library = _library()
    path, weights = Path(path), Weights(folder)
    tokenizer = Tokenizer.load(weights.folder)
    check_fits(tokenizer, weights.config.vocab_size)
    arch = arch_of(weights.family.architecture, weights.config)
    said, notes = token_keys(tokenizer, weights.config.vocab_size, arch.whole)
    narrow = dtype or (weights.dtype if weights.dtype in DTYPES else WIDE)
    entries = list(_entries(weights, arch, narrow))
    keys = {_key(name, arch): value for name, value in sizes(weights.config, arch).items()}
    keys |= {"general.name": weights.folder.resolve().name, "general.file_type": DTYPES[narrow][1]}
    keys |= {f"tokenizer.{name}": value for name, value in said.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda draft: _write(library, draft, arch.name, keys, entries, done or _nothing))
    return {
        "path": str(path), "architecture": arch.name, "dtype": DTYPES[narrow][0], "tensors": len(entries),
        "bytes": path.stat().st_size, "context": keys[f"{arch.name}.context_length"],
        "notes": notes_of(weights.config, arch) + notes,
    }  # fmt: skip


def _library() -> Any:
    try:
        import gguf
    except ImportError:
        raise InputError('the gguf library is not installed; pip install "instar[gguf]"') from None
    return gguf


def _nothing(count: int) -> None:
    pass


def _entries(weights: Weights, arch: Arch, narrow: torch.dtype) -> Iterator[Entry]:
    """All tensors of the file, in order. Raises InputError for a weight of ours that the table has no name for."""
    held: dict[str, list[str]] = {}
    for name in weights.shapes:
        held.setdefault(_theirs(name, arch), []).append(name)
    for theirs, ours in held.items():
        yield _entry(theirs, ours, weights, arch, narrow)
    if arch.own_head and "heads.lm.weight" not in weights.shapes:
        head = "heads.lm.weight"
        yield _entry(arch.names[head], ["embed.weight"], weights, arch, narrow, arch.changes.get(head, _unchanged))
    if weights.config.positions == "rotary" and weights.config.rope_scaling.kind == "llama3":
        factors = _llama3(weights.config)
        yield Entry("rope_freqs.weight", tuple(factors.shape), WIDE, lambda: factors)


def _entry(
    theirs: str, ours: Sequence[str], weights: Weights, arch: Arch, narrow: torch.dtype, change: Change | None = None
) -> Entry:
    """One tensor of theirs. change: what is done to ours, where it is not what the table says."""
    changes = [change or arch.changes.get(_pattern(name), _unchanged) for name in ours]
    # a tensor without values has a shape all the same
    shapes = [
        list(change(torch.empty(weights.shapes[name], device="meta"), weights.config).shape)
        for name, change in zip(ours, changes)
    ]
    shape = _shape(shapes, _stacked(ours))
    wide = len(shape) == 1 or _pattern(ours[0]) in arch.keep

    def read() -> Tensor:
        parts = (change(weights.read(name), weights.config) for name, change in zip(ours, changes))
        if len(ours) == 1 and not _stacked(ours):
            return next(parts)
        return torch.stack(list(parts)) if _stacked(ours) else torch.cat(list(parts))

    return Entry(theirs, shape, WIDE if wide else narrow, read)


def _unchanged(tensor: Tensor, config: ModelConfig) -> Tensor:
    return tensor


def _key(name: str, arch: Arch) -> str:
    """A key of an architecture bears its name; some are the tokenizer's."""
    return name if name.startswith("tokenizer.") else f"{arch.name}.{name}"


def _pattern(name: str) -> str:
    return _EXPERT.sub("experts.{e}.", _LAYER.sub("blocks.{n}.", name))


def _theirs(name: str, arch: Arch) -> str:
    pattern, layer = _pattern(name), _LAYER.search(name)
    assert pattern in arch.names, f"no name for {name} in {arch.name}"
    return arch.names[pattern].format(n=layer and layer[1])


def _stacked(ours: Sequence[str]) -> bool:
    """Experts lie one behind the other along a first axis of their own; others are joined by rows."""
    return bool(_EXPERT.search(ours[0]))


def _shape(shapes: Sequence[Sequence[int]], stacked: bool) -> tuple[int, ...]:
    if stacked:
        return (len(shapes), *shapes[0])
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _llama3(config: ModelConfig) -> Tensor:
    """By how much each wave is slower than unstretched."""
    size, theta, scaling = config.rotary_size, config.rope_theta, config.rope_scaling
    return frequencies_of(size, theta) / ROPE_SCALINGS["llama3"](size, theta, scaling, 0)[0]


def _write(
    library: Any, draft: Path, name: str, keys: Mapping[str, Any], entries: Sequence[Entry], done: Callable[[int], None]
) -> None:
    writer = library.GGUFWriter(draft, name)
    add = {
        bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string,
        list: writer.add_array,
    }  # fmt: skip
    for key, value in keys.items():
        add[type(value)](key, value)
    for entry in entries:
        kind, _, seen = DTYPES[entry.dtype]
        size = int(np.prod(entry.shape)) * entry.dtype.itemsize
        writer.add_tensor_info(
            entry.name, entry.shape, np.dtype(str(seen).removeprefix("torch.")), size,
            raw_dtype=library.GGMLQuantizationType[kind],
        )  # fmt: skip
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for entry in entries:
        writer.write_tensor_data(_array(entry))
        done(int(np.prod(entry.shape)))
    writer.close()


def _array(entry: Entry) -> np.ndarray[Any, Any]:
    """The tensor as the file holds it. Raises InputError where fp16 has no room for a value."""
    tensor = entry.read()
    narrowed = tensor.to(entry.dtype)
    if entry.dtype == torch.float16 and bool((~narrowed.isfinite() & tensor.isfinite()).any()):
        most = float(tensor.abs().max())
        raise InputError(f"{entry.name} holds {most:.4g}, and fp16 at most 65504; export with --dtype bf16 or fp32")
    return narrowed.contiguous().view(DTYPES[entry.dtype][2]).numpy()
