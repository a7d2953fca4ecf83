"""Phases by datatrove's executors: resumed, watched, stopped, and what is said when a task fails."""

import json
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from datatrove.pipeline.base import PipelineStep

from instar.config import Failed, InputError, Interrupted
from instar.data.refine import conductor, executors, phases
from instar.data.refine.sift import Job, Meter


class Touch(PipelineStep):
    """Writes down which task ran, or does what it is told."""

    name, type = "touch", "test"

    def __init__(self, folder, how=None):
        super().__init__()
        self.folder, self.how = str(folder), how

    def run(self, data=None, rank=0, world_size=1):
        if self.how:
            self.how(rank)
        with (Path(self.folder) / f"{rank}").open("a") as file:
            file.write("x")


@pytest.fixture
def job(recipe_of, tmp_path):
    return Job(str(tmp_path / "out"), recipe_of())


def phase(folder, how=None, tasks=4):
    folder.mkdir(exist_ok=True)
    return phases.Phase("read", tasks, lambda: [Touch(folder, how)], tuple(range(10, 10 + tasks)))


def test_a_phase_goes_on_with_what_is_not_done(job, tmp_path):
    """Of four tasks the third fails, as it is; run again, it and the fourth are done, the others not once more."""
    done = tmp_path / "done"

    def fail(rank):
        if rank == 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        phases.run(job, phase(done, fail), lambda: None)
    assert sorted(path.name for path in done.iterdir()) == ["0", "1"]
    phases.run(job, phase(done), lambda: None)
    assert {path.name: path.read_text() for path in done.iterdir()} == dict.fromkeys("0123", "x")


def test_our_stderr_stays_ours(job, tmp_path, capfd):
    """datatrove says nothing there, also where a task fails."""
    with pytest.raises(ZeroDivisionError):
        phases.run(job, phase(tmp_path / "done", lambda rank: 1 / rank), lambda: None)
    assert capfd.readouterr() == ("", "")


def test_progress(job, tmp_path):
    """Tasks that are done count whole, those at work as far as they say, others not; without sizes tasks count."""
    watch = phases.Watch(job, phase(tmp_path / "done"), 1, 3)
    assert watch.look() == phases.Progress("read", 1, 3, 0, 10 + 11 + 12 + 13)
    logs = phases.logs_of(job, "read")
    (logs / "completions").mkdir(parents=True)
    (logs / "completions" / "00001").touch()
    meter = Meter(job.work, "read", 3, 1000)
    meter._told -= 2
    meter.tell(500)
    meter.tell(900)  # at once after the other: not told
    with executors.noted(str(logs), 3):
        assert watch.look().done == 11 + round(13 * 0.5)
    assert watch.look().done == 11
    assert not watch.finished()
    assert phases.Watch(job, phases.Phase("read", 4, list), 1, 3).look() == phases.Progress("read", 1, 3, 1, 4, "tasks")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_a_signal(number):
    """It ends as Interrupted, and whoever handled the signal before handles it again."""
    before = signal.getsignal(number)
    threading.Timer(0.1, os.kill, (os.getpid(), number)).start()
    with pytest.raises(Interrupted, match="again to go on"), phases.stoppable():
        time.sleep(5)
    assert signal.getsignal(number) == before


def test_what_a_failure_was(job, tmp_path):
    """The task and the end of its trace; the sentence alone where it is the user's to put right; else what was on
    stderr."""
    logs = phases.logs_of(job, "read")
    logs.mkdir(parents=True)
    (logs / "stderr.log").write_text("Killed\n")
    assert "Killed" in str(phases._failure(phase(tmp_path / "done"), logs))
    cases = ((InputError("no index"), InputError, "^no index$"), (OSError("disk"), Failed, "task 3 of"))
    for error, kind, words in cases:
        with pytest.raises(type(error)), executors.noted(str(logs), 3):
            raise error
        found = phases._failure(phase(tmp_path / "done"), logs)
        with pytest.raises(kind, match=words):
            raise found
    assert "OSError: disk" in str(found)
    assert "task_00003.log" in str(found)


def test_a_process_that_is_no_more_is_missed(tmp_path):
    """A task whose process was killed is found; one that is at work, ended, or is on another machine is not."""
    with executors.noted(str(tmp_path), 1):
        assert executors.lost(tmp_path) is None
        started = tmp_path / "started" / "00001"
        host, _ = started.read_text().split()
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
        started.write_text(f"elsewhere {child}")
        assert executors.lost(tmp_path) is None
        started.write_text(f"{host} {child}")
        assert executors.lost(tmp_path) == 1
    assert executors.lost(tmp_path) is None


def test_executors_that_cannot_run_here(recipe_of, monkeypatch):
    """A cluster's program or library that is missing, and a partition that is not named, are said before anything."""
    options = recipe_of().executor
    monkeypatch.setattr(executors.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match="no sbatch"):
        executors.check(replace(options, kind="slurm"))
    monkeypatch.setattr(executors.shutil, "which", lambda name: "/bin/sbatch")
    with pytest.raises(InputError, match=r"executor\.partition is missing"):
        executors.check(replace(options, kind="slurm"))
    monkeypatch.setattr(executors, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"instar\[ray\]"):
        executors.check(replace(options, kind="ray"))
    executors.check(options)


def test_workers(recipe_of):
    """As many as asked, never more than tasks; a cluster decides by itself."""
    options = recipe_of().executor
    assert [executors.workers_of(replace(options, workers=n), 4) for n in (1, 3, 9)] == [1, 3, 4]
    assert 1 <= executors.workers_of(replace(options, workers=0), 10_000) <= (os.cpu_count() or 1)
    assert executors.workers_of(replace(options, workers=0, kind="ray"), 4) == -1


def test_a_job_comes_back_as_it_was(recipe_of, tmp_path):
    """What leads the workers reads the recipe that was given, to the last option."""
    recipe = recipe_of(limits={"depth": 9}, duplicates={"near": False})
    job = Job(str(tmp_path), recipe, "tokenizer", 7)
    conductor.save(job, [1, 2])
    assert conductor.load(str(tmp_path)) == (job, [1, 2])


def test_slurm_loses_tasks(tmp_path, monkeypatch):
    """Tasks that are neither done nor queued end the waiting with their number; while they are queued it waits."""
    monkeypatch.setattr(executors, "POLL", 0.0)
    left, queued = [[3, 4]] * 20, iter([True] * 6 + [False] * 99)
    monkeypatch.setattr(executors, "_queued", lambda job: next(queued))
    fake = SimpleNamespace(
        logging_dir=SimpleNamespace(path=str(tmp_path)), job_id=5, slurm_logs_folder="logs",
        get_incomplete_ranks=lambda: left.pop() if left else [],
    )  # fmt: skip
    with pytest.raises(RuntimeError, match=r"2 tasks were not finished .* task 3 for one"):
        executors.Slurm._wait(fake)
    assert len(left) == 20 - 6 - executors.PATIENCE
    assert json.loads((tmp_path / "job").read_text()) == 5
