"""The loss curve of a life, drawn with matplotlib where it is installed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..train.curves import smooth

NATS = "nats per token"
LOSSES = dict.fromkeys(("reward", "dpo"), "of a pair")


def draw_losses(runs: Mapping[str, Path], path: Path, *, say: Callable[[str], None]) -> bool:
    """Draw loss against tokens, one panel a stage, as SVG and PNG beside it; where answers are paid, the mean reward.

    runs: stage -> its metrics.jsonl. Returns False, after saying why, where matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        say('no loss curve: matplotlib is missing; pip install "instar[plot]"')
        return False
    figure = Figure(figsize=(max(9, 3 * len(runs)), 3.2), layout="constrained")
    panels = figure.subplots(1, len(runs), squeeze=False)[0]
    for panel, (stage, metrics) in zip(panels, runs.items()):
        _draw_run(panel, stage, [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()])
    figure.savefig(path)
    figure.savefig(path.with_suffix(".png"), dpi=150)
    return True


def _draw_run(axes: Any, stage: str, rows: list[dict[str, float]]) -> None:
    what, of = ("reward", "mean reward") if any("reward" in row for row in rows) else ("loss", LOSSES.get(stage, NATS))
    steps = [row for row in rows if row.get(what) is not None]
    tokens = [row["tokens"] / 1e6 for row in steps]
    values = [row[what] for row in steps]
    held_out = [(row["tokens"] / 1e6, row[f"held_out_{what}"]) for row in rows if f"held_out_{what}" in row]
    held_out = [(at, value) for at, value in held_out if value is not None]
    axes.plot(tokens, values, color="#9ecae1", linewidth=0.7)
    axes.plot(tokens, smooth(values), color="#08519c", linewidth=1.6, label="training")
    if held_out:
        axes.plot(*zip(*held_out), "o-", color="#e6550d", markersize=4, label="held out")
    axes.set(title=stage, xlabel="million tokens", ylabel=of if what == "reward" else f"loss ({of})")
    if what == "loss":
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
