"""Room on the disk: how much there is, and what to say where it does not suffice."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError


class Unwritten(OSError):
    """What the disk refused, in the words that the user reads."""


@contextmanager
def told(folder: Path, needed: int) -> Iterator[None]:
    """Inside, whatever the disk refuses becomes an Unwritten that names the folder, the bytes needed and those free."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        code, reason = _reason(error)
        free = free_bytes(folder)
        text = f"not saved ({reason}): it takes about {needed:,} bytes, and {free:,} are free on its disk"
        raise Unwritten(code, text, str(folder)) from error


def free_bytes(folder: Path) -> int:
    """Bytes that are free on the disk where `folder` lies, or will lie."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _reason(error: Exception) -> tuple[int, str]:
    """Number and name of a refusal. safetensors tells it in words alone."""
    if isinstance(error, OSError):
        return error.errno or 0, error.strerror or str(error)
    number = re.search(r"\(os error (\d+)\)", str(error))
    return (int(number[1]), os.strerror(int(number[1]))) if number else (0, str(error))
