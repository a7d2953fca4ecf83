"""`data prepare`: a recipe of raw files becomes a folder of refined documents and token shards.

Everything that can be refused is refused before the first document is read. A run that was stopped, however it was,
goes on when it is started again; a folder that was made without a tokenizer gets its shards when there is one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...config import InputError, dump_yaml, to_dict
from ...config.data import DataRecipe
from ...text.tokenizer import Tokenizer
from .. import lock
from ..disk import DRAFT, write_whole
from ..shards import SUFFIX, shard_facts
from ..sources import DOCUMENTS, PLAN, RECIPE, REPORT
from . import mixture, plan, report
from .ledger import TOKENS, Ledger, merged

LIBRARIES = {"datatrove": "datatrove", "zstandard": "zstandard", "orjson": "orjson"}
WORK, SAMPLE, LOCK, PAGE = "work", "sample", ".lock", "report.html"

Say = Callable[[str], None]


def prepare(
    recipe: DataRecipe, tokenizer: Tokenizer | str | Path | None, out: str | Path, say: Say = lambda text: None,
    progress: Callable[[Any], None] = lambda state: None, *, sample: int = 0, keep_work: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Make the folder, and return its report (`report.json`).

    tokenizer: it or its folder; None writes documents alone. progress: called with a `phases.Progress` now and then.
    sample: try so many documents and write OUT/sample/report.* alone. keep_work: leave OUT/work. Raises InputError for
    what can be put right, also where nothing of the data is left, Interrupted on Ctrl-C and SIGTERM, Failed where a
    task ends with an error.
    """
    need()
    from . import executors
    from .sift import Job

    out, job = Path(out), Job(str(out), recipe)
    executors.check(recipe.executor)
    steps = report.steps_of(recipe, job.removes())  # raises for a rule that does not exist
    if tokenizer is not None and not isinstance(tokenizer, Tokenizer):
        tokenizer = Tokenizer.load(tokenizer)
    check_folder(out)
    wanted = plan.make(recipe)
    if sample:
        from .sample import take

        return take(recipe, wanted, tokenizer, out, sample, steps, say, progress)
    held = plan.load(out)
    if held is not None:
        plan.refuse_other(out, held, wanted)
    with claimed(out):
        return _Run(out, recipe, wanted, tokenizer, steps, say, progress, keep_work).go()


def need() -> None:
    """Raises InputError where a library is not installed."""
    for module, package in LIBRARIES.items():
        if find_spec(module) is None:
            raise InputError(f'instar data prepare needs {package}: pip install "instar[data]"')


def check_folder(out: Path) -> None:
    """Raises InputError where `out` is a file, or holds something that no run of this kind has written."""
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; name a folder")
    found = sorted(entry.name for entry in out.iterdir()) if out.exists() else []
    others = [name for name in found if name not in (SAMPLE, LOCK) and DRAFT not in name]
    if others and PLAN not in found:
        raise InputError(
            f"--out {out} holds {len(others)} files that are not data prepared by a recipe, {others[0]} for one; "
            "name another folder"
        )


@contextmanager
def claimed(out: Path) -> Iterator[None]:
    """Keep every other process out of a folder, and sweep what a killed one left half written."""
    with lock.held(out / LOCK):
        for path in list(out.rglob(f".*{DRAFT}*")):
            path.unlink(missing_ok=True)
        yield


