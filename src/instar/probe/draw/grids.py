"""Matrices, atlases of heads and grids of texts, as SVG."""

from __future__ import annotations

import math

import numpy as np

from ..panel import Array, Atlas, Cells, Matrix, Scale
from .canvas import NARROW, WIDE, Canvas, fit, map_of, wide, widest
from .colour import LEVELS
from .labels import number, shown, shown_all
from .shades import NOTHING, domain, levels, mosaic, pooled, thinned

SHAPES = 2500  # cells that are drawn one by one; more become a picture
LEGEND = 34


def matrix(figure: Matrix, language: str) -> Canvas:
    """One square a cell, with its value on hovering; a large one is a picture whose rows tell their strongest cell."""
    values, down, across = pooled(np.atleast_2d(figure.values), figure.scale)
    rows = thinned(shown_all(figure.rows, len(figure.values)), down)
    columns = thinned(shown_all(figure.columns, np.atleast_2d(figure.values).shape[1]), across)
    count = max(values.shape)
    canvas = Canvas(NARROW if count <= 40 else WIDE)
    left = widest(rows, 96) + 8
    cell = min(34.0, (canvas.width - left - 8) / max(1, values.shape[1]), 460.0 / max(1, values.shape[0]) + 6)
    level = not len(figure.columns) or all(wide(name) <= cell - 1 for name in columns)
    slant = 0.0 if level else widest(columns, 84) * 0.77
    if not level:
        cell = min(cell, (canvas.width - left - 8 - 0.8 * slant) / max(1, values.shape[1]))
    top = _title_rows(canvas, figure, language) + (16 if level else slant + 10)
    _columns(canvas, columns, left, top, cell, level)
    _rows(canvas, rows, left, top, cell)
    if values.size <= SHAPES:
        _shapes(canvas, values, figure.scale, rows, columns, left, top, cell)
    else:
        canvas.picture(left, top, cell * values.shape[1], cell * values.shape[0], values, figure.scale)
        _strongest(canvas, values, rows, columns, left, top, cell)
    canvas.rect(left, top, cell * values.shape[1], cell * values.shape[0], "edge")
    foot = top + cell * values.shape[0] + 12
    canvas.legend(left, foot, figure.scale, domain(figure.values, figure.scale))
    if down > 1 or across > 1:
        size = f"{figure.values.shape[0]} × {figure.values.shape[1]}"
        note = f"{size}: the strongest of each {down} × {across}"
        canvas.text(
            left + 146, foot + 20, note if language == "en" else f"{size}：每 {down} × {across} 格取最强者", "small"
        )
    canvas.height = foot + LEGEND
    return canvas


def _title_rows(canvas: Canvas, figure: Matrix, language: str) -> float:
    """What rows and columns are, in a line above; gives the height that it takes."""
    names = (figure.row_title.of(language), "↓"), (figure.column_title.of(language), "→")
    said = "   ".join(f"{arrow} {name}" for name, arrow in names if name)
    if said:
        canvas.text(0, 12, said, "small")
    return 20 if said else 4


def _columns(canvas: Canvas, names: list[str], left: float, top: float, cell: float, level: bool) -> None:
    room = widest(names, 84) + 8 if level else 12.5
    every = math.ceil(room / cell) if not all(wide(name) <= cell - 1 for name in names) else 1
    for place, name in enumerate(names[::every]):
        middle = left + (place * every + 0.5) * cell
        if level:
            canvas.text(middle, top - 5, name, "label across")
        else:
            canvas.text(middle + 2, top - 5, fit(name, 84), "label", turned=-50)


def _rows(canvas: Canvas, names: list[str], left: float, top: float, cell: float) -> None:
    every = math.ceil(12.5 / cell)
    for place, name in enumerate(names):
        if place % every == 0:
            canvas.text(left - 6, top + (place + 0.5) * cell + 4, fit(name, 96), "label up")


def _shapes(
    canvas: Canvas,
    values: Array,
    scale: Scale,
    rows: list[str],
    columns: list[str],
    left: float,
    top: float,
    cell: float,
) -> None:
    steps, letter = levels(values, scale), map_of(scale)
    gap = 1.0 if cell > 12 else 0.0
    for row, column in np.ndindex(values.shape):
        step = steps[row, column]
        x, y = left + column * cell, top + row * cell
        title = f"{rows[row]} → {columns[column]}  {number(float(values[row, column]))}"
        look = "gap" if step == NOTHING else f"{letter}{step}"
        canvas.rect(x + gap / 2, y + gap / 2, cell - gap, cell - gap, look, title)
        if scale == "signed" and cell >= 14 and abs(step - LEVELS / 2) > LEVELS / 6 and step != NOTHING:
            glyph = "+" if step > LEVELS / 2 else "−"
            canvas.text(x + cell / 2, y + cell / 2 + 3.5, glyph, f"small across on-{letter}{step}")


