"""PNG of every figure with matplotlib, of heat maps without."""

import builtins
import struct

import numpy as np
import pytest

from instar.config import InputError
from instar.probe.draw import charted
from instar.probe.draw.charted import CHARTS, drawable, png
from instar.probe.draw.colour import GROUND, rgb
from instar.probe.draw.svg import DRAWERS
from instar.probe.panel import Atlas, Matrix, Table, Words

NAME = Words("", "")


def size(raw):
    assert raw[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", raw[16:24])


@pytest.fixture
def without(monkeypatch):
    """A place where matplotlib cannot be imported."""
    real = builtins.__import__

    def refuse(name, *rest, **more):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.setattr(charted, "plotting", lambda: False)


def test_heat_maps_need_nothing(without, figures):
    """Without matplotlib matrix and atlas are drawn, below each other, each cell a square of many points."""
    width, height = size(png(drawable([figures["matrix"], figures["atlas"]])))
    assert width >= 96
    assert height > width
    assert [type(figure) for figure in drawable(list(figures.values()))] == [Matrix, Atlas]


def test_the_rest_says_what_is_missing(without, figures):
    """Curves without matplotlib, and nothing at all: what to install, or what to ask for."""
    with pytest.raises(InputError, match=r'PNG of Lines needs matplotlib: pip install "instar\[plot\]"'):
        drawable([figures["lines"]])
    with pytest.raises(InputError, match="found no figure"):
        drawable([])


def test_a_bare_map_is_pooled(without):
    """700 x 700 is at most 512 wide; its ground is white."""
    from .test_png import decode

    raw = png([Matrix(NAME, np.triu(np.ones((700, 700)), 1))])
    assert size(raw) == (350, 350)
    assert tuple(decode(raw)[-1, 0]) == rgb(GROUND["light"])


def test_every_kind_is_known():
    """A figure that SVG draws, PNG draws."""
    assert set(CHARTS) == set(DRAWERS)


@pytest.mark.slow
def test_everything_is_drawn_with_matplotlib(figures):
    """All kinds on one sheet, tokens with dollar signs among them, which begin no formula, and the same bytes twice."""
    pytest.importorskip("matplotlib")
    some = [Matrix(Words("$x^{$", "题"), np.eye(2), ["$a", "b$"], ["\\frac{", "$$"]), *figures.values()]
    raw = png(some, "zh")
    assert raw == png(some, "zh")
    assert size(raw)[0] == 1080


def test_what_is_too_tall_is_refused():
    """A table of 2,500 rows is no picture."""
    pytest.importorskip("matplotlib")
    with pytest.raises(InputError, match="too tall; write fewer views, or svg or html"):
        png([Table(NAME, [NAME], [[row] for row in range(2500)])])
