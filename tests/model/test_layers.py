"""Parts that have a faster way to the same numbers, beside the plain way."""

import pytest
import torch
import torch.nn.functional as F

from instar.model.attention import SHORT, Attend, _by_products, grouped_weights
from instar.model.layers import Dropout, LayerNorm, RMSNorm, RootMeanSquare


def draw(*shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()


def gradients(output, inputs):
    """Of a fixed random projection of the output, the same in every dtype."""
    projection = draw(*output.shape, seed=9, dtype=torch.bfloat16)
    return torch.autograd.grad(output, inputs, projection.detach().to(output.dtype))


# --- root mean square -----------------------------------------------------------------------------------------------


def test_root_mean_square_is_that_of_torch():
    """Values and both gradients equal those of F.rms_norm in float64."""
    x, weight = draw(3, 5, 8), draw(8, seed=1)
    found, wanted = RootMeanSquare.apply(x, weight, 1e-2), F.rms_norm(x, (8,), weight, 1e-2)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(gradients(found, (x, weight)), gradients(wanted, (x, weight)), rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(RootMeanSquare.apply, (x, weight, 1e-2))


@pytest.mark.parametrize("kept", [torch.float32, torch.bfloat16])
def test_root_mean_square_of_bf16_is_computed_in_fp32(kept):
    """bf16 is only rounded to at the ends, whatever the weight is kept in: half a unit in the last place, no more."""
    x, weight = draw(64, 32, dtype=torch.bfloat16), draw(32, dtype=kept, seed=1)
    found = RootMeanSquare.apply(x, weight, 1e-6)
    exact = [value.detach().double().requires_grad_() for value in (x, weight)]
    wanted = F.rms_norm(exact[0], (32,), exact[1], 1e-6)
    torch.testing.assert_close(found.double(), wanted, rtol=2**-8, atol=0)
    for_x, for_weight = gradients(found, (x, weight))
    exact_x, exact_weight = gradients(wanted, exact)
    torch.testing.assert_close(for_x.double(), exact_x, rtol=2**-8, atol=1e-6)
    torch.testing.assert_close(for_weight.double(), exact_weight, rtol=2**-8, atol=1e-5)
    assert (found.dtype, for_weight.dtype) == (torch.bfloat16, kept)


@pytest.mark.parametrize("norm", [RMSNorm, LayerNorm])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_norms_say_the_same_in_training_and_inference(norm, dtype):
    """With and without gradients the numbers agree to the last place or two, and keep their dtype."""
    module, x = norm(32, 1e-6), draw(4, 32, dtype=dtype)
    learning = module(x)
    with torch.no_grad():
        using = module(x)
    assert learning.dtype == using.dtype == dtype
    torch.testing.assert_close(learning, using, rtol=2 * torch.finfo(dtype).eps, atol=1e-6)


# --- attention ------------------------------------------------------------------------------------------------------

CASES = pytest.mark.parametrize(
    ("kv_heads", "kind"), [(4, "causal"), (2, "causal"), (1, "mask"), (4, "mask"), (2, "mask of one row"), (2, "none")]
)


def case(kv_heads, kind, dtype=torch.float64):
    """q, k, v of 4 heads and 9 tokens in the layout that attention gives them, a mask, and whether to be causal."""
    q, k, v = (draw(2, 9, heads, 6, seed=n, dtype=dtype) for n, heads in enumerate((4, kv_heads, kv_heads)))
    sees = (torch.rand(2, 1, 9, 9, generator=torch.Generator().manual_seed(3)) < 0.4) | torch.eye(9, dtype=torch.bool)
    mask = torch.zeros(sees.shape, dtype=dtype).masked_fill_(~sees, -torch.inf)
    mask = {"mask": mask, "mask of one row": mask[:1]}.get(kind)
    return (q, k, v), mask, kind == "causal"


@CASES
def test_products_are_attention(kv_heads, kind):
    """Plain products and the fused kernel give the same values and gradients in float64."""
    inputs, mask, causal = case(kv_heads, kind)
    turned = [value.transpose(1, 2) for value in inputs]
    found = _by_products(*turned, mask, causal)
    wanted = Attend()(*turned, mask, causal)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(gradients(found, inputs), gradients(wanted, inputs), rtol=0, atol=1e-12)


@CASES
def test_either_kernel_in_bf16(kv_heads, kind):
    """In bf16, training (products) and inference (fused) stay within bf16's rounding of the float64 answer."""
    inputs, mask, causal = case(kv_heads, kind, torch.bfloat16)
    turned = [value.transpose(1, 2) for value in inputs]
    wanted = Attend()(*(value.double() for value in turned), None if mask is None else mask.double(), causal)
    learning = Attend()(*turned, mask, causal)
    with torch.no_grad():
        using = Attend()(*turned, mask, causal)
    for found in (learning, using):
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.double(), wanted.detach(), rtol=0, atol=0.03)


def test_long_rows_take_the_fused_kernel(monkeypatch):
    """Scores of long rows never exist together: past SHORT keys the products are not called."""
    monkeypatch.setattr("instar.model.attention._by_products", lambda *_: pytest.fail("products of a long row"))
    q = draw(1, 1, SHORT + 1, 8, dtype=torch.bfloat16)
    assert Attend()(q, q, q, None, True).isfinite().all()


def test_forbidden_attention_is_exactly_nothing():
    """Story: TransformerLensOrg/TransformerLens#385, scores so low that a finite mask let the future through (trap 34).
    However huge the scores, what is masked has no weight at all, and no row is NaN."""
    for dtype in (torch.float32, torch.bfloat16):
        q, k = (1e6 * draw(1, 1, 8, 4, seed=n, dtype=dtype) for n in (0, 1))
        v = torch.eye(8, dtype=dtype)[None, None]
        mask = torch.full((1, 1, 8, 8), -torch.inf, dtype=dtype).triu_(1)
        for found in (
            Attend()(q, k, v, mask, False),
            Attend()(q, k, v, None, True),
            _by_products(q, k, v, mask, False),
        ):
            assert found.isfinite().all()
            assert (found.triu(1) == 0).all()


def test_dropout_drops_its_share_and_keeps_the_mean():
    """A quarter is 0 and the rest larger by a third; the gradient passes where the channel does; none at rest."""
    torch.manual_seed(1)
    x = torch.ones(1001, 100, requires_grad=True)
    dropout = Dropout(0.25)
    y = dropout(x)
    y.sum().backward()
    dropped = (y == 0).float().mean().item()
    assert dropped == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / y.numel()) ** 0.5)
    assert sorted(set(y.flatten().tolist())) == pytest.approx([0.0, 4 / 3])
    assert torch.equal(x.grad, y.detach())
    assert not torch.equal(dropout(x), y)
    assert torch.equal(dropout.eval()(x), x)
    assert len({tuple(column) for column in (y == 0)[:8].T.tolist()}) > 50, "bytes of one number are no copies"


def test_scores_of_half_precision_are_wide():
    """Scores of 20 and 20.05 are two in bf16 too, as fused kernels have them: what attention takes is as exact as what
    it is given, with a cap and without."""
    q, k = (draw(1, 2, 16, 8, seed=n, dtype=torch.bfloat16) * scale for n, scale in enumerate((8, 4)))
    for cap in (0.0, 50.0):
        wanted = grouped_weights(q.double(), k.double(), None, True, cap=cap)
        found = grouped_weights(q, k, None, True, cap=cap)
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.double(), wanted, rtol=0, atol=2**-8)
