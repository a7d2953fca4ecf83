"""A .jsonl file of a run: one object a line, whole lines only, and no step twice however often the run was stopped."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..data.disk import write_whole


class Jsonl:
    """Grows by whole lines. What the disk refuses is said once, kept, and written as soon as there is room again."""

    def __init__(self, path: Path, say: Callable[[str], None] = lambda text: None) -> None:
        self.path, self.say = path, say
        self._waiting = b""
        self._refused = False

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """JSON knows no NaN: a figure that is not finite is written as null."""
        text = "".join(json.dumps(_finite(row), ensure_ascii=False) + "\n" for row in rows)
        self._waiting += text.encode()
        self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if not self._waiting:
            return
        try:
            _append(self.path, self._waiting)
        except OSError as error:
            if not self._refused:
                self.say(f"warning: {self.path}: {error.strerror}; its lines wait until there is room")
            self._refused = True
        else:
            self._waiting, self._refused = b"", False


def forget_after(step: int, path: Path) -> None:
    """Drop the rows of later steps, which a run that died has left, so that a run that goes on repeats none."""
    if path.exists():
        kept = [line for line in _lines(path) if json.loads(line)["step"] <= step]
        write_whole(path, "".join(f"{line}\n" for line in kept))


def last_losses(path: Path, count: int) -> list[float]:
    """The losses of the last `count` steps of a metrics.jsonl, NaN for those that had none."""
    rows = [json.loads(line) for line in _lines(path)[-count:]]
    return [math.nan if row["loss"] is None else row["loss"] for row in rows]


def _lines(path: Path) -> list[str]:
    """The whole lines of a log; one that was cut off by a crash is left out."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return text.split("\n")[:-1]  # not splitlines: a text may hold other ends of lines, which JSON leaves as they are


def _append(path: Path, data: bytes) -> None:
    with path.open("ab", buffering=0) as file:
        end = file.tell()
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            file.truncate(end)  # half a line is none
            raise


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(x, float) and not math.isfinite(x) else x for name, x in row.items()}
