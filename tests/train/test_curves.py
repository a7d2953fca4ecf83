"""Curves: what is kept of many points, where the pen is lifted, and axes that can be read."""

import math
import re

import pytest

from instar.text.axes import rounds
from instar.train.curves import Curve, chart, smooth, smooth_points, thin


def pairs(path):
    return re.findall(r"[ML]([\d.]+) ([\d.]+)", path)


def test_thinning_keeps_the_spike_of_a_single_step():
    """Of ten thousand points a few hundred are left, in order, and the highest and the lowest are among them."""
    points = [(step, 1.0 + 0.001 * (step % 7)) for step in range(10_000)]
    points[4321], points[8765] = (4321, 99.0), (8765, -5.0)
    kept = thin(points, 400)
    assert len(kept) <= 400
    assert {(4321, 99.0), (8765, -5.0)} <= set(kept)
    assert [x for x, _ in kept] == sorted(x for x, _ in kept)
    assert thin(points[:400], 400) == points[:400]


def test_thinning_keeps_gaps():
    """A stretch with a gap gives one, however many points are dropped."""
    points = [(step, None if step == 5000 else 1.0) for step in range(10_000)]
    assert sum(y is None for _, y in thin(points, 100)) == 1


def test_a_gap_lifts_the_pen_and_a_lone_point_is_a_dot():
    """Three stretches of 2, 1 and 2 points are three moves, and the one in the middle is drawn."""
    drawn = chart(
        "t", "u", [Curve("c", "raw", [(1, 1.0), (2, 2.0), (3, None), (4, 1.5), (5, None), (6, 1.0), (7, 1.2)])]
    )
    path = drawn.curves[0].path
    assert path.count("M") == 3
    assert len(pairs(path)) == drawn.curves[0].shown == drawn.curves[0].total == 5
    assert re.search(r"M[\d. ]+h0M", path)


def test_nothing_finite_is_no_chart():
    """A curve of gaps has no axis to stand on."""
    assert chart("t", "u", [Curve("c", "raw", [(1, None), (2, None)])]) is None


def test_marks_stand_at_their_step():
    """A mark has the x of its step, and steps that fall on the same place are one mark."""
    drawn = chart("t", "u", [Curve("c", "raw", [(step, 1.0) for step in range(1, 102)])], marks=[51])
    assert drawn.marks == [str(round((58 + 760 - 24) / 2))]
    many = chart("t", "u", [Curve("c", "raw", [(1, 1.0), (10**6, 1.0)])], marks=range(500, 600))
    assert len(many.marks) == 1


@pytest.mark.parametrize(
    "values",
    [
        [0.0, 0.0],
        [5.0],
        [1e-12, 1e-12],
        [1e99, -1e99],
        [1e15, 1e15 + 1],
        [1e-90, 1e90],
        [-3.0, -3.0],
        [0.0, 1e-99],
        [3, 1],
    ],
)
def test_any_values_have_axes(values):
    """Equal, tiny, huge and single values get a few ticks inside the chart, and points inside it too."""
    drawn = chart("t", "u", [Curve("c", "raw", list(enumerate(values)))])
    assert 1 <= len(drawn.up) <= 13
    assert all(0 <= float(place) <= 300 for place, _ in drawn.up)
    assert all(0 <= float(y) <= 300 for _, y in pairs(drawn.curves[0].path))


def test_a_spike_makes_the_axis_logarithmic():
    """One loss of 10,000 among losses of 2 does not flatten them; an ordinary curve keeps its even axis."""
    usual = [(step, 2.0 + step / 100) for step in range(50)]
    assert not chart("t", "u", [Curve("c", "raw", usual)]).log
    spiky = chart("t", "u", [Curve("c", "raw", [*usual, (50, 10_000.0)])])
    assert spiky.log
    assert {"10", "100", "1,000"} <= {label for _, label in spiky.up}


def test_round_values():
    """Ticks are 1, 2 or 5 times a power of ten; steps are whole."""
    assert rounds(0, 7.3, 4) == [0, 2, 4, 6]
    assert rounds(0, 0.6, 6) == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert rounds(1, 3, 10, whole=True) == [1, 2, 3]


def test_smoothing_leaves_gaps_where_they_were():
    """The mean has values and gaps at the steps where the points have them, and stays within them."""
    points = [(step, None if step % 9 == 4 else 5 + math.sin(step)) for step in range(400)]
    means = smooth_points(points)
    assert [(x, y is None) for x, y in means] == [(x, y is None) for x, y in points]
    assert all(4.2 < y < 5.8 for _, y in means if y is not None)


def test_smoothing_does_not_lag():
    """The mean of a falling line is that line, but for its ends; one that looks back alone stands above it."""
    line = [float(-step) for step in range(1000)]
    means = [y for _, y in smooth_points(list(enumerate(line)))]
    assert means[300:700] == pytest.approx(line[300:700], abs=0.01)
    assert smooth(line, 0.02)[500] > line[500] + 10
