"""Products with quantised weights: right on every grid, and chosen by what was measured."""

import math
import time

import pytest
import torch

from instar.model import products
from instar.model.grid import Grid, halved, whole
from instar.model.products import KERNELS, TOLERANCES, Kernel, choose, lay, narrow, unlaid
from instar.model.quantized import QuantLinear

GRIDS = [Grid(8, 0, True), Grid(8, 0, False), Grid(8, 32, True), Grid(8, 64, False), Grid(4, 0, True),
         Grid(4, 32, True), Grid(4, 32, False), Grid(4, 64, False)]  # fmt: skip
SHAPE = (128, 192)


def layer_on(grid, dtype=torch.float32, shape=SHAPE):
    """A layer with every number of the grid among its weights."""
    generator = torch.Generator().manual_seed(1)
    q = torch.randint(grid.least, grid.most + 1, shape, generator=generator, dtype=torch.int8)
    groups = (shape[0], grid.groups(shape[1]))
    scale = ((torch.rand(groups, generator=generator) + 0.5) / 64).bfloat16().to(dtype)
    zero = None if grid.symmetric else torch.randint(-5, 6, groups, generator=generator, dtype=torch.int8)
    layer = QuantLinear(*shape, grid)
    layer.fill(q if grid.bits == 8 else halved(q), scale, zero)
    return layer


def by_hand(layer):
    """The weights of a layer in fp64, from its parts, one group after the other."""
    _, scale, zero = layer.parts()
    q = layer.values()
    width = q.shape[1] // scale.shape[1]
    dense = torch.empty(q.shape, dtype=torch.float64)
    for group in range(scale.shape[1]):
        part = slice(group * width, (group + 1) * width)
        shift = 0 if zero is None else zero[:, group, None].double()
        dense[:, part] = (q[:, part].double() - shift) * scale[:, group, None].double()
    return dense


def gap(found, right):
    return float((found.double() - right).norm() / right.norm())


@pytest.fixture(autouse=True)
def afresh():
    """What was measured in one test does not stand in the next."""
    products._choose.cache_clear()
    yield
    products._choose.cache_clear()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_every_kernel_equals_the_spread_weights(grid, dtype):
    """Each kernel that fits, in each order it reads, for one row, few and many; kernels of torch may refuse a dtype."""
    layer = layer_on(grid, dtype)
    right = by_hand(layer)
    rows, columns = SHAPE
    for kernel in (kernel for kernel in KERNELS.values() if kernel.fits(rows, columns, grid)):
        orders = (
            [False, True] if kernel.laid is None and KERNELS["int4pack"].fits(rows, columns, grid) else [kernel.laid]
        )
        for laid in orders:
            held = layer_on(grid, dtype)
            if laid:
                held.packed, held.scale = lay(held.packed, held.scale, held.zero, dtype)
                held.zero, held.laid = None, True
            for count in (1, 7, 33):
                x = torch.randn(count, columns, generator=torch.Generator().manual_seed(count)).to(dtype)
                y = kernel.product(held, x)
                assert y.dtype == dtype
                assert gap(y, x.double() @ right.t()) <= TOLERANCES[dtype]


@pytest.mark.parametrize("piece", [1, 64 * 192, 1 << 20])
def test_weights_are_spread_piece_by_piece(piece, monkeypatch):
    """However many rows of weights are spread out at once, the product is that of all, the last piece too."""
    monkeypatch.setattr(products, "PIECE", piece)
    for grid in GRIDS:
        layer = layer_on(grid, shape=(150, 192))
        x = torch.randn(3, 192)
        assert gap(narrow(layer, x), x.double() @ by_hand(layer).t()) <= 1e-5


