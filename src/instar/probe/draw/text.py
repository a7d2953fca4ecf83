"""Panels for a terminal: blocks and shades, aligned also where Chinese signs take two columns.

What is drawn is a rich Text: a console that is a terminal shows its colours, any other leaves them out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich.cells import cell_len
from rich.text import Text

from ...text.figures import label as tick
from ..panel import (
    Arcs,
    Array,
    Atlas,
    Bars,
    Cells,
    Check,
    Figure,
    Flow,
    Lines,
    Matrix,
    Panel,
    Scale,
    Scatter,
    Strip,
    Tree,
)
from ..panel import Table as TableFigure
from .colour import LEVELS
from .graphs import depths
from .labels import chip, cut, number, plain, said, shown, shown_all, spoken, told, worded, wrapped_to
from .shades import NOTHING, levels, pooled, thinned

WIDTH = 100  # columns
MOST_ROWS = 64  # of a matrix, before it is pooled
SHADES, BLOCKS = " ·░▒▓█", " ▁▂▃▄▅▆▇█"
BLUE, ORANGE, FAINT = "#3f8fd2", "#e07b28", "dim"


def text(panels: Sequence[Panel], language: str = "en", width: int = WIDTH) -> Text:
    """All panels, their figures and checks."""
    whole = Text()
    for number_, panel in enumerate(panels):
        for line in [*([Text()] if number_ else []), *_panel(panel, language, width)]:
            line.rstrip()
            whole.append_text(line).append("\n")
    return whole


def figure_lines(figure: Figure, language: str = "en", width: int = WIDTH) -> list[Text]:
    """A figure without its title."""
    return DRAWERS[type(figure)](spoken(figure, language), language, width)


def check_line(check: Check, language: str = "en") -> Text:
    """Example: ✓ rows add up to 1  2.4e-7 ≤ 1.0e-5"""
    line = Text("✓ " if check.green else "✗ ", "green" if check.green else "bold red")
    return line.append(f"{told(check.about, language) or check.name}  ").append(chip(check.gap, check.limit), FAINT)


def _panel(panel: Panel, language: str, width: int) -> list[Text]:
    lines = [Text(told(panel.title, language), "bold"), Text("─" * min(width, 40), FAINT)]
    for figure in panel.figures:
        title = told(figure.title, language)
        lines += [Text(), Text(title, "bold"), *figure_lines(figure, language, width)] if title else [
            Text(), *figure_lines(figure, language, width)]  # fmt: skip
    if panel.checks:
        lines.append(Text())
        lines += [check_line(check, language) for check in panel.checks]
    for note in panel.notes:
        lines += [Text(line, FAINT) for line in wrapped_to(told(note, language), width)]
    return lines


def pad(text: str, room: int, *, right: bool = False) -> str:
    """A text cut and filled up to so many columns."""
    text = cut(text, room)
    blank = " " * (room - cell_len(text))
    return blank + text if right else text + blank


def bar(share: float, room: int) -> str:
    """A bar of up to `room` columns, to an eighth of one. Example: bar(0.5, 3) -> █▌"""
    eighths = round(min(1.0, max(0.0, share)) * room * 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def shade(step: int, scale: Scale, size: int = 2) -> tuple[str, str]:
    """One cell in shades, with its colour; a value of no number is a cross, what is negative has a sign."""
    if step == NOTHING:
        return "×" + " " * (size - 1), FAINT
    if scale != "signed":
        return SHADES[math.ceil(step / LEVELS * 5)] * size, BLUE
    away = abs(2 * step - LEVELS) / LEVELS
    sign = SHADES[math.ceil(away * 5)]
    if not away:
        return " " * size, ""
    below = 2 * step < LEVELS
    return ("−" if below else "+") + sign * (size - 1), BLUE if below else ORANGE


def matrix(figure: Matrix, language: str, width: int) -> list[Text]:
    """A row of shades for each row, with its strongest column behind it."""
    full = np.atleast_2d(figure.values)
    names, heads = shown_all(figure.rows, full.shape[0]), shown_all(figure.columns, full.shape[1])
    left = min(14, max(map(cell_len, names), default=0))
    room = width - left - 24
    values, down, across = pooled(full, figure.scale, max(1, min(MOST_ROWS, room)))
    names, heads = thinned(names, down), thinned(heads, across)
    size = 2 if 2 * len(heads) <= room else 1
    lines = _axes(figure, language)
    if down > 1 or across > 1:
        lines.append(Text(_pooled(full, down, across, language), FAINT))
    lines += [Text(" " * (left + 2) + line, FAINT) for line in _heads(heads, size)]
    steps = levels(values, figure.scale)
    for row, name in enumerate(names):
        line = Text(pad(name, left, right=True) + " │")
        for step in steps[row]:
            line.append(*shade(int(step), figure.scale, size))
        strongest = int(np.nan_to_num(np.abs(values[row]), nan=-1.0).argmax())
        line.append("│ ").append(f"{number(float(values[row, strongest]))} {cut(heads[strongest], 12)}", FAINT)
        lines.append(line)
    return lines


def _axes(figure: Matrix, language: str) -> list[Text]:
    names = (told(figure.row_title, language), "↓"), (told(figure.column_title, language), "→")
    said_ = "   ".join(f"{arrow} {name}" for name, arrow in names if name)
    return [Text(said_, FAINT)] if said_ else []


def _pooled(values: Array, down: int, across: int, language: str) -> str:
    size = f"{values.shape[0]} × {values.shape[1]}"
    block = f"{down} × {across}"
    return f"{size}, the strongest of each {block}" if language == "en" else f"{size}，每 {block} 格取最强者"


def _heads(names: Sequence[str], size: int) -> list[str]:
    """Column names in so many columns each: as they are where all fit, else their places, tens above ones."""
    if all(cell_len(name) <= size for name in names):
        return ["".join(pad(name, size) for name in names)]
    ones = "".join(pad(str(place % 10), size) for place in range(len(names)))
    tens = "".join(pad(str(place // 10) if place % 10 == 0 else "", size) for place in range(len(names)))
    return [tens, ones] if len(names) > 10 else [ones]


def atlas(figure: Atlas, language: str, width: int) -> list[Text]:
    """Each head in a few shades, a layer a row, in as many blocks of heads as the width asks for."""
    layers, heads = figure.values.shape[:2]
    side = 8
    small = [
        [levels(pooled(figure.values[n, h], figure.scale, side)[0], figure.scale) for h in range(heads)]
        for n in range(layers)
    ]
    side = small[0][0].shape[1]
    tall = -(-small[0][0].shape[0] // 2)
    lines = [Text("↓ layer   → head" if language == "en" else "↓ 层   → 头", FAINT)]
    each = max(1, (width - 5) // (side + 1))
    for first in range(0, heads, each):
        some = range(first, min(heads, first + each))
        lines.append(Text("     " + "".join(pad(str(head), side + 1) for head in some), FAINT))
        for layer in range(layers):
            for row in range(tall):
                line = Text(f"{layer if row == 0 else '':>3} ", FAINT)
                for head in some:
                    two = small[layer][head][2 * row : 2 * row + 2].max(axis=0)
                    line.append("│", FAINT)
                    for step in two:
                        line.append(*shade(int(step), figure.scale, 1))
                lines.append(line.append("│", FAINT))
    return lines


def cells(figure: Cells, language: str, width: int) -> list[Text]:
    """A table of words, each behind the shade of its value; where it is too wide, in pieces below each other."""
    values = np.atleast_2d(figure.values)
    rows, heads = shown_all(figure.rows, values.shape[0]), shown_all(figure.columns, values.shape[1])
    texts = [[shown(str(cell)) for cell in row] for row in figure.texts]
    left = min(14, max(map(cell_len, rows), default=0))
    sizes = [min(14, max(cell_len(name), *(cell_len(row[c]) for row in texts), 1)) + 3 for c, name in enumerate(heads)]
    steps = levels(values, figure.scale)
    lines: list[Text] = []
    for some in _pieces(sizes, width - left - 1):
        lines += [Text()] if lines else []
        lines.append(Text(" " * (left + 1) + "".join(" " + pad(heads[c], sizes[c] - 1) for c in some), FAINT))
        for row, name in enumerate(rows):
            line = Text(pad(name, left, right=True) + " ")
            for column in some:
                line.append(*shade(int(steps[row, column]), figure.scale, 1))
                line.append(pad(texts[row][column], sizes[column] - 1))
            lines.append(line)
    return lines


def _pieces(sizes: Sequence[int], room: int) -> list[list[int]]:
    """The numbers of the columns, in runs that fit."""
    pieces: list[list[int]] = [[]]
    used = 0
    for number_, size in enumerate(sizes):
        if pieces[-1] and used + size > room:
            pieces.append([])
            used = 0
        pieces[-1].append(number_)
        used += size
    return pieces


def bars(figure: Bars, language: str, width: int) -> list[Text]:
    labels = [shown(str(label)) for label in figure.labels]
    left = min(28, max(map(cell_len, labels), default=0))
    every = [abs(float(plain(x))) for values in figure.series.values() for x in values]
    most = max([x for x in every if math.isfinite(x)], default=1.0) or 1.0
    names = [shown(name) for name in figure.series]
    second = min(20, max(map(cell_len, names), default=0)) + 1 if len(names) > 1 else 0
    room = max(8, width - left - second - 28)
    lines = [Text(told(figure.unit, language), FAINT)] if told(figure.unit, language) else []
    for row, label in enumerate(labels):
        for order, values in enumerate(figure.series.values()):
            value = float(plain(values[row]))
            line = Text(pad(label if order == 0 else "", left, right=True) + " ")
            line.append(pad(names[order], second) if second else "", FAINT)
            drawn = bar(abs(value) / most, room) if math.isfinite(value) else ""
            line.append(drawn, BLUE if value >= 0 else ORANGE).append(f" {number(value)}")
            if order == 0 and row < len(figure.low) and row < len(figure.high):
                line.append(f"  [{number(float(figure.low[row]))}, {number(float(figure.high[row]))}]", FAINT)
            lines.append(line)
    return lines


def lines(figure: Lines, language: str, width: int) -> list[Text]:
    """One curve a line, all on one scale: its first value, itself, its last value."""
    series = {shown(name): [float(plain(y)) for y in values] for name, values in figure.series.items()}
    finite = [y for values in series.values() for y in values if math.isfinite(y)] or [0.0, 1.0]
    low, high = min(0.0, *finite), max(finite)
    left = min(24, max(map(cell_len, series), default=0))
    room = max(8, width - left - 22)
    xs = [float(plain(x)) for x in figure.x]
    titles = [told(words, language) for words in (figure.y_title, figure.x_title)]
    ends = f"{number(low)} … {number(high)}"
    across = f"{titles[1] or 'x'}: {tick(xs[0])} … {tick(xs[-1])}" if xs else ""
    said_ = "   ".join(part for part in (titles[0], ends, across) if part)
    drawn = [Text(line, FAINT) for line in wrapped_to(said_, width)]
    for name, values in series.items():
        line = Text(f"{pad(name, left)} ").append(f"{number(values[0]) if values else '':>9} ", FAINT)
        line.append(curve(values, low, high, room), BLUE)
        drawn.append(line.append(f" {number(values[-1]) if values else ''}", FAINT))
    return drawn


def curve(values: Sequence[float], low: float, high: float, room: int) -> str:
    """One block a value, at most `room`, of each stretch the highest; a gap stays a gap."""
    every = -(-len(values) // room) if values else 1
    blocks = []
    for start in range(0, len(values), every):
        some = [value for value in values[start : start + every] if math.isfinite(value)]
        share = (max(some) - low) / (high - low) if some and high > low else 0.0
        blocks.append(BLOCKS[1 + round(share * 7)] if some else " ")
    return "".join(blocks) if every > 1 or 2 * len(blocks) > room else "".join(2 * block for block in blocks)


def arcs(figure: Arcs, language: str, width: int) -> list[Text]:
    """The strongest, one a line."""
    tokens = [shown(token) for token in figure.tokens]
    ends = [shown(token) for token in figure.sources] or tokens
    strongest = sorted(figure.arcs, key=lambda arc: -abs(float(arc[2])))
    most = abs(float(strongest[0][2])) or 1.0 if strongest else 1.0
    left = min(20, max((cell_len(tokens[start]) + len(str(start)) + 1 for start, *_ in strongest[:24]), default=0))
    right = min(20, max((cell_len(ends[end]) + len(str(end)) + 1 for _, end, _ in strongest[:24]), default=0))
    lines = []
    for start, end, weight in strongest[:24]:
        line = Text(pad(f"{start} {tokens[start]}", left, right=True)).append(" → ", FAINT)
        line.append(f"{pad(f'{end} {ends[end]}', right)} {number(float(weight)):>7} ")
        lines.append(line.append(bar(abs(float(weight)) / most, 24), BLUE if weight >= 0 else ORANGE))
    if len(strongest) > 24:
        more = len(strongest) - 24
        lines.append(Text(f"and {more:,} weaker ones" if language == "en" else f"另有 {more:,} 条较弱的", FAINT))
    return lines


def strip(figure: Strip, language: str, width: int) -> list[Text]:
    """Tokens in lines, below each a block as high as its value."""
    steps = levels(np.array([float(plain(value)) for value in figure.values]), figure.scale)
    tokens = [cut(shown(token), 24) for token in figure.tokens]
    drawn: list[Text] = []
    for some in _pieces([cell_len(token) + 1 for token in tokens], width):
        below = Text()
        for place in some:
            step, size = int(steps[place]), cell_len(tokens[place])
            if figure.scale == "signed" and step != NOTHING:
                sign, colour = shade(step, "signed", 2)
                below.append(pad((sign[0] + sign[1] * size)[:size] if sign.strip() else "", size + 1), colour)
            else:
                block = "×" if step == NOTHING else BLOCKS[math.ceil(step / LEVELS * 8)]
                below.append(pad(block * size, size + 1), BLUE)
        drawn += [Text(" ".join(tokens[place] for place in some)), below]
    return drawn


def scatter(figure: Scatter, language: str, width: int) -> list[Text]:
    """Points as dots, or as how many of them fall together; those farthest out are named below."""
    points = [(shown(str(label)), float(x), float(y)) for label, x, y in figure.points]
    known = [point for point in points if math.isfinite(point[1]) and math.isfinite(point[2])]
    if not known:
        return []
    columns, rows = min(64, width - 12), 16
    xs, ys = [x for _, x, _ in known], [y for _, _, y in known]
    (left, right), (low, high) = ((min(v), max(v) if max(v) > min(v) else min(v) + 1) for v in (xs, ys))
    counts = np.zeros((rows, columns), dtype=int)
    for _, x, y in known:
        row, column = (high - y) / (high - low) * (rows - 1), (x - left) / (right - left) * (columns - 1)
        counts[round(row), round(column)] += 1
    lines = [Text(told(figure.y_title, language), FAINT)]
    for row in range(rows):
        edge = number(high) if row == 0 else number(low) if row == rows - 1 else ""
        line = Text(f"{edge:>9} │", FAINT)
        line.append("".join(" •23456789"[n] if n < 10 else "#" for n in counts[row]), BLUE)
        lines.append(line)
    lines.append(Text(" " * 10 + "└" + "─" * columns, FAINT))
    lines.append(Text(" " * 11 + pad(number(left), columns // 3) + pad(told(figure.x_title, language), columns // 3)
                      + pad(number(right), columns - 2 * (columns // 3), right=True), FAINT))  # fmt: skip
    far = sorted(known, key=lambda p: -max((p[1] - left) / (right - left), (p[2] - low) / (high - low)))
    return [*lines, *(Text(f"  {name}: {number(x)}, {number(y)}") for name, x, y in far[:8])]


def tree(figure: Tree, language: str, width: int) -> list[Text]:
    """A node a line, deeper ones to the right, the best way marked."""
    deep = depths(figure.nodes)
    children: dict[int, list[int]] = {}
    for place, (parent, *_) in enumerate(figure.nodes):
        children.setdefault(parent, []).append(place)
    signs = {"best": ("★", "bold green"), "done": ("●", "green"), "kept": ("○", ""), "pruned": ("×", FAINT)}
    lines, stack = [], children.get(-1, [])[::-1]
    while stack:  # a search may be deeper than Python's own stack
        place = stack.pop()
        _, label, value, state = figure.nodes[place]
        sign, look = signs.get(state, ("○", ""))
        lines.append(
            Text("  " * deep[place], FAINT)
            .append(f"{sign} {shown(label)}", look)
            .append(f"  {number(float(value))}", FAINT)
        )
        stack += children.get(place, [])[::-1]
    return lines


def flow(figure: Flow, language: str, width: int) -> list[Text]:
    lines = []
    for place, (name, what) in enumerate(figure.steps):
        lines += [Text("   ↓", FAINT)] if place else []
        lines.append(Text(f"{place + 1:>2}. ").append(told(name, language), "bold"))
        parts = [shown(part) for part in worded(what).split("\n")]
        lines += [Text(f"    {line}") for part in parts for line in wrapped_to(part, width - 4)]
    return lines


def table(figure: TableFigure, language: str, width: int) -> list[Text]:
    heads = [told(column, language) for column in figure.columns]
    rows = [[said(value, language) for value in row] for row in figure.rows]
    sizes = [
        min(40, max([cell_len(head), *(cell_len(row[place]) for row in rows)])) for place, head in enumerate(heads)
    ]
    right = [
        bool(rows) and all(isinstance(plain(row[p]), int | float | None) for row in figure.rows)
        for p in range(len(heads))
    ]
    drawn = []
    for number_, row in enumerate([heads, *rows]):
        line = "  ".join(pad(text_, size, right=side) for text_, size, side in zip(row, sizes, right))
        drawn.append(Text(line, "bold" if number_ == 0 else ""))
    drawn.insert(1, Text("─" * min(width, sum(sizes) + 2 * max(0, len(sizes) - 1)), FAINT))
    return [*drawn, *(Text(line, FAINT) for line in wrapped_to(told(figure.note, language), width))]


DRAWERS: dict[type, Callable[[Any, str, int], list[Text]]] = {
    Matrix: matrix, Atlas: atlas, Cells: cells, Bars: bars, Lines: lines, Scatter: scatter, Arcs: arcs, Strip: strip,
    Tree: tree, Flow: flow, TableFigure: table,
}  # fmt: skip
