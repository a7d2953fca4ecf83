"""How what is inside a model came about, as curves to stand under its loss: the birth of its heads, and of its layers'
words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..text.figures import number
from .curves import Chart, Curve, Point, chart
from .history import History, Row

# scores of heads that are drawn, in this order, where they were measured; each keeps its colour
SCORES = ("previous", "next", "duplicate", "induction", "copying", "rare")
LAYERS = 5  # curves of rows of the residual stream
SMALL = (376, 190)


def birth_charts(run: History, size: tuple[int, int] = (760, 240)) -> list[Chart | None]:
    """The best head of each kind over the steps; where words are settled, and how far each layer is from the last."""
    heads = [
        Curve(_label(run.inside, name), f"hue-{hue}", best_scores(run.inside, name), dots=True)
        for hue, name in enumerate(SCORES)
    ]
    rows = max((len(lens_of(row, "kl")) for row in run.inside), default=0)
    shown = dict.fromkeys(number * (rows - 2) // max(1, LAYERS - 1) for number in range(LAYERS)) if rows > 1 else {}
    layers = [
        Curve("embedding" if layer == 0 else f"{layer} block{'s' if layer > 1 else ''}", f"hue-{hue}",
              [(row["step"], _at(lens_of(row, "kl"), layer)) for row in run.inside], dots=True)
        for hue, layer in enumerate(shown)
    ]  # fmt: skip
    settled = [(row["step"], number(part_of(row, "lens").get("settled"))) for row in run.inside]
    return [
        chart("Birth of a head", "best score of a head, sink left out, on random texts", heads, zero=True, size=size),
        chart("Words are settled", "after so many blocks, on the mean", [Curve("", "smooth", settled, dots=True)],
              zero=True, size=SMALL),
        chart("Surprise of layers", "KL(last ‖ layer) in nats", layers, zero=True, size=SMALL),
    ]  # fmt: skip


def _label(rows: Sequence[Row], name: str) -> str:
    """With the head that has it now. Example: induction 2.5"""
    head = head_of(rows[-1], name) if rows else None
    return f"{name} {head[0]}.{head[1]}" if head else name


def head_of(row: Row, name: str) -> tuple[int, int] | None:
    """The layer and the head that were the best of that kind in a look."""
    found = part_of(row, "best").get(name)
    if isinstance(found, list) and len(found) == 3 and all(type(place) is int for place in found[1:]):
        return found[1], found[2]
    return None


def best_scores(rows: Sequence[Row], name: str) -> list[Point]:
    """(step, the score of the best head of that kind)."""
    return [(row["step"], _at(part_of(row, "best").get(name), 0)) for row in rows]


def lens_of(row: Row, name: str) -> list[Any]:
    """What the lens saw of each row of the residual stream; empty where it saw nothing."""
    found = part_of(row, "lens").get(name)
    return found if isinstance(found, list) else []


def part_of(row: Row, name: str) -> dict[str, Any]:
    """A part of a look; empty where it is damaged."""
    found = row.get(name)
    return found if isinstance(found, dict) else {}


def _at(values: Any, place: int) -> float | None:
    return number(values[place]) if isinstance(values, list) and place < len(values) else None
