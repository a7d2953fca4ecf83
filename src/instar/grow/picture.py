"""The loss curve of a life, drawn with matplotlib where it is installed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..train.curves import smooth


def draw_losses(runs: Mapping[str, Path], path: Path, *, say: Callable[[str], None]) -> bool:
    """Draw loss against tokens, one panel a stage, as SVG and PNG beside it.

    runs: stage -> its metrics.jsonl. Returns False, after saying why, where matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        say('no loss curve: matplotlib is missing; pip install "instar[plot]"')
        return False
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    panels = figure.subplots(1, len(runs), squeeze=False)[0]
    for panel, (stage, metrics) in zip(panels, runs.items()):
        _draw_run(panel, stage, [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()])
    figure.savefig(path)
    figure.savefig(path.with_suffix(".png"), dpi=150)
    return True


def _draw_run(axes: Any, stage: str, rows: list[dict[str, float]]) -> None:
    steps = [row for row in rows if row.get("loss") is not None]
    tokens = [row["tokens"] / 1e6 for row in steps]
    losses = [row["loss"] for row in steps]
    held_out = [(row["tokens"] / 1e6, row["held_out_loss"]) for row in rows if row.get("held_out_loss") is not None]
    axes.plot(tokens, losses, color="#9ecae1", linewidth=0.7)
    axes.plot(tokens, smooth(losses), color="#08519c", linewidth=1.6, label="training")
    if held_out:
        axes.plot(*zip(*held_out), "o-", color="#e6550d", markersize=4, label="held out")
    axes.set(title=stage, xlabel="million tokens", ylabel="loss (nats per token)")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
