"""One recipe -> tokenizer, pretraining, exam, first lessons, SFT, exam, talk.

A stage whose folder is finished and whose inputs are unchanged is skipped; one that was interrupted goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..config import InputError, to_dict
from ..config.recipe import Recipe
from ..data.corpus import fingerprint
from ..hub.folders import load
from ..train import stages
from .exam import Exam, examine, talk
from .picture import draw_losses
from .tokens import train_tokenizer

Say = Callable[[str], None]
# shows how far a task is: what is counted, of how many if that is known -> called with how many more are done
Counting = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]
Report = dict[str, Any]
RECORD = "grow.json"


class Life:
    """The folders of one life, and what was decided about each."""

    def __init__(self, recipe: Recipe, out: Path, *, device: str, quiet: bool, say: Say, counting: Counting) -> None:
        self.recipe, self.out, self.say, self.counting = recipe, out, say, counting
        self.machine: dict[str, Any] = {"device": device, "quiet": quiet}
        self.keys: dict[str, str] = {}

    def grow(self) -> Report:
        """Every stage in order; returns and writes report.json."""
        started = time.perf_counter()
        self._claim()
        reports = {"tokenizer": self._tokenizer(), "pretrain": self._pretrain()}
        before = self._exam("pretrain")
        last = "pretrain"
        for name in self._taught():
            reports[name] = self._sft(name, last)
            last = name
        after = self._exam("sft", controls=True)
        report = {
            "recipe": self.recipe.name,
            "stages": reports,
            "exam": {"before": before, "after": after},
            "exchanges": talk(*load(self.out / "sft"), self.recipe.talk),
            "picture": self._picture(),
            "seconds": round(time.perf_counter() - started, 1),
        }
        _write(self.out / "report.json", report)
        return report

    def _claim(self) -> None:
        """Refuse a folder that holds something else, before any work."""
        if self.out.exists() and any(self.out.iterdir()) and not (self.out / RECORD).is_file():
            raise InputError(f"--out {self.out} holds files that are not a life raised by instar; name another folder")
        self.out.mkdir(parents=True, exist_ok=True)
        _write(self.out / RECORD, {"recipe": to_dict(self.recipe)})

    def _tokenizer(self) -> Report:
        options = replace(self.recipe.tokenizer, out=str(self.out / "tokenizer"))
        return self._stage("tokenizer", options, None, lambda resume: train_tokenizer(options))

    def _pretrain(self) -> Report:
        options = replace(
            self.recipe.pretrain, out=str(self.out / "pretrain"), tokenizer=str(self.out / "tokenizer"), **self.machine
        )
        return self._stage(
            "pretrain",
            options,
            "tokenizer",
            lambda resume: stages.pretrain(replace(options, resume=resume), say=self.say),
        )

    def _taught(self) -> list[str]:
        """The stages of SFT that this recipe has."""
        return ["lessons", "sft"] if self.recipe.lessons.data else ["sft"]

    def _sft(self, name: str, parent: str) -> Report:
        wanted = getattr(self.recipe, name)
        options = replace(wanted, out=str(self.out / name), model=str(self.out / parent), **self.machine)
        return self._stage(
            name, options, parent, lambda resume: stages.sft(replace(options, resume=resume), say=self.say)
        )

    def _stage(self, name: str, options: Any, parent: str | None, run: Callable[[bool], Report]) -> Report:
        """Run one stage, or read what it reported when it ran with these inputs before."""
        folder = self.out / name
        inputs = [_lasting(options), fingerprint(options.data), self.keys.get(parent or "")]
        key = self.keys[name] = sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
        record = _read(folder / RECORD)
        same = record.get("key") == key
        if same and record.get("finished"):
            self.say(f"{name}: finished before with the same inputs, skipped")
            return _read(folder / "report.json")
        if folder.exists() and not same:
            self._set_aside(folder)
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / RECORD, {"key": key, "finished": False})
        report = run(same and (folder / "checkpoints").is_dir())
        _write(folder / "report.json", report)
        _write(folder / RECORD, {"key": key, "finished": True})
        return report

    def _set_aside(self, folder: Path) -> None:
        """Nothing already made is lost: a stage with other inputs moves out of the way."""
        number = next(n for n in range(1, 10_000) if not folder.with_name(f"{folder.name}.{n}").exists())
        folder.rename(folder.with_name(f"{folder.name}.{number}"))
        self.say(f"{folder.name}: its inputs changed; the old folder is kept as {folder.name}.{number}")

    def _exam(self, stage: str, *, controls: bool = False) -> Exam:
        """Ask the exam's questions, once for each finished stage."""
        path = self.out / stage / "exam.json"
        key = sha256(json.dumps([self.keys[stage], to_dict(self.recipe.exam)]).encode()).hexdigest()
        known = _read(path)
        if known.get("key") == key:
            return known["exam"]
        self.say(f"exam of {stage}: questions on facts that training never told")
        model, tokenizer = load(self.out / stage)
        taught = self.recipe.sft.data if controls else ()
        with self.counting(f"exam of {stage}", None) as each:
            exam = examine(model, tokenizer, self.recipe.exam, taught=taught, each=each)
        _write(path, {"key": key, "exam": exam})
        return exam

    def _picture(self) -> str | None:
        path = self.out / "loss.svg"
        runs = {name: self.out / name / "metrics.jsonl" for name in ("pretrain", *self._taught())}
        drawn = draw_losses(runs, path, say=self.say)
        return str(path) if drawn else None


def _lasting(options: Any) -> Report:
    """The options that decide what a stage makes: not where it is shown or on which device."""
    passing = ("out", "device", "quiet", "json", "resume", "model", "tokenizer")
    return {name: value for name, value in to_dict(options).items() if name not in passing or isinstance(value, dict)}


def _write(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
