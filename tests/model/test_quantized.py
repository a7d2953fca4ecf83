"""QuantLinear in the place of Linear."""

import pytest
import torch
from torch import nn

from instar.config import InputError, ModelConfig
from instar.model.grid import Grid, halved
from instar.model.layers import Linear
from instar.model.quantized import QuantLinear, kernels_of, quantized, refuse_quantized, replace, settle
from instar.model.transformer import Transformer

TINY = ModelConfig(vocab_size=50, d_model=64, layers=2, heads=4, kv_heads=4, d_ff=96)


def filled(bias=False):
    """A layer (3, 32) of 4 bits, whose second row has a scale of 2 and a zero point of 1."""
    layer = QuantLinear(3, 32, Grid(4, 32, False), nn.Parameter(torch.tensor([0.5, 0.0, -1.0])) if bias else None)
    q = (torch.arange(96).view(3, 32) % 16 - 8).to(torch.int8)
    layer.fill(halved(q), torch.tensor([[1.0], [2.0], [0.5]]), torch.tensor([[0], [1], [-3]], dtype=torch.int8))
    return layer


def test_the_weight_by_hand():
    """(q - z) s, row by row."""
    weight = filled().dense()
    assert weight[:, :3].tolist() == [[-8.0, -7.0, -6.0], [-18.0, -16.0, -14.0], [-2.5, -2.0, -1.5]]
    assert torch.equal(filled().weight, weight)


def test_it_computes_as_linear_does():
    """x of any leading shape and its own dtype; the bias in that dtype."""
    layer = filled(bias=True)
    plain = Linear(32, 3)
    plain.weight, plain.bias = nn.Parameter(layer.dense()), layer.bias
    x = torch.randn(2, 5, 32)
    torch.testing.assert_close(layer(x), plain(x))
    torch.testing.assert_close(layer(x[0, 0]), plain(x[0, 0]))
    said = layer(x.bfloat16())
    assert said.dtype == torch.bfloat16
    assert said.shape == (2, 5, 3)


def test_a_gradient_passes_through():
    """What is learnt below the layer or beside it gets the gradient of the spread weight; the weight gets none."""
    layer = filled()
    x = torch.randn(4, 32, requires_grad=True)
    layer(x).square().sum().backward()
    wanted = torch.autograd.grad((x @ layer.dense().t()).square().sum(), x)[0]
    torch.testing.assert_close(x.grad, wanted, atol=1e-3, rtol=1e-4)
    assert not list(layer.parameters())


def test_whole_models_settle_and_say_so():
    """Layers of a model by name; what was chosen, shape by shape."""
    model = Transformer(TINY)
    layer = QuantLinear(64, 64, Grid(8, 0, True))
    layer.fill(torch.zeros(64, 64, dtype=torch.int8), torch.ones(64, 1))
    replace(model, "blocks.1.attention.q", layer)
    assert [name for name, _ in quantized(model)] == ["blocks.1.attention.q"]
    settle(model, torch.float32)
    (said,) = kernels_of(model)
    assert (said["out"], said["in"], said["layers"], len(said["kernels"])) == (64, 64, 1, 3)
    assert model(torch.arange(5)[None]).isfinite().all()


def test_training_is_refused():
    """A model with such a layer is not trained; one without is."""
    model = Transformer(TINY)
    refuse_quantized(model, "runs/x", "train")
    replace(model, "blocks.0.attention.q", filled())
    with pytest.raises(InputError, match="runs/x is quantised to 4 bits"):
        refuse_quantized(model, "runs/x", "train")


def test_half_the_bytes():
    """4 bits take half a byte."""
    layer = filled()
    assert (layer.packed.dtype, layer.packed.numel()) == (torch.uint8, 3 * 32 // 2)
