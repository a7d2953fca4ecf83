"""Whole numbers of 4 bits in bytes, and grids that nothing computes."""

import pytest
import torch

from instar.config import InputError
from instar.model.grid import Grid, halved, whole


def test_two_weights_in_a_byte():
    """The even channel lies in the low half, moved so that -8 is 0."""
    q = torch.tensor([[-8, 7, 0, -1]], dtype=torch.int8)
    assert halved(q).tolist() == [[0xF0, 0x78]]
    assert whole(halved(q)).tolist() == q.tolist()


def test_what_numbers_there_are():
    """8 bits hold -128 to 127, 4 bits -8 to 7."""
    assert [(grid.least, grid.most) for grid in (Grid(8, 0, True), Grid(4, 0, True))] == [(-128, 127), (-8, 7)]


@pytest.mark.parametrize(("bits", "group"), [(3, 0), (16, 0), (4, 48), (8, -1)])
def test_other_grids_are_refused(bits, group):
    """Bits and groups that no product computes."""
    with pytest.raises(InputError, match="wanted"):
        Grid(bits, group, True)


def test_rows_that_fit():
    """Rows fill their groups, and whole words of 32 bits."""
    assert Grid(4, 32, True).fits(96)
    assert not Grid(4, 64, True).fits(96)
    assert not Grid(4, 0, True).fits(20)
    assert Grid(8, 0, True).fits(20)
