"""Numbers as steps: nothing that is there falls to nothing, and nothing strong is lost where a picture shrinks."""

import numpy as np

from instar.probe.draw.colour import LEVELS
from instar.probe.draw.shades import NOTHING, domain, levels, mosaic, pooled, ticks


def test_a_faint_row_is_not_white():
    """Uniform attention over 512 tokens, 1e-9, 0 and no number: seen, seen, the ground, and no step at all."""
    steps = levels(np.array([1 / 512, 1e-9, 0.0, 1.0, np.nan]), "share")
    assert steps.tolist() == [1, 1, 0, LEVELS, NOTHING]
    assert levels(np.array([0.25]), "share").tolist() == [LEVELS // 2]  # the square root


def test_signed_values_have_zero_in_the_middle():
    """-2, 0 and 1: the largest either way gives both ends."""
    assert levels(np.array([-2.0, 0.0, 1.0]), "signed").tolist() == [0, LEVELS // 2, LEVELS * 3 // 4]
    assert domain(np.array([-2.0, 1.0, np.inf]), "signed") == (-2.0, 2.0)


def test_plain_values_take_the_whole_map():
    """From the lowest to the highest; where all are one, it is the ground; nothing at all is drawn too."""
    assert levels(np.array([3.0, 4.0, 5.0]), "plain").tolist() == [0, LEVELS // 2, LEVELS]
    assert levels(np.array([3.0, 3.0]), "plain").tolist() == [0, 0]
    assert domain(np.array([np.nan]), "plain") == (0.0, 1.0)


def test_a_legend_names_values_where_they_are():
    """Each tick stands where the map puts its value."""
    for place, value in ticks("share", (0.0, 1.0)):
        assert abs(levels(np.array([value]), "share")[0] / LEVELS - place) <= 0.5 / LEVELS


def test_pooling_keeps_the_strongest():
    """One cell of 1,025 x 700 stays; of signed ones the farthest from zero; small ones stay as they are."""
    values = np.zeros((1025, 700), dtype=np.float32)
    values[777, 333] = 0.9
    small, down, across = pooled(values)
    assert (small.shape, down, across) == ((342, 350), 3, 2)
    assert small[777 // 3, 333 // 2] == np.float32(0.9)
    values[0, :2] = [-0.8, 0.7]
    assert pooled(values, "signed")[0][0, 0] == np.float32(-0.8)
    assert pooled(values, "share")[0][0, 0] == np.float32(0.7)
    same, *every = pooled(values[:512, :512])
    assert every == [1, 1]
    assert same.shape == (512, 512)


def test_a_gap_is_kept_only_where_nothing_else_is():
    """Of a block with a number and none, the number; of a block without any, none."""
    values = np.full((1, 4), np.nan)
    values[0, 1] = 0.5
    assert np.isnan(pooled(values, most=2)[0]).tolist() == [[False, True]]


def test_a_mosaic_has_each_head_in_its_place():
    """Head 1 of layer 2 stands there, between seams; heads of 100 x 100 are halved."""
    values = np.zeros((3, 2, 100, 100), dtype=np.float32)
    values[2, 1, 50, 99] = 1.0
    whole, every = mosaic(values)
    assert every == 2
    assert whole.shape == (3 * 51 + 1, 2 * 51 + 1)
    assert whole[2 * 51 + 1 + 25, 51 + 1 + 49] == 1.0
    assert np.isnan(whole[0]).all()
    assert np.nansum(whole) == 1.0
