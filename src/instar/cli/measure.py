"""`instar eval` and `instar verify`."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

from ..config import InputError
from ..config.flags import parse
from ..config.options import EvalOptions, VerifyOptions
from .screen import Screen, table
from .speak import load_here

Each = Callable[[int], None]


def evaluate(arguments: list[str]) -> None:
    """Perplexity with bits per byte, or exact match of greedy answers."""
    options = parse(EvalOptions, arguments, program="instar eval")
    if options.batch < 1 or options.limit < 0:
        raise InputError(f"batch={options.batch} and limit={options.limit}, wanted at least 1 and at least 0")
    screen = Screen(options)
    model, tokenizer = load_here(options, options.model)
    report = METRICS[options.metric](screen, options, model, tokenizer)
    screen.show(_drawing(options, report))
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
        f"{found[name]} of {found[total]}" for name, total in (("same_words", "texts"), ("same_ids", "of_ids"))
    )
    return [found["version"], f"{found['logit_gap']:.1e}", words, ids, "same" if found["same"] else "DIFFERENT"]


def perplexity(screen: Screen, options: EvalOptions, model: Any, tokenizer: Any) -> dict[str, Any]:
    """How surprised the model is by the documents, or by the share that pretraining held out."""
    from ..data.corpus import divide, read
    from ..eval.perplexity import measure

    documents = read(options.data)
    if options.split == "held-out":
        documents = (document for document, held in divide(documents, options.held_out) if held)
    texts = (document.text for document in islice(documents, options.limit or None))
    rows = max(1, options.batch // 8)
    with screen.counting("documents read", options.limit or None) as each:
        return measure(model, tokenizer, texts, context=options.context, batch=rows, each=each).report()


def exact(screen: Screen, options: EvalOptions, model: Any, tokenizer: Any) -> dict[str, Any]:
    """Share of answers that are word for word the known ones, per language and kind where the records name them."""
    from ..data.corpus import read
    from ..eval.exact import ask, tally

    records = [document.record for document in islice(read(options.data), options.limit or None)]
    if not records:
        raise InputError(f"{', '.join(options.data)}: no records; wanted questions with their answers")
    with screen.counting("questions answered", len(records)) as each:
        asked = ask(model, tokenizer, records, batch=options.batch, each=each)
    groups = {group: tally(asked, group) for group in ("lang", "kind") if any(group in one.groups for one in asked)}
    wrong = [{"wanted": one.wanted, "answer": one.answer} for one in asked if not one.right][:20]
    return tally(asked, "")["all"] | {"groups": groups, "wrong": wrong}


METRICS = {"perplexity": perplexity, "exact": exact}


def _drawing(options: EvalOptions, report: dict[str, Any]) -> Any:
    if options.metric == "perplexity":
        return table(options.model, ["", "value"], [[name.replace("_", " "), value] for name, value in report.items()])
    parts = [item for group in report["groups"].values() for item in group.items() if item[0] != "all"]
    rows = [[name, int(part["questions"]), part["exact"], part["ended"]] for name, part in [*parts, ("all", report)]]
    return table(options.model, ["questions", "asked", "exact match", "ended by itself"], rows, sums=True)
