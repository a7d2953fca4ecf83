"""What is inside a model while it trains: scores of its heads, what its layers would say, and what it says, so that the
birth of a head can be drawn under the loss curve. Nothing of it changes what is learnt.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..batch import IGNORE
from ..config import InputError
from ..data.loader import once
from ..model.transformer import Transformer
from ..probe.capture import capture
from ..probe.heads import profile
from ..probe.lens import lens
from ..text.tokenizer import Tokenizer
from .callbacks import HeldOut, Samples, Say, due, uncompiled
from .jsonl import Jsonl
from .trainer import Record, Trainer

LENGTH, TEXTS = 24, 4  # of the random texts that heads are scored on: tokens that are repeated, and how many texts
DIGITS = 4


@dataclass
class Inside:
    """Every `every` steps and after the last one, a row of inside.jsonl: `heads`, the score of each by name, (L, H);
    `best`, of each name the highest score that is not idle, with its layer and head; `lens`, means over the places of
    held-out rows that teach, of each row of the residual stream; `samples`, what the model says.

    Heads are scored on the same random texts at every step, which no training set has. held_out: the first `rows` of
    them are read through the lens; None reads none. model_of: what is trained -> the model that is looked into.
    """

    held_out: HeldOut | None
    rows: int
    tokenizer: Tokenizer
    samples: Samples
    path: Path
    every: int
    say: Say
    model_of: Callable[[Any], Transformer] = lambda model: model

    def __post_init__(self) -> None:
        self._file = Jsonl(self.path, self.say)
        self._refused: set[str] = set()

    def __call__(self, trainer: Trainer, record: Record) -> None:
        if due(trainer, self.every):
            self.take(trainer)

    def take(self, trainer: Trainer) -> None:
        """Of the model as it is now."""
        started = time.perf_counter()
        model = self.model_of(trainer.model)
        row: dict[str, Any] = {"step": trainer.step}
        with uncompiled() if trainer.options.compile else nullcontext():
            for part in (self._heads, self._lens):
                try:
                    row |= part(model)
                except InputError as error:
                    self._tell(str(error))
        row["samples"] = [{name: said[name] for name in ("prompt", "text")} for said in self.samples.said(trainer)]
        self._file.add([row | {"seconds": round(time.perf_counter() - started, 3)}])

    def _heads(self, model: Transformer) -> dict[str, Any]:
        found = profile(model, self.tokenizer, length=LENGTH, samples=TEXTS)
        heads = {name: plain(scores) for name, scores in found.scores.items()}
        if found.idle.all():
            return {"heads": heads, "best": {}}
        best = {name: found.best(name) for name in found.scores if found.awake(name).any()}
        return {
            "heads": heads, "best": {name: [plain(score), layer, head] for name, (score, layer, head) in best.items()},
        }  # fmt: skip

    @torch.no_grad()
    def _lens(self, model: Transformer) -> dict[str, Any]:
        """Means over all places that teach: the row of the stream from which on the likeliest token stays what it is,
        and of each row its surprise at the last one, KL(p_L || p_l), and its entropy, in nats."""
        if self.held_out is None or not self.rows:
            return {}
        sums: np.ndarray | None = None
        places = 0
        rows, collate = list(self.held_out.rows)[: self.rows], self.held_out.collate
        for batch in once(rows, collate, micro_rows=max(1, self.held_out.micro_rows)):
            batch = batch.to(model.device)
            trace = capture(
                model, batch.tokens, view=batch.view, source=batch.source, source_view=batch.source_view
            )  # fmt: skip
            taught = batch.targets != IGNORE
            seen = lens(trace, k=1)
            told = torch.cat([seen.settled[None].to(seen.kl.dtype), seen.kl, seen.entropy])[:, taught].double().sum(1)
            sums = told.cpu().numpy() + (0 if sums is None else sums)
            places += int(taught.sum())
        if sums is None or not places:
            return {}
        settled, layers = sums[0] / places, np.split(sums[1:] / places, 2)
        kl, entropy = (plain(values) for values in layers)
        return {"lens": {"places": places, "settled": plain(settled), "kl": kl, "entropy": entropy}}

    def _tell(self, why: str) -> None:
        """Once for each reason: every look would say the same."""
        if why not in self._refused:
            self._refused.add(why)
            self.say(f"inside.jsonl lacks a part: {why}")


def plain(values: Any) -> Any:
    """Numbers as JSON knows them, to four places; what is not finite is null."""
    if isinstance(values, (list, tuple)):
        return [plain(value) for value in values]
    if isinstance(values, np.ndarray):
        return plain(values.tolist())
    return round(float(values), DIGITS) if math.isfinite(values) else None
