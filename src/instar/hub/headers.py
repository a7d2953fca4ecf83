"""What a safetensors file says it holds, read by ourselves and believed only where every byte of it adds up.

The format: eight bytes with the length of a JSON header, the header, and the tensors one after the other without a gap
(https://github.com/huggingface/safetensors#format). Names are keys of a dictionary here, never paths.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ..config import InputError, parse_json, unknown

MAX_HEADER = 100_000_000  # bytes
MAX_TENSORS = 100_000
# objects, lists and numbers of a header, which take far more memory than the bytes that spell them
MAX_PIECES = 20 * MAX_TENSORS
MAX_DIMENSIONS, MAX_SIZE = 8, 1 << 32
SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
# Endings of buffers that old files carry along; they are recomputed.
BUFFERS = (".attn.bias", ".attn.masked_bias", "rotary_emb.inv_freq")
_KEYS = {"dtype", "shape", "data_offsets"}
_PREFIX = 8


class Header(NamedTuple):
    """What a safetensors file says of one tensor: its type, its shape, its first byte and the one after its last."""

    file: Path
    kind: str
    shape: list[int]
    start: int
    stop: int

    @property
    def numel(self) -> int:
        return math.prod(self.shape)


def read_headers(files: list[Path]) -> dict[str, Header]:
    """What the files of a folder hold. Raises InputError where one is damaged or two hold the same name."""
    headers: dict[str, Header] = {}
    for path in files:
        for name, header in read_header(path).items():
            if name in headers:
                raise InputError(f"{name} stands both in {headers[name].file} and in {path}; remove one of the files")
            headers[name] = header
    return headers


def read_header(path: Path) -> dict[str, Header]:
    """The header of one file, checked against its length. Raises InputError before any tensor is touched."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            raw = _raw(file, size)
        tensors = _tensors(_parse(raw), path)
        _covers(tensors, size - _PREFIX - len(raw))
    except (InputError, OSError) as error:
        raise InputError(f"{path} is no whole safetensors file: {error}; fetch or save it again") from None
    return tensors


def _raw(file: BinaryIO, size: int) -> bytes:
    if size < _PREFIX:
        raise InputError(f"it has {size} bytes, wanted at least {_PREFIX}")
    length = int.from_bytes(file.read(_PREFIX), "little")
    if length > MAX_HEADER:
        raise InputError(f"its header says to have {length:,} bytes, wanted at most {MAX_HEADER:,}")
    if length > size - _PREFIX:
        raise InputError(f"its header says to have {length:,} bytes, and the file has {size:,} in all")
    return file.read(length)


def _parse(raw: bytes) -> dict[str, Any]:
    if (pieces := sum(map(raw.count, (b"{", b"[", b",")))) > MAX_PIECES:
        raise InputError(f"its header has {pieces:,} parts, wanted at most {MAX_PIECES:,}")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"its header is not UTF-8: {error}") from None
    data = parse_json(text, "its header")
    if not isinstance(data, dict) or not text.startswith("{"):
        raise InputError("its header is not a JSON object")
    notes = data.pop("__metadata__", {})
    if not isinstance(notes, dict) or not all(isinstance(note, str) for note in notes.values()):
        raise InputError("its __metadata__ is not an object of strings")
    if len(data) > MAX_TENSORS:
        raise InputError(f"it holds {len(data):,} tensors, wanted at most {MAX_TENSORS:,}")
    return data


def _tensors(data: dict[str, Any], path: Path) -> dict[str, Header]:
    return {name: _tensor(path, name, entry) for name, entry in data.items()}


def _tensor(path: Path, name: str, entry: Any) -> Header:
    shown = ascii(name)[:80]
    if not isinstance(entry, dict) or entry.keys() != _KEYS:
        raise InputError(f"{shown} is described by {_shown(entry)}, wanted {', '.join(sorted(_KEYS))}")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in SIZES:
        raise unknown(f"dtype of {shown}:", _shown(kind), SIZES)
    if not _counts(shape, MAX_SIZE) or len(shape) > MAX_DIMENSIONS:
        raise InputError(
            f"{shown} has the shape {_shown(shape)}, wanted at most {MAX_DIMENSIONS} whole numbers up to {MAX_SIZE:,}"
        )
    if not _counts(offsets, 1 << 63) or len(offsets) != 2:
        raise InputError(f"{shown} has the data_offsets {_shown(offsets)}, wanted a begin and an end")
    header = Header(path, kind, shape, *offsets)
    # Python's whole numbers do not overflow
    if header.numel * SIZES[kind] != header.stop - header.start:
        raise InputError(
            f"{shown} has {header.stop - header.start:,} bytes, wanted {header.numel * SIZES[kind]:,} for {kind} of "
            f"the shape {shape}"
        )
    return header


def _covers(tensors: dict[str, Header], length: int) -> None:
    """Raise InputError unless the tensors lie one after the other from the first byte of the data to the last."""
    end, before = 0, "the header"
    for name, header in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop)):
        if header.start != end:
            what = "overlaps" if header.start < end else "leaves a hole after"
            raise InputError(f"{ascii(name)[:80]} {what} {before}: it begins at byte {header.start:,}, wanted {end:,}")
        end, before = header.stop, ascii(name)[:80]
    if end != length:
        what = "is cut short" if end > length else "goes on after its last tensor"
        raise InputError(f"it {what}: there are {length:,} bytes of tensors, wanted {end:,}")


def _counts(value: Any, most: int) -> bool:
    """Whether this is a list of whole numbers in range; true and false are none."""
    return isinstance(value, list) and all(type(number) is int and 0 <= number <= most for number in value)


def _shown(value: Any) -> str:
    """The beginning of what was found, on one line."""
    return ascii(value)[:80]
