"""Panels as JSON knows them: no NaN, no infinity, every number as it was computed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from ..panel import NOWHERE, Array, Heading, Panel, Words

MOST_NUMBERS = 300_000  # of the arrays, and of the figures, of a panel; more stand in safetensors alone
ELSEWHERE = "too many numbers for JSON; write the view as safetensors"


def record(panel: Panel) -> dict[str, Any]:
    """A panel: its data, checks, notes, arrays {shape, dtype, values} and figures by their kind. Where the arrays, or
    the figures, have more than 300,000 numbers in all, the array says instead where they are."""
    whole = sum(array.size for array in panel.arrays.values()) <= MOST_NUMBERS
    drawn = sum(_size(getattr(figure, "values", ())) for figure in panel.figures) <= MOST_NUMBERS
    return {
        "view": panel.view,
        "title": panel.title._asdict(),
        "green": panel.green,
        "checks": [check.record() for check in panel.checks],
        "notes": [note._asdict() for note in panel.notes],
        "data": finite(panel.data),
        "arrays": {name: _array(array, whole) for name, array in panel.arrays.items()},
        "figures": [{"kind": type(figure).__name__.lower(), **_fields(figure, drawn)} for figure in panel.figures],
    }


def whole(panels: Sequence[Panel], heading: Heading = NOWHERE) -> dict[str, Any]:
    """All panels, and what they are of."""
    green = all(panel.green for panel in panels)
    return {**finite(heading.record()), "green": green, "panels": [record(panel) for panel in panels]}


def records(panels: Sequence[Panel], heading: Heading = NOWHERE) -> str:
    """All panels as one JSON object."""
    found = whole(panels, heading)
    return json.dumps(found, ensure_ascii=False, allow_nan=False) + "\n"


def finite(value: Any) -> Any:
    """A value as JSON knows it: what is not finite is null, arrays are lists, texts in two languages an object."""
    if isinstance(value, Words):
        return value._asdict()
    if isinstance(value, Mapping):
        return {name.en if isinstance(name, Words) else str(name): finite(inner) for name, inner in value.items()}
    if isinstance(value, np.ndarray):
        return _values(value)
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):  # half a character, which a file cannot hold, is spelt out
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _fields(figure: Any, whole: bool) -> dict[str, Any]:
    assert is_dataclass(figure)
    found = {field.name: getattr(figure, field.name) for field in fields(figure)}
    if "series" in found:  # whose keys, being JSON's, are of one language
        found["names"] = list(found["series"])
    return {
        name: _array(value, whole) if isinstance(value, np.ndarray) and not whole else finite(value)
        for name, value in found.items()
    }


def _array(array: Array, whole: bool) -> dict[str, Any]:
    kept: dict[str, Any] = {"shape": list(array.shape), "dtype": str(array.dtype)}
    return kept | ({"values": _values(array)} if whole else {"values": None, "why": ELSEWHERE})


def _values(array: Array) -> Any:
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return array.tolist()
    kept = array.astype(object)
    kept[~np.isfinite(array)] = None
    return kept.tolist()


def _size(values: Any) -> int:
    return values.size if isinstance(values, np.ndarray) else len(values)
