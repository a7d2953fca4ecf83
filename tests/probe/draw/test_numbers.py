"""The numbers of a figure as a table."""

import numpy as np
import pytest

from instar.probe.draw.numbers import MOST, numbers_of
from instar.probe.panel import Matrix, Words

ROWS = {
    "bars": ["狼", float("nan"), 0.1, 0.4, 0.6], "lines": [2, 1.0, 2.0], "arcs": ["\n", "\n", 0.25],
    "strip": [2, "狼", float("nan")], "scatter": ["狼", 0.5, 0.5],
    "tree": [2, 0, "\u202eevil\u2066", -0.9, Words("pruned", "剪去")],
}  # fmt: skip


@pytest.mark.parametrize("kind", ROWS)
def test_each_number_is_there(figures, kind):
    """The third row of each, as it was given, under as many names."""
    table = numbers_of(figures[kind])
    assert table is not None
    assert len(table.columns) == len(ROWS[kind])
    assert all(a == b or a != a != b for a, b in zip(table.rows[2], ROWS[kind], strict=True))


def test_too_many_are_left_to_files(figures):
    """A matrix of 50 x 50 with its names is too much for a page; texts need no numbers."""
    assert numbers_of(Matrix(Words("", ""), np.zeros((49, 50)))) is not None
    assert numbers_of(Matrix(Words("", ""), np.zeros((51, 50)))) is None
    assert MOST == 2500
    assert numbers_of(figures["table"]) is numbers_of(figures["flow"]) is None
