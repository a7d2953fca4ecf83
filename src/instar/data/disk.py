"""Bringing what was written onto the disk, so that it survives a power cut."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

DRAFT = ".tmp-"  # in the names of what is not finished


def sync(path: Path) -> None:
    """Bring a file, or the entries of a folder, onto the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, text: str) -> None:
    """Write a small file so that its old or its new content is there at any time, also across a power cut."""
    draft = path.with_name(f".{path.name}{DRAFT}{uuid4().hex[:8]}")
    try:
        draft.write_text(text, encoding="utf-8")
        sync(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync(path.parent)


def put(path: Path, render: Callable[[], str], say: Callable[[str], None]) -> None:
    """Write a page, or say why there is none."""
    try:
        write_whole(path, render())
    except Exception as error:  # of any kind: no run of hours may fail for its page
        say(f"{path} was not written: {type(error).__name__}: {error}")
