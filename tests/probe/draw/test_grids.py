"""Matrices, atlases and grids of texts: each cell in its place, in its shade, with its value."""

import base64
import struct

import numpy as np

from instar.probe.draw.grids import atlas, cells, matrix
from instar.probe.draw.shades import levels
from instar.probe.panel import Atlas, Matrix, Words

NAME = Words("", "")


def test_each_cell_tells_its_value(figures, shapes):
    """36 cells of six tokens: shades in reading order, the title says row, column and value."""
    figure = figures["matrix"]
    found = [shape for shape in shapes(matrix(figure, "en")) if "→" in shape[3]]
    assert [shape[1]["class"] for shape in found] == [f"s{step}" for step in levels(figure.values, "share").ravel()]
    assert found[6 * 2 + 1][3] == "狼 → ␣wolf  0.250"
    lefts = [float(shape[1]["x"]) for shape in found]
    assert lefts[:6] == sorted(lefts[:6]) == lefts[6:12]


def test_a_gap_is_no_shade(shapes):
    """What is not finite has a look of its own and no number."""
    (gap,) = [s for s in shapes(matrix(Matrix(NAME, np.array([[0.5, np.nan]])), "en")) if s[1].get("class") == "gap"]
    assert gap[3] == "0 → 1  –"


def test_signed_cells_have_their_sign(shapes):
    """Strong ones bear + or −, so that colour is not all that tells them."""
    found = shapes(matrix(Matrix(NAME, np.array([[1.0, -1.0], [0.01, 0.0]]), scale="signed"), "en"))
    assert [words for tag, _, words, _ in found if words in ("+", "−")] == ["+", "−"]


def test_a_large_matrix_is_a_picture_that_says_so(shapes):
    """700 x 700: two pictures of 350 x 350, one for each ground, the pooling said, and of each row its strongest."""
    values = np.eye(700, dtype=np.float32)
    found = shapes(matrix(Matrix(NAME, values), "en"))
    pictures = [attributes for tag, attributes, *_ in found if tag == "image"]
    assert [picture["class"] for picture in pictures] == ["light", "dark"]
    raw = base64.b64decode(pictures[0]["href"].removeprefix("data:image/png;base64,"))
    assert struct.unpack(">II", raw[16:24]) == (350, 350)
    assert any("700 × 700: the strongest of each 2 × 2" in words for _, _, words, _ in found)
    assert "每 2 × 2 格取最强者" in matrix(Matrix(NAME, values), "zh").svg("")
    hits = [title for _, attributes, _, title in found if attributes.get("class") == "hit"]
    assert hits[3] == "6 → 6  1.000"


def test_an_atlas_names_each_head(shapes):
    """3 layers of 2 heads; the one under the pointer is told, in the language."""
    found = shapes(atlas(Atlas(NAME, np.zeros((3, 2, 8, 8))), "zh"))
    assert [title for *_, title in found if title][-1] == "第 2 层第 1 头"
    assert len([title for *_, title in found if title]) == 6


def test_a_grid_of_texts_has_its_words(figures, shapes):
    """Each word stands on its shade in an ink that can be read, whole on hovering."""
    found = [shape for shape in shapes(cells(figures["cells"], "en")) if shape[3].startswith("layer 0, ␣wolf")]
    assert [shape[0] for shape in found] == ["rect", "text"]
    assert found[1][2] == "␣wolf"
    assert found[1][1]["class"].endswith(f"on-{found[0][1]['class']}")
