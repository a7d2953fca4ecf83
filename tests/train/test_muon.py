"""Muon against torch's own and against singular values."""

import pytest
import torch

from instar.train.muon import Muon, orthogonal

SHAPES = [(8, 8), (24, 8), (8, 24), (8, 8), (24, 8)]
COEFFICIENTS = (3.4445, -4.775, 2.0315)


def run(kind, steps, **options):
    """The matrices after some steps on gradients that are the same for every kind."""
    draw = torch.Generator().manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(shape, generator=draw)) for shape in SHAPES]
    optimizer = kind(weights, lr=0.02, weight_decay=0.1, **options)
    for _ in range(steps):
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=draw)
        optimizer.step()
    return weights, optimizer


@pytest.mark.parametrize("options", [{}, {"nesterov": False}, {"adjust_lr_fn": "match_rms_adamw"}])
def test_in_bf16_it_is_torchs(options):
    """Taking matrices of one shape together changes nothing but the order of bf16 sums."""
    for ours, theirs in zip(run(Muon, 4, **options)[0], run(torch.optim.Muon, 4, **options)[0]):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-3)


def test_state_goes_over_to_torchs():
    """A run may go on with torch's Muon: the state has its names and values."""
    ours, theirs = run(Muon, 3)[1].state_dict(), run(torch.optim.Muon, 3)[1].state_dict()
    assert ours["state"].keys() == theirs["state"].keys()
    for number, state in ours["state"].items():
        torch.testing.assert_close(state, theirs["state"][number])


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 40, 16), (2, 16, 40)])
def test_fp32_follows_the_formula(shape):
    """Singular values go through a x + b x^3 + c x^5 five times, and singular vectors stay (float64 SVD)."""
    matrices = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    u, values, v = torch.linalg.svd(matrices, full_matrices=False)
    values = values / matrices.flatten(1).norm(dim=1)[:, None]
    a, b, c = COEFFICIENTS
    for _ in range(5):
        values = a * values + b * values**3 + c * values**5
    found = orthogonal(matrices.float(), COEFFICIENTS, 5, 1e-7)
    torch.testing.assert_close(found.double(), u @ torch.diag_embed(values) @ v, rtol=0, atol=1e-4)


def test_a_matrix_without_a_gradient_stays():
    weights = [torch.nn.Parameter(torch.ones(4, 4)) for _ in range(2)]
    weights[0].grad = torch.randn(4, 4)
    Muon(weights, lr=0.1).step()
    assert torch.equal(weights[1], torch.ones(4, 4))
    assert not torch.equal(weights[0], torch.ones(4, 4))
