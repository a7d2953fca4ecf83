"""The runs under the roots, read from what they leave in their folders while they train and after. Needs no torch."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...config import InputError, load_yaml
from ...data import lock
from ...text.figures import number
from ...train.births import SCORES, best_scores, head_of, lens_of, part_of
from ...train.history import History, Row, lines_of, read_history, read_json
from ...train.run import INSIDE, LOCK, METRICS, RECIPE, REPORT, SAMPLES, SKIPPED
from ...train.tables import settings, stage_defaults
from .index import Index
from .trouble import Trouble, bad_input

FRESH = 2.0  # seconds after which the roots are looked through again
POINTS = 3000  # rows of a long run that are sent
RECENT = 50  # steps that tell how fast it goes now
TAIL = 1 << 16  # bytes at the end of a file that hold its last row
KEPT = 4  # runs whose files are kept as read
FILES = (RECIPE, METRICS, SAMPLES, SKIPPED, INSIDE, REPORT)


class Runs:
    """The runs that an index knows by their ids, which are looked up and never opened as paths."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self._looked = -FRESH
        self._recipes: dict[Path, tuple[int, dict[str, Any]]] = {}
        self._histories: OrderedDict[Path, tuple[object, History]] = OrderedDict()

    def find(self, run: str) -> Path:
        """Its folder. Raises Trouble (404) where there is none of that id."""
        if run not in self.index.runs:
            self._look()  # it may have begun meanwhile
        if run not in self.index.runs:
            raise Trouble(404, "no_such_run", "there is no such run here; ask /glass/api/runs for those that there are")
        return self.index.runs[run]

    def _look(self) -> None:
        if time.monotonic() - self._looked >= FRESH:
            self.index.refresh()
            self._looked = time.monotonic()

    def opened(self, run: str) -> tuple[Path, dict[str, Any]]:
        """Its folder and what was decided at its start. Raises Trouble."""
        folder = self.find(run)
        try:
            return folder, self._recipe(folder)
        except (InputError, OSError) as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> Trouble:
        """Told without where it lies."""
        return bad_input(self.index.hidden(f"the files of this run are damaged: {error}"))

    def listed(self) -> list[dict[str, Any]]:
        """Every run in short, those that train now first, then by when they last wrote."""
        self._look()
        found = [self._short(run, folder) for run, folder in self.index.runs.items()]
        return sorted(found, key=lambda run: (run["state"] != "live", -run["updated"], run["id"]))

    def _short(self, run: str, folder: Path) -> dict[str, Any]:
        last = last_row(folder / METRICS)
        said = {"id": run, "step": last.get("step", 0), "updated": written(folder), "state": state_of(folder)}
        try:
            recipe, report = self._recipe(folder), read_json(folder / REPORT)
        except (InputError, ValueError, OSError):
            return said | {"stage": "", "steps": 0, "loss": None, "finished": False, "live": False, "damaged": True}
        loss = number(report.get("held_out_loss")) if report else None
        return said | {
            "stage": str(recipe.get("stage", "")), "steps": whole(recipe.get("steps")),
            "loss": number(last.get("loss")) if loss is None else loss,
            "finished": said["state"] == "finished", "live": said["state"] == "live",
        }  # fmt: skip

    def _recipe(self, folder: Path) -> dict[str, Any]:
        """Read once for every time that it was written: YAML takes its time."""
        changed = (folder / RECIPE).stat().st_mtime_ns
        known = self._recipes.get(folder)
        if known is None or known[0] != changed:
            known = self._recipes[folder] = changed, load_yaml(folder / RECIPE)
        return known[1]

    def _history(self, folder: Path) -> History:
        """All of its files, read once for every time that one of them was written."""
        stamp = stamps(folder, FILES)
        known = self._histories.pop(folder, None)
        if known is None or known[0] != stamp:
            try:
                known = stamp, read_history(folder)
            except (InputError, ValueError, OSError) as error:
                raise self._damaged(error) from None
        self._histories[folder] = known
        while len(self._histories) > KEPT:
            self._histories.popitem(last=False)
        return known[1]

    def metrics(self, run: str, *, after: int = 0, points: int = POINTS) -> dict[str, Any]:
        """Its rows behind step `after` as columns, at most about `points` of them (`rows` says how many there are),
        and what was decided at its start."""
        folder = self.find(run)
        history = self._history(folder)
        rows = [row for row in history.rows if row["step"] > after]
        shown = thinned(rows, points)
        return {
            "id": run, "state": state_of(folder), "stage": history.stage, "of": whole(history.recipe.get("steps")),
            "steps": [row["step"] for row in shown], "columns": columns(shown), "last": history.step,
            "rows": len(rows), "broken": history.broken, "left_s": seconds_left(history.rows, history.recipe),
            "skipped": [step for step in history.skipped() if step > after],
            "skips": [
                {"step": row.get("step"), "loss": str(row.get("loss")), "grad_norm": str(row.get("grad_norm"))}
                for row in history.skips
            ],
            "report": {
                name: value for name, value in (history.report or {}).items() if number(value) is not None
            },
            **decisions(history),
        }  # fmt: skip

    def samples(self, run: str) -> dict[str, Any]:
        """What the model said while it learned: by prompt, (step, text)."""
        history = self._history(self.find(run))
        said = list(history.samples)
        said += [{"step": look["step"], **one} for look in history.inside for one in _said(look)]
        prompts: dict[str, dict[int, str]] = {}
        for row in sorted(said, key=lambda row: row["step"]):
            prompts.setdefault(str(row["prompt"]), {})[row["step"]] = str(row["text"])
        return {
            "prompts": [
                {"prompt": prompt, "said": [{"step": step, "text": text} for step, text in texts.items()]}
                for prompt, texts in prompts.items()
            ]
        }  # fmt: skip

    def inside(self, run: str) -> dict[str, Any]:
        """The birth of its heads: of each kind the best score at each look, and the head that has it at the end; of
        the lens how far each row of the stream is from the last, KL in nats, and after how many blocks a word is
        settled."""
        looks = self._history(self.find(run)).inside
        best = {}
        for name in SCORES:
            scores = [score for _, score in best_scores(looks, name)]
            if any(score is not None for score in scores):
                best[name] = {"head": head_of(looks[-1], name), "scores": scores}
        return {
            "steps": [look["step"] for look in looks], "best": best,
            "settled": [number(part_of(look, "lens").get("settled")) for look in looks],
            "kl": [[number(value) for value in lens_of(look, "kl")] for look in looks],
        }  # fmt: skip


