"""`instar eval` and `instar verify`."""

from __future__ import annotations

from typing import Any

from ..config.flags import parse
from ..config.options import EvalOptions, VerifyOptions
from .metrics import SHOW
from .screen import Screen, table
from .speak import load_here


def evaluate(arguments: list[str]) -> None:
    """Measure a model by one of the metrics."""
    options = parse(EvalOptions, arguments, program="instar eval")
    from ..eval.metrics import measure

    screen = Screen(options)
    model, tokenizer = load_here(options, options.model)
    report = measure(model, tokenizer, options, screen)
    screen.show(SHOW[options.metric](options.model, report))
    screen.finish({"model": options.model, "data": list(options.data), "metric": options.metric} | report)


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
