"""Noise on embeddings: how much, when, and of which text."""

import pytest
import torch

from instar.batch import View
from instar.config import ModelConfig
from instar.model.noise import noise
from instar.model.transformer import Transformer

CONFIG = ModelConfig(vocab_size=61, d_model=16, layers=2, heads=2, max_positions=64)


def test_noise_is_uniform_in_alpha_over_root_of_tokens_and_width():
    """Jain et al. 2023: alpha / sqrt(T D), all of the range, mean zero."""
    torch.manual_seed(0)
    drawn = noise(torch.zeros(50, 9, 16, dtype=torch.float64), None, 5.0)
    reach = 5.0 / (9 * 16) ** 0.5
    assert drawn.abs().max() <= reach
    assert drawn.abs().max() > 0.99 * reach
    assert drawn.mean().abs() < 0.02 * reach
    torch.testing.assert_close(drawn.std(), torch.tensor(reach / 3**0.5, dtype=torch.float64), rtol=0.02, atol=0)


@pytest.mark.parametrize("view", [
    View(segments=torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1, 2, 2]])),
    View(segments=torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1, 2, 2]]), keep=torch.tensor([[True] * 8 + [False] * 2])),
    View(keep=torch.tensor([[True] * 3 + [False] * 7])),
])  # fmt: skip
def test_the_length_is_that_of_a_text(view):
    """In a packed row each text is disturbed as much as it would be alone, and padding makes none longer."""
    torch.manual_seed(0)
    drawn = noise(torch.zeros(400, 10, 16, dtype=torch.float64), _many(view, 400), 1.0).abs().amax((0, 2))
    wanted = [3, 3, 3, 5, 5, 5, 5, 5, 2, 2] if view.segments is not None else [3] * 10
    torch.testing.assert_close(drawn, (torch.tensor(wanted) * 16.0).double().rsqrt(), rtol=0.01, atol=0)


def _many(view, rows):
    names = [name for name in ("segments", "keep") if getattr(view, name) is not None]
    return View(**{name: getattr(view, name)[:1].expand(rows, -1) for name in names})


@torch.no_grad()
def test_noise_is_of_training_alone():
    """Off by default; in evaluation a model says the same bits with it; in training a seed gives it again."""
    tokens = torch.arange(20)[None]
    model = Transformer(CONFIG)
    plain = model(tokens)
    assert torch.equal(model.train()(tokens), plain)
    model.neftune = 5.0
    torch.manual_seed(1)
    noisy, again = model(tokens), model(tokens)
    assert not torch.equal(noisy, plain)
    assert not torch.equal(noisy, again)
    torch.manual_seed(1)
    assert torch.equal(model(tokens), noisy)
    assert torch.equal(model.eval()(tokens), plain)
