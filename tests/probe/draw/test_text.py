"""Panels for a terminal: aligned also with Chinese, inert, and nothing left out in silence."""

import io

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from instar.probe.draw.text import DRAWERS, WIDTH, bar, curve, figure_lines, text
from instar.probe.panel import Arcs, Bars, Cells, Lines, Matrix, Table, Words

NAME = Words("", "")


def plain(figure, language="en", width=WIDTH):
    return [line.plain for line in figure_lines(figure, language, width)]


@pytest.mark.parametrize("kind", [kind.__name__.lower() for kind in DRAWERS])
def test_every_figure_fits_and_is_inert(panel, figures, kind):
    """No line is wider than asked, and no sign of a token commands the terminal or turns the line."""
    for line in plain(figures[kind], "zh", 80):
        assert cell_len(line) <= 80
        assert line.isprintable()


def test_columns_stand_below_each_other():
    """The bars of a matrix, of cells and of a table begin at one column, whether a label is Chinese or not."""
    labels = ["the", "森林", "狼"]
    rows = plain(Matrix(NAME, np.tril(np.ones((3, 3))) / 3, labels, labels))[-3:]
    assert len({cell_len(row[: row.index("│")]) for row in rows}) == 1
    assert len({cell_len(row[: row.rindex("│")]) for row in rows}) == 1
    rows = plain(Table(NAME, [Words("a", "a"), Words("b", "b")], [[label, 0.5] for label in labels]))[2:]
    assert len({cell_len(row) for row in rows}) == 1
    rows = plain(Cells(NAME, [labels, labels[::-1]], np.ones((2, 3)), ["甲", "bb"]))
    assert len({cell_len(row.rstrip()) - cell_len(row.split("█")[-1].rstrip()) for row in rows[1:]}) == 1


def test_a_row_tells_its_strongest():
    """The shades and, behind them, where the row looks most."""
    (row,) = plain(Matrix(NAME, np.array([[0.0, 0.9, 0.1]]), ["人"], ["狗", "咬", "人"]))[-1:]
    assert row == "人 │  ██░░│ 0.900 咬"
    assert plain(Matrix(NAME, np.array([[-1.0, 0.0, 0.5]]), ["人"], (), "signed"))[-1].startswith("人 │−█  +▒│ −1.000")


def test_a_large_matrix_says_that_it_is_pooled():
    """700 x 700 in so many columns, in both languages."""
    figure = Matrix(NAME, np.eye(700))
    assert "700 × 700, the strongest of each 11 × 11" in plain(figure)
    assert "700 × 700，每 11 × 11 格取最强者" in plain(figure, "zh")


def test_bars_are_as_long_as_their_values():
    """To an eighth of a column; the interval beside."""
    assert [bar(share, 4) for share in (1.0, 0.5, 1 / 32, 0.0)] == ["████", "██", "▏", ""]
    lines = plain(Bars(NAME, ["a", "b"], {"x": [1.0, 0.5]}, low=[0.9, 0.4], high=[1.1, 0.6]))
    assert 2 * lines[1].count("█") <= lines[0].count("█") <= 2 * lines[1].count("█") + 1
    assert lines[0].startswith("a █")
    assert lines[0].endswith("1.000  [0.900, 1.100]")


def test_curves_rise_with_their_values():
    """Lowest and highest block, a gap as a gap, of many values the highest of each stretch."""
    assert curve([0.0, float("nan"), 1.0], 0.0, 1.0, 4) == "▁ █"
    assert curve([0.0, 0.0, 1.0, 0.0], 0.0, 1.0, 2) == "▁█"
    assert plain(Lines(NAME, [0, 1], {"kl": [4.0, 0.0]}))[1].split() == ["kl", "4.000", "██▁▁", "0"]


def test_weak_arcs_are_counted():
    """Of 30 the strongest 24, the rest counted."""
    lines = plain(Arcs(NAME, ["a"] * 30, [(place, 0, place / 30) for place in range(30)]))
    assert len(lines) == 25
    assert lines[0].startswith("29 a → 0 a")
    assert lines[-1] == "and 6 weaker ones"


def test_wide_grids_go_on_below():
    """60 columns in pieces, each column once."""
    names = [f"w{number:02}" for number in range(60)]
    lines = plain(Cells(NAME, [names], np.ones((1, 60)), ["l"], names))
    heads = " ".join(line for line in lines if line.strip() and not line.startswith("l"))
    assert heads.split() == names


def test_colour_only_where_it_is_shown(panel):
    """A terminal gets colours; what is written to a file or a pipe has none."""
    drawn = text([panel])
    for terminal in (True, False):
        file = io.StringIO()
        Console(file=file, force_terminal=terminal, color_system="truecolor" if terminal else None).print(drawn)
        assert ("\x1b[" in file.getvalue()) is terminal
    assert "\x1b" not in drawn.plain


def test_checks_and_notes_are_told(panel):
    """Green and red with their numbers, and the notes, in the language."""
    lines = text([panel], "zh").plain.splitlines()
    assert lines[0] == "注意力"
    assert "✓ 每行之和为 1  2.0e-7 ≤ 1.0e-5" in lines
    assert "✗ 最后一行就是输出  NaN > 0" in lines
    assert "信息的路由" in lines
