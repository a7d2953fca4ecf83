"""Trap 14: the schedule counts something else. huggingface/accelerate#963, #1382; huggingface/transformers#18436.

Schedulers that were stepped once a micro-batch, or once a rank, ran through their warm-up and decay several times too
fast (a peak at step 2,500 instead of 10,000), or moved on when a step had been skipped. Here the learning rate is a
closed form of the number of updates made, written down below once more by hand.
"""

import math

import pytest
import torch

from instar.batch import Batch, Loss
from instar.config import ModelConfig
from instar.config.options import TrainOptions
from instar.data.loader import Loader
from instar.model.transformer import Transformer
from instar.train.dist import Alone
from instar.train.objectives import cross_entropy
from instar.train.trainer import Trainer

CONFIG = ModelConfig(vocab_size=32, d_model=8, layers=1, heads=1, max_positions=16)
PEAK, STEPS = 0.25, 10
# What the peak is multiplied by in each of ten updates, with two of warm-up and a decay over three, written by hand.
BY_HAND = {
    "constant": [0.5, 1.0] + [1.0] * 8,
    "wsd": [0.5, 1.0] + [1.0] * 6 + [2 / 3, 1 / 3],
    "cosine": [0.5, 1.0] + [(1 + math.cos(math.pi * n / 8)) / 2 for n in range(8)],
}
OPTIONS = {"warmup": 0.2, "decay": 0.3, "lr": PEAK, "muon_lr": 2 * PEAK, "steps": STEPS}


class TwoAlike(Alone):
    """Two ranks that see the same rows: every sum doubles."""

    world = 2

    def add(self, tensors):
        for tensor in tensors:
            tensor.mul_(2)


def collate(rows):
    tokens = torch.stack(list(rows))
    return Batch(tokens[:, :-1], tokens[:, 1:])


def rates(schedule, *, micro_rows=0, ranks=None, objective=cross_entropy, optimizer="adamw", steps=STEPS):
    """(recorded, used by the optimizer) learning rate of each step."""
    rows = torch.randint(0, 32, (16, 9), generator=torch.Generator().manual_seed(1))
    source = Loader(rows, collate, batch_rows=8, micro_rows=micro_rows)
    options = TrainOptions(schedule=schedule, optimizer=optimizer, **OPTIONS)
    trainer = Trainer(Transformer(CONFIG), objective, source, options, ranks=ranks)
    seen = []
    for _ in range(steps):
        record = trainer.advance()
        groups = [group["lr"] for part, _ in trainer.optimizer.parts for group in part.param_groups]
        seen.append((record["lr"], *groups))
    return seen


@pytest.mark.parametrize("ranks", [None, TwoAlike()], ids=["one rank", "two ranks"])
@pytest.mark.parametrize("micro_rows", [0, 1, 3])
@pytest.mark.parametrize("schedule", BY_HAND)
def test_one_update_is_one_step_of_the_schedule(schedule, micro_rows, ranks):
    """Recorded and used learning rate equal the values by hand for any accumulation and number of ranks."""
    wanted = [PEAK * share for share in BY_HAND[schedule]]
    for seen, rate in zip(rates(schedule, micro_rows=micro_rows, ranks=ranks), wanted, strict=True):
        assert seen == pytest.approx([rate] * len(seen))


@pytest.mark.parametrize("schedule", BY_HAND)
def test_muon_follows_the_same_schedule(schedule):
    """The two optimizers keep the ratio of their peaks in every step."""
    for (_, *groups), share in zip(rates(schedule, optimizer="muon"), BY_HAND[schedule], strict=True):
        assert groups == pytest.approx([PEAK * share] * (len(groups) - 1) + [2 * PEAK * share])


def test_a_skipped_step_does_not_move_the_schedule():
    """Steps whose gradient is not finite are not counted: the rate stays where it was."""
    calls = iter(range(STEPS))

    def objective(model, batch):
        loss = cross_entropy(model, batch)
        total, count = loss.terms["loss"]
        return Loss({"loss": (total * (math.nan if next(calls) in (3, 4, 8) else 1.0), count)})

    recorded = [seen[0] for seen in rates("cosine", objective=objective)]
    made = [0, 1, 2, 3, 3, 3, 4, 5, 6, 6]
    assert recorded == pytest.approx([PEAK * BY_HAND["cosine"][update] for update in made])
