"""Logits as weights: the draw, the nucleus and log-probabilities, against the plain formulas in fp64."""

import math

import pytest
import torch

from instar.infer import weights as weights_file
from instar.infer.weights import ends, floor_of_p, likeliest, logprob, normaliser, pick, weigh


def make_logits(rows, size, seed=0, scale=3.0, dtype=torch.float64):
    return scale * torch.randn(rows, size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("size", [1, 7, 255, 256, 257, 5000])
def test_pick_is_the_inverse_of_the_distribution(size):
    """Block by block, the same token as along the whole line; tokens without a share are never drawn."""
    logits = make_logits(1, size)
    logits[:, 3:6] = -math.inf
    line = logits.softmax(-1).cumsum(-1)
    luck = torch.cat((torch.rand(500, dtype=torch.float64, generator=torch.Generator().manual_seed(1)), torch.zeros(1)))
    wanted = torch.searchsorted(line, luck[None] * line[:, -1:], right=True)[0]
    drawn = pick(weigh(logits).expand(len(luck), -1), luck, size)
    assert torch.equal(drawn, wanted)
    assert not ((drawn >= 3) & (drawn < 6)).any()


@pytest.mark.parametrize("luck", [0.0, 1 - 2**-53, 1.0])
def test_the_ends_of_the_line(luck):
    """The first token with a share, and the last, though a product may round up to the whole."""
    logits = torch.full((1, 1000), -math.inf, dtype=torch.float64)
    logits[0, 300:700] = make_logits(1, 400)[0]
    assert pick(weigh(logits), torch.tensor([luck]), 1000).item() == (300 if luck == 0 else 699)


def test_weights_that_are_no_numbers():
    """The draw stays within the vocabulary, so that the engine can say what is wrong."""
    logits = torch.full((2, 300), math.nan)
    logits[1] = 0.0
    drawn = pick(weigh(logits), torch.tensor([0.9, 0.5]), 300)
    assert drawn[0] < 300
    assert drawn[1] == 150


@pytest.mark.parametrize("scale", [0.0, 0.01, 3.0, 30.0])
@pytest.mark.parametrize("ahead", [5, 256, 10**6])
def test_the_nucleus_wherever_it_is_looked_for(monkeypatch, scale, ahead):
    """Flat and peaked rows side by side: the least logit kept is that of the sorted whole."""
    monkeypatch.setattr(weights_file, "AHEAD", ahead)
    logits = torch.cat((make_logits(6, 900, scale=scale), make_logits(2, 900, seed=1, scale=20.0)))
    p = torch.tensor([0.0, 0.1, 0.5, 0.9, 0.999, 1.0, 0.3, 0.95], dtype=torch.float64)[:, None]
    values = logits.sort(descending=True).values
    chances = values.softmax(-1)
    count = ((chances.cumsum(-1) - chances) < p).sum(-1, keepdim=True).clamp(min=1)
    wanted = values.gather(-1, count - 1).masked_fill(p == 1, -math.inf)
    found = floor_of_p(logits, likeliest(logits, weights_file.ahead(logits)), p, ends(weigh(logits))[:, -1:])
    assert torch.equal(found, wanted)


def test_only_rows_that_need_it_are_looked_at_again(monkeypatch):
    """Story: to sort 64 rows of a vocabulary of 32,000 takes a CPU longer than a small model's whole step."""
    sizes = []

    def watched(logits, count):
        sizes.append((len(logits), count))
        return likeliest(logits, count)

    monkeypatch.setattr(weights_file, "likeliest", watched)
    logits = torch.cat((make_logits(3, 9000, scale=9.0), torch.zeros(1, 9000, dtype=torch.float64)))
    p = torch.full((4, 1), 0.9, dtype=torch.float64)
    floor_of_p(logits, likeliest(logits, 4096), p, ends(weigh(logits))[:, -1:])
    assert sizes == [(1, 9000)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_logprob(dtype):
    """In nats, normalised over the whole vocabulary."""
    logits = make_logits(4, 700).to(dtype)
    ids = torch.tensor([0, 6, 699, 3])
    wanted = logits.double().log_softmax(-1)[torch.arange(4), ids]
    assert torch.allclose(logprob(logits, ids).double(), wanted, rtol={torch.bfloat16: 1e-2}.get(dtype, 1e-6))


def test_sums_do_not_depend_on_how_many_rows_there_are():
    """A row alone, whose sum a library may split over threads, and among others: the same bits."""
    logits = make_logits(5, 150_000, dtype=torch.float32)
    together = normaliser(logits)
    assert all(torch.equal(normaliser(logits[row : row + 1]), together[row : row + 1]) for row in range(5))
