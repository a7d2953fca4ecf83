"""Tokens in reading order, and the lines between them, as SVG."""

from __future__ import annotations

import math

import numpy as np

from ...text.axes import short
from ..panel import Arcs, Strip
from .canvas import NARROW, Canvas, fit, map_of, wide, widest
from .labels import number, plain, shown
from .shades import NOTHING, domain, levels

LINE = 21.0  # units from one token to the next, where they stand below each other
MOST = 300  # arcs
SIDE = 130.0  # units that arcs may stand off at a side


def strip(figure: Strip, language: str) -> Canvas:
    """Tokens on their shades, broken into lines as a text is; value and note on hovering."""
    canvas = Canvas()
    values = np.array([float(plain(value)) for value in figure.values])
    steps, letter = levels(values, figure.scale), map_of(figure.scale)
    x, y = 0.0, 4.0
    for place, (token, step) in enumerate(zip(figure.tokens, steps)):
        name = fit(shown(token), canvas.width - 12)
        size = wide(name) + 10
        if x and x + size > canvas.width:
            x, y = 0.0, y + 27
        note = shown(figure.notes[place]) if place < len(figure.notes) else ""
        title = f"{place}: {name}  {number(float(values[place]))}{'  ' if note else ''}{note}"
        look = "gap" if step == NOTHING else f"{letter}{step}"
        canvas.rect(x, y, size - 2, 23, look, title, round=3)
        canvas.rect(x, y, size - 2, 23, "edge", round=3)
        ink = "" if step == NOTHING else f" on-{letter}{step}"
        canvas.text(x + size / 2 - 1, y + 16, name, f"label across{ink}", title=title)
        x += size
    canvas.legend(0, y + 34, figure.scale, domain(values, figure.scale))
    canvas.height = y + 34 + 26
    return canvas


def arcs(figure: Arcs, language: str) -> Canvas:
    """Lines whose width is their weight. A short text stands on one line, arcs to what came before above it, to what
    comes after below; a longer one stands upright, with the arcs at its sides. Two texts stand side by side."""
    drawn = sorted(figure.arcs, key=lambda arc: abs(float(arc[2])))[-MOST:]
    tokens, sources = [shown(token) for token in figure.tokens], [shown(token) for token in figure.sources]
    canvas = Canvas()
    if sources:
        _between(canvas, drawn, tokens, sources)
    elif sum(wide(name) + 14 for name in tokens) <= canvas.width:
        _above(canvas, drawn, tokens)
    else:
        _beside(canvas, drawn, tokens)
    if len(drawn) < len(figure.arcs):
        note = f"the strongest {MOST} of {len(figure.arcs):,}"
        zh = f"{len(figure.arcs):,} 条中最强的 {MOST} 条"
        canvas.text(0, canvas.height + 12, note if language == "en" else zh, "small")
        canvas.height += 18
    return canvas


def _look(weight: float, most: float) -> tuple[float, float]:
    """Width and clearness of a line."""
    share = min(1.0, abs(weight) / most) if math.isfinite(weight) else 0.0
    return 0.8 + 4.2 * share, 0.25 + 0.75 * math.sqrt(share)


def _most(drawn: list[tuple[int, int, float]]) -> float:
    return max((abs(float(weight)) for _, _, weight in drawn), default=1.0) or 1.0


