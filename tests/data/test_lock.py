"""Two processes never run in one folder, and a dead one stands in nobody's way."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from instar.config import InputError
from instar.data import lock
from instar.data.lock import held, refuse_held

HOLDER = """
import sys, time
from pathlib import Path
from instar.data.lock import held
with held(Path(sys.argv[1])):
    print("here", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of tmp_path/run."""
    path = tmp_path / "run" / ".lock"
    process = subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "here\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_process_is_refused_by_name(holder, tmp_path):
    """T13: whether it only looks or wants the lock, it hears which process has it, and changes nothing."""
    path = tmp_path / "run" / ".lock"
    with pytest.raises(InputError, match=f"in use by process {holder.pid}"):
        refuse_held(path)
    with pytest.raises(InputError, match=f"in use by process {holder.pid}"), held(path):
        pass
    assert path.read_text() == f"{holder.pid}\n"


def test_a_dead_holder_does_not_block(holder, tmp_path):
    """After kill -9 its file is still there, and means nothing."""
    path = tmp_path / "run" / ".lock"
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert path.exists()
    refuse_held(path)
    with held(path):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


def test_nothing_is_left_of_a_folder_that_was_made_for_the_lock(tmp_path):
    """A run that is refused before it begins leaves no folder; one that was there before stays."""
    for folder, there in ((tmp_path / "new", False), (tmp_path / "old", True)):
        if there:
            folder.mkdir()
        with pytest.raises(ZeroDivisionError), held(folder / ".lock"):
            raise ZeroDivisionError
        assert folder.exists() == there
    refuse_held(tmp_path / "none" / ".lock")
    assert not (tmp_path / "none").exists()


def test_a_lock_on_a_file_that_is_gone_is_none(tmp_path, monkeypatch):
    """The holder before lets go, and removes its file, between our opening and our locking it: we take the next one,
    which others see."""
    path, usual, calls = tmp_path / ".lock", lock._lock, []

    def late(handle, path, kind):
        usual(handle, path, kind)
        calls.append(path)
        if len(calls) == 1:
            path.unlink()

    monkeypatch.setattr(lock, "_lock", late)
    with held(path):
        assert path.read_text() == f"{os.getpid()}\n"
        with pytest.raises(InputError, match="in use"):
            refuse_held(path)
    assert len(calls) == 2


def test_of_many_one_gets_in_at_a_time(tmp_path):
    """The file is removed and made anew all the time, and never two are inside."""
    path, start, inside, entered = tmp_path / ".lock", Barrier(4), [], []

    def come_and_go(number):
        start.wait()
        for _ in range(50):
            try:
                with held(path):
                    inside.append(number)
                    entered.append(len(inside))
                    inside.remove(number)
            except InputError:
                continue

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(come_and_go, range(4)))
    assert len(entered) > 4
    assert set(entered) == {1}
