"""Short trainings for measurements."""

import math

import pytest
import torch

from instar.config import InputError, ModelConfig
from instar.train.short import fit

TEXTS = [[1, 2, 3, 4, 5, 6, 7] * 3] * 8
SHAPE = ModelConfig(vocab_size=16, d_model=16, layers=1, heads=2, max_positions=16)


def test_losses_fall_and_depend_on_the_seed_alone():
    """A loss for each step, the same again whatever was drawn meanwhile; what is drawn elsewhere is not touched."""
    torch.manual_seed(5)
    one = fit(SHAPE, TEXTS, 20, lr=1e-2)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    assert fit(SHAPE, TEXTS, 20, lr=1e-2) == one
    assert fit(SHAPE, TEXTS, 20, lr=1e-2, seed=1) != one
    assert len(one) == 20
    assert one[0] == pytest.approx(math.log(16), abs=0.5)
    assert one[-1] < 0.5 * one[0]


def test_a_run_that_diverges_gives_what_it_has():
    """No exception: fewer losses than steps, the last not finite."""
    shape = ModelConfig(vocab_size=16, d_model=16, layers=8, heads=2, max_positions=16, norm="none", tied=False)
    losses = fit(shape, TEXTS, 60, lr=3.0)
    assert len(losses) < 60
    assert not math.isfinite(losses[-1])


def test_nothing_to_train_on():
    """No text is said before any work."""
    with pytest.raises(InputError, match="no texts"):
        fit(SHAPE, [], 3)
