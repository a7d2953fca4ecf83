"""How what `instar eval --metric` measured is shown."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from .screen import table

Report = dict[str, Any]


def show_values(title: str, report: Report) -> Any:
    """A row for each figure."""
    figures = {name: value for name, value in report.items() if not isinstance(value, (list, dict))}
    return table(title, ["", "value"], [[name.replace("_", " "), value] for name, value in figures.items()])


def show_groups(
    title: str, report: Report, columns: dict[str, str], hidden: tuple[str, ...] = (), note: str = ""
) -> Any:
    """A row for each value of each group, the last for all. columns: heading -> the name of its figure; hidden: groups
    that --json alone shows; note: the name of what stands below."""
    parts = [item for name, group in report["groups"].items() if name not in hidden for item in group.items()]
    lines = [(name, part) for name, part in parts if name != "all"]
    rows = [[name, *(part[figure] for figure in columns.values())] for name, part in [*lines, ("all", report)]]
    return table(title, ["", *columns], rows, sums=True, note=report.get(note, ""))


def show_classes(title: str, report: Report) -> Any:
    """A row for each class; below it the figures of all."""
    columns = ["precision", "recall", "f1", "support"]
    rows = [[name, *(part[column] for column in columns)] for name, part in report["classes"].items()]
    names = ("accuracy", "majority", "precision", "recall", "f1", "macro_f1")
    note = ", ".join(f"{name.replace('_', ' ')} {report[name]:.3f}" for name in names if name in report)
    return table(title, ["", *columns], rows, note=f"{note} ({report['f1_of']})")


ASKED = {"asked": "questions", "exact match": "exact", "ended by itself": "ended"}
CHOSEN = {"questions": "records", "acc": "acc", "acc_norm": "acc_norm", "guessing": "guessing"}
FILLED = {"gaps": "records", "acc": "acc", "perplexity": "perplexity", "per token": "token_perplexity"}
TRANSLATED = {"sentences": "records", "BLEU": "bleu", "chrF": "chrf", "exact match": "exact"}
MANNERED = {
    "asked": "records", "preferred": "preferred", "bare": "bare", "polite": "polite", "rude": "rude",
    "rambling": "rambling", "other": "other", "right": "right", "reward": "reward",
}  # fmt: skip
REWARDED = {
    "pairs": "records", "accuracy": "accuracy", "margin": "margin", "chosen": "chosen", "rejected": "rejected",
}  # fmt: skip
SHOW: dict[str, Callable[[str, Report], Any]] = {
    "perplexity": show_values,
    "exact": partial(show_groups, columns=ASKED),
    "pairs": partial(show_groups, columns={"pairs": "records", "acc": "acc"}, hidden=("paradigm",)),
    "choices": partial(show_groups, columns=CHOSEN),
    "cloze": partial(show_groups, columns=FILLED),
    "masked": show_values,
    "accuracy": show_classes,
    "f1": show_classes,
    "bleu": partial(show_groups, columns=TRANSLATED, note="bleu_signature"),
    "manner": partial(show_groups, columns=MANNERED),
    "reward": partial(show_groups, columns=REWARDED),
}
