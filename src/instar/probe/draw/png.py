"""PNG: heat maps written with zlib alone, and every chart, with labels, where matplotlib is installed."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np

from ..panel import Array, Scale
from .colour import Theme, diverging, rgb, sequential
from .shades import NOTHING, levels

GAP = {"light": "#dfe3e8", "dark": "#333c47"}  # where there is no number


def heat(values: Array, scale: Scale, theme: Theme = "light", size: int = 1) -> bytes:
    """values (R, C) as a picture, `size` points wide and high for each."""
    steps = np.where((found := levels(values, scale)) == NOTHING, len(palette(scale, theme)) - 1, found)
    return encode(np.kron(steps, np.ones((size, size), dtype=np.int64)), palette(scale, theme))


def palette(scale: Scale, theme: Theme) -> tuple[str, ...]:
    """The colours of a map and, last, that of no number."""
    return (*(diverging(theme) if scale == "signed" else sequential(theme)), GAP[theme])


def encode(points: Array, colours: Sequence[str]) -> bytes:
    """points (R, C), each the number of one of at most 256 colours, as a PNG with a palette (ISO/IEC 15948)."""
    rows, columns = points.shape
    lines = np.zeros((rows, columns + 1), dtype=np.uint8)  # before each row its filter: none
    lines[:, 1:] = points
    head = struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)
    map_ = bytes(part for colour in colours for part in rgb(colour))
    parts = [(b"IHDR", head), (b"PLTE", map_), (b"IDAT", zlib.compress(lines.tobytes(), 6)), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(x)) + kind + x + struct.pack(">I", zlib.crc32(kind + x)) for kind, x in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
