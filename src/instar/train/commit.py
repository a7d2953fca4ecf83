"""A folder that appears complete or not at all, and can be checked later: the commit protocol of checkpoints.

Everything is written under another name, listed with size and sha256 in MANIFEST.json, synced, then renamed. A folder
is never written into again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from hashlib import file_digest
from pathlib import Path
from typing import Any
from uuid import uuid4

from ..config import InputError
from ..data.disk import DRAFT, sync

FORMAT = 1
MANIFEST = "MANIFEST.json"
TRASH = ".trash-"


def commit(folder: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write into a draft, seal it, and make it `folder`. Raises FileExistsError where that exists."""
    if folder.exists():
        raise FileExistsError(f"{folder} exists, and a committed folder is never overwritten")
    draft = folder.with_name(f"{folder.name}{DRAFT}{uuid4().hex[:8]}")
    try:
        draft.mkdir(parents=True)
        fill(draft)
        _seal(draft)
        draft.rename(folder)
        sync(folder.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def verify(folder: Path) -> dict[str, Any]:
    """The manifest, once every file is what it lists. Raises InputError naming the file that is not and both values."""
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(f"{folder} has no {MANIFEST}: it was never completed")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        listed = {name: (entry["bytes"], entry["sha256"]) for name, entry in manifest["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path} is damaged: it is not the list of files that was written") from None
    if manifest != _manifest(listed):
        raise InputError(f"{path} is damaged: found format {manifest.get('format')!r} or more in it, wanted {FORMAT}")
    found = {_name(file, folder): file for file in _files(folder)}
    if found.keys() != listed.keys():
        missing, extra = sorted(listed.keys() - found.keys()), sorted(found.keys() - listed.keys())
        raise InputError(f"{folder}: missing {missing or 'nothing'}, not in its manifest {extra or 'nothing'}")
    for name, wanted in listed.items():
        have = _measure(found[name])
        if have != wanted:
            raise InputError(f"{folder / name} is damaged: found {_show(have)}, wanted {_show(wanted)}")
    return manifest


def discard(folder: Path) -> None:
    """Remove a committed folder: it stops being one in a single step, however long deleting takes."""
    trash = folder.with_name(f"{folder.name}{TRASH}{uuid4().hex[:8]}")
    folder.rename(trash)
    shutil.rmtree(trash, ignore_errors=True)


def leftovers(parent: Path) -> list[Path]:
    """What a killed process left half written or half deleted: our drafts and trash, and files drafted as .NAME.PID."""
    numbered = (path for path in parent.glob(".*.*") if path.suffix[1:].isdigit())
    return [*parent.glob(f"*{DRAFT}*"), *parent.glob(f"*{TRASH}*"), *numbered]


def sweep(parent: Path) -> None:
    """Remove the leftovers."""
    for left in leftovers(parent):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _seal(folder: Path) -> None:
    files: dict[str, tuple[int, str]] = {}
    for path in _files(folder):
        files[_name(path, folder)] = _measure(path)
        sync(path)
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps(_manifest(files), indent=1) + "\n", encoding="utf-8")
    sync(manifest)
    for place in [*(path for path in folder.rglob("*") if path.is_dir()), folder]:
        sync(place)


def _manifest(files: Mapping[str, tuple[int, str]]) -> dict[str, Any]:
    entries = {name: {"bytes": size, "sha256": digest} for name, (size, digest) in files.items()}
    return {"format": FORMAT, "files": entries}


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _measure(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        return path.stat().st_size, file_digest(file, "sha256").hexdigest()


def _show(measured: tuple[int, str]) -> str:
    return f"{measured[0]} bytes with sha256 {measured[1][:12]}"
