"""A recipe tried on a few documents: the same rules, the same report, before the long run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ...config.data import DataRecipe, ExecutorOptions
from ...text.tokenizer import Tokenizer
from ..raw.piece import Broken, Piece, Raw
from . import phases, report
from .ledger import TOKENS, Flow, Ledger, merged
from .plan import Plan
from .sift import READ, Job, name_copies, sift, write

FOLDER = "sample"


class Share:
    """Hands out documents: as many to each part as to the others, and what one has not to those after it."""

    def __init__(self, documents: int, parts: int) -> None:
        self.left, self.parts = documents, parts

    def next(self) -> int:
        """What the next part may have."""
        self.parts -= 1
        return math.ceil(self.left / (self.parts + 1))

    def __call__(self, items: Iterator[Raw | Broken]) -> Iterator[Raw | Broken]:
        """The first of the next part."""
        for item in islice(items, self.next()):
            self.left -= 1
            yield item


def take(
    recipe: DataRecipe, plan: Plan, tokenizer: Tokenizer | None, out: Path, documents: int, steps: Sequence[str],
    say: Callable[[str], None], progress: Callable[[phases.Progress], None],
) -> dict[str, Any]:  # fmt: skip
    """Try about so many documents, from all sources and evenly over their files; writes OUT/sample/report.* alone.
    Tokens are counted exactly at every step."""
    recipe = replace(recipe, executor=ExecutorOptions(workers=1))
    with TemporaryDirectory(prefix="instar-sample-") as folder:
        job = Job(folder, recipe, every=1)
        if tokenizer is not None:
            tokenizer.save(job.work / "tokenizer")
            job = replace(job, tokenizer=str(job.work / "tokenizer"))
        tasks, shares = divide(plan, recipe, documents)
        Plan(tasks, plan.skipped, plan.facts).spread(job.work / "tasks")
        if "evaluation" in steps:
            from .evaluation import build_index

            build_index(recipe.evaluation, job.work)
        left = 0
        for rank, share in enumerate(shares):
            share.left += left
            progress(phases.Progress(READ, 1, 1, rank, len(tasks), "tasks"))
            sift(job, rank, share)
            left = share.left
        between = [name for name in phases.names_of(job) if name in phases.COPIES]
        phases.run_all(job, [1] * len(tasks), between, lambda state: None)
        for rank in range(len(tasks)):
            write(job, rank)
        ledger = merged(sorted((job.work / "ledger").glob("*.json")))
        name_copies(ledger, job)
    _count_last(ledger, steps)
    fingerprint = tokenizer.fingerprint if tokenizer else ""
    told = report.make(recipe, plan, ledger, steps, tokenizer=fingerprint, sampled=documents)
    (out / FOLDER).mkdir(parents=True, exist_ok=True)
    report.save(out / FOLDER, told, say)
    return told


def divide(plan: Plan, recipe: DataRecipe, documents: int) -> tuple[tuple[tuple[Piece, ...], ...], list[Share]]:
    """One task for each source, of pieces at even distances, and what each may take."""
    tasks, shares, among = [], [], Share(documents, len(recipe.sources))
    for source in recipe.sources:
        pieces = [piece for task in plan.tasks for piece in task if piece.source == source.name]
        own = among.next()
        among.left -= own
        if own:
            count = min(own, len(pieces))
            tasks.append(tuple(pieces[number * len(pieces) // count] for number in range(count)))
            shares.append(Share(own, count))
    return tuple(tasks), shares


def _count_last(ledger: Ledger, steps: Sequence[str]) -> None:
    """What a tokenizer would be given: that which comes out of the last step."""
    for account in ledger.sources.values():
        last = account.flow[[step for step in steps if step in account.flow][-1]]
        account.flow[TOKENS] = Flow(
            [last.documents[1]] * 2, [last.bytes[1]] * 2, [last.probed_bytes[1]] * 2, [last.probed_tokens[1]] * 2
        )
