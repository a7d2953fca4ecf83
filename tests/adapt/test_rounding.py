"""Whole numbers that keep products as they were."""

import pytest
import torch

from instar.adapt import rounding
from instar.adapt.rounding import compensated, nearest, search
from instar.model.grid import Grid

GRIDS = [Grid(4, 32, True), Grid(4, 32, False), Grid(8, 0, True)]


def spread(q, scale, zero):
    """The weights that these numbers stand for."""
    groups = q.float().unflatten(1, (scale.shape[1], -1))
    return ((groups - zero[..., None]) * scale[..., None]).flatten(1)


def by_the_largest(weight, grid):
    """Plain rounding: the largest weight of a group is the largest number."""
    groups = weight.unflatten(1, (grid.groups(weight.shape[1]), -1))
    return groups.abs().amax(2) / grid.most, torch.zeros(groups.shape[:2], dtype=torch.int8)


@pytest.fixture(scope="module")
def weight():
    """Weights with a few that are far larger than the others."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(48, 128, generator=generator)
    return torch.where(torch.rand(weight.shape, generator=generator) < 0.02, 4 * weight, weight)


@pytest.fixture(scope="module")
def given():
    """What a layer is given: channels that go together, some loud and most quiet."""
    generator = torch.Generator().manual_seed(1)
    mixed = torch.randn(4096, 24, generator=generator) @ torch.randn(24, 128, generator=generator)
    return (mixed + 0.3 * torch.randn(4096, 128, generator=generator)) * torch.logspace(-1, 1, 128)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_every_weight_goes_to_its_nearest_number(grid, weight):
    """By no more than half a step, where the grid reaches."""
    scale, zero = search(weight, grid)
    q = nearest(weight, scale, zero, grid)
    assert q.dtype == torch.int8
    assert grid.least <= int(q.min()) <= int(q.max()) <= grid.most
    error = (spread(q, scale, zero) - weight).abs() / scale.abs().repeat_interleave(128 // scale.shape[1], 1)
    inside = (q > grid.least) & (q < grid.most)
    assert float(error[inside].max()) <= 0.5 + 1e-4


def test_searched_scales_are_better(weight):
    """Scales that are searched for leave a smaller squared error than those of the largest weights, and bf16 holds
    them."""
    for grid in GRIDS[:2]:
        plain, none = by_the_largest(weight, grid)
        scale, zero = search(weight, grid)
        assert torch.equal(scale, scale.bfloat16().float())
        before = (spread(nearest(weight, plain, none, grid), plain, none) - weight).square().sum()
        after = (spread(nearest(weight, scale, zero, grid), scale, zero) - weight).square().sum()
        assert after < 0.93 * before


def test_a_row_of_zeros_stays_one():
    """No scale is 0, and no number is none."""
    for grid in GRIDS:
        scale, zero = search(torch.zeros(2, 64), grid)
        assert (scale != 0).all()
        q = nearest(torch.zeros(2, 64), scale, zero, grid)
        assert torch.equal(spread(q, scale, zero), torch.zeros(2, 64))


@pytest.mark.parametrize("block", [16, 128])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_later_columns_make_up_for_earlier_ones(grid, block, weight, given, monkeypatch):
    """On what the layer is given, products err far less than with the nearest numbers, the same however many columns
    are rounded before their errors reach the others."""
    monkeypatch.setattr(rounding, "BLOCK", block)
    scale, zero = search(weight, grid)
    plain = nearest(weight, scale, zero, grid)
    better = compensated(weight, scale, zero, grid, given.t() @ given)
    right = given @ weight.t()
    errors = [float((given @ spread(q, scale, zero).t() - right).norm() / right.norm()) for q in (plain, better)]
    assert errors[1] < 0.6 * errors[0]
    monkeypatch.setattr(rounding, "BLOCK", 1)
    same = compensated(weight, scale, zero, grid, given.t() @ given)
    assert float((better == same).float().mean()) > 0.99


def test_inputs_that_are_never_seen(weight):
    """Channels that are always 0, and two that are always equal, leave all numbers on the grid."""
    grid = GRIDS[0]
    given = torch.randn(64, 128, generator=torch.Generator().manual_seed(2))
    given[:, 40:] = 0
    given[:, 1] = given[:, 0]
    scale, zero = search(weight, grid)
    q = compensated(weight, scale, zero, grid, given.t() @ given)
    assert grid.least <= int(q.min()) <= int(q.max()) <= grid.most


def test_the_order_of_columns_is_kept(weight):
    """Inputs that have nothing to do with each other leave nothing to make up for: numbers are the nearest."""
    grid = GRIDS[1]
    scale, zero = search(weight, grid)
    second = torch.diag(torch.rand(128, generator=torch.Generator().manual_seed(4)) + 0.5)
    assert torch.equal(compensated(weight, scale, zero, grid, second), nearest(weight, scale, zero, grid))
