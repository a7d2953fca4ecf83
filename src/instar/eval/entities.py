"""Entities in tagged words: IO and BIO tags -> spans, and how many of them are found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..config import InputError
from .classes import prf

OUTSIDE = "O"
Span = tuple[str, int, int]  # what it is, its first word, the word after its last


def spans(tags: Sequence[str]) -> list[Span]:
    """Tags O, B-X and I-X -> the spans in order.

    A B opens a span; an I goes on with one of its kind and opens one otherwise, so that IO tags, in which neighbours of
    a kind are one span, need no other reading. Raises InputError for a tag of another form.

    Example: ["B-PER", "I-PER", "O", "I-LOC"] -> [("PER", 0, 2), ("LOC", 3, 4)]
    """
    found: list[Span] = []
    open_kind, start = "", 0
    for place, tag in enumerate([*tags, OUTSIDE]):
        prefix, _, kind = tag.partition("-")
        if tag != OUTSIDE and (prefix not in ("B", "I") or not kind):
            raise InputError(f"tag {place} is {tag!r}, wanted O, B-KIND or I-KIND")
        if open_kind and (prefix != "I" or kind != open_kind):
            found.append((open_kind, start, place))
            open_kind = ""
        if tag != OUTSIDE and not open_kind:
            open_kind, start = kind, place
    return found


def is_tagging(names: Sequence[str]) -> bool:
    """Whether these names of classes are tags of entities."""
    return OUTSIDE in names and all(name == OUTSIDE or name.startswith(("B-", "I-")) for name in names)


def entity_report(gold: Sequence[Sequence[str]], said: Sequence[Sequence[str]]) -> dict[str, Any]:
    """f1, precision and recall of spans, right only where kind and both ends are; macro_f1 over kinds; each kind's own
    figures under "classes"; accuracy of single tags, and how many sentences and words there were."""
    counts: dict[str, list[int]] = {}  # kind -> found and right, found, there
    same = words = 0
    for wanted, guessed in zip(gold, said):
        right, found = set(spans(wanted)), set(spans(guessed))
        for column, group in enumerate((right & found, found, right)):
            for kind, _, _ in group:
                counts.setdefault(kind, [0, 0, 0])[column] += 1
        same += sum(a == b for a, b in zip(wanted, guessed))
        words += len(wanted)
    classes = {kind: prf(*counts[kind]) for kind in sorted(counts)}
    total = prf(*(sum(column) for column in zip(*counts.values()))) if counts else prf(0, 0, 0)
    return {
        "records": len(gold),
        "f1": total["f1"],
        "f1_of": "entities",
        "precision": total["precision"],
        "recall": total["recall"],
        "macro_f1": sum(one["f1"] for one in classes.values()) / max(1, len(classes)),
        "accuracy": same / max(1, words),
        "words": words,
        "entities": total["support"],
        "classes": classes,
    }
