"""One process at a time in a folder: an advisory lock on a file, which dies with the process that holds it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..config import InputError

TRIES, PAUSE = 3, 0.05  # another process that only looks holds the lock for an instant


def refuse_held(path: Path) -> None:
    """Raises InputError naming the process that holds the lock; takes nothing and creates nothing."""
    with suppress(FileNotFoundError):
        handle = os.open(path, os.O_RDWR)
        try:
            _lock(handle, path, fcntl.LOCK_SH)
        finally:
            os.close(handle)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock while inside. The file, and a folder that was made for it alone, are gone afterwards.

    Raises InputError naming the process that holds it. What a process that died has left does not stand in the way.
    """
    made = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = _take(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is still held: whoever opened it before sees that it is gone
        os.close(handle)
        if made:
            with suppress(OSError):  # it is no longer empty: the run has begun
                path.parent.rmdir()


def _take(path: Path) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(handle, path, fcntl.LOCK_EX)
            if _is_still(handle, path):
                os.ftruncate(handle, 0)
                os.write(handle, f"{os.getpid()}\n".encode())
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # the holder before removed the file between our opening and our locking it


def _lock(handle: int, path: Path, kind: int) -> None:
    for attempt in range(TRIES):
        try:
            return fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempt + 1 < TRIES:
                time.sleep(PAUSE)
    holder = os.pread(handle, 32, 0).decode(errors="replace").strip()
    raise InputError(
        f"{path.parent} is in use by {f'process {holder}' if holder else 'another process'}; "
        "wait for it, stop it, or name another folder"
    )


def _is_still(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
