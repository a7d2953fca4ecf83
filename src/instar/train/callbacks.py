"""What looks at a run while it trains: progress, the metrics file, held-out loss, samples.

Each is called after every step with the trainer and the step's record; `Evaluate` adds to the record, so it stands
before those that write it down.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from ..batch import Batch
from ..data.loader import once
from .dist import Ranks
from .jsonl import Jsonl, forget_after
from .objectives import Objective, Sums
from .trainer import Record, Trainer

Say = Callable[[str], None]
PLAIN_SECONDS = 10.0
# what a stage that learns from rewards tells besides
REWARDED = {
    "reward": "reward", "kl_answer": "KL", "entropy": "entropy", "clip_fraction": "clipped",
    "value_error": "value error", "length": "length",
}  # fmt: skip


class Progress:
    """A bar on stderr while somebody watches, else a line every ten seconds through `say`."""

    def __init__(self, title: str, say: Say, *, live: bool | None = None) -> None:
        """live: draw a bar; None finds out whether stderr is a terminal."""
        self.title = title
        self._say = say
        self._bar = _bar() if (sys.stderr.isatty() if live is None else live) else None
        self._task = self._bar.add_task(title, total=None, figures="") if self._bar else None
        self._spoken = time.perf_counter()

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar:
            self._bar.stop()

    def say(self, text: str) -> None:
        """A line above the bar."""
        if self._bar:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            self._say(text)

    def __call__(self, trainer: Trainer, record: Record) -> None:
        if self._bar and self._task is not None:
            self._bar.update(self._task, total=trainer.steps, completed=trainer.step, figures=_figures(record))
        elif time.perf_counter() - self._spoken >= PLAIN_SECONDS or trainer.step == trainer.steps:
            self._spoken = time.perf_counter()
            left = trainer.seconds / max(1, trainer.step) * (trainer.steps - trainer.step)
            self._say(f"{self.title}: step {trainer.step}/{trainer.steps}, {_figures(record)}, {left:.0f} s left")


@contextmanager
def counting(title: str, total: int, say: Say, *, live: bool | None = None) -> Iterator[Callable[[int], None]]:
    """Work that comes before the steps: a bar, or a line every ten seconds, as of `Progress`; gives what is to be
    called with how many more are done."""
    bar = _bar() if (sys.stderr.isatty() if live is None else live) else None
    done, spoken = 0, time.perf_counter()
    task = bar.add_task(title, total=total, figures="") if bar else None

    def each(more: int) -> None:
        nonlocal done, spoken
        done += more
        if bar and task is not None:
            bar.advance(task, more)
        elif time.perf_counter() - spoken >= PLAIN_SECONDS:
            spoken = time.perf_counter()
            say(f"{title}: {done:,} of {total:,}")

    with bar or nullcontext():
        yield each


def _bar() -> Bar:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    return Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True), refresh_per_second=4)


def _figures(record: Record) -> str:
    loss = "no targets" if record["loss"] is None else f"loss {record['loss']:.3f}"
    told = [f"{word} {record[name]:.3g}" for name, word in REWARDED.items() if record.get(name) is not None]
    return ", ".join([loss, *told, f"{record['tokens_per_second']:,.0f} tokens/s", f"lr {record['lr']:.1e}"])


class MetricsLog:
    """metrics.jsonl: one object a step, without gap or repeat when a run goes on from an earlier step."""

    def __init__(self, path: Path, step: int = 0, say: Say = lambda text: None) -> None:
        """step: the last step that counts."""
        forget_after(step, path)
        self._file = Jsonl(path, say)

    def __call__(self, trainer: Trainer, record: Record) -> None:
        self._file.add([record])

    def close(self) -> None:
        self._file.flush()


class SkippedLog:
    """skipped.jsonl: for each step whose loss or gradient was not finite, what stood in the rows it read. There is no
    such file where every step was sound."""

    def __init__(self, path: Path, tell: Callable[[int], dict[str, Any]], say: Say = lambda text: None) -> None:
        """tell: the number of a row -> what stands in it."""
        self._file, self._tell = Jsonl(path, say), tell

    def __call__(self, trainer: Trainer, record: Record) -> None:
        if "rows" in record:
            figures = {name: str(record[name]) for name in ("loss", "grad_norm")}  # JSON knows no NaN
            rows = [self._tell(number) for number in record["rows"]]
            self._file.add([{"step": record["step"], **figures, "rows": rows}])


@dataclass(frozen=True)
class HeldOut:
    """Rows that are measured, never learnt, `micro_rows` at a time."""

    rows: Sequence[Any]
    collate: Callable[..., Batch]
    micro_rows: int

    @torch.no_grad()
    def measure(self, model: Any, objective: Objective, ranks: Ranks) -> dict[str, float]:
        """Means over all targets of all rows, whatever the size of the batches and the number of ranks, and `targets`,
        how many there are. The model's mode is left as it was."""
        training = model.training
        model.eval()
        shared = len(self.rows) >= ranks.world  # so that every rank has a row; else each reads them all
        rank, world = (ranks.rank, ranks.world) if shared else (0, 1)
        sums = Sums()
        for batch in once(self.rows, self.collate, micro_rows=self.micro_rows, rank=rank, world=world):
            sums.add(objective(model, batch.to(model.device)))
        model.train(training)
        vector = sums.vector().double()
        if shared:
            ranks.add([vector])
        values = vector.tolist()
        return sums.means(values) | {"targets": int(values[len(values) // 2])}


def in_nats(means: Mapping[str, float]) -> str:
    """Held-out means of a model that says tokens, in words."""
    return f"held-out loss {means['loss']:.4f}, perplexity {math.exp(means['loss']):.2f}"


@dataclass
class Evaluate:
    """Every `every` steps and after the last one, the held-out means, put into the step's record as held_out_loss,
    held_out_accuracy, ... tell: the means in words."""

    held_out: HeldOut | None
    every: int
    say: Say
    means: dict[str, float] | None = None
    tell: Callable[[Mapping[str, float]], str] = in_nats

    def __call__(self, trainer: Trainer, record: Record) -> None:
        if not due(trainer, self.every) or self.held_out is None:
            return
        self.means = self.held_out.measure(trainer.model, trainer.objective, trainer.ranks)
        record.update({f"held_out_{name}": value for name, value in self.means.items() if name != "targets"})
        self.say(f"step {trainer.step:,}: {self.tell(self.means)}")

    def measure(self, trainer: Trainer) -> dict[str, float] | None:
        """The means of the last step; None where nothing is held out."""
        if self.means is None and self.held_out is not None:  # the run went on from its own end
            self.means = self.held_out.measure(trainer.model, trainer.objective, trainer.ranks)
        return self.means


def due(trainer: Trainer, every: int) -> bool:
    """Every so many steps, 0 for none, and after the last one."""
    return trainer.step == trainer.steps or (every > 0 and trainer.step % every == 0)


class Speak(Protocol):
    def __call__(self, model: Any, prompts: Sequence[Sequence[int]]) -> list[str]: ...


@dataclass
class Samples:
    """Every `every` steps and after the last one, what the model says to each prompt (ids): shown and written down."""

    prompts: Sequence[tuple[str, Sequence[int]]]
    speak: Speak
    path: Path
    every: int
    say: Say

    def __post_init__(self) -> None:
        self._file = Jsonl(self.path, self.say)
        self._said: list[dict[str, Any]] = []

    def __call__(self, trainer: Trainer, record: Record) -> None:
        if due(trainer, self.every):
            self.take(trainer)

    def said(self, trainer: Trainer) -> list[dict[str, Any]]:
        """What the model says as it is now; it is asked once a step."""
        if not self.prompts or (self._said and self._said[0]["step"] == trainer.step):
            return self._said
        trainer.model.eval()
        with uncompiled() if trainer.options.compile else nullcontext():
            answers = self.speak(trainer.model, [ids for _, ids in self.prompts])
        trainer.model.train()
        self._said = [
            {"step": trainer.step, "prompt": prompt, "text": text} for (prompt, _), text in zip(self.prompts, answers)
        ]
        return self._said

    def take(self, trainer: Trainer) -> None:
        """Write down what the model says as it is now, and show it."""
        rows = self.said(trainer)
        self._file.add(rows)
        for row in rows:
            self.say(f"  {_short(str(row['prompt']))} → {_short(str(row['text']))}")


def uncompiled() -> AbstractContextManager[None]:
    """Generation has a cache and one token at a time: shapes that are not worth a compilation here."""
    return torch.compiler.set_stance("force_eager")


def _short(text: str, size: int = 100) -> str:
    line = " ".join(text.split())
    return line if len(line) <= size else f"{line[: size - 1]}…"
