"""The numbers of a figure as a table: what it says to those who do not see it, or do not believe it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..panel import Arcs, Bars, Cells, Figure, Lines, Matrix, Scatter, Strip, Table, Tree, Words
from .graphs import STATES
from .labels import plain, shown_all

MOST = 2500  # numbers of a table; more stand in JSON and safetensors
PLACE, TOKEN, VALUE = Words("place", "位置"), Words("token", "词元"), Words("value", "数值")


def numbers_of(figure: Figure) -> Table | None:
    """The numbers that are drawn, or None where they are texts already or too many for a page."""
    columns, rows = _cells(figure)
    if not rows or len(columns) * len(rows) > MOST:
        return None
    return Table(figure.title, columns, rows)


def _cells(figure: Figure) -> tuple[list[Words], list[list[Any]]]:
    if isinstance(figure, Matrix | Cells):
        return _grid(figure)
    if isinstance(figure, Bars):
        ends = len(figure.low) == len(figure.high) == len(figure.labels) > 0
        columns = [Words("", ""), *(Words(name, name) for name in figure.series)]
        columns += [Words("low", "下限"), Words("high", "上限")] if ends else []
        low, high = [figure.low, figure.high] if ends else [[], []]
        return columns, [
            [
                label,
                *(plain(values[row]) for values in figure.series.values()),
                *([low[row], high[row]] if ends else []),
            ]
            for row, label in enumerate(figure.labels)
        ]
    if isinstance(figure, Lines):
        x = figure.x_title if figure.x_title.en else Words("x", "x")
        rows = [[plain(x), *(plain(values[n]) for values in figure.series.values())] for n, x in enumerate(figure.x)]
        return [x, *(Words(name, name) for name in figure.series)], rows
    if isinstance(figure, Arcs):
        ends_ = figure.sources or figure.tokens
        rows = [[figure.tokens[start], ends_[end], float(weight)] for start, end, weight in figure.arcs]
        return [Words("from", "从"), Words("to", "到"), VALUE], rows
    if isinstance(figure, Strip):
        rows = [[n, token, plain(value)] for n, (token, value) in enumerate(zip(figure.tokens, figure.values))]
        return [PLACE, TOKEN, VALUE], rows
    if isinstance(figure, Scatter):
        names = (
            figure.x_title if figure.x_title.en else Words("x", "x"),
            figure.y_title if figure.y_title.en else Words("y", "y"),
        )
        return [Words("", ""), *names], [[label, float(x), float(y)] for label, x, y in figure.points]
    if isinstance(figure, Tree):
        columns = [PLACE, Words("parent", "上级"), TOKEN, VALUE, Words("state", "状态")]
        rows = [
            [n, parent, label, float(value), STATES.get(state, state)]
            for n, (parent, label, value, state) in enumerate(figure.nodes)
        ]
        return columns, rows
    return [], []


def _grid(figure: Matrix | Cells) -> tuple[list[Words], list[list[Any]]]:
    values = np.atleast_2d(figure.values)
    if values.size > MOST:
        return [], []
    rows, columns = shown_all(figure.rows, values.shape[0]), shown_all(figure.columns, values.shape[1])
    return [Words("", ""), *(Words(name, name) for name in columns)], [
        [name, *map(plain, values[row])] for row, name in enumerate(rows)
    ]
