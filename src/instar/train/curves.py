"""The geometry of curves: points -> paths, marks and ticks in the units of an SVG. Knows neither files nor markup.

What is not finite leaves a gap. Where a curve has more points than can be seen, the lowest and the highest of each
stretch are kept, so a spike of a single step stays visible.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

from ..text.axes import Axis, path_through, round_step, short
from ..text.figures import label

Point = tuple[float, float | None]  # x, and y or a gap
LIMIT = 1200  # points of one curve; a page is not much wider
MEMORY = 0.02  # share of a curve that its mean remembers
DOTS = 200  # points that are drawn as dots
LEFT, RIGHT, TOP, BOTTOM = 58, 24, 12, 40  # margins: numbers and titles
WIDE, TALL = 62, 34  # room of a tick on the x and the y axis
SPIKY = 30.0  # a highest value so many times the median needs a logarithmic axis


@dataclass(frozen=True)
class Curve:
    """One line of a chart; `kind` is its look: raw, smooth or held-out."""

    label: str
    kind: str
    points: Sequence[Point]
    dots: bool = False


@dataclass(frozen=True)
class Drawn:
    """A curve in the units of the chart: a path, dots (x, y, label), and how many points of how many are drawn."""

    label: str
    kind: str
    path: str
    dots: Sequence[tuple[str, str, str]]
    shown: int
    total: int


@dataclass(frozen=True)
class Chart:
    """What a template needs to draw: ticks are (place, label)."""

    title: str
    unit: str
    width: int
    height: int
    curves: Sequence[Drawn]
    across: Sequence[tuple[str, str]]
    up: Sequence[tuple[str, str]]
    marks: Sequence[str] = ()
    log: bool = False
    margins: tuple[int, int, int, int] = field(default=(LEFT, RIGHT, TOP, BOTTOM))


def chart(
    title: str,
    unit: str,
    curves: Sequence[Curve],
    *,
    marks: Sequence[float] = (),
    zero: bool = False,
    size: tuple[int, int] = (760, 300),
) -> Chart | None:
    """Lay out curves that share their axes; None where no value is finite.

    marks: x of what is pointed at below the curves. zero: the y axis begins at 0.
    """
    finite = [(x, y) for curve in curves for x, y in curve.points if y is not None]
    if not finite:
        return None
    width, height = size
    xs = [x for curve in curves for x, _ in curve.points] + list(marks)
    across = Axis(min(xs), max(max(xs), min(xs) + 1), LEFT, width - RIGHT)
    up = _upright([y for _, y in finite], zero, height)
    drawn = [_draw(curve, across, up) for curve in curves if any(y is not None for _, y in curve.points)]
    places = dict.fromkeys(str(round(across.place(x))) for x in marks)  # one mark for each unit of width
    across_ticks, up_ticks = across.ticks(width // WIDE, whole=True), up.ticks(height // TALL)
    return Chart(title, unit, width, height, drawn, across_ticks, up_ticks, list(places), up.log)


def _upright(values: Sequence[float], zero: bool, height: int) -> Axis:
    """The y axis: logarithmic where a few values would flatten all others, from 0 where that costs little."""
    low, high = min(values), max(values)
    edges = (height - BOTTOM, TOP)
    if low > 0 and high > SPIKY * median(values) and not zero:
        return Axis(low * 0.95, high * 1.05, *edges, log=True)
    if zero or 0 <= low < high / 2 or math.isclose(low, high, rel_tol=1e-6):
        low, high = min(0.0, low), max(0.0, high)
    if low == high:
        high = low + 1
    step = round_step(low, high, height // TALL)
    return Axis(math.floor(low / step) * step, math.ceil(round(high / step, 6)) * step, *edges)


def _draw(curve: Curve, across: Axis, up: Axis) -> Drawn:
    points = thin(curve.points, DOTS if curve.dots else LIMIT)
    places = [(short(across.place(x)), None if y is None else short(up.place(y))) for x, y in points]
    dots = []
    if curve.dots:
        dots = [(x, y, f"step {label(point[0])}: {label(point[1])}") for (x, y), point in zip(places, points) if y]
    shown, total = (sum(y is not None for _, y in some) for some in (points, curve.points))
    return Drawn(curve.label, curve.kind, path_through(places), dots, shown, total)


def thin(points: Sequence[Point], limit: int) -> list[Point]:
    """At most `limit` finite points: the lowest and the highest of each stretch, with a gap where the stretch has one.

    Example: limit 2 of [(1, 5.0), (2, 9.0), (3, 1.0), (4, 5.0)] -> [(2, 9.0), (3, 1.0)]
    """
    if len(points) <= limit:
        return list(points)
    stretches = max(1, limit // 2)
    kept: list[Point] = []
    for number in range(stretches):
        some = points[number * len(points) // stretches : (number + 1) * len(points) // stretches]
        finite = [(x, y) for x, y in some if y is not None]
        if finite:
            kept += sorted({min(finite, key=_height), max(finite, key=_height)})
        if len(finite) < len(some):
            kept.append((some[-1][0], None))
    return kept


def _height(point: tuple[float, float]) -> float:
    return point[1]


def smooth(values: Sequence[float], share: float = 0.05) -> list[float]:
    """An exponential mean whose memory is a share of the curve, corrected for its start (Adam's bias correction)."""
    keep = 1 - 1 / max(1.0, share * len(values))
    smoothed, mean, weight = [], 0.0, 0.0
    for value in values:
        mean = keep * mean + (1 - keep) * value
        weight = keep * weight + (1 - keep)
        smoothed.append(mean / weight)
    return smoothed


def smooth_points(points: Sequence[Point]) -> list[Point]:
    """The mean of what is finite, with gaps where the points have them; from both sides, so that it does not lag."""
    values = [y for _, y in points if y is not None]
    there, back = smooth(values, MEMORY), smooth(values[::-1], MEMORY)[::-1]
    means: Iterator[float] = iter([(a + b) / 2 for a, b in zip(there, back)])
    return [(x, None if y is None else next(means)) for x, y in points]
