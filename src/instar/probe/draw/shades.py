"""Numbers -> steps of a colour map, and large ones made smaller so that nothing strong is lost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..panel import Array, Scale
from .colour import LEVELS

MOST = 512  # rows and columns of a picture
NOTHING = -1  # the step of what is not finite


def domain(values: Array, scale: Scale) -> tuple[float, float]:
    """The values at the ends of the map: of shares 0 and 1 or, where one is larger, the largest."""
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        return 0.0, 1.0
    if scale == "share":
        return 0.0, max(1.0, float(finite.max()))
    if scale == "signed":
        high = float(np.abs(finite).max()) or 1.0
        return -high, high
    low, high = float(finite.min()), float(finite.max())
    return low, high if high > low else low + 1.0


def levels(values: Array, scale: Scale, ends: tuple[float, float] | None = None) -> Array:
    """Of each value its step, 0 to LEVELS, or NOTHING. Shares go by their square root, so that a row of 512 equal
    ones is not white; what is above 0 never falls to step 0."""
    values = np.asarray(values, dtype=np.float64)
    low, high = domain(values, scale) if ends is None else ends
    with np.errstate(invalid="ignore"):
        share = np.clip((values - low) / (high - low), 0.0, 1.0)
        share = np.sqrt(share) if scale == "share" else share
        steps = np.nan_to_num(np.rint(share * LEVELS)).astype(np.int64)
    if scale == "share":
        steps = np.where((steps == 0) & (values > 0), 1, steps)
    return np.where(np.isfinite(values), steps, NOTHING)


def ticks(scale: Scale, ends: tuple[float, float]) -> list[tuple[float, float]]:
    """(place from 0 to 1, value) of what a legend names."""
    low, high = ends
    if scale == "share":
        return [(float(np.sqrt(share)), share * high) for share in (0.0, 0.05, 0.25, 1.0)]
    return [(0.0, low), (0.5, (low + high) / 2), (1.0, high)]


def pooled(values: Array, scale: Scale = "share", most: int = MOST) -> tuple[Array, int, int]:
    """values (R, C) with at most `most` rows and columns, and how many rows and columns each one stands for: of each
    block the largest, of signed ones the farthest from zero."""
    values = np.asarray(values)
    down, across = (-(-size // most) if size > most else 1 for size in values.shape)
    for axis, every in ((0, down), (1, across)):
        if every > 1:
            starts = np.arange(0, values.shape[axis], every)
            highest = np.fmax.reduceat(values, starts, axis=axis)
            if scale == "signed":
                lowest = np.fmin.reduceat(values, starts, axis=axis)
                highest = np.where(np.abs(lowest) > np.abs(highest), lowest, highest)
            values = highest
    return values, down, across


def mosaic(values: Array, scale: Scale = "share", most: int = 64, whole: int = 1400) -> tuple[Array, int]:
    """values (L, H, R, C) as one picture (L·(R+1)+1, H·(C+1)+1) with a seam of NaN around each head, and how many
    rows and columns of a head one of the picture stands for. A head has at most `most`, and all about `whole`."""
    layers, heads = values.shape[:2]
    most = max(8, min(most, whole // max(layers, heads)))
    small = [[pooled(values[layer, head], scale, most) for head in range(heads)] for layer in range(layers)]
    rows, columns = small[0][0][0].shape
    picture = np.full((layers * (rows + 1) + 1, heads * (columns + 1) + 1), np.nan)
    for layer in range(layers):
        for head in range(heads):
            top, left = layer * (rows + 1) + 1, head * (columns + 1) + 1
            picture[top : top + rows, left : left + columns] = small[layer][head][0]
    return picture, max(small[0][0][1:])


def thinned(labels: Sequence[str], every: int) -> list[str]:
    """The labels of what was pooled: that of the first of each block."""
    return list(labels[::every])
