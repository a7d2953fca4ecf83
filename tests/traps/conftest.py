"""A tiny model on ragged rows, for the traps of training."""

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

VOCAB = 31
CONFIG = ModelConfig(vocab_size=VOCAB, d_model=8, layers=1, heads=2, max_positions=16, dropout=0.2)
OPTIONS = TrainOptions(steps=20, context=16, lr=1e-2, warmup=0.1)


def collate(rows):
    """Padded on the right."""
    width = max(len(row) for row in rows)
    tokens, targets = torch.zeros(len(rows), width, dtype=torch.long), torch.full((len(rows), width), IGNORE)
    for number, row in enumerate(rows):
        tokens[number, : len(row)], targets[number, : len(row) - 1] = row, row[1:]
    return Batch(tokens, targets, View(keep=targets != IGNORE))


@pytest.fixture
def one_thread():
    """Tiny tensors on one thread: several would only wait for each other where tests run side by side."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny_trainer(one_thread):
    """A trainer from a seed; options, the loader's and Trainer's own arguments by name."""

    def make(
        *, objective=cross_entropy, seed=0, compute=torch.float32, batch_rows=6, micro_rows=0, ranks=None, **changes
    ):
        torch.manual_seed(seed)
        model = Transformer(CONFIG, seed=seed)
        model.compute = compute
        rows = [torch.randint(0, VOCAB, (4 + (5 * n) % 11,)) for n in range(20)]
        place = {"rank": ranks.rank, "world": ranks.world} if ranks else {}
        source = Loader(rows, collate, batch_rows=batch_rows, micro_rows=micro_rows, seed=seed, **place)
        own = {name: changes.pop(name) for name in ("stop", "say", "on_step") if name in changes}
        return Trainer(model, objective, source, replace(OPTIONS, **changes), ranks=ranks, **own)

    return make