def _strongest(
    canvas: Canvas, values: Array, rows: list[str], columns: list[str], left: float, top: float, cell: float
) -> None:
    size = np.nan_to_num(np.abs(values), nan=-1.0)
    for row, column in enumerate(size.argmax(axis=1)):
        title = f"{rows[row]} → {columns[column]}  {number(float(values[row, column]))}"
        canvas.rect(left, top + row * cell, cell * values.shape[1], cell, "hit", title)


def atlas(figure: Atlas, language: str) -> Canvas:
    """All heads at a glance, a layer a row; each tells its number on hovering."""
    layers, heads = figure.values.shape[:2]
    whole, every = mosaic(figure.values, figure.scale)
    canvas = Canvas(NARROW if heads <= 8 else WIDE)
    left, top = 34.0, 34.0
    side = min(96.0, (canvas.width - left - 4) / heads)
    high = side * figure.values.shape[2] / max(1, figure.values.shape[3])
    canvas.text(0, 12, "↓ layer   → head" if language == "en" else "↓ 层   → 头", "small")
    for head in range(heads):
        canvas.text(left + (head + 0.5) * side, top - 5, str(head), "small across")
    for layer in range(layers):
        canvas.text(left - 8, top + (layer + 0.5) * high + 4, str(layer), "small up")
    canvas.picture(left, top, side * heads, high * layers, whole, figure.scale)
    for layer in range(layers):
        for head in range(heads):
            title = f"layer {layer}, head {head}" if language == "en" else f"第 {layer} 层第 {head} 头"
            canvas.rect(left + head * side, top + layer * high, side, high, "hit", title)
    foot = top + high * layers + 12
    canvas.legend(left, foot, figure.scale, domain(figure.values, figure.scale))
    if every > 1:
        note = f"the strongest of each {every}" if language == "en" else f"每 {every} 格取最强者"
        canvas.text(left + 146, foot + 20, note, "small")
    canvas.height = foot + LEGEND
    return canvas


def cells(figure: Cells, language: str) -> Canvas:
    """A grid of words on their shades, as wide as its words; the value of each on hovering."""
    values = np.atleast_2d(figure.values)
    texts = [[shown(str(text)) for text in row] for row in figure.texts]
    rows, columns = shown_all(figure.rows, values.shape[0]), shown_all(figure.columns, values.shape[1])
    left, high = widest(rows, 96) + 8, 22.0
    sizes = []
    for column, name in enumerate(columns):
        sizes.append(max(26.0, widest([name, *(row[column] for row in texts)], 84) + 10))
    steps, letter = levels(values, figure.scale), map_of(figure.scale)
    starts = [left + sum(sizes[:column]) for column in range(len(sizes) + 1)]
    canvas = Canvas(max(NARROW, starts[-1] + 2))
    for column, name in enumerate(columns):
        canvas.text((starts[column] + starts[column + 1]) / 2, 14, fit(name, sizes[column] - 4), "label across strong")
    for row, name in enumerate(rows):
        y = 22 + row * high
        canvas.text(left - 6, y + high / 2 + 4, fit(name, 96), "label up")
        for column, text in enumerate(texts[row]):
            step = steps[row, column]
            look = "gap" if step == NOTHING else f"{letter}{step}"
            title = f"{name}, {columns[column]}: {text}  {number(float(values[row, column]))}"
            canvas.rect(starts[column] + 0.75, y + 0.75, sizes[column] - 1.5, high - 1.5, look, title, round=3)
            canvas.text(
                (starts[column] + starts[column + 1]) / 2, y + high / 2 + 4, fit(text, sizes[column] - 6),
                "label across" + ("" if step == NOTHING else f" on-{letter}{step}"), title=title,
            )  # fmt: skip
    foot = 22 + len(rows) * high + 10
    canvas.legend(left, foot, figure.scale, domain(values, figure.scale))
    canvas.height = foot + LEGEND
    return canvas
