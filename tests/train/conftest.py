"""Tiny models and ragged rows, shared by the tests of training."""

from dataclasses import replace

import pytest
import torch

from instar.batch import IGNORE, Batch, View
from instar.config import ModelConfig
from instar.config.options import TrainOptions
from instar.data.loader import Loader
from instar.model.transformer import Transformer
from instar.train.objectives import cross_entropy
from instar.train.trainer import Trainer

VOCAB = 61
CONFIG = ModelConfig(vocab_size=VOCAB, d_model=16, layers=2, heads=2, max_positions=32, qk_norm=True)
OPTIONS = TrainOptions(steps=20, context=16, lr=1e-2, warmup=0.1)


@pytest.fixture
def make_model():
    """A model with some values of its config changed."""
    return lambda dtype=torch.float32, **changes: Transformer(replace(CONFIG, **changes)).to(dtype)


@pytest.fixture
def rows():
    """24 rows of unequal length; about a third of their tokens teaches nothing."""
    generator = torch.Generator().manual_seed(7)
    made = []
    for length in [3 + (5 * n) % 13 for n in range(24)]:
        tokens = torch.randint(0, VOCAB, (length + 1,), generator=generator)
        targets = tokens[1:].clone()
        targets[torch.rand(length, generator=generator) < 0.3] = IGNORE
        made.append((tokens[:-1], targets))
    return made


def pad(rows):
    """Padded on the right with token 0, which is a real token too."""
    shape = (len(rows), max(len(tokens) for tokens, _ in rows))
    tokens, targets = torch.zeros(shape, dtype=torch.int64), torch.full(shape, IGNORE)
    keep = torch.zeros(shape, dtype=torch.bool)
    for number, (ids, wanted) in enumerate(rows):
        tokens[number, : len(ids)], targets[number, : len(ids)] = ids, wanted
        keep[number, : len(ids)] = True
    return Batch(tokens, targets, View(keep=keep))


@pytest.fixture
def collate():
    """Ragged rows -> Batch."""
    return pad


@pytest.fixture
def make_trainer(rows):
    """A trainer on the ragged rows; options and Trainer's own arguments by name."""

    def make(model, *, objective=cross_entropy, rows=rows, batch_rows=8, micro_rows=0, seed=0, more=None, **changes):
        source = Loader(rows, pad, batch_rows=batch_rows, micro_rows=micro_rows, seed=seed)
        return Trainer(model, objective, source, replace(OPTIONS, **changes), **(more or {}))

    return make
