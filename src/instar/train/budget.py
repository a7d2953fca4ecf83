"""How many optimizer steps a run takes: as many as were asked for, and as fit the minutes there are."""

from __future__ import annotations

import math
from typing import Any

from ..config import InputError
from ..config.options import TrainOptions

MARGIN = 1.15  # a step also moves weights, measures now and then and saves


def steps_of(options: TrainOptions, loader: Any) -> int:
    """The run's optimizer steps. Raises InputError where there are none."""
    if not 0 <= options.minutes < math.inf:
        raise InputError(f"train.minutes={options.minutes}; wanted 0, for no limit, or more")
    if options.steps < 0 or (options.steps == 0 and options.epochs <= 0):
        raise InputError(
            f"train.steps={options.steps} and train.epochs={options.epochs} give no optimizer step; "
            "set one of them higher"
        )
    steps = options.steps or loader.steps(options.epochs)
    if round(options.warmup * steps) >= steps > 1:
        raise InputError(
            f"train.warmup={options.warmup} makes all {steps} steps a warm-up, so that the run never learns "
            "at its full rate; lower it, or take more steps"
        )
    return steps


def fitting(options: TrainOptions, steps: int, seconds: float) -> int:
    """How many of the steps, each of so many seconds, fit train.minutes: at least one, all where there is no limit."""
    return min(steps, max(1, int(options.minutes * 60 / (seconds * MARGIN)))) if options.minutes else steps
