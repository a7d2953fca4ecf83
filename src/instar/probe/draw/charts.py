"""Bars, curves and points, as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from ...text.axes import Axis, path_through, round_step, short
from ...text.figures import label as tick
from ..panel import Bars, Lines, Scatter
from .canvas import Canvas, fit, wide, widest
from .colour import CATEGORIES
from .labels import number, plain, shown

LEFT, RIGHT = 46.0, 14.0
NAMED = 14  # points of a scatter that bear their names


def bars(figure: Bars, language: str) -> Canvas:
    """One line a label and series, from zero; whiskers are the intervals."""
    labels = [shown(str(label)) for label in figure.labels]
    series = {name: [float(plain(value)) for value in values] for name, values in figure.series.items()}
    every = [x for values in (*series.values(), figure.low, figure.high) for x in values if math.isfinite(x)]
    axis_low, axis_high = min([0.0, *every]), max([0.0, *every])
    canvas = Canvas()
    left, thick = widest(labels, 132) + 8, 15.0 if len(series) == 1 else 10.0
    room = 52.0
    below = room if axis_low < 0 else 0.0
    axis = Axis(axis_low, axis_high if axis_high > axis_low else axis_low + 1, left + below, canvas.width - room)
    y = _keys(canvas, list(series), figure.unit.of(language))
    zero, top = axis.place(0.0), y
    for row, name in enumerate(labels):
        high = thick * len(series)
        canvas.text(left - 6, y + high / 2 + 4, fit(name, 132), "label up")
        for number_, (which, values) in enumerate(series.items()):
            value, at = values[row], y + thick * number_
            title = f"{name}{f' · {shown(which)}' if len(series) > 1 else ''}: {number(value)}"
            if not math.isfinite(value):
                canvas.text(zero + 5, at + thick / 2 + 4, "–", "small", title=title)
                continue
            end = axis.place(value)
            look = f"c{number_ % len(CATEGORIES)}" if value >= 0 or len(series) > 1 else "c4"
            canvas.rect(min(zero, end), at + 1.5, max(0.6, abs(end - zero)), thick - 3, look, title, round=1.5)
            edge = end
            if number_ == 0 and row < len(figure.low) and row < len(figure.high):
                edge = _whiskers(canvas, axis, float(figure.low[row]), float(figure.high[row]), at + thick / 2, value)
            if thick > 12 or len(series) <= 3:
                side = (edge + 5, "small") if value >= 0 else (edge - 5, "small up")
                canvas.text(side[0], at + thick / 2 + 4, number(value), side[1])
        y += high + (5 if len(series) > 1 else 3)
    canvas.path(f"M{short(zero)} {short(top - 2)}V{short(y)}", "axis")
    canvas.height = y + 6
    return canvas


def _whiskers(canvas: Canvas, axis: Axis, low: float, high: float, y: float, value: float) -> float:
    """The interval of a bar; gives where it ends on the side of the value."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return axis.place(value)
    start, end = axis.place(low), axis.place(high)
    ends = f"M{short(start)} {short(y - 3)}v6M{short(end)} {short(y - 3)}v6"
    canvas.path(f"M{short(start)} {short(y)}H{short(end)}{ends}", "range", f"{number(low)} … {number(high)}")
    return max(end, axis.place(value)) if value >= 0 else min(start, axis.place(value))


def lines(figure: Lines, language: str) -> Canvas:
    """Curves with a dot for each value, where they are few, and the numbers on hovering."""
    xs = [float(plain(x)) for x in figure.x]
    series = {name: [float(plain(y)) for y in values] for name, values in figure.series.items()}
    canvas = Canvas()
    top = _keys(canvas, list(series), figure.y_title.of(language)) + 6
    floor = top + 190.0
    across = Axis(min(xs, default=0.0), max(xs, default=1.0), LEFT, canvas.width - RIGHT)
    if across.high <= across.low:
        across = Axis(across.low - 0.5, across.low + 0.5, LEFT, canvas.width - RIGHT)
    up = _upright([y for values in series.values() for y in values], floor, top)
    _frame(canvas, across, up, figure.x_title.of(language), whole=all(x == int(x) for x in xs))
    for number_, (name, values) in enumerate(series.items()):
        look = f"c{number_ % len(CATEGORIES)}"
        places = [
            (short(across.place(x)), short(up.place(y)) if math.isfinite(y) else None) for x, y in zip(xs, values)
        ]
        canvas.path(path_through(places), f"curve {look}", shown(name))
        if figure.dots and len(xs) <= 64:
            for x, y in zip(xs, values):
                if math.isfinite(y):
                    said = f"{shown(name)}, {tick(x)}: {number(y)}"
                    _marker(canvas, number_, across.place(x), up.place(y), look, said)
    canvas.height = floor + (38 if figure.x_title.of(language) else 24)
    return canvas


