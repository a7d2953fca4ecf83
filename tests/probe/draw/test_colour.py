"""Colours: an order that is there without colour, ends that every eye tells apart, texts that can be read."""

from itertools import pairwise

import pytest

from instar.probe.draw import canvas
from instar.probe.draw.colour import (
    CATEGORIES,
    GREEN,
    GROUND,
    INK,
    LEVELS,
    PANEL,
    RED,
    THEMES,
    contrast,
    diverging,
    ink_on,
    luminance,
    oklch,
    rgb,
    sequential,
)  # fmt: skip

both = pytest.mark.parametrize("theme", THEMES)


@both
def test_shares_grow_darker_or_lighter_only(theme):
    """From the ground, which is nothing, every step is darker than the one before, or on a dark ground lighter."""
    colours = sequential(theme)
    assert len(colours) == LEVELS + 1
    assert colours[0] == GROUND[theme]
    steps = [luminance(after) - luminance(before) for before, after in pairwise(colours)]
    assert all(step < 0 for step in steps) if theme == "light" else all(step > 0 for step in steps)


@both
def test_shares_go_from_yellow_to_blue(theme):
    """The strong end is far from the ground, and yellow and blue stand at the two ends."""
    colours = sequential(theme)
    assert contrast(colours[-1], GROUND[theme]) > 10
    red, _, blue = rgb(colours[-1])
    assert (blue > red) if theme == "light" else (red > blue)


@both
def test_signed_values_part_from_the_ground(theme):
    """Zero is the ground; each way from it the contrast to it only grows; one end is blue, the other orange."""
    colours = diverging(theme)
    assert colours[LEVELS // 2] == GROUND[theme]
    for arm in (colours[LEVELS // 2 :], colours[LEVELS // 2 :: -1]):
        away = [contrast(colour, GROUND[theme]) for colour in arm]
        assert away == sorted(set(away))
    (cold_red, _, cold_blue), (warm_red, _, warm_blue) = rgb(colours[0]), rgb(colours[-1])
    assert cold_blue > cold_red
    assert warm_red > warm_blue


@both
def test_texts_can_be_read(theme):
    """Every text that is drawn has the contrast of WCAG 2 AA, on the ground, in a panel, and on each step of a map."""
    texts = [INK[theme], GREEN[theme], RED[theme], canvas.FAINT[theme]]
    assert min(contrast(text, ground) for text in texts for ground in (GROUND[theme], PANEL[theme])) >= 4.5
    assert min(contrast(ink_on(colour), colour) for colour in (*sequential(theme), *diverging(theme))) >= 4.5


def test_colours_are_those_of_okabe_and_ito():
    """Six of the eight, and lines of them are seen on at least one ground; OKLCH of pure red is what it is."""
    assert set(CATEGORIES) == {"#e69f00", "#56b4e9", "#009e73", "#0072b2", "#d55e00", "#cc79a7"}
    assert oklch(0.62796, 0.25768, 29.234) == "#ff0000"
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
