"""Trap 13: bf16 swallows updates. pytorch/torchtune#2254; pytorch/ao#1124; pytorch/pytorch#120376; ml-by-hand#85,
where 0 of 768 weights moved.

A bf16 number has eight bits of fraction, so adding 1e-5 to 0.02 gives 0.02 again: with weights kept in bf16 and a small
learning rate nothing is learnt and nothing says so. Weights and moments are fp32 here; only products run in bf16.
"""

import pytest
import torch

from instar.batch import Batch
from instar.config import ModelConfig
from instar.config.options import TrainOptions
from instar.data.loader import Loader
from instar.model.transformer import Transformer
from instar.train.objectives import cross_entropy
from instar.train.trainer import Trainer

VOCAB = 64
CONFIG = ModelConfig(vocab_size=VOCAB, d_model=32, layers=2, heads=2, max_positions=32, qk_norm=True)
OPTIONS = TrainOptions(steps=100, lr=1e-5, schedule="constant", warmup=0.0, weight_decay=0.0)


def collate(rows):
    tokens = torch.stack(list(rows))
    return Batch(tokens[:, :-1], tokens[:, 1:])


def moved_share(model, **changes):
    """Train 100 steps; the share of the weights that got a gradient and are not what they were."""
    rows = torch.randint(0, VOCAB, (64, 17), generator=torch.Generator().manual_seed(2))
    before = [weight.detach().clone() for weight in model.parameters()]
    reached = [torch.zeros_like(weight, dtype=torch.bool) for weight in model.parameters()]

    def note(trainer, record):
        for seen, weight in zip(reached, model.parameters()):
            seen |= weight.grad != 0

    options = TrainOptions(**{**vars(OPTIONS), **changes})
    Trainer(model, cross_entropy, Loader(rows, collate, batch_rows=8), options, on_step=[note]).fit()
    moved = sum(int(((old != new) & seen).sum()) for old, new, seen in zip(before, model.parameters(), reached))
    return moved / sum(int(seen.sum()) for seen in reached)


@pytest.fixture
def model():
    """Products in bf16, weights in fp32: how every stage trains."""
    made = Transformer(CONFIG)
    made.compute = torch.bfloat16
    return made


def test_small_updates_move_the_weights(model):
    """At lr 1e-5 more than 99 of 100 weights that received a gradient have moved after 100 steps."""
    assert moved_share(model) > 0.99


def test_weights_in_bf16_would_stand_still():
    """The same run with the weights themselves in bf16 loses most of its updates: what the first test guards."""
    assert moved_share(Transformer(CONFIG).bfloat16()) < 0.9


def test_weights_gradients_and_moments_are_fp32(model):
    """Nothing that accumulates is kept in bf16, while the hidden states are."""
    rows = torch.randint(0, VOCAB, (8, 17))
    trainer = Trainer(model, cross_entropy, Loader(rows, collate, batch_rows=8), OPTIONS)
    trainer.advance()
    assert model.hidden(rows).dtype == torch.bfloat16
    kept = [*model.parameters(), *trainer.optimizer.gradients(), *trainer.optimizer.state().values()]
    assert {tensor.dtype for tensor in kept} == {torch.float32}


def test_weight_decay_still_acts(model):
    """A decay of 1e-6 a step, far below what bf16 resolves, shrinks a matrix by what it should."""
    matrix = model.blocks[0].feed_forward.up.weight
    before = matrix.detach().clone()
    options = TrainOptions(**{**vars(OPTIONS), "weight_decay": 0.1})
    trainer = Trainer(
        model, cross_entropy, Loader(torch.zeros(1, 2, dtype=torch.int64), collate, batch_rows=1), options
    )
    for _ in range(100):
        matrix.grad = torch.zeros_like(matrix)
        trainer.optimizer.step(1.0)
    torch.testing.assert_close(matrix.detach(), before * (1 - 1e-6) ** 100, rtol=1e-5, atol=0)
    assert not torch.equal(matrix, before)
