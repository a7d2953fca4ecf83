"""Texts of strangers on a drawing, and numbers as a person reads them."""

import numpy as np
import pytest
from rich.cells import cell_len

from instar.probe.draw.labels import chip, cut, number, said, shown, shown_all, wrapped_to
from instar.probe.panel import Words


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        (" wolf", "␣wolf"), ("   ", "␣␣␣"), ("layer 3", "layer 3"), ("<E4 B8>", "<E4 B8>"), ("a\n\t\r", "a⏎⇥␍"),
        ("\u202egnp", "<202E>gnp"), ("\u200f\u2066", "<200F><2066>"), ("\x1b[31m", "␛[31m"), ("狼", "狼"),
        ("\u3000", "□"), ("e\u0301", "e\u0301"), ("", ""),
    ],
)  # fmt: skip
def test_every_sign_is_seen(text, seen):
    """Blanks at the ends, line breaks, control signs and marks that turn a text; words and Chinese stay."""
    assert shown(text) == seen


def test_things_without_labels_have_numbers():
    """Of three things without a name."""
    assert shown_all((), 3) == ["0", "1", "2"]


def test_cut_by_columns():
    """Chinese signs take two; what fits is whole."""
    assert cut("狼在森林", 8) == "狼在森林"
    assert cut("狼在森林", 7) == "狼在森…"
    assert cell_len(cut("狼在森林", 6)) <= 6


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (2.4e-07, "2.4e-7"), (-3e-5, "−3.0e-5"), (0.1234, "0.123"), (-1.5, "−1.500"), (12.345, "12.35"),
        (123.44, "123.4"), (12345.6, "12,346"), (0.0, "0"), (float("nan"), "–"), (float("inf"), "–"), (None, "–"),
        (12345, "12,345"), (True, "✓"), ("a\n", "a⏎"),
    ],
)  # fmt: skip
def test_numbers_as_people_read_them(value, seen):
    """Small ones in powers of ten, large ones with commas, what is no number as a dash."""
    assert number(value) == seen


def test_a_cell_speaks_the_language():
    """Words in the language, numbers of numpy as numbers."""
    assert said(Words("score", "得分"), "zh") == "得分"
    assert said(np.float32(0.5), "en") == "0.500"


def test_a_chip_says_whether_it_holds():
    """A gap within its limit, above it, and none."""
    assert chip(2.4e-7, 1e-5) == "2.4e-7 ≤ 1.0e-5"
    assert chip(0.5, 0.0) == "0.500 > 0"
    assert chip(float("nan"), 0.1) == "NaN > 0.100"


@pytest.mark.parametrize(
    "text", ["a short line and a loooooooooooooooong word", "狼在森林里，羊在山上。", "狼 wolf 羊"]
)
def test_wrapping_loses_nothing(text):
    """No line is too long, no Chinese line begins with a stop, and all letters are there in order."""
    lines = wrapped_to(text, 10)
    assert max(map(cell_len, lines)) <= 10 + 2 * ("，" in text)
    assert not any(line.startswith(("，", "。")) for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert wrapped_to("", 10) == []
