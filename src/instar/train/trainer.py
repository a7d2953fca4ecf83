"""The one training loop. A stage is a source of batches and an objective; the loop knows neither text nor files.

Each optimizer step draws its micro-batches first, adds up how many targets they teach over all ranks, and divides
every sum by that number before the backward pass: any division of a step into micro-batches and ranks gives the
gradient of one large batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ..batch import Batch
from ..config import Diverged, InputError
from ..config.options import TrainOptions
from .blocks import compile_blocks
from .dist import Alone, Ranks
from .objectives import Objective, Sums, mean
from .optim import Optimizer, scale

Record = dict[str, Any]
STATE = ("step", "updates", "skipped", "in_a_row", "lately", "tokens", "targets", "seconds")
HOPELESS = 10  # steps in a row without a finite gradient
MANY, SPAN = 10, 1000  # more of them than that among so many steps are no accident either
SHOWN = 8  # rows that a warning names


class Source(Protocol):
    """Endless micro-batches, `micro_batches` of them for one optimizer step of this rank."""

    micro_batches: int

    @property
    def epoch(self) -> int: ...
    def __next__(self) -> Batch: ...
    def row_ids(self, step: int) -> list[int]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Trainer:
    """Trains `model` for a number of optimizer steps.

    step: steps taken; updates: those that moved the weights; skipped: those whose gradient was not finite. After each
    step every function of `on_step` is called with the trainer and the step's record, which it may add to. The record
    of a skipped step has `rows`, the numbers of the rows that it read on all ranks.
    """

    def __init__(
        self,
        model: Any,
        objective: Objective,
        source: Source,
        options: TrainOptions,
        *,
        steps: int = 0,
        on_step: Iterable[Callable[[Trainer, Record], None]] = (),
        ranks: Ranks | None = None,
        stop: Callable[[], bool] = lambda: False,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """steps: 0 takes options.steps; stop: asked once a step, True on any rank ends the run after that step."""
        self.model, self.objective, self.source, self.options = model, objective, source, options
        self.steps = steps or options.steps
        if self.steps < 1:
            raise InputError(
                f"train.steps={options.steps} and train.epochs={options.epochs} give {self.steps} optimizer steps; "
                "set one of them higher"
            )
        self.on_step = list(on_step)
        self.ranks: Ranks = ranks or Alone()
        self.stop, self.say = stop, say
        self.optimizer = Optimizer(model, options)
        self.step = self.updates = self.skipped = self.in_a_row = self.tokens = self.targets = 0
        self.lately: list[int] = []  # the skipped ones among the last SPAN steps
        self.seconds = 0.0
        self.stopped = self.ready = False

    def prepare(self) -> None:
        """Make the model ready to train, compiled where that is wanted; done once."""
        if not self.ready and self.options.compile:
            compile_blocks(self.model, self.objective, self._peek().to(self.model.device), self.say)
        self.model.train()
        self.model.recompute = self.options.recompute
        self.ready = True

    def seconds_a_step(self) -> float:
        """How long the passes of one step take here: the fastest of four, of the next micro-batch. Nothing moves."""
        self.prepare()
        batch = self._peek().to(self.model.device)
        with torch.random.fork_rng():
            seconds = min(self._seconds(batch) for _ in range(4))
        self.model.forget()
        return seconds * self.source.micro_batches

    def _seconds(self, batch: Batch) -> float:
        started = time.perf_counter()
        loss = mean(self.objective(self.model, batch), max(1, batch.count()))
        loss.backward()
        loss.item()  # waits for the device
        self.optimizer.zero()
        return time.perf_counter() - started

    def fit(self) -> None:
        """Take the steps that are left, or as many as come before `stop`. Raises Diverged."""
        self.prepare()
        while self.step < self.steps and not self.stopped:
            record = self.advance()
            for function in self.on_step:
                function(self, record)
            if self.hopeless:
                raise Diverged(f"{self.hopeless}; lower the learning rate")

    @property
    def hopeless(self) -> str:
        """Why it makes no sense to go on, or nothing. The same on all ranks."""
        lately = sum(step > self.step - SPAN for step in self.lately)
        if self.in_a_row < HOPELESS and lately <= MANY:
            return ""
        count = (
            f"{self.in_a_row} steps in a row" if self.in_a_row >= HOPELESS else f"{lately} of the last {SPAN:,} steps"
        )
        return f"{count}, up to step {self.step}, gave a loss or gradient that is not finite"

    def advance(self) -> Record:
        """Take one step and tell what it did."""
        started = time.perf_counter()
        batches = [next(self.source) for _ in range(self.source.micro_batches)]
        tokens, targets = self._count(batches)
        share = scale(self.updates, self.steps, self.options)
        told = self._learn(batches, targets, share) if targets else {"loss": None, "grad_norm": None}
        seconds = time.perf_counter() - started
        self.step += 1
        self.tokens, self.targets, self.seconds = self.tokens + tokens, self.targets + targets, self.seconds + seconds
        self.stopped = bool(told.pop("stop", 0.0)) and self.step < self.steps
        if not told.pop("sound", True):
            told |= self._skip(told)
        return {
            "step": self.step, "tokens": self.tokens, "targets": targets, **told, "lr": self.options.lr * share,
            "epoch": self.source.epoch, "tokens_per_second": round(tokens / seconds, 1),
            "seconds": round(self.seconds, 3), "skipped": self.skipped,
        }  # fmt: skip

    def _skip(self, told: Record) -> Record:
        """Count the step, say what it read, and give that for its record."""
        self.model.forget()
        self.skipped += 1
        self.in_a_row += 1
        self.lately = [step for step in self.lately if step > self.step - SPAN] + [self.step]
        rows = self.source.row_ids(self.step - 1)
        more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
        self.say(
            f"warning: step {self.step:,} was skipped: loss {told['loss']}, norm of the gradient {told['grad_norm']}; "
            f"it read the rows {', '.join(map(str, rows[:SHOWN]))}{more}"
        )
        return {"rows": rows}

    def _peek(self) -> Batch:
        """The next micro-batch, left where it is."""
        here = self.source.state_dict()
        batch = next(self.source)
        self.source.load_state_dict(here)
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Where the run stands, as plain data; weights and moments are tensors and travel apart."""
        return {name: getattr(self, name) for name in STATE} | {"source": self.source.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. Raises InputError where the source is another one."""
        self.source.load_state_dict(state["source"])
        for name in STATE:
            setattr(self, name, state.get(name, getattr(self, name)))  # an older state does not know them all

    def _count(self, batches: Sequence[Batch]) -> list[int]:
        """Over all ranks: tokens read and targets that teach."""
        own = [sum(map(_tokens, batches)), sum(batch.count() for batch in batches)]
        if self.ranks.world == 1:
            return own
        counts = torch.tensor(own, device=self.model.device)
        self.ranks.add([counts])
        return [int(count) for count in counts.tolist()]

    def _learn(self, batches: Sequence[Batch], targets: int, share: float) -> Record:
        """Gradients of the whole step, then the update; returns the step's means, the norm of its gradient, and how
        many ranks were asked to stop."""
        self.optimizer.zero()
        sums = Sums()
        for batch in batches:
            loss = self.objective(self.model, batch.to(self.model.device))
            sums.add(loss)
            mean(loss, targets).backward()
        gradients = self.optimizer.gradients(everywhere=self.ranks.world > 1)
        vector = sums.vector()
        told = torch.cat([vector, vector.new_tensor([float(self.stop())])])
        self.ranks.add([told, *gradients])
        norm = torch.nn.utils.get_total_norm(gradients).to(told.dtype)
        # the only place where the host waits for the device
        *values, stop, grad_norm = torch.cat([told, norm.reshape(1)]).tolist()
        means = sums.means(values)
        sound = math.isfinite(grad_norm) and math.isfinite(means["loss"])
        if sound:
            self._update(gradients, grad_norm, share)
        return means | {"grad_norm": grad_norm, "stop": stop, "sound": sound}

    def _update(self, gradients: list[Tensor], norm: float, share: float) -> None:
        """Move the weights."""
        self.in_a_row = 0
        if 0 < self.options.clip < norm:
            torch._foreach_mul_(gradients, self.options.clip / norm)
        self.optimizer.step(share)
        self.model.settle(self.ranks.add)
        self.updates += 1


def _tokens(batch: Batch) -> int:
    """Tokens read, on both sides of an encoder-decoder, padding left out where the batch tells it."""
    sides = [(batch.tokens, batch.view), (batch.source, batch.source_view)]
    return sum(
        tokens.numel() if view is None or view.keep is None else int(view.keep.sum())
        for tokens, view in sides
        if tokens is not None
    )
