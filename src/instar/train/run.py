"""The folder of one run: whose it is, what was decided at its start, what came out."""

from __future__ import annotations

import json
import platform
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..config import InputError, dump_yaml, load_yaml
from ..data import lock
from ..data.disk import write_whole
from .commit import leftovers, sweep

RECIPE, REPORT, METRICS, SAMPLES, SKIPPED, INSIDE, CHECKPOINTS = (
    "instar.yaml",
    "report.json",
    "metrics.jsonl",
    "samples.jsonl",
    "skipped.jsonl",
    "inside.jsonl",
    "checkpoints",
)
LOCK = ".lock"
# some schedulers send the last one before they stop a job
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
REFERENCE = "reference.safetensors"  # what DPO computes before it decides anything else
NEIGHBOURS = {"grow.json", REFERENCE}  # what may lie there before the run has written down what it is


class RunFolder:
    """A folder that holds this run and nothing else."""

    def __init__(self, path: str | Path, *, resume: bool) -> None:
        """Raises InputError, before anything is touched, where the folder holds something else, or a run that was not
        asked to go on. What a process that was killed has left half written does not count."""
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"--out {self.path} is a file; name a folder")
        ours = (self.path / RECIPE).is_file()
        found = {entry.name for entry in self.path.iterdir()} - NEIGHBOURS if self.path.exists() else set()
        found -= {LOCK, *(left.name for left in leftovers(self.path))}
        if found and not ours:
            raise InputError(
                f"--out {self.path} holds {len(found)} files that are not a run of instar, {min(found)} for one; "
                "name another folder"
            )
        self.finished = ours and (self.path / REPORT).is_file()
        self.resume = resume
        if (self.finished or self.has_checkpoints()) and not resume:
            state = "a finished run" if self.finished else "a run that was stopped"
            raise InputError(f"--out {self.path} holds {state}; add --resume to go on, or name another folder")

    def refuse_held(self) -> None:
        """Raises InputError where another process runs in this folder, before any work."""
        lock.refuse_held(self.path / LOCK)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep every other process out. Raises InputError naming the one that is in."""
        with lock.held(self.path / LOCK):
            sweep(self.path)
            yield

    def has_checkpoints(self) -> bool:
        return any((self.path / CHECKPOINTS).glob("step-*"))

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def read_report(self) -> dict[str, Any]:
        return json.loads((self.path / REPORT).read_text(encoding="utf-8"))

    def write_report(self, report: Mapping[str, Any]) -> None:
        """The last file of a run: with it the run is finished."""
        write_whole(self.path / REPORT, json.dumps(dict(report), ensure_ascii=False, indent=1) + "\n")

    def read_recipe(self) -> dict[str, Any]:
        """What an earlier start of this run decided; empty where there was none."""
        path = self.path / RECIPE
        return load_yaml(path) if path.is_file() else {}

    def write_recipe(self, recipe: Mapping[str, Any]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        write_whole(self.path / RECIPE, dump_yaml(recipe))


def versions() -> dict[str, str]:
    """What a result may depend on."""
    import torch  # here alone, so that what only reads a run's folder starts without it

    return {
        "instar": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }


def now() -> str:
    """The time by the clock, to the second. Example: 2026-01-31T09:05:00+00:00"""
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Gives a function that tells whether Ctrl-C, SIGTERM or SIGUSR1 came; a second signal stops at once."""
    asked = threading.Event()

    def note(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield asked.is_set
        return
    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
