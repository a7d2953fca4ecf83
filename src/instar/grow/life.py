"""One recipe -> refined texts, tokenizer, pretraining, exam, first lessons, SFT, exam, preference tuning with an exam
after each, talk, labels, measurements.

A stage whose folder is finished and whose inputs are unchanged is skipped; one that was interrupted goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..adapt.folders import architecture, load
from ..config import InputError, to_dict, unknown
from ..config.options import EvalOptions
from ..config.recipe import TUNED, ExamOptions, Recipe, paid_by_reward, parent_of, sources_of
from ..data.corpus import fingerprint
from ..data.sources import DOCUMENTS
from ..eval.metrics import figures_of, measure
from ..eval.verify import READERS, verify
from ..text.tokenizer import Tokenizer
from ..train import reinforce, stages
from ..train.machine import load_here
from ..train.page import write_page
from .exam import Exam, examine, talk
from .page import RECORD, WAITING, write_life
from .picture import draw_losses
from .tokens import train_tokenizer

Say = Callable[[str], None]
# shows how far a task is: what is counted, of how many if that is known -> called with how many more are done
Counting = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]
# shows how far the phases of a long task are
Measuring = Callable[[], AbstractContextManager[Callable[[Any], None]]]
Report = dict[str, Any]
DATA = "data"  # the folder of refined texts and their tokens


class Life:
    """The folders of one life, and what was decided about each."""

    def __init__(
        self, recipe: Recipe, out: Path, *, device: str, quiet: bool, say: Say, counting: Counting,
        measuring: Measuring = lambda: nullcontext(lambda state: None),
    ) -> None:  # fmt: skip
        self.recipe, self.out, self.say, self.counting, self.measuring = recipe, out, say, counting, measuring
        self.machine: dict[str, Any] = {"device": device, "quiet": quiet}
        self.keys: dict[str, str] = {}  # of the stages that were reached
        self.report: Report = {"recipe": recipe.name, "stages": {}, "exam": {}}

    def grow(self) -> Report:
        """Every stage in order; returns and writes report.json. report.html is written also where it is stopped."""
        started = time.perf_counter()
        self._claim()
        try:
            self._live()
            self.report["picture"] = self._picture()
            self.report["seconds"] = round(time.perf_counter() - started, 1)
            _write(self.out / "report.json", self.report)
        finally:
            self._pages()
        return self.report

    def _live(self) -> None:
        """Fill in the report, stage by stage."""
        reports, exam = self.report["stages"], self.report["exam"]
        if self.recipe.data.sources:
            reports["data"] = self._refined()
        reports["tokenizer"] = self._tokenizer()
        if self.recipe.data.sources:
            reports["data"] = self._refined(self.out / "tokenizer")
        reports["pretrain"] = self._pretrain()
        if self.recipe.exam.data:
            exam["before"] = self._exam("pretrain")
        last = "pretrain"
        for name in self._taught():
            reports[name] = self._sft(name, last)
            last = name
        if self.recipe.exam.data:
            exam["after"] = self._exam("sft", controls=True)
        for name in self._tuned():
            reports[name] = self._tune(name)
            if name == "reward":  # it scores answers and gives none
                continue
            last = name
            if self.recipe.exam.data:
                exam[name] = self._exam(name, beside=False)
        if last not in ("pretrain", "lessons"):
            self.report["exchanges"] = self._exchanges(last)
        for name in self._labelled():
            reports[name] = self._classify(name, last)
        last = self._labelled()[0] if self._labelled() else last
        self.report["tests"] = [self._test(number) for number in range(len(self.recipe.tests))]
        # a reader that was installed since is asked
        key = [self.keys[last], {name: find_spec(reader.module) is not None for name, reader in READERS.items()}]
        self.report["verify"] = self._once(last, "verify", key, lambda: verify(self.out / last))
        self.report |= {"finished": last, "architecture": architecture(self.out / last)}

    def _trained(self) -> list[str]:
        """The stages that train, in order."""
        return ["pretrain", *self._taught(), *self._tuned(), *self._labelled()]

    def _pages(self) -> None:
        """A page for each run that was reached, now with its exam, and one for the whole life."""
        first = (DATA, "tokenizer") if self.recipe.data.sources else ("tokenizer",)
        states = dict.fromkeys((*first, *self._trained()), WAITING)
        states |= {name: "finished" if name in self.report["stages"] else "stopped" for name in self.keys}
        for name in self.keys:
            write_page(self.out / name, self.say)
        write_life(self.out, self.report, states, self.say)

    def _claim(self) -> None:
        """Refuse a folder that holds something else, before any work."""
        if self.out.exists() and any(self.out.iterdir()) and not (self.out / RECORD).is_file():
            raise InputError(f"--out {self.out} holds files that are not a life raised by instar; name another folder")
        self.out.mkdir(parents=True, exist_ok=True)
        _write(self.out / RECORD, {"recipe": to_dict(self.recipe)})

    def _refined(self, tokenizer: Path | None = None) -> Report:
        """Refine the raw files, or go on where that stopped; with a tokenizer also make token shards of the texts."""
        from ..data.refine import plan, run
        from ..data.refine.report import totals

        folder = self.out / DATA
        held, wanted = plan.load(folder), plan.make(self.recipe.data)
        made = _read(folder / "report.json").get("tokenizer")
        another = made and tokenizer and Tokenizer.load(tokenizer).fingerprint != made
        if another or (held is not None and held["key"] != wanted.key):
            self._set_aside(folder)
        self.keys[DATA] = wanted.key
        with self.measuring() as progress:
            told = run.prepare(self.recipe.data, tokenizer, folder, self.say, progress)
        return {"stage": DATA, **totals(told), "fingerprint": told["key"]}

    def _tokenizer(self) -> Report:
        texts = self.recipe.tokenizer.data or (str(self.out / DATA / DOCUMENTS),)
        options = replace(self.recipe.tokenizer, data=texts, out=str(self.out / "tokenizer"))
        return self._stage("tokenizer", options, None, lambda resume: train_tokenizer(options))

    def _pretrain(self) -> Report:
        options = replace(
            self.recipe.pretrain, data=self.recipe.pretrain.data or (str(self.out / DATA),),
            out=str(self.out / "pretrain"), tokenizer=str(self.out / "tokenizer"), **self.machine,
        )  # fmt: skip
        return self._stage(
            "pretrain",
            options,
            "tokenizer",
            lambda resume: stages.pretrain(replace(options, resume=resume), say=self.say),
        )

    def _taught(self) -> list[str]:
        """The stages of SFT that this recipe has."""
        return [name for name in ("lessons", "sft") if getattr(self.recipe, name).data]

    def _tuned(self) -> list[str]:
        """The stages of preference tuning that this recipe has."""
        return [name for name in TUNED if sources_of(getattr(self.recipe, name))]

    def _labelled(self) -> list[str]:
        """The stages that learn labels."""
        if not self.recipe.classify.data:
            return []
        return ["classify", "fresh"] if self.recipe.fresh else ["classify"]

    def _sft(self, name: str, parent: str) -> Report:
        wanted = getattr(self.recipe, name)
        options = replace(wanted, out=str(self.out / name), model=str(self.out / parent), **self.machine)
        return self._stage(
            name, options, parent, lambda resume: stages.sft(replace(options, resume=resume), say=self.say)
        )

    def _tune(self, name: str) -> Report:
        parent, wanted = parent_of(self.recipe, name), getattr(self.recipe, name)
        options = replace(wanted, out=str(self.out / name), model=str(self.out / parent), **self.machine)
        known = [parent]
        if name not in ("reward", "dpo"):
            weights = [paid_by_reward(part) for part in wanted.reward]
            paid = [part if by is None else f"{by}{self.out / 'reward'}" for part, by in zip(wanted.reward, weights)]
            options = replace(options, reward=tuple(paid))
            known += ["reward"] * any(by is not None for by in weights)
        run = getattr(stages if name in ("reward", "dpo") else reinforce, name)
        return self._stage(
            name, wanted, known, lambda resume: run(replace(options, resume=resume), say=self.say)
        )  # fmt: skip

    def _exchanges(self, last: str) -> list[Report]:
        """What is said to the finished model; after preference tuning also what SFT alone had answered, as "before"."""
        found = talk(*load(self.out / last), self.recipe.talk)
        if last == "sft":
            return found
        before = talk(*load(self.out / "sft"), self.recipe.talk)
        return [one | {"before": other["answer"]} for one, other in zip(found, before)]

    def _classify(self, name: str, parent: str) -> Report:
        options = replace(
            self.recipe.classify, out=str(self.out / name), model=str(self.out / parent), fresh=name == "fresh",
            **self.machine,
        )  # fmt: skip
        return self._stage(
            name, options, parent, lambda resume: stages.classify(replace(options, resume=resume), say=self.say)
        )

    def _test(self, number: int) -> Report:
        """One measurement of the recipe, its figure beside its goal."""
        wanted = self.recipe.tests[number]
        options = replace(wanted.eval, model=str(self.out / wanted.of))
        key = [self.keys[wanted.of], to_dict(options), fingerprint(options.data)]
        found = self._once(wanted.of, f"test-{number}", key, lambda: self._measured(wanted.name, options))
        if wanted.figure not in figures_of(found):
            raise unknown(f"figure of tests[{number}]", wanted.figure, figures_of(found))
        told = {"name": wanted.name or f"{options.metric} of {wanted.of}", "of": wanted.of, "figure": wanted.figure}
        return told | {"value": found[wanted.figure], "goal": wanted.goal or None, "report": found}

    def _measured(self, name: str, options: EvalOptions) -> Report:
        self.say(f"{name or options.metric}: {', '.join(options.data)}")
        device = self.machine["device"] if options.device == "auto" else options.device
        return measure(*load_here(options.model, device, options.dtype), options, self)

    def _stage(
        self, name: str, options: Any, parents: str | Sequence[str] | None, run: Callable[[bool], Report]
    ) -> Report:
        """Run one stage, or read what it reported when it ran with these inputs before."""
        folder = self.out / name
        sources = (*sources_of(options), *getattr(options, "words", ()))
        known = [parents or ""] if isinstance(parents, str | None) else parents
        inputs = [_lasting(options), fingerprint(sources), *(self.keys.get(parent) for parent in known)]
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

    def _exam(self, stage: str, *, controls: bool = False, beside: bool = True) -> Exam:
        """Ask the exam's questions, with the harder ones beside them or without."""
        options = self.recipe.exam if beside else replace(self.recipe.exam, beside=())
        key = [self.keys[stage], to_dict(options)]
        return self._once(stage, "exam", key, lambda: self._examined(stage, options, controls))

    def _once(self, stage: str, name: str, key: Any, make: Callable[[], Any]) -> Any:
        """What is made of a finished stage, or was made of it before: it is kept beside it with its key."""
        path = self.out / stage / f"{name}.json"
        digest = sha256(json.dumps(key).encode()).hexdigest()
        known = _read(path)
        if known.get("key") != digest:
            known = {"key": digest, name: make()}
            _write(path, known)
        return known[name]

    def _examined(self, stage: str, options: ExamOptions, controls: bool) -> Exam:
        self.say(f"exam of {stage}: questions on facts that training never told")
        model, tokenizer = load(self.out / stage)
        taught = self.recipe.sft.data if controls else ()
        with self.counting(f"exam of {stage}", None) as each:
            return examine(model, tokenizer, options, taught=taught, each=each)

    def _picture(self) -> str | None:
        path = self.out / "loss.svg"
        runs = {name: self.out / name / "metrics.jsonl" for name in self._trained()}
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
