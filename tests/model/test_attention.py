"""What attention takes of each key, and what it learns, in half precision as in double."""

import pytest
import torch

from instar.model.attention import Seen, attention_weights, taken
from instar.model.positions import Rotation


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2)])
@pytest.mark.parametrize("cap", [0.0, 5.0])
def test_in_half_precision_scores_stay_exact_and_gradients_near(heads, kv_heads, cap):
    """Weights are those of double precision to a bf16's last bit, gradients to a hundredth of their size."""
    generator = torch.Generator().manual_seed(0)
    q, k = (3 * torch.randn(2, n, 9, 16, generator=generator).bfloat16() for n in (heads, kv_heads))
    wish = torch.randn(2, heads, 9, 9, generator=generator)
    found = []
    for dtype in (torch.bfloat16, torch.float64):
        given = [x.to(dtype, copy=True).requires_grad_() for x in (q, k)]
        weights = attention_weights(*given, None, True, cap=cap)
        (weights * wish.to(dtype)).sum().backward()
        found.append([weights.detach(), *(x.grad for x in given)])
        with torch.no_grad():
            torch.testing.assert_close(attention_weights(*given, None, True, cap=cap), weights.detach())
    (weights, *slopes), (exact, *wanted) = found
    torch.testing.assert_close(weights.double(), exact, rtol=2**-8, atol=1e-6)
    for slope, right in zip(slopes, wanted):
        assert (slope.double() - right).norm() < 0.01 * right.norm()


def test_scores_that_half_precision_cannot_tell_apart_are_told_apart():
    """20 and 20.05 are one number in bf16; their weights are not."""
    q = torch.zeros(1, 1, 1, 16, dtype=torch.bfloat16)
    q[..., 0] = 1
    k = torch.zeros(1, 1, 2, 16, dtype=torch.bfloat16)
    q[..., 1], k[0, 0, :, 0], k[0, 0, 1, 1] = 1, 80, 0.2
    weights = attention_weights(q.requires_grad_(), k, None, False).detach().float()
    assert torch.tensor(20.0, dtype=torch.bfloat16) == torch.tensor(20.05, dtype=torch.bfloat16)
    assert float(weights[..., 1] / weights[..., 0]) == pytest.approx(torch.tensor(0.05).exp().item(), rel=0.01)


def test_a_mask_and_turns_are_taken_at_places():
    """For one batch or for each row, of one head or of all, and a plain causal mask becomes one of the places' own."""
    places = torch.tensor([[3, 0], [2, 2]])
    for rows, heads in ((1, 1), (2, 1), (2, 3), (1, 3)):
        x = torch.randn(rows, heads, 4, 5)
        found = taken(x, places)
        assert found.shape == (2, heads, 2, 5)
        for row in range(2):
            for at in range(2):
                assert torch.equal(found[row, :, at], x[row % rows, :, places[row, at]])
    turns = Rotation(torch.randn(1, 1, 4, 2), torch.randn(1, 1, 4, 2))
    seen = Seen(None, True, turns).at(places, 4, torch.float32)
    assert (seen.mask[:, 0] == 0).tolist() == [[[True] * 4, [True, *[False] * 3]], [[True] * 3 + [False]] * 2]
    assert not seen.causal
    assert torch.equal(seen.rotation.cos, taken(turns.cos, places))
    assert seen.keys is turns
    assert Seen(torch.zeros(2, 1, 1, 6)).at(places, 0, torch.float32).mask.shape == (2, 1, 1, 6)  # of a source