def _above(canvas: Canvas, drawn: list[tuple[int, int, float]], tokens: list[str]) -> None:
    starts, x = [], 0.0
    room = (canvas.width - sum(wide(name) for name in tokens)) / max(1, len(tokens))
    room = min(room, 34.0)
    for name in tokens:
        starts.append(x + (wide(name) + room) / 2)
        x += wide(name) + room
    reach = {True: 0.0, False: 0.0}
    for start, end, _ in drawn:
        back = end <= start
        reach[back] = max(reach[back], min(130.0, abs(starts[start] - starts[end]) * 0.55 + 12))
    line = reach[True] + 18
    most = _most(drawn)
    for start, end, weight in drawn:
        back, a, b = end <= start, starts[start], starts[end]
        high = min(130.0, abs(a - b) * 0.55 + 12) * 4 / 3
        y, peak = (line - 14, line - 14 - high) if back else (line + 8, line + 8 + high)
        thick, clear = _look(float(weight), most)
        spread = 9.0 if start == end else 0.0
        curve = f"M{short(a - spread)} {short(y)}C{short(a - spread)} {short(peak)} {short(b + spread)} {short(peak)} {short(b + spread)} {short(y)}"  # noqa: E501
        title = f"{tokens[start]} → {tokens[end]}  {number(float(weight))}"
        canvas.path(curve, f"arc {'c0' if back else 'c1'}", title, wide=thick, clear=clear)
        canvas.circle(b + spread, y, 1.2 + thick / 2, "c0" if back else "c1", title)
    for name, middle in zip(tokens, starts):
        canvas.text(middle, line, name, "label across")
    canvas.width, canvas.height = max(NARROW, x), line + 10 + reach[False] + (8 if reach[False] else 0)


def _beside(canvas: Canvas, drawn: list[tuple[int, int, float]], tokens: list[str]) -> None:
    names = widest(tokens, 150)
    reach = {True: 0.0, False: 0.0}
    for start, end, _ in drawn:
        reach[end <= start] = max(reach[end <= start], min(SIDE, _reach(start, end)))
    middle = max(reach[True] + names / 2 + 8, names / 2 + 2)
    left, right = middle - names / 2 - 6, middle + names / 2 + 6
    most = _most(drawn)
    for start, end, weight in drawn:
        back = end <= start
        a, b = (LINE * (place + 0.5) + 2 for place in (start, end))
        edge, side = (left, -1) if back else (right, 1)
        out = short(edge + side * min(SIDE, _reach(start, end)) * 4 / 3)
        spread = 4.0 if start == end else 0.0
        curve = f"M{short(edge)} {short(a - spread)}C{out} {short(a - spread)} {out} {short(b + spread)} {short(edge)} {short(b + spread)}"  # noqa: E501
        thick, clear = _look(float(weight), most)
        title = f"{tokens[start]} → {tokens[end]}  {number(float(weight))}"
        canvas.path(curve, f"arc {'c0' if back else 'c1'}", title, wide=thick, clear=clear)
        canvas.circle(edge, b + spread, 1.2 + thick / 2, "c0" if back else "c1", title)
    x, look = (middle, "label across") if reach[False] else (left + 7, "label")
    for place, name in enumerate(tokens):
        canvas.text(x, LINE * (place + 0.5) + 6, fit(name, 150), look)
    canvas.height = LINE * len(tokens) + 4


def _reach(start: int, end: int) -> float:
    """How far an arc at the side of a text stands off."""
    return 10.0 + 18.0 * math.log2(1 + abs(end - start))


def _between(canvas: Canvas, drawn: list[tuple[int, int, float]], tokens: list[str], sources: list[str]) -> None:
    left, right = widest(tokens, 130) + 4, canvas.width - widest(sources, 130) - 4
    count = max(len(tokens), len(sources))
    down = [LINE * (place + 0.5) + LINE * (count - len(tokens)) / 2 for place in range(len(tokens))]
    over = [LINE * (place + 0.5) + LINE * (count - len(sources)) / 2 for place in range(len(sources))]
    most, middle = _most(drawn), short((left + right) / 2)
    for start, end, weight in drawn:
        a, b = short(down[start]), short(over[end])
        thick, clear = _look(float(weight), most)
        title = f"{tokens[start]} → {sources[end]}  {number(float(weight))}"
        curve = f"M{short(left + 6)} {a}C{middle} {a} {middle} {b} {short(right - 6)} {b}"
        canvas.path(curve, "arc c0", title, wide=thick, clear=clear)
    for names, places, x, look in ((tokens, down, left, "label up"), (sources, over, right, "label")):
        for name, y in zip(names, places):
            canvas.text(x, y + 4, fit(name, 130), look)
    canvas.height = LINE * count + 2
