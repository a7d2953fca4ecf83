"""Tokens in reading order and the lines between them."""

import pytest

from instar.probe.draw.chains import arcs, strip
from instar.probe.draw.colour import LEVELS
from instar.probe.panel import Arcs, Strip, Words

NAME = Words("", "")


def drawn(found):
    return [(attributes, title) for tag, attributes, _, title in found if "arc" in attributes.get("class", "").split()]


def test_a_strip_reads_as_a_text(shapes):
    """Every token once, in order, in lines that fit; the strongest in the darkest shade, its note on hovering."""
    tokens = [f" word{number}" for number in range(40)]
    figure = Strip(NAME, tokens, [number / 39 for number in range(40)], notes=["a note"] * 40)
    canvas = strip(figure, "en")
    words = [(words, attributes) for tag, attributes, words, _ in shapes(canvas) if "word" in words]
    assert [word for word, _ in words] == [f"␣word{number}" for number in range(40)]
    assert max(float(attributes["x"]) for _, attributes in words) < canvas.width
    assert words[-1][1]["class"] == f"label across on-s{LEVELS}"
    assert "39: ␣word39  1.000  a note" in [title for *_, title in shapes(canvas)]


@pytest.mark.parametrize("count", [4, 40])
def test_arcs_are_as_wide_as_their_weight(shapes, count):
    """On one line or upright: a weight of 1 is drawn wider and clearer than one of 0.25; what looks ahead differs."""
    figure = Arcs(NAME, [f"t{number}" for number in range(count)], [(1, 0, 1.0), (2, 0, 0.25), (0, 3, 0.5)])
    found = {title.split("  ")[1]: attributes for attributes, title in drawn(shapes(arcs(figure, "en")))}
    assert float(found["1.000"]["stroke-width"]) > float(found["0.250"]["stroke-width"])
    assert float(found["1.000"].get("opacity", 1)) > float(found["0.250"]["opacity"])
    assert (found["1.000"]["class"], found["0.500"]["class"]) == ("arc c0", "arc c1")


def test_arcs_between_two_texts(shapes):
    """A line from each word on the left to the one on the right."""
    found = drawn(shapes(arcs(Arcs(NAME, ["狼"], [(0, 1, 0.9)], ["the", " wolf"]), "en")))
    assert [title for _, title in found] == ["狼 → ␣wolf  0.900"]


def test_too_many_arcs_are_counted(shapes):
    """Of 400 the strongest 300 are drawn, and it is said."""
    figure = Arcs(NAME, ["a"] * 400, [(place, 0, place / 400) for place in range(400)])
    found = shapes(arcs(figure, "en"))
    assert len(drawn(found)) == 300
    assert "the strongest 300 of 400" in [words for *_, words, _ in found]
    assert min(float(title.split("  ")[1]) for _, title in drawn(found)) == 0.25
