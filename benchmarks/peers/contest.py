"""From what the gate told to the table: medians, ratios, and whether what was asked for is reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Any

from .lessons import Lessons
from .settings import Trial, ways

LEAST, STRETCH = 1.5, 2.0  # samples a second, ours over theirs
HEAD = (
    "samples/s", "with the reference's time", "tokens/s", "computed tokens/s", "samples a step",
    "peak MB of steps / in all", "preparing s",
)  # fmt: skip


class Figures:
    """What is told of one setting. alone: of its short trial, beside nobody."""

    def __init__(self, trial: Trial, lessons: Lessons, *, alone: bool = False) -> None:
        self.trial, self.lessons, self.alone = trial, lessons, alone

    def each(self, of: Callable[[dict[str, Any]], float]) -> float | None:
        """The median of the rounds."""
        return median(map(of, self.trial.rounds)) if self.trial.rounds else None

    @property
    def rates(self) -> list[float]:
        """Samples a second of each round, a sample being one of average length."""
        return [told["tokens"] / told["seconds"] / self.lessons.mean for told in self.trial.rounds]

    @property
    def rate(self) -> float | None:
        return median(self.rates) if self.rates else None

    @property
    def whole(self) -> float | None:
        """Samples a second of one pass over the data that begins by computing the reference, where it does."""
        if not self.rate:
            return None
        return 1 / (1 / self.rate + self.trial.ready.get("referring", 0.0) / self.lessons.count)

    @property
    def peak(self) -> int:
        return max((told["memory"]["peak"] for told in self.trial.rounds), default=0)

    def told(self) -> dict[str, Any]:
        ready = self.trial.ready
        return {
            "system": self.trial.system, "name": self.trial.name, "setting": dict(self.trial.setting),
            "way": self.trial.way,
            "rate": self.rate, "least": min(self.rates, default=None), "most": max(self.rates, default=None),
            "whole": self.whole, "why": self.trial.why, "alone": self.alone,
            "tokens": self.each(lambda told: told["tokens"] / told["seconds"]),
            "computed": self.each(lambda told: told["computed"] / told["seconds"]),
            "samples": self.each(lambda told: told["samples"] / len(told["losses"])),
            "peak": self.peak, "peak_all": max(self.peak, ready.get("peak", 0)),
            "preparing": ready.get("seconds", 0.0) + ready.get("warm", 0.0), "referring": ready.get("referring", 0.0),
            "held": ready.get("held"), "taught": ready.get("taught"), "rounds": self.trial.rounds,
        }  # fmt: skip


def goals(figures: Sequence[Figures]) -> list[list[str]]:
    """What was asked for and what was found, by way: a row each."""
    rows = []
    for way in ways(one.trial for one in figures):
        ours, theirs = (
            max((f for f in figures if f.trial.system == system and f.trial.way == way), key=_whole, default=None)
            for system in ("instar", "trl")
        )
        if ours is None or theirs is None or not ours.rate or not theirs.rate:
            rows.append([f"samples/s, {way}", "", "", "", f"{LEAST}"])
            continue
        rows.append(_goal(f"samples/s, {way}", ours.rate, theirs.rate, f"{LEAST} (stretch {STRETCH})"))
        rows.append(_goal(f"peak MB of steps, {way}", ours.peak / 1e6, theirs.peak / 1e6, "at most 1"))
    whole = [
        max((f.whole or 0.0 for f in figures if f.trial.system == system), default=0.0) for system in ("instar", "trl")
    ]
    if any(one.trial.ready.get("referring") for one in figures) and all(whole):
        rows.append(
            _goal("samples/s, the reference's time counted, best way of each", *whole, f"{LEAST} (stretch {STRETCH})")
        )
    return rows


def _whole(figures: Figures) -> float:
    return figures.rate or 0.0


def _goal(name: str, ours: float, theirs: float, wanted: str) -> list[str]:
    return [name, f"{ours:,.2f}", f"{theirs:,.2f}", f"{ours / theirs:.2f}", wanted]


def markdown(model: str, report: dict[str, Any], setting: dict[str, Any]) -> str:
    """One task of one model."""
    lessons, checked = report["lessons"], report["check"]
    lines = [
        f"### {report['task'].upper()}, model {model}",
        "",
        f"{setting['cpu']}, {setting['threads']} threads; {setting['versions']}. {lessons['count']:,} samples of "
        f"{lessons['mean']:.0f} tokens on average, {lessons['longest']} at most ({lessons['source']}); context "
        f"{report['context']}, about {report['samples']} samples a step. Medians of rounds, the least and the most of "
        "which stand behind; rows without are trials of a few steps, each alone.",
        "",
        f"The same steps in both, in fp32: {_checked(checked)}",
        "",
        f"| setting | {' | '.join(HEAD)} |",
        "|---" * (1 + len(HEAD)) + "|",
        *map(_row, [*report["finals"], *report["trials"]]),
        "",
        "| asked for | ours | TRL | ratio | wanted |",
        "|---|---|---|---|---|",
        *(f"| {' | '.join(goal)} |" for goal in report["goals"]),
        "",
        *_same(report),
    ]
    return "\n".join(lines) + "\n"


def _checked(checked: dict[str, Any]) -> str:
    if "failed" in checked:
        return f"not found ({checked['failed']})."
    mine, yours = (", ".join(f"{loss:.5f}" for loss in checked[system]) for system in ("instar", "trl"))
    word = "alike" if checked["alike"] else "NOT ALIKE"
    return f"losses {mine} (ours) and {yours} (TRL), {word}, {checked['gap']:.1e} apart at most."


def _row(figures: dict[str, Any]) -> str:
    if not figures["rate"]:
        return f"| {figures['name']} | {figures['why'] or 'no figure'} |" + " |" * (len(HEAD) - 1)
    spread = "" if figures["alone"] else f" ({figures['least']:.2f} to {figures['most']:.2f})"
    whole = f"{figures['whole']:,.2f}" if figures["referring"] else ""
    cells = [
        f"{figures['rate']:,.2f}{spread}", whole, f"{figures['tokens']:,.0f}", f"{figures['computed']:,.0f}",
        f"{figures['samples']:.1f}", f"{figures['peak'] / 1e6:,.0f} / {figures['peak_all'] / 1e6:,.0f}",
        f"{figures['preparing']:.0f}",
    ]  # fmt: skip
    return f"| {figures['name']} | {' | '.join(cells)} |"


def _same(report: dict[str, Any]) -> Iterator[str]:
    """What each system says that there is to learn."""
    found = {
        (figures["system"], figures["way"], figures["held"], figures["taught"])
        for figures in report["finals"]
        if figures["held"]
    }
    if found:
        said = (
            f"{system} ({way}): {held:,} tokens, {taught:,} of them taught"
            for system, way, held, taught in sorted(found)
        )
        yield f"Read by: {'; '.join(said)}."