class _Run:
    """One run in a folder that is held."""

    def __init__(
        self, out: Path, recipe: DataRecipe, wanted: plan.Plan, tokenizer: Tokenizer | None, steps: list[str],
        say: Say, progress: Callable[[Any], None], keep_work: bool,
    ) -> None:  # fmt: skip
        self.out, self.recipe, self.plan, self.tokenizer = out, recipe, wanted, tokenizer
        self.steps, self.say, self.progress, self.keep_work = steps, say, progress, keep_work
        self.fingerprint = tokenizer.fingerprint if tokenizer else ""
        self.before = self._read_report()

    def go(self) -> dict[str, Any]:
        made = self.before["tokenizer"] if self.before else None
        if self.before and (not self.fingerprint or made == self.fingerprint):
            return self._again(self.before)
        self._refuse_other_tokenizer()
        self._write_down()
        seconds = self._run()
        ledger = self._ledger()
        shards = self._shards()
        told = self._report(ledger, shards, seconds)
        self._finish(told)
        return told | {"reused": False}

    def _again(self, before: dict[str, Any]) -> dict[str, Any]:
        """The folder is finished: how often each source is seen may be another now, all else is as it was."""
        shards = before["shards"]
        ledger = report.ledger_of(before, before["steps"])
        told = self._report(ledger, shards, before["seconds"], before["tokenizer"])
        if told != before:
            write_whole(self.out / RECIPE, dump_yaml(to_dict(self.recipe)))
            self._finish(told)
        elif not self.keep_work:
            shutil.rmtree(self.out / WORK, ignore_errors=True)
        self._refuse_nothing(told)
        return told | {"reused": True}

    def _run(self) -> dict[str, float]:
        """What is not done yet."""
        from . import conductor, phases
        from .sift import Job

        job = Job(str(self.out), self.recipe, self._tokenizer_folder())
        sizes, names = self.plan.sizes, phases.names_of(job)
        conductor.save(job, sizes)
        seconds: dict[str, float] = dict(self.before["seconds"]) if self.before else {}
        if not self.before:
            self.plan.spread(job.work / "tasks")
            self._index()
            seconds |= phases.run_all(job, sizes, [name for name in names if name != TOKENS], self.progress)
        if TOKENS in names and self._anything_left():
            seconds |= phases.run_all(job, sizes, [TOKENS], self.progress)
        return seconds

    def _index(self) -> None:
        """What the rule about evaluation text looks texts up in, made once for all tasks."""
        if "evaluation" in self.steps:
            from .evaluation import build_index

            build_index(self.recipe.evaluation, self.out / WORK)

    def _anything_left(self) -> bool:
        if self.before:
            return report.left(self.before) > 0
        return report.left(self._report(self._ledger(), [], {})) > 0

    def _ledger(self) -> Ledger:
        """All that happened, in this run and in those that it goes on from."""
        from .sift import Job, name_copies

        folder = self.out / WORK / "ledger"
        if not self.before:
            ledger = merged(sorted(folder.glob("*.json")))
            name_copies(ledger, Job(str(self.out), self.recipe))
            return ledger
        ledger = report.ledger_of(self.before, [step for step in self.before["steps"] if step != TOKENS])
        ledger.add(merged(sorted(folder.glob("tokens-*.json"))))
        return ledger

    def _shards(self) -> list[dict[str, Any]]:
        return [shard_facts(path) for path in sorted(self.out.glob(f"*{SUFFIX}"))] if self.tokenizer else []

    def _report(
        self, ledger: Ledger, shards: list[dict[str, Any]], seconds: Mapping[str, float], tokenizer: str | None = None
    ) -> dict[str, Any]:
        mixed = mixture.make_mixture(self.recipe.sources, shards, self.recipe.tokens) if shards else None
        return report.make(
            self.recipe, self.plan, ledger, self.steps, tokenizer=tokenizer or self.fingerprint, seconds=seconds,
            shards=shards, mixture=mixed.rows() if mixed else (),
        )  # fmt: skip

    def _finish(self, told: dict[str, Any]) -> None:
        """Write what says that the folder is whole, last of all the report; then nothing else is needed."""
        if told["shards"]:
            mixed = mixture.make_mixture(self.recipe.sources, told["shards"], self.recipe.tokens)
            mixed.save(self.out)
            for line in mixture.repeats(mixed):
                self.say(line)
        report.save(self.out, told, self.say)
        if not self.keep_work:
            shutil.rmtree(self.out / WORK, ignore_errors=True)
        self._refuse_nothing(told)

    def _refuse_nothing(self, told: Mapping[str, Any]) -> None:
        if report.left(told) == 0:
            count = sum(source["flow"]["read"]["documents"][0] for source in told["sources"].values() if source["flow"])
            raise InputError(
                f"nothing is left of {count:,} documents: {report.reasons(told) or 'no file had any'}; "
                f"{report.first_fault(told)}{self.out / PAGE} shows why. Change rules or data, and name another folder"
            )

    def _write_down(self) -> None:
        (self.out / DOCUMENTS).mkdir(parents=True, exist_ok=True)  # with the plan it says that this is unfinished
        if not (self.out / PLAN).is_file():
            self.plan.save(self.out)
        write_whole(self.out / RECIPE, dump_yaml(to_dict(self.recipe)))

    def _read_report(self) -> dict[str, Any] | None:
        path = self.out / REPORT
        if not path.is_file():
            return None
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{path}: damaged ({error}); remove {self.out}, or name another folder") from None
        documents = [f"{DOCUMENTS}/{number:05d}.jsonl.zst" for number in range(len(self.plan.tasks))]
        if any(not (self.out / name).is_file() for name in documents):  # somebody has removed some since
            shutil.rmtree(self.out / WORK, ignore_errors=True)
            return None
        if any(not (self.out / shard["file"]).is_file() for shard in before["shards"]):
            shutil.rmtree(self.out / WORK, ignore_errors=True)
            return before | {"tokenizer": None}
        return before

    def _refuse_other_tokenizer(self) -> None:
        """Raises InputError where shards of another tokenizer are here, or are being made."""
        made = self.before["tokenizer"] if self.before else None
        note = self.out / WORK / "tokenizer.txt"
        if not made and note.is_file():
            made = note.read_text(encoding="utf-8").strip()
        if made and self.fingerprint and made != self.fingerprint:
            raise InputError(
                f"{self.out} holds tokens of the tokenizer {made[:12]}, wanted {self.fingerprint[:12]}; "
                "name another folder or remove this one"
            )

    def _tokenizer_folder(self) -> str:
        """A copy of the tokenizer for the workers, which nothing changes while they run; "" without one."""
        if self.tokenizer is None:
            return ""
        folder = self.out / WORK / "tokenizer"
        self.tokenizer.save(folder)
        saved = Tokenizer.load(folder).fingerprint
        assert saved == self.fingerprint, (saved, self.fingerprint)
        write_whole(self.out / WORK / "tokenizer.txt", self.fingerprint + "\n")
        return str(folder)
