"""A short training for a measurement: nothing is written, and nobody is told."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import torch

from ..config import Diverged, InputError, ModelConfig
from ..config.options import TrainOptions
from ..data.collate import Collate
from ..data.loader import Loader
from ..data.memory import store_in_memory
from ..data.packing import windows
from ..data.shards import Section
from ..model.transformer import Transformer
from .objectives import cross_entropy
from .trainer import Record, Trainer

ROWS = 4  # of one step


def fit(
    config: ModelConfig, texts: Sequence[Sequence[int]], steps: int, *, lr: float = 1e-3, seed: int = 0
) -> list[float]:
    """The loss of each step of a new model of this shape that learns to foresee texts, as ids, in rows as long as it
    reads; of the steps until it diverged, where it does. The same seed gives the same weights and batches, whatever
    else was drawn. Raises InputError where there is no text."""
    if not any(map(len, texts)):
        raise InputError("no texts to train on; wanted at least one")
    sections = (Section(list(ids), 0, 0) for ids in texts)
    store = store_in_memory(sections, config.vocab_size)
    options = TrainOptions(steps=steps, lr=lr, schedule="constant", warmup=0.1, context=config.max_positions)
    losses: list[float] = []

    def heard(trainer: Trainer, record: Record) -> None:
        losses.append(record["loss"])

    rows = windows(store.lengths, config.max_positions)
    loader = Loader(rows, Collate(store, config.max_positions), batch_rows=min(ROWS, len(rows)), seed=seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        with suppress(Diverged):  # what there is of losses says so
            Trainer(Transformer(config, seed=seed), cross_entropy, loader, options, on_step=[heard]).fit()
    return losses
