"""The phases of a run, one after the other, each by an executor of datatrove, watched from here.

A single worker runs in this process. Everything else runs in a session of its own, led by `conductor`, so that one
signal ends all of it: this process waits, shows progress, and hears of failures. Whatever happens, a phase that is run
again goes on with the tasks that are not marked as done.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...config import Failed, InputError, Interrupted
from . import executors
from .ledger import TOKENS
from .sift import READ, WRITE, Job, Step, progress_of, sift, write

LOOK = 0.25  # seconds between two looks at the work
GRACE = 2.0  # seconds that workers have to end when asked to
COPIES = ("pairs", "clusters")  # the phases that find copies
# some schedulers send the last one before they stop a job
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


@dataclass(frozen=True)
class Progress:
    """How far the work is. phase: its name; number, phases: of how many; done, total: stored bytes, or tasks where the
    unit says so."""

    phase: str
    number: int
    phases: int
    done: int
    total: int
    unit: str = "bytes"


Tell = Callable[[Progress], None]


@dataclass(frozen=True)
class Phase:
    """steps: makes the pipeline; sizes: stored bytes of each task, or none, when all count alike."""

    name: str
    tasks: int
    steps: Callable[[], Sequence[Any]]
    sizes: tuple[int, ...] = ()


def names_of(job: Job) -> list[str]:
    """The phases of a run in order."""
    return [READ, *(COPIES if job.removes() else ()), WRITE, *([TOKENS] if job.tokenizer else ())]


def phase_of(job: Job, sizes: Sequence[int], name: str) -> Phase:
    """A phase, once those before it are finished. sizes: stored bytes of each task."""
    count = len(sizes)
    if name not in COPIES:
        steps = {
            READ: lambda: [Step(READ, sift, job)],
            WRITE: lambda: [Step(WRITE, write, job)],
            TOKENS: lambda: _tokenize(job, count),
        }
        return Phase(name, count, steps[name], tuple(sizes))
    from .duplicates import find_steps

    stage = next(stage for stage in find_steps(job.recipe.duplicates, job.work) if stage.name == name)
    return Phase(name, stage.tasks, lambda: stage.pipeline)


def _tokenize(job: Job, tasks: int) -> list[Any]:
    from .tokens import Tokenize

    options = job.recipe.executor
    alone = options.kind == "local" and executors.workers_of(options, tasks) == 1
    return [Tokenize(job.tokenizer, job.out, alone=alone)]


def logs_of(job: Job, phase: str) -> Path:
    return job.work / "logs" / phase


def run_all(job: Job, sizes: Sequence[int], names: Sequence[str], tell: Tell) -> dict[str, float]:
    """Run what is not done yet of these phases; the seconds of each by name. Raises Interrupted on Ctrl-C and SIGTERM,
    InputError and Failed where a task ends with an error."""
    seconds, every = {}, names_of(job)
    for name in names:
        started = time.perf_counter()
        with stoppable():
            phase = phase_of(job, sizes, name)
            watch = Watch(job, phase, every.index(name) + 1, len(every))
            if not watch.finished():
                run(job, phase, lambda watch=watch: tell(watch.look()))  # type: ignore[misc]
            tell(watch.look())
        seconds[name] = round(time.perf_counter() - started, 3)
    return seconds


def run(job: Job, phase: Phase, tell: Callable[[], None]) -> None:
    """One phase, by whom the recipe says."""
    logs, options = logs_of(job, phase.name), job.recipe.executor
    (logs / "failed.json").unlink(missing_ok=True)
    shutil.rmtree(logs / "started", ignore_errors=True)
    if options.kind == "local" and executors.workers_of(options, phase.tasks) == 1:
        with silent(), ticking(tell):
            executors.make(options, phase.steps(), phase.tasks, logs, phase.name).run()
    else:
        _conduct(job, phase, logs, tell)


def _conduct(job: Job, phase: Phase, logs: Path, tell: Callable[[], None]) -> None:
    """Run a phase in a session of its own and wait for it."""
    logs.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ)
    if job.recipe.executor.kind == "local":  # the workers share the cores as they are
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
            environment.setdefault(name, "1")
    with (logs / "stderr.log").open("w") as said:
        child = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.conductor", job.out, phase.name, str(os.getpid())],
            stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True, env=environment,
        )  # fmt: skip
    try:
        while child.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                child.wait(LOOK)
            tell()
            if job.recipe.executor.kind == "local" and (rank := executors.lost(logs)) is not None:
                raise Failed(
                    f"task {rank} of phase {phase.name} was killed, for want of memory perhaps (dmesg says so); "
                    f"run again with fewer workers, it goes on. Its log: {logs}/logs/task_{rank:05d}.log"
                )
    finally:
        _end(child)
        if job.recipe.executor.kind == "slurm":
            executors.cancel(logs)
    if child.returncode:
        raise _failure(phase, logs)


def _end(child: subprocess.Popen[Any]) -> None:
    """Make sure that nothing of a session is left."""
    for number, grace in ((signal.SIGTERM, GRACE), (signal.SIGKILL, GRACE)):
        if child.poll() is None:
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(child.pid, number)
                child.wait(grace)
    with suppress(ProcessLookupError):  # its leader has ended, whoever is left has lost their work
        os.killpg(child.pid, signal.SIGKILL)


def _failure(phase: Phase, logs: Path) -> Exception:
    """What ended a phase, in words."""
    try:
        told = json.loads((logs / "failed.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        lines = (logs / "stderr.log").read_text(encoding="utf-8", errors="replace").splitlines()
        return Failed(f"phase {phase.name} failed; the end of {logs}/stderr.log:\n  " + "\n  ".join(lines[-12:]))
    if told["input"]:
        return InputError(told["error"])
    if told["rank"] is None:
        return Failed(f"phase {phase.name} failed: {told['error']}")
    log = f"{logs}/logs/task_{told['rank']:05d}.log"
    return Failed(
        f"task {told['rank']} of phase {phase.name} failed; its log is {log}:\n  " + "\n  ".join(told["trace"])
    )


class Watch:
    """Looks from outside at how far a phase is: tasks marked as done, and what the others say of themselves."""

    def __init__(self, job: Job, phase: Phase, number: int, phases: int) -> None:
        self.job, self.phase, self.number, self.phases = job, phase, number, phases
        self.sizes = [max(1, size) for size in phase.sizes]
        self.done = logs_of(job, phase.name) / "completions"

    def completed(self) -> set[int]:
        with suppress(FileNotFoundError):
            return {int(entry.name) for entry in os.scandir(self.done)}
        return set()

    def finished(self) -> bool:
        return len(self.completed()) == self.phase.tasks

    def look(self) -> Progress:
        done = self.completed()
        if not self.sizes:
            return Progress(self.phase.name, self.number, self.phases, len(done), self.phase.tasks, "tasks")
        amount = sum(self.sizes[rank] for rank in done)
        for started in (self.done.parent / "started").glob("*"):
            if (rank := int(started.name)) not in done:
                amount += round(self.sizes[rank] * self._share(rank))
        return Progress(self.phase.name, self.number, self.phases, amount, sum(self.sizes))

    def _share(self, rank: int) -> float:
        with suppress(OSError, ValueError):  # it has said nothing yet, or is just saying it
            return float(progress_of(self.job.work, self.phase.name, rank).read_text())
        return 0.0


@contextmanager
def ticking(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` now and then, while this thread works."""
    over = threading.Event()

    def tick() -> None:
        while not over.wait(LOOK):
            tell()

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def silent() -> Iterator[None]:
    """Keep datatrove's log off our stderr; a failure of this process is told by its own exception."""
    from loguru import logger

    logger.disable("datatrove")
    try:
        yield
    finally:
        logger.enable("datatrove")


@contextmanager
def stoppable() -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGUSR1 end the work inside as Interrupted; what is finished stays."""
    main = threading.current_thread() is threading.main_thread()  # signals are the main thread's
    before = {number: signal.signal(number, signal.default_int_handler) for number in SIGNALS} if main else {}
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("stopped; run the same command again to go on") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
