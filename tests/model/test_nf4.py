"""NF4: its 16 values and its scales by hand, those of bitsandbytes where it is installed, and a product that keeps no
copy of the weight."""

import pytest
import torch
import torch.nn.functional as F

from instar.config import InputError
from instar.config.presets import preset
from instar.hub.files import save_model
from instar.model import nf4
from instar.model.layers import Linear
from instar.model.nf4 import NF4Linear
from instar.model.quantized import replace
from instar.model.transformer import Transformer

SHAPES = [(48, 32), (96, 128), (300, 130), (64, 1024), (3, 21), (1, 64)]


def layer_of(weight, bias=None):
    layer = Linear(*reversed(weight.shape), bias=False)
    layer.weight, layer.bias = torch.nn.Parameter(weight), bias
    return layer


@pytest.fixture(params=SHAPES, ids=str)
def weight(request):
    return torch.randn(request.param, generator=torch.Generator().manual_seed(4)) * 0.3


def test_the_sixteen_values():
    """Means of the quantiles of a normal distribution on both sides of 0, over the largest (their appendix E)."""
    edge = (1 - 1 / 32 + 1 - 1 / 30) / 2  # 0.9677083
    normal = torch.distributions.Normal(0.0, 1.0)
    above = normal.icdf(torch.linspace(edge, 0.5, 9, dtype=torch.float64)[:-1])
    below = -normal.icdf(torch.linspace(edge, 0.5, 8, dtype=torch.float64)[:-1])
    wanted = torch.cat([below, torch.zeros(1), above]).sort().values / above.max()
    torch.testing.assert_close(torch.tensor(nf4.LEVELS, dtype=torch.float64), wanted, rtol=0, atol=2e-7)


def test_the_values_of_scales():
    """256 different ones from -0.99 to 1, in each decade twice as many as in the one below."""
    found = torch.tensor(nf4.STEPS)
    assert len(found.unique()) == 256
    for decade in range(7):
        top = 10.0 ** (decade - 6)
        between = (found.abs() > top / 10) & (found.abs() < top)
        assert int(between.sum()) == 2 * 2**decade
    assert found.max() == 1
    assert 0 in found


def test_by_hand(weight):
    """Each code is the nearest of the 16 after a division by the largest of its 64; each scale the nearest of the 256,
    after their mean was taken away, by the largest of its 256."""
    layer = NF4Linear.of(layer_of(weight))
    flat, levels, steps = weight.flatten(), torch.tensor(nf4.LEVELS), torch.tensor(nf4.STEPS)
    codes = torch.stack((layer.packed >> 4, layer.packed & 15), 1).flatten()
    tops = torch.tensor([float(flat[n : n + 64].abs().max()) for n in range(0, len(flat), 64)])
    assert float(layer.mean) == pytest.approx(float(tops.mean()), rel=1e-6)
    scales = []
    for n, top in enumerate(tops):
        part = tops[n // 256 * 256 :][:256] - tops.mean()
        largest = part.abs().max()
        share = (top - tops.mean()) / largest if largest > 0 else torch.zeros(())
        chosen = steps[int(layer.scales[n])]
        assert abs(chosen - share) <= (steps - share).abs().min() + 1e-6
        scales.append(float(chosen * largest + tops.mean()))
    for n in range(0, len(flat), max(7, len(flat) // 600 * 2 + 1)):
        share = flat[n] / tops[n // 64]
        chosen = levels[int(codes[n])]
        assert abs(chosen - share) <= (levels - share).abs().min() + 1e-6
        assert float(layer.dense().flatten()[n]) == pytest.approx(float(chosen) * scales[n // 64], rel=1e-5, abs=1e-7)


def test_what_it_takes_and_what_it_costs():
    """4.127 bits a weight, and the error that the paper's blocks of 64 have on normal weights, about 9 %."""
    weight = torch.randn(512, 1024, generator=torch.Generator().manual_seed(1))
    layer = NF4Linear.of(layer_of(weight))
    held = sum(getattr(layer, name).nbytes for name in ("packed", "scales", "tops", "mean"))
    assert 8 * held / weight.numel() == pytest.approx(4 + 8 / 64 + 32 / (64 * 256), rel=1e-3)
    assert float((layer.dense() - weight).norm() / weight.norm()) == pytest.approx(0.092, abs=0.004)


def test_zeros():
    """A weight of zeros stays one."""
    assert not NF4Linear.of(layer_of(torch.zeros(4, 64))).dense().any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_as_bitsandbytes(weight, dtype):
    """The same codes and the same values from the same scales. Scales differ by a step at most, and only where a value
    lies in the middle of two: on a CPU bitsandbytes rounds it to 16 bits first."""
    theirs = pytest.importorskip("bitsandbytes.functional")
    weight = weight.to(dtype)
    packed, state = theirs.quantize_4bit(weight, blocksize=64, compress_statistics=True, quant_type="nf4")
    layer = NF4Linear.of(layer_of(weight))
    assert torch.equal(packed.flatten(), layer.packed)
    assert torch.equal(state.state2.code, torch.tensor(nf4.STEPS))
    torch.testing.assert_close(layer.tops, state.state2.absmax, rtol=0, atol=0)
    apart = state.absmax.flatten().int() - layer.scales.int()
    if layer.tops.any():
        assert apart.abs().max() <= 1
        assert apart.ne(0).float().mean() < 0.01 or apart.ne(0).sum() <= 1
    layer.scales = state.absmax.flatten()
    torch.testing.assert_close(layer.dense(dtype), theirs.dequantize_4bit(packed, state), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_product_with_a_gradient_for_x_alone(weight, dtype):
    """The product is that with the spread weight, x gets its gradient, and nothing of the weight is kept."""
    layer = NF4Linear.of(layer_of(weight, torch.nn.Parameter(torch.randn(len(weight)))))
    x = torch.randn(5, 2, weight.shape[1], dtype=dtype, requires_grad=True)
    again = x.detach().clone().requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        y = layer(x)
    wanted = F.linear(again, layer.dense(dtype), layer.bias.to(dtype))
    near = {"rtol": 1e-4, "atol": 1e-4}
    if dtype == torch.bfloat16:
        near = {"rtol": 0.05, "atol": 0.05 * float(wanted.detach().std())}
    torch.testing.assert_close(y, wanted, **near)
    (y.square().sum() + y.sum()).backward()
    (wanted.square().sum() + wanted.sum()).backward()
    near["atol"] *= max(1.0, float(again.grad.std()))
    torch.testing.assert_close(x.grad, again.grad, **near)
    assert sum(kept) == 0
    assert [name for name, _ in layer.named_parameters()] == ["bias"]
    assert list(layer.state_dict()) == ["bias"]


def test_a_model_in_nf4_is_not_saved(tmp_path):
    """A file without the layers in 4 bits would be no model."""
    model = Transformer(preset("nano", vocab_size=64, d_model=32, layers=1, heads=4))
    replace(model, "blocks.0.attention.q", NF4Linear.of(model.blocks[0].attention.q))
    with pytest.raises(InputError, match="a model in NF4 is not saved"):
        save_model(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert model(torch.zeros(1, 3, dtype=torch.long)).isfinite().all()
