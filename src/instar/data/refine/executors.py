"""datatrove's executors as they are used here: each notes which tasks are at work, and what made one fail."""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy, deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor

from ...config import InputError
from ...config.data import ExecutorOptions

QUIET = 1  # the rank among those at work that says nothing on stderr
POLL = 2.0  # seconds between two looks at a cluster's queue
PATIENCE = 5  # looks at tasks that are neither done nor queued, until they count as lost
LINES = 12  # of a traceback


class Local(LocalPipelineExecutor):
    """Processes of this machine."""

    def run(self) -> Any:
        if self.workers > 1:
            return super().run()
        for rank in self.get_incomplete_ranks():  # as there, without a process that counts for the others
            alone = copy(self)
            alone.pipeline = deepcopy(self.pipeline)
            alone._run_for_rank(rank, QUIET)
        return None

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
        with noted(self.logging_dir.path, rank):
            return super()._run_for_rank(rank, QUIET, node_rank)


class Ray(RayPipelineExecutor):
    """Tasks of a Ray cluster, which must see the same files. They work where this process does: a recipe may name files
    from there."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.folder = os.getcwd()

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
        os.chdir(self.folder)
        with noted(self.logging_dir.path, rank):
            return super()._run_for_rank(rank, QUIET, node_rank)


class Slurm(SlurmPipelineExecutor):
    """Jobs of a Slurm cluster, which must see the same files."""

    def run(self) -> Any:
        super().run()
        if "SLURM_ARRAY_TASK_ID" not in os.environ:
            self._wait()

    def launch_merge_stats(self) -> None:
        """No job for datatrove's own statistics: our ledgers have them."""

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
        with noted(self.logging_dir.path, rank):
            return super()._run_for_rank(rank, QUIET, node_rank)

    def _wait(self) -> None:
        """Until every task is done; raises RuntimeError where the queue has forgotten some."""
        (Path(self.logging_dir.path) / "job").write_text(str(self.job_id))
        missed = 0
        while left := self.get_incomplete_ranks():
            time.sleep(POLL)
            missed = 0 if _queued(str(self.job_id)) else missed + 1
            if missed == PATIENCE:
                raise RuntimeError(
                    f"{len(left)} tasks were not finished and are no longer in Slurm's queue, task {left[0]} for one; "
                    f"their logs are in {self.slurm_logs_folder}"
                )


def _queued(job: str) -> bool:
    found = subprocess.run(["squeue", "-h", "-j", job], capture_output=True, text=True)
    return found.returncode == 0 and bool(found.stdout.strip())


def cancel(logs: Path) -> None:
    """Take a phase's jobs out of Slurm's queue, if it has any there."""
    with suppress(OSError):
        subprocess.run(["scancel", (logs / "job").read_text()], capture_output=True)


def make(options: ExecutorOptions, steps: Sequence[Any], tasks: int, logs: Path, name: str) -> Any:
    """The executor that the recipe asks for."""
    workers = workers_of(options, tasks)
    if options.kind == "local":
        return Local(list(steps), tasks=tasks, workers=workers, logging_dir=str(logs))
    if options.kind == "ray":
        return Ray(
            list(steps), tasks=tasks, workers=workers, logging_dir=str(logs.absolute()),
            mem_per_cpu_gb=options.memory_gb,
        )  # fmt: skip
    return Slurm(
        list(steps), tasks=tasks, workers=workers, logging_dir=str(logs), time=options.time,
        partition=options.partition, mem_per_cpu_gb=math.ceil(options.memory_gb), job_name=f"instar-{name}",
        qos=None, venv_path=os.path.join(sys.prefix, "bin", "activate"),
    )  # fmt: skip


def workers_of(options: ExecutorOptions, tasks: int) -> int:
    """Tasks at a time: as asked, else all cores of this machine, else all that a cluster has room for."""
    if options.kind != "local":
        return min(tasks, options.workers) if options.workers else -1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(tasks, options.workers or cores))


def check(options: ExecutorOptions) -> None:
    """Raises InputError where the executor cannot run here."""
    if options.kind == "ray" and find_spec("ray") is None:
        raise InputError('executor.kind=ray needs ray: pip install "instar[ray]"')
    if options.kind == "slurm":
        if shutil.which("sbatch") is None:
            raise InputError(
                "executor.kind=slurm, and there is no sbatch here; run this on a login node of the cluster"
            )
        if not options.partition:
            raise InputError("executor.partition is missing; name a partition of the cluster (sinfo lists them)")


def join(options: ExecutorOptions, workers: int) -> None:
    """Be part of a Ray cluster, or start one of this machine alone. Raises InputError where there is none."""
    if options.kind != "ray":
        return
    import ray

    here: dict[str, Any] = {} if options.address else {"num_cpus": max(1, workers)}
    try:
        ray.init(
            address=options.address or "local", log_to_driver=False, configure_logging=False, include_dashboard=None,
            **here,
        )  # fmt: skip
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(
            f"executor.address={options.address}: {error}; start the cluster, or name it as host:port"
        ) from None


@contextmanager
def noted(logs: str, rank: int) -> Iterator[None]:
    """Note that this process is at a task; of a failure, what it was."""
    folder = Path(logs)
    started = folder / "started" / f"{rank:05d}"
    started.parent.mkdir(parents=True, exist_ok=True)
    started.write_text(f"{socket.gethostname()} {os.getpid()}")
    try:
        yield
    except Exception as error:
        lines = traceback.format_exc().splitlines()[-LINES:]
        told = {"rank": rank, "input": isinstance(error, InputError), "error": str(error), "trace": lines}
        draft = folder / f".failed.{os.getpid()}"
        draft.write_text(json.dumps(told), encoding="utf-8")
        draft.replace(folder / "failed.json")
        raise
    finally:
        started.unlink(missing_ok=True)


def lost(logs: Path) -> int | None:
    """A task of this machine whose process is no more, though it neither finished nor failed; None where all live."""
    for started in sorted((logs / "started").glob("*")):
        with suppress(OSError, ValueError):  # it has just ended, or is just beginning
            host, pid = started.read_text().split()
            if host == socket.gethostname() and not _lives(int(pid)) and started.exists():
                return int(started.name)
    return None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