def test_the_order_of_int4pack_is_found_and_undone():
    """What lay has mixed, unlaid puts back, for every number at every place."""
    for columns in (32, 96, 320):
        q = torch.randint(-8, 8, (192, columns), dtype=torch.int8, generator=torch.Generator().manual_seed(columns))
        laid, _ = lay(halved(q), torch.ones(192, columns // 32), None, torch.float32)
        assert torch.equal(whole(unlaid(laid)), q)


@pytest.mark.parametrize("grid", [Grid(4, 32, False), Grid(8, 0, True)], ids=str)
def test_a_wrong_kernel_is_not_chosen(grid, monkeypatch):
    """However fast a kernel is, what it computes must be the product."""

    def instant(held, x):
        return x.new_zeros(len(x), SHAPE[0])

    table = {"instant": Kernel(instant), **KERNELS}
    monkeypatch.setattr(products, "KERNELS", table)
    assert "instant" not in choose(*SHAPE, grid, torch.float32).names


def test_the_fastest_kernel_is_chosen(monkeypatch):
    """For one row, few and many another, each by its own time; one that gains little is not preferred, and one that is
    hopeless with one row is not tried with more."""
    times = {"narrow": (9, 9, 10), "wide": (9.5, 3, 9.5), "int8pack": (5, 5, 20), "hopeless": (99, 1, 1)}
    table = KERNELS | {"hopeless": Kernel(lambda held, x: narrow(held, x))}
    names = {kernel.product: name for name, kernel in table.items()}
    monkeypatch.setattr(products, "KERNELS", table)
    monkeypatch.setattr(
        products, "_seconds", lambda product, held, x, *_: times[names[product]][products.ROWS.index(len(x))]
    )
    assert choose(*SHAPE, Grid(8, 0, True), torch.bfloat16).names == ("int8pack", "wide", "narrow")


def test_a_product_is_timed_until_it_is_enough(monkeypatch):
    """The best of some tries counts; a wrong product takes for ever."""
    layer, x = layer_on(Grid(8, 0, True)), torch.randn(2, SHAPE[1])
    right = x.double() @ by_hand(layer).t()
    waits = iter([0, 0.02, 0.001, 0.02])

    def waiting(held, x):
        time.sleep(next(waits, 0.02))
        return narrow(held, x)

    monkeypatch.setattr(products, "ENOUGH", 10.0)
    assert 0.001 <= products._seconds(waiting, layer, x, right, math.inf) < 0.02
    assert products._seconds(lambda held, x: right * 1.01, layer, x, right, math.inf) == math.inf


def test_a_kernel_that_refuses_is_left_out(monkeypatch):
    """torch raises for a dtype that a kernel is not written for."""

    def refuse(held, x):
        raise RuntimeError("not implemented for Float")

    monkeypatch.setattr(products, "KERNELS", KERNELS | {"wide": Kernel(refuse)})
    assert "wide" not in choose(*SHAPE, Grid(8, 32, True), torch.bfloat16).names


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_what_is_chosen_is_right_and_loses_nothing(grid, dtype):
    """Settled, a layer has the same weights, bit for bit, and products within the tolerance, in whatever order its
    weights lie now."""
    layer = layer_on(grid, dtype)
    before, right = layer.parts(), by_hand(layer)
    layer.settle(dtype)
    for old, new in zip(before, layer.parts()):
        assert (old is None) == (new is None)
        assert old is None or torch.equal(old, new)
    for count in (1, 16, 70):
        x = torch.randn(count, SHAPE[1]).to(dtype)
        assert gap(layer(x), x.double() @ right.t()) <= TOLERANCES[dtype]


def test_an_order_can_be_left_again(monkeypatch):
    """A layer whose weights lie as int4pack wants them computes in another dtype, and settles for it."""
    layer = layer_on(Grid(4, 32, False))
    right = by_hand(layer)
    laid = products.Choice(("int4pack",) * 3, True)
    plain = products.Choice(("narrow",) * 3, False)
    monkeypatch.setattr("instar.model.quantized.choose", lambda rows, columns, grid, dtype: laid)
    layer.settle(torch.float32)
    assert layer.laid
    x = torch.randn(2, SHAPE[1])
    for given in (x, x.bfloat16(), x.double()):
        assert gap(layer(given), given.double() @ right.t()) <= TOLERANCES[given.dtype]
    monkeypatch.setattr("instar.model.quantized.choose", lambda rows, columns, grid, dtype: plain)
    layer.settle(torch.float32)
    assert not layer.laid
    assert torch.equal(by_hand(layer), right)
