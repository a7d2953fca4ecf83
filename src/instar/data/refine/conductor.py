"""Leads the workers of one phase, in a session of its own: `python -m instar.data.refine.conductor OUT PHASE PARENT`.

It ends with the process that started it, however that ended, and takes everything in its session along.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ...config import InputError
from .. import lock
from . import executors
from .phases import logs_of, phase_of
from .sift import Job

JOB = "job.json"
WATCH = 0.1  # seconds between two looks at the parent
PATIENCE = 10.0  # seconds that the workers of an earlier run have to end


def save(job: Job, sizes: list[int]) -> None:
    """Write down what `load` needs."""
    from ...config import to_dict

    job.work.mkdir(parents=True, exist_ok=True)
    data = {"recipe": to_dict(job.recipe), "tokenizer": job.tokenizer, "every": job.every, "sizes": sizes}
    (job.work / JOB).write_text(json.dumps(data), encoding="utf-8")


def load(out: str) -> tuple[Job, list[int]]:
    """The job of a folder, and the sizes of its tasks."""
    from ...config.data import read_data_recipe

    data = json.loads((Path(out) / "work" / JOB).read_text(encoding="utf-8"))
    return Job(out, read_data_recipe(data["recipe"]), data["tokenizer"], data["every"]), data["sizes"]


def main(out: str, name: str, parent: int) -> int:
    """Run one phase; 0 where all of its tasks are done."""
    _follow(parent)
    job, sizes = load(out)
    logs = logs_of(job, name)
    try:
        with ExitStack() as stack:
            _take(stack, job.work / ".conductor")
            phase = phase_of(job, sizes, name)
            executor = executors.make(job.recipe.executor, phase.steps(), phase.tasks, logs, name)
            executors.join(job.recipe.executor, executor.workers)
            executor.run()
            if left := executor.get_incomplete_ranks():
                raise RuntimeError(f"{len(left)} tasks were not finished, task {left[0]} for one; see {logs}/logs")
    except Exception as error:
        traceback.print_exc()
        if not (logs / "failed.json").exists():  # it is not a task that failed
            told: dict[str, Any] = {
                "rank": None,
                "input": isinstance(error, InputError),
                "error": str(error),
                "trace": [],
            }
            (logs / "failed.json").write_text(json.dumps(told), encoding="utf-8")
        return 1
    return 0


def _follow(parent: int) -> None:
    """End when the parent has ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _take(stack: ExitStack, path: Path) -> None:
    """Wait for the conductor of an earlier run that is just ending."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return stack.enter_context(lock.held(path))
        except InputError:
            if time.monotonic() > until:
                raise
            time.sleep(WATCH)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
