"""Bars, curves and points: lengths and places that are the numbers."""

import pytest

from instar.probe.draw.charts import bars, lines, scatter
from instar.probe.panel import Bars, Lines, Scatter, Words

NAME = Words("", "")


def test_bars_are_as_long_as_their_values(shapes):
    """4, 2 and -1 from one zero line, each with its number."""
    found = shapes(bars(Bars(NAME, ["a", "b", "c"], {"x": [4.0, 2.0, -1.0]}), "en"))
    drawn = [attributes for tag, attributes, *_ in found if tag == "rect"]
    a, b, c = (float(one["width"]) for one in drawn)
    assert a / b == pytest.approx(2, rel=0.01)
    assert a / c == pytest.approx(4, rel=0.01)
    assert float(drawn[0]["x"]) == pytest.approx(float(drawn[2]["x"]) + c, abs=0.2)
    assert {"4.000", "2.000", "−1.000"} <= {words for *_, words, _ in found}


def test_bars_begin_at_zero(shapes):
    """4 and 3 are as 4 to 3, though nothing is near zero, and both lie on the paper."""
    canvas = bars(Bars(NAME, ["a", "b"], {"x": [4.0, 3.0]}), "en")
    found = [attributes for tag, attributes, *_ in shapes(canvas) if tag == "rect"]
    a, b = (float(one["width"]) for one in found)
    assert a / b == pytest.approx(4 / 3, rel=0.01)
    assert all(0 < float(one["x"]) < float(one["x"]) + float(one["width"]) < canvas.width for one in found)


def test_an_interval_is_drawn_and_told(shapes):
    """Whiskers from low to high, and a value that is none is a dash and no bar."""
    figure = Bars(NAME, ["a", "b"], {"x": [0.5, float("nan")]}, low=[0.25, 0.0], high=[1.0, 0.0])
    found = shapes(bars(figure, "en"))
    assert "0.250 … 1.000" in [title for *_, title in found]
    assert len([1 for tag, *_ in found if tag == "rect"]) == 1
    assert "–" in [words for *_, words, _ in found]


def test_a_curve_lifts_the_pen_at_a_gap(shapes):
    """1, none, 3, 4: a point, a gap and a line; three dots with their numbers."""
    figure = Lines(NAME, [0, 1, 2, 3], {"loss": [1.0, float("nan"), 3.0, 4.0]})
    found = shapes(lines(figure, "en"))
    (path,) = [attributes["d"] for tag, attributes, *_ in found if "curve" in attributes.get("class", "")]
    assert path.count("M") == 2
    assert [title for tag, _, _, title in found if tag == "circle"] == [
        "loss, 0: 1.000",
        "loss, 2: 3.000",
        "loss, 3: 4.000",
    ]


def test_series_differ_in_shape_too(shapes):
    """Three curves: a round, a square and a triangle, so that colour is not all that tells them."""
    found = shapes(lines(Lines(NAME, [0, 1], {name: [0.0, 1.0] for name in "abc"}), "en"))
    assert {tag for tag, _, _, title in found if title.endswith(": 1.000")} == {"circle", "rect", "path"}


@pytest.mark.parametrize("values", [[], [2.0], [0.0, 0.0], [-1.0, -1.0], [float("nan")], [1e-300, 1e300]])
def test_any_values_can_be_drawn(shapes, values):
    """None, one, all alike, no number at all, and what spans every size."""
    assert shapes(lines(Lines(NAME, list(range(len(values))), {"x": values}), "en"))
    assert shapes(bars(Bars(NAME, [str(n) for n in range(len(values))], {"x": values}), "en"))
    assert shapes(scatter(Scatter(NAME, [("a", value, value) for value in values]), "en"))


def test_points_stand_where_they_are(figures, shapes):
    """Higher is further up, more is further right; one without a value is counted, not dropped in silence."""
    found = shapes(scatter(figures["scatter"], "en"))
    evil, wolf = (attributes for tag, attributes, *_ in found if tag == "circle")
    assert float(evil["cx"]) < float(wolf["cx"])
    assert float(evil["cy"]) < float(wolf["cy"])
    assert "1 without a value" in [words for *_, words, _ in found]