def scatter(figure: Scatter, language: str) -> Canvas:
    """Points; those that stand out bear their names, the others tell them on hovering."""
    canvas = Canvas()
    points = [(shown(str(label)), float(x), float(y)) for label, x, y in figure.points]
    known = [point for point in points if math.isfinite(point[1]) and math.isfinite(point[2])]
    top, floor = 24.0, 300.0
    canvas.text(0, 12, figure.y_title.of(language), "small")
    flat = _upright([x for _, x, _ in known], LEFT, canvas.width - RIGHT - 20)
    up = _upright([y for _, _, y in known], floor, top)
    _frame(canvas, flat, up, figure.x_title.of(language))
    for name, x, y in known:
        canvas.circle(flat.place(x), up.place(y), 4, "c0 dot", f"{name}: {number(x)}, {number(y)}")
    middle = [
        sorted(values)[len(values) // 2] for values in ([x for _, x, _ in known], [y for _, _, y in known]) if values
    ]
    dots = [(flat.place(x), up.place(y)) for _, x, y in known]
    taken = [(x - 3, y - 3, x + 3, y + 3) for x, y in dots]
    if known:
        far = sorted(
            known,
            key=lambda p: (
                -max(abs(flat.place(p[1]) - flat.place(middle[0])), abs(up.place(p[2]) - up.place(middle[1])))
            ),
        )
        for name, x, y in far[:NAMED] if len(known) > NAMED else far:
            _name(canvas, taken, fit(name, 120), flat.place(x), up.place(y))
    missing = len(points) - len(known)
    if missing:
        note = f"{missing} without a value" if language == "en" else f"{missing} 个没有数值"
        canvas.text(canvas.width, 12, note, "small up")
    canvas.height = floor + (38 if figure.x_title.of(language) else 24)
    return canvas


def _name(canvas: Canvas, taken: list[tuple[float, float, float, float]], name: str, x: float, y: float) -> None:
    """A name beside its point, on whichever side nothing stands; nowhere, where all are taken."""
    size = wide(name, 10.5)
    for left, line, look in ((x + 7, y + 4, "small"), (x - 7 - size, y + 4, "small"), (x - size / 2, y - 8, "small")):
        box = (left, line - 10, left + size, line + 2)
        apart = all(box[2] < o[0] or box[0] > o[2] or box[3] < o[1] or box[1] > o[3] for o in taken)
        if apart and box[0] >= LEFT and box[2] <= canvas.width:
            taken.append(box)
            canvas.text(left, line, name, look)
            return


def _upright(values: Iterable[float], start: float, end: float) -> Axis:
    """An axis with round ends, from zero where that costs little."""
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if 0 <= low < high / 2 or math.isclose(low, high, rel_tol=1e-6, abs_tol=1e-12):
        low, high = min(0.0, low), max(0.0, high)
    if low == high:
        high = low + 1
    step = round_step(low, high, 6)
    return Axis(math.floor(round(low / step, 6)) * step, math.ceil(round(high / step, 6)) * step, start, end)


def _frame(canvas: Canvas, across: Axis, up: Axis, x_title: str, *, whole: bool = False) -> None:
    for place, name in up.ticks(6):
        canvas.path(f"M{short(LEFT)} {place}H{short(canvas.width - RIGHT)}", "grid")
        canvas.text(LEFT - 6, float(place) + 4, name.replace("-", "−"), "small up")
    floor = up.start
    for place, name in across.ticks(8, whole=whole):
        canvas.path(f"M{place} {short(floor)}v4", "axis")
        canvas.text(float(place), floor + 16, name.replace("-", "−"), "small across")
    canvas.path(f"M{short(LEFT)} {short(floor)}H{short(canvas.width - RIGHT)}", "axis")
    if x_title:
        canvas.text((LEFT + canvas.width - RIGHT) / 2, floor + 32, x_title, "small across")


def _keys(canvas: Canvas, names: Sequence[str], unit: str) -> float:
    """What the colours and shapes mean, with the unit before them; gives the height that it takes."""
    x, y = 0.0, 12.0
    if unit:
        canvas.text(0, y, unit, "small")
        x = wide(unit, 10.5) + 16
    for number_, name in enumerate(names if len(names) > 1 else ()):
        name = fit(shown(name), 180, 10.5)
        size = wide(name, 10.5) + 26
        if x and x + size > canvas.width:
            x, y = 0.0, y + 16
        _marker(canvas, number_, x + 6, y - 4, f"c{number_ % len(CATEGORIES)}", "")
        canvas.text(x + 15, y, name, "small strong")
        x += size
    return y + 8 if unit or len(names) > 1 else 2.0


def _marker(canvas: Canvas, number_: int, x: float, y: float, look: str, title: str) -> None:
    """The shape of a series, so that colour is not all that tells it."""
    shape, a = number_ % 4, short(x)
    if shape == 0:
        canvas.circle(x, y, 3, look, title)
    elif shape == 1:
        canvas.rect(x - 2.7, y - 2.7, 5.4, 5.4, look, title)
    elif shape == 2:
        canvas.path(f"M{a} {short(y - 3.6)}l3.5 6.2h-7z", look, title)
    else:
        canvas.path(f"M{a} {short(y - 4)}l4 4l-4 4l-4 -4z", look, title)
