"""Axes that can be read: round values between two edges, and where on the paper a value lies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .figures import label


@dataclass(frozen=True)
class Axis:
    """Values -> places between two edges."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        low, high, value = (math.log(x) if self.log else x for x in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, wanted: int, *, whole: bool = False) -> list[tuple[str, str]]:
        """(place, label) of the round values between the edges."""
        values = _powers(self.low, self.high) if self.log else rounds(self.low, self.high, wanted, whole=whole)
        return [(short(self.place(value)), label(value)) for value in values]


def rounds(low: float, high: float, wanted: int, *, whole: bool = False) -> list[float]:
    """About `wanted` round values from low to high. Example: rounds(0, 7.3, 4) -> [0, 2, 4, 6]"""
    step = round_step(low, high, wanted)
    step = max(1.0, step) if whole else step
    first, last = math.ceil(round(low / step, 6)), math.floor(round(high / step, 6))
    return [number * step for number in range(first, last + 1)]


def round_step(low: float, high: float, wanted: int) -> float:
    """1, 2 or 5 times a power of ten, at most `wanted` of which fit."""
    rough = (high - low) / max(1, wanted)
    power = 10.0 ** math.floor(math.log10(rough))
    return next(times * power for times in (1, 2, 5, 10) if times * power >= rough * 0.999999)


def path_through(places: Sequence[tuple[str, str | None]]) -> str:
    """An SVG path through the points; a gap lifts the pen, and a point between two gaps is a dot."""
    parts: list[str] = []
    down = alone = False
    for x, y in [*places, ("", None)]:
        if y is None:
            parts += ["h0"] if alone else []
            down = alone = False
        else:
            parts.append(f"{'L' if down else 'M'}{x} {y}")
            down, alone = True, not down
    return "".join(parts)


def short(place: float) -> str:
    """A place on the paper, to a tenth of a unit."""
    return f"{place:.1f}".removesuffix(".0")


def _powers(low: float, high: float) -> list[float]:
    """Powers of ten between two positive values, with 2 and 5 times them where those are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    times = (1, 2, 5) if last - first < 4 else (1,)
    every = max(1, (last - first) // 6)
    values = [time * 10.0**power for power in range(first, last + 1, every) for time in times]
    return [value for value in values if low <= value <= high]