def state_of(folder: Path) -> str:
    """finished: it has a report, its last file; live: a process holds its lock; stopped: neither."""
    if (folder / REPORT).is_file():
        return "finished"
    try:
        lock.refuse_held(folder / LOCK)
    except InputError:
        return "live"
    except OSError:
        return "stopped"  # a folder that may only be read: nobody here trains in it
    return "stopped"


def written(folder: Path) -> float:
    """When it last wrote a row, in seconds since 1970; else when it was begun."""
    for name in (METRICS, RECIPE):
        if (folder / name).is_file():
            return (folder / name).stat().st_mtime
    return 0.0


def last_row(path: Path) -> Row:
    """The last whole row of a file of JSON lines, without reading the rest; empty where there is none."""
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        rows, _ = lines_of(file.read().decode(errors="replace"))
    return rows[-1] if rows and type(rows[-1].get("step")) is int else {}


def columns(rows: Sequence[Row]) -> dict[str, list[float | None]]:
    """name -> a value for each row, null where it has none or none that can be drawn."""
    names = dict.fromkeys(name for row in rows for name, value in row.items() if number(value) is not None)
    return {name: [number(row.get(name)) for row in rows] for name in names if name != "step"}


def thinned(rows: Sequence[Row], points: int) -> list[Row]:
    """About `points` rows: of each stretch those with the lowest and the highest loss, so that a spike stays, and
    every row that was measured on held-out data."""
    if len(rows) <= points:
        return list(rows)
    stretches = max(1, points // 2)
    kept = {0, len(rows) - 1} | {at for at, row in enumerate(rows) if "held_out_loss" in row}
    for stretch in range(stretches):
        places = range(stretch * len(rows) // stretches, (stretch + 1) * len(rows) // stretches)
        known = [(loss, at) for at in places if (loss := number(rows[at].get("loss"))) is not None]
        kept |= {min(known)[1], max(known)[1]} if known else {places[0]}
    return [rows[at] for at in sorted(kept)]


def seconds_left(rows: Sequence[Row], recipe: Row) -> float | None:
    """By the pace of the last steps; None where it is not known."""
    steps, recent = number(recipe.get("steps")), rows[-RECENT:]
    if not steps or len(recent) < 2:
        return None
    begun, now = (number(row.get("seconds")) for row in (recent[0], recent[-1]))
    gone = recent[-1]["step"] - recent[0]["step"]
    if begun is None or now is None or now < begun or not gone:
        return None
    return round((now - begun) / gone * max(0.0, steps - recent[-1]["step"]), 1)


def decisions(history: History) -> dict[str, Any]:
    """What was decided at its start: its size, the run that it went on from, and the options that are not as usual."""
    recipe = history.recipe
    options, parent = part_of(recipe, "options"), part_of(recipe, "parent")
    usual = stage_defaults(history.stage, options if isinstance(options.get("preset"), str) else {})
    changed = [
        {"name": one.name, "value": one.value, "usual": one.default}
        for one in settings(options, usual) if one.changed
    ]  # fmt: skip
    return {
        "decisions": {
            "parameters": number(recipe.get("parameters")), "compute": str(recipe.get("compute", "")),
            "started": str(recipe.get("started", "")),
            "parent": "/".join(Path(str(parent.get("folder", ""))).parts[-2:]),
            "options": changed,
        },
    }  # fmt: skip


def whole(value: Any) -> int:
    """A count of a file that anybody may have written; 0 where it is none."""
    return int(number(value) or 0)


def stamps(folder: Path, names: Sequence[str]) -> list[tuple[int, int] | None]:
    """When each file was written, and its size; None of one that is not there."""
    found: list[tuple[int, int] | None] = []
    for name in names:
        try:
            now = (folder / name).stat()
        except FileNotFoundError:
            found.append(None)
        else:
            found.append((now.st_mtime_ns, now.st_size))
    return found


def _said(look: Row) -> list[Row]:
    found = look.get("samples")
    rows = found if isinstance(found, list) else []
    return [row for row in rows if isinstance(row, dict) and {"prompt", "text"} <= row.keys()]
