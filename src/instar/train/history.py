"""What a run has left in its folder, read back: decisions, steps, samples, report. A broken line is counted."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config import load_yaml
from ..text.figures import DRAWABLE, number
from .curves import Point
from .run import INSIDE, METRICS, RECIPE, REPORT, SAMPLES, SKIPPED

Row = dict[str, Any]
EXAM = "exam.json"  # what `instar grow` asked the finished model


@dataclass(frozen=True)
class History:
    """One run. report: None where it did not reach its end; broken: lines that could not be read."""

    recipe: dict[str, Any]
    report: dict[str, Any] | None
    rows: Sequence[Row]
    samples: Sequence[Row]
    skips: Sequence[Row]  # of the skipped steps, what they read
    exam: dict[str, Any]
    broken: int
    inside: Sequence[Row] = ()  # what was seen inside the model
    _points: dict[tuple[str, bool], list[Point]] = field(default_factory=dict)  # those asked for before

    @property
    def stage(self) -> str:
        return str(self.recipe.get("stage", "run"))

    @property
    def step(self) -> int:
        """The last step that is written down."""
        return int(self.rows[-1]["step"]) if self.rows else 0

    @property
    def missing(self) -> int:
        """Steps before the last one that have no row."""
        return self.step - len(self.rows)

    def points(self, name: str, *, sparse: bool = False) -> list[Point]:
        """(step, value); a value that is not finite is a gap, and so is a step without a row. sparse: what is measured
        now and then, joined over the steps between."""
        if (name, sparse) not in self._points:
            self._points[name, sparse] = self._read(name, sparse)
        return self._points[name, sparse]

    def _read(self, name: str, sparse: bool) -> list[Point]:
        if sparse:
            return [(row["step"], number(row[name])) for row in self.rows if name in row]
        points: list[Point] = []
        for row in self.rows:
            step = row["step"]
            if points and step > points[-1][0] + 1:
                points.append((step - 1, None))
            points.append((step, number(row.get(name))))
        return points

    def skipped(self) -> list[int]:
        """The steps whose gradient was not finite, so that the weights stayed where they were."""
        before, steps = 0, []
        for row in self.rows:
            total = number(row.get("skipped")) or 0
            steps += [row["step"]] if total > before else []
            before = max(before, int(total))
        return steps


def read_history(folder: Path) -> History:
    """Raises InputError where instar.yaml is damaged, ValueError where report.json is."""
    rows, broken = read_lines(folder / METRICS)
    good: list[Row] = []
    for row in rows:
        step = row.get("step")
        if type(step) is int and (good[-1]["step"] if good else 0) < step < DRAWABLE:
            good.append(row)
    samples, lost = read_lines(folder / SAMPLES)
    shown = [row for row in samples if type(row.get("step")) is int and {"prompt", "text"} <= row.keys()]
    skips, lost_skips = read_lines(folder / SKIPPED)
    looks, lost_looks = read_lines(folder / INSIDE)
    seen = [row for row in looks if type(row.get("step")) is int and 0 <= row["step"] < DRAWABLE]
    return History(
        recipe=load_yaml(folder / RECIPE), report=read_json(folder / REPORT) or None, rows=good, samples=shown,
        skips=skips, exam=read_json(folder / EXAM).get("exam", {}),
        broken=broken + lost + lost_skips + lost_looks
        + len(rows) - len(good) + len(samples) - len(shown) + len(looks) - len(seen),
        inside=seen,
    )  # fmt: skip


def read_lines(path: Path) -> tuple[list[Row], int]:
    """The objects of a file of JSON lines, and how many of its lines are none."""
    return lines_of(path.read_text(encoding="utf-8", errors="replace") if path.is_file() else "")


def lines_of(text: str) -> tuple[list[Row], int]:
    """The same of a text."""
    rows: list[Row] = []
    broken = 0
    for line in filter(str.strip, text.split("\n")):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            rows.append(row)
        else:
            broken += 1
    return rows, broken


def read_json(path: Path) -> dict[str, Any]:
    """A file of one JSON object; empty where there is none. Raises ValueError where it holds anything else."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{path}: too deep") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: found {type(found).__name__}, wanted an object")
    return found


def mean_of_last(points: Sequence[Point], count: int) -> float | None:
    """The mean of what is finite among the last points."""
    values = [y for _, y in points[-count:] if y is not None and math.isfinite(y)]
    return sum(values) / len(values) if values else None
