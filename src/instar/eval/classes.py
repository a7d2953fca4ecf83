"""Classes said against classes wanted: accuracy, precision, recall and F1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..config import InputError


def prf(right: int, found: int, there: int) -> dict[str, float]:
    """precision, recall, f1 and support from how many were found and right, found at all, and there to be found. What
    would be 0 divided by 0 is 0.

    Example: prf(2, 4, 3) -> precision 0.5, recall 0.667, f1 0.571, support 3
    """
    return {
        "precision": right / found if found else 0.0,
        "recall": right / there if there else 0.0,
        "f1": 2 * right / (found + there) if found + there else 0.0,
        "support": there,
    }


def class_report(gold: Sequence[int], said: Sequence[int], names: Sequence[str]) -> dict[str, Any]:
    """records; accuracy; majority (what always saying the commonest class gets); macro_f1, the mean over the classes
    that were wanted or said; f1, that of the second class where there are two (binary), else macro_f1, and f1_of, which
    of the two it is; under "classes" each one's own figures. names: of the classes, by number. Raises InputError where
    there is nothing to count.
    """
    if not gold:
        raise InputError("no answers to count; give records with labels")
    right = Counter(a for a, b in zip(gold, said) if a == b)
    found, there = Counter(said), Counter(gold)
    classes = {names[n]: prf(right[n], found[n], there[n]) for n in sorted({*found, *there})}
    macro = sum(one["f1"] for one in classes.values()) / len(classes)
    binary = len(names) == 2
    return {
        "records": len(gold),
        "accuracy": right.total() / len(gold),
        "majority": max(there.values()) / len(gold),
        "f1": classes.get(names[1], prf(0, 0, 0))["f1"] if binary else macro,
        "f1_of": names[1] if binary else "mean of classes",
        "macro_f1": macro,
        "classes": classes,
    }
