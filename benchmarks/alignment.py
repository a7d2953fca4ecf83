"""SFT and DPO beside TRL's trainers: samples a second and memory, on one machine, in one run.

    make bench-alignment                                 the whole, on two idle cores: hours
    python benchmarks/alignment.py --models S --tasks sft
    python benchmarks/alignment.py --quick               a tiny model and a few settings: whether every path works

Both learn from the same records with the same tokenizer, the same random weights and the same maths: AdamW with weights
and moments in fp32, clipping, one loss over all taught tokens of a step, isolated samples. That is checked first: a few
steps with the same samples must have the same losses. A step learns from the same number of samples on both sides,
packed or not. Then settings of each system are tried, each in a process of its own, one thing after another from the
best so far; the best of each take turns in rounds, of which medians are told. Samples a second are tokens a second over
the tokens of an average sample, for samples differ in length and every system orders them otherwise.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from instar.train.machine import describe
from peers.contest import Figures, goals, markdown
from peers.lessons import Lessons, make
from peers.settings import STARTS, SYSTEMS, Setting, Trial, around, best_first, search, ways
from peers.worker import HERE, Process

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Model:
    """A shape, what it reads at once, and how much is measured. rows: of one step, when packed, by task; records: that
    are learnt from, in steps; steps: of a round; rounds: of the final."""

    shape: dict[str, Any]
    context: int
    rows: dict[str, int]
    each: dict[str, int]  # samples of a step, about
    records: int = 32
    steps: int = 6
    rounds: int = 5


MODELS = {
    "S": Model(
        dict(d_model=384, layers=6, heads=6, d_ff=1024, vocab_size=4096), 256, dict(sft=16, dpo=8), dict(sft=24, dpo=16)
    ),
    "M": Model(
        dict(d_model=768, layers=12, heads=12, d_ff=2048, vocab_size=32000), 512, dict(sft=4, dpo=2),
        dict(sft=8, dpo=4), steps=2, rounds=3,
    ),
    "tiny": Model(
        dict(d_model=32, layers=2, heads=2, d_ff=64, vocab_size=512), 256, dict(sft=4, dpo=4), dict(sft=8, dpo=8),
        records=4, steps=1, rounds=1,
    ),
}  # fmt: skip
RATES = {"sft": 2e-5, "dpo": 1e-6}
CHECK_RATES = {"sft": 1e-3, "dpo": 3e-4}  # fast enough that what a step changes is seen
CHECK_STEPS, CHECK_SAMPLES, ALIKE = 3, 8, 2e-3  # relative gap of losses that counts as none
WARMUP, COMPILED = 2, 3  # steps that are not counted: a compiler sees other shapes in the second and third
TRIAL = 3  # steps by which settings are compared
FIRST = 3  # times that a first step may take longer than others
REST = 0.3  # seconds between two turns: threads of the one before may spin for a while
LOAD_SECONDS = 3600.0  # a compiler may be slow
QUICK: dict[str, dict[str, list[dict[str, Any]]]] = {
    "instar": {"sft": [{}, dict(compile=False, micro=2)], "dpo": [{}, dict(reference="precomputed")]},
    "trl": {
        "sft": [{}, dict(layout="packed", micro=1)],
        "dpo": [dict(layout="padded"), dict(reference="precomputed")],
    },
}


@dataclass
class Bench:
    """One task of one model."""

    task: str
    model: Model
    folder: Path
    lessons: Lessons
    options: argparse.Namespace
    best: float = field(default=math.inf)  # seconds that a sample took at best

    @property
    def rows(self) -> int:
        return self.model.rows[self.task]

    @property
    def samples(self) -> int:
        """Of one step: what the packed rows hold, in a number that divides well."""
        unit = 8 if self.lessons.rows_each * self.rows >= 12 else 4
        return max(unit, unit * round(self.lessons.rows_each * self.rows / unit))

    def open(self, system: str, setting: Setting, **other: Any) -> Process:
        """A process that has loaded, and what it told then in its `loaded`."""
        script = {"instar": "with_stage", "trl": "with_trl"}[system]
        python = sys.executable if system == "instar" else self.options.peers
        started = time.perf_counter()
        process = Process([python, str(HERE / f"{script}.py")], self._environment())
        process.loaded = process.ask(
            {
                "do": "load", "task": self.task, "path": str(self.folder / "hf"),
                "template": str(self.folder / "dpo.jinja"), "data": str(self.folder / f"{self.task}.jsonl"),
                "setting": dict(setting), "context": self.model.context,
                "rows": self.rows, "width": self.lessons.width, "samples": self.samples, "lr": RATES[self.task],
                "beta": 0.1, "out": tempfile.mkdtemp(dir=self.folder),
            } | other,
            LOAD_SECONDS,
        ) | {"seconds": time.perf_counter() - started}  # fmt: skip
        return process

    def _environment(self) -> dict[str, str]:
        wanted = {
            "OMP_NUM_THREADS": str(self.options.threads), "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": str(self.folder / "cache"),
            "TORCHINDUCTOR_CACHE_DIR": str(self.folder / "inductor"),
        }  # fmt: skip
        return dict(os.environ) | wanted

    def check(self) -> dict[str, Any]:
        """A few steps of both with the same samples: their losses, and what they say that there is to learn."""
        ours, theirs = ({**STARTS[system][self.task], "precision": "fp32"} for system in SYSTEMS)
        alone = dict(packing="none") if self.task == "sft" else {}
        same: dict[str, Any] = dict(
            data=str(self.folder / f"check-{self.task}.jsonl"), rows=CHECK_SAMPLES, samples=CHECK_SAMPLES,
            lr=CHECK_RATES[self.task],
        )  # fmt: skip
        with closing(self.open("instar", ours | alone, **same)) as one:
            if one.why_not:
                return {"failed": f"instar: {one.why_not}"}
            order = [sample for step in one.loaded["order"][:CHECK_STEPS] for sample in step]
            mine = one.ask({"do": "steps", "count": CHECK_STEPS})
        with closing(self.open("trl", theirs | dict(layout="ordered"), order=order, **same)) as other:
            if other.why_not:
                return {"failed": f"trl: {other.why_not}"}
            yours = other.ask({"do": "steps", "count": CHECK_STEPS})
        if why := mine.get("failed") or yours.get("failed"):
            return {"failed": why}
        gaps = [abs(a - b) / max(abs(b), 1e-9) for a, b in zip(mine["losses"], yours["losses"])]
        same_samples = mine["samples"] == yours["samples"] and mine["tokens"] == yours["tokens"]
        return {
            "instar": mine["losses"], "trl": yours["losses"], "gap": max(gaps), "same_samples": same_samples,
            "alike": same_samples and max(gaps) < ALIKE,
        }  # fmt: skip

    def attempt(self, trial: Trial) -> None:
        """A short trial of a setting by itself."""
        with closing(self.open(trial.system, trial.setting)) as process:
            trial.ready = process.loaded
            trial.why = process.why_not or self._warm(process, trial)
            if not trial.why:
                told = process.ask({"do": "steps", "count": 1 if self.options.quick else TRIAL})
                trial.why = told.get("failed", "")
                trial.rounds = [] if trial.why else [told]
            trial.rate = Figures(trial, self.lessons).rate or 0.0
        if trial.rate:
            self.best = min(self.best, 1 / trial.rate)
        say(f"  {trial.name}: " + (trial.why or f"{trial.rate:.2f} samples a second"))

    def _warm(self, process: Process, trial: Trial) -> str:
        """The steps that do not count -> why the rest is not worth the time, or nothing."""
        seconds, peak = 0.0, trial.ready["memory"]["peak"]
        compiled = trial.setting["compile"]
        for number in range(1 if self.options.quick else COMPILED if compiled else WARMUP):
            told = process.ask({"do": "steps", "count": 1})
            if why := told.get("failed"):
                return str(why)
            seconds, peak = seconds + told["seconds"], max(peak, told["memory"]["peak"])
            slow = told["seconds"] / max(1, told["samples"]) / self.best
            if slow > self.options.patience * (1 if number else math.inf if compiled else FIRST):
                return f"a step took {told['seconds']:.0f} s, {slow:.0f} times as long for a sample as the best"
        trial.ready = trial.ready | {"warm": seconds, "peak": peak}
        return ""

    def rounds(self, trials: Sequence[Trial]) -> None:
        """The final: everybody takes turns, and another one begins in each round."""
        with ExitStack() as stack:
            opened: list[tuple[Process, Trial]] = []
            for trial in trials:
                process = stack.enter_context(closing(self.open(trial.system, trial.setting)))
                trial.ready, trial.rounds = process.loaded, []
                trial.why = process.why_not or self._warm(process, trial)
                opened += [] if trial.why else [(process, trial)]
            for number in range(self.options.rounds or self.model.rounds):
                turn = number % max(1, len(opened))
                for process, trial in [*opened[turn:], *opened[:turn]]:
                    time.sleep(0 if self.options.quick else REST)
                    told = process.ask({"do": "steps", "count": self.model.steps})
                    if "failed" not in told:
                        trial.rounds.append(told)
                    say(f"  round {number + 1}: {trial.name}: " + (told.get("failed") or f"{told['seconds']:.1f} s"))
        for trial in trials:
            trial.rate = Figures(trial, self.lessons).rate or 0.0

    def run(self, before: dict[str, list[Trial]]) -> dict[str, Any]:
        """Everything. before: trials of a smaller model, near whose best settings alone something is tried."""
        say(f"{self.task}: {self.lessons.count} samples of {self.lessons.mean:.0f} tokens, {self.samples} a step")
        checked = self.check()
        say(f"  the same steps: {checked}")
        trials = {system: search(system, self.task, self.attempt, self._start(system, before)) for system in SYSTEMS}
        finals = []
        for way in ways(trial for some in trials.values() for trial in some):
            group = [
                trial
                for some in trials.values()
                for trial in best_first(one for one in some if one.way == way and one.rate)[: self.options.finalists]
            ]
            self.rounds(group)
            finals += group
        figures = [Figures(trial, self.lessons) for trial in finals]
        others = [
            Figures(trial, self.lessons, alone=True)
            for some in trials.values()
            for trial in some
            if trial not in finals
        ]
        return {
            "task": self.task, "check": checked, "lessons": vars(self.lessons), "samples": self.samples,
            "rows": self.rows, "context": self.model.context,
            "finals": [one.told() for one in figures], "trials": [one.told() for one in others],
            "goals": goals(figures), "all": trials,
        }  # fmt: skip

    def _start(self, system: str, before: dict[str, list[Trial]]) -> list[Setting]:
        if self.options.quick:
            return [{**STARTS[system][self.task], "precision": "fp32", **some} for some in QUICK[system][self.task]]
        return around(before[system]) if before else []


def benchmark(name: str, folder: Path, options: argparse.Namespace, before: dict[str, Any]) -> dict[str, Any]:
    """One model: every task."""
    model = MODELS[name]
    say(f"model {name}")
    counts = {task: model.records * model.each[task] for task in ("sft", "dpo")}
    lessons = make(folder, model.shape, model.context, counts, Path(options.data))
    reports = []
    for task in options.tasks:
        report = Bench(task, model, folder, lessons[task], options).run(before.get(task, {}))
        before[task] = report.pop("all")
        reports.append(report)
        print(markdown(name, report, machine(options)), flush=True)
    return {"model": name, "shape": model.shape, "tasks": reports}


def machine(options: argparse.Namespace) -> dict[str, Any]:
    """What a heading says."""
    pinned = (ROOT / "benchmarks" / "peers.txt").read_text(encoding="utf-8").splitlines()
    wanted = ("torch", "transformers", "trl", "accelerate")
    versions = [line.replace("==", " ") for line in pinned if line.split("==")[0] in wanted]
    return {
        "cpu": describe(torch.device("cpu"))["cpu"],
        "threads": options.threads,
        "versions": ", ".join([f"instar {version('instar')}", *versions]),
    }


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def read_options(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["S", "M"])
    parser.add_argument("--tasks", nargs="+", choices=["sft", "dpo"], default=["sft", "dpo"])
    parser.add_argument("--rounds", type=int, default=0, help="of the final; 0: 5 for S, 3 for M")
    parser.add_argument("--finalists", type=int, default=2, help="settings of each system in the final")
    parser.add_argument("--threads", type=int, default=2, help="of every system, one at a time")
    parser.add_argument("--patience", type=float, default=4, help="times as slow as the best that a setting may be")
    parser.add_argument("--data", default=str(ROOT / "data"), help="the folder of instruct/ and preference/")
    parser.add_argument("--peers", default=str(ROOT / ".venv-peers" / "bin" / "python"), help="the peers' interpreter")
    parser.add_argument("--folder", default="", help="keep models and records here, and take them from here")
    parser.add_argument("--json", default="", help="write every figure to this file too")
    parser.add_argument("--quick", action="store_true", help="a tiny model and few settings: whether every path works")
    options = parser.parse_args(words)
    if options.quick:
        options.models, options.finalists = ["tiny"], 1
    if not Path(options.peers).is_file():
        parser.error(f"{options.peers} is missing; make bench-alignment builds it")
    return options


def main(words: Sequence[str] | None = None) -> None:
    options = read_options(words)
    torch.set_num_threads(options.threads)
    reports: list[dict[str, Any]] = []
    before: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.models:
            folder = (Path(options.folder or temporary) / name).resolve()
            reports.append(benchmark(name, folder, options, before))
            if options.json:  # after each model, for the next takes long
                Path(options.json).write_text(json.dumps(machine(options) | {"models": reports}), encoding="utf-8")


if __name__ == "__main__":
    main()
