"""`instar eval` and `instar verify`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..config import InputError
from ..config.flags import parse
from ..config.options import EvalOptions, Machine, VerifyOptions
from .metrics import SHOW
from .screen import Screen, table
from .speak import load_here


def evaluate(arguments: list[str]) -> None:
    """Measure a model by one of the metrics, or hold claims against it."""
    options = parse(EvalOptions, arguments, program="instar eval")
    if options.claims:
        _claims(options)
        return
    if not options.data:
        raise InputError("missing --data; see --help")
    from ..eval.metrics import measure

    screen = Screen(options)
    model, tokenizer = load_here(options, options.model)
    report = measure(model, tokenizer, options, screen)
    screen.show(SHOW[options.metric](options.model, report))
    screen.finish({"model": options.model, "data": list(options.data), "metric": options.metric} | report)


def _claims(options: EvalOptions) -> None:
    """What the textbook says, held against a model."""
    usual = EvalOptions()
    heeded = {"model", "data", "claims", "out", "limit", *(field.name for field in fields(Machine))}
    for name in sorted({field.name for field in fields(options)} - heeded):
        if getattr(options, name) != getattr(usual, name):
            raise InputError(f"{name}={getattr(options, name)} with claims, which do not look at it; leave it out")
    if options.limit < 0:
        raise InputError(f"limit={options.limit}, wanted at least 0")
    if options.out and Path(options.out).exists() and not Path(options.out).is_dir():
        raise InputError(f"out={options.out} is a file; name a folder")
    from ..eval.claims import Case, check
    from ..eval.claims.report import record, write
    from ..train.short import fit

    screen = Screen(options)
    model, tokenizer = load_here(options, options.model)
    case = Case(model, tokenizer, options.seed, options.limit, options.data, fit, screen)
    verdicts = check(case)
    screen.show(claims_table(options.model, verdicts))
    if options.out:
        for path in write(options.out, case, options.model, verdicts):
            screen.say(f"wrote {path}")
    screen.finish(record(case, options.model, verdicts))


def claims_table(model: str, verdicts: Sequence[Any]) -> Any:
    """A row for each claim."""
    rows = []
    for one in verdicts:
        sure = "" if one.interval is None else f"{one.interval[0]:.3g} to {one.interval[1]:.3g}"
        figures = ["" if value is None else f"{value:.3g}" for value in (one.figure, one.chance)]
        rows.append([one.claim, one.verdict, figures[0], sure, figures[1], one.count])
    notes = "\n\n".join(f"{one.claim}: {one.title.en}. {one.found.en}" for one in verdicts)
    columns = ["claim", "verdict", "figure", "95 % interval", "chance", "texts"]
    return table(f"\n{model}: claims", columns, rows, note=notes)


def verify(arguments: list[str]) -> int:
    """The gaps between what we compute from a folder and what other programs do; exit 1 where one is too wide."""
    options = parse(VerifyOptions, arguments, program="instar verify")
    from ..eval.verify import verify as compare

    screen = Screen(options)
    report = compare(options.model)
    screen.show(gaps_table(report["readers"]))
    screen.finish(report)
    return int(report["same"] is False)


def gaps_table(readers: dict[str, Any]) -> Any:
    """A row for each other program."""
    rows = [[name, *_gaps(found)] for name, found in readers.items()]
    note = "logit gap: the largest, in standard deviations of the logits; words: greedy continuations"
    return table("\nread elsewhere", ["reader", "version", "logit gap", "words", "ids", "verdict"], rows, note=note)


def _gaps(found: dict[str, Any]) -> list[Any]:
    if reason := found.get("skipped") or found.get("failed"):
        return ["", "", "", "", f"{'skipped' if 'skipped' in found else 'failed'}: {reason}"]
    words, ids = (
        "" if found[name] is None else f"{found[name]} of {found[total]}"
        for name, total in (("same_words", "texts"), ("same_ids", "of_ids"))
    )
    return [found["version"], f"{found['logit_gap']:.1e}", words, ids, "same" if found["same"] else "DIFFERENT"]
