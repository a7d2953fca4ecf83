"""Whether what a stage that learns from rewards was told can be meant."""

from __future__ import annotations

import math

from ..config import InputError
from ..config.options import TrainOptions
from ..config.options.reinforcement import KlOptions, ReinforceOptions


def check(options: ReinforceOptions, prompts: int) -> None:
    """Raises InputError for figures that no run can mean."""
    how = options.rollouts
    for name in ("prompts", "answers", "max_new_tokens", "epochs", "minibatches", "slots"):
        if getattr(how, name) < 1:
            raise InputError(f"rollouts.{name}={getattr(how, name)}, wanted at least 1")
    if not 0.0 < how.temperature < math.inf:
        raise InputError(
            f"rollouts.temperature={how.temperature}; wanted above 0, since the policy is softmax(logits / temperature)"
        )
    if how.minibatches > how.prompts:
        raise InputError(
            f"rollouts.minibatches={how.minibatches} of rollouts.prompts={how.prompts}: answers to one prompt stay "
            "together, so there are at most as many as prompts; lower the one or raise the other"
        )
    for name in ("clip_low", "clip_high"):
        if not 0.0 < getattr(options, name) < math.inf:
            raise InputError(f"{name}={getattr(options, name)}; wanted above 0")
    if options.clip_low >= 1.0:
        raise InputError(f"clip_low={options.clip_low}; wanted below 1, for a ratio is above 0")
    charges = (("entropy", options.entropy), ("rollouts.missing_end", how.missing_end))
    for name, value in charges:
        if not 0.0 <= value < math.inf:
            raise InputError(f"{name}={value}; wanted 0, which leaves it out, or more")
    for name, value in (("longer", options.longer), ("kl.stop", options.kl.stop), ("kl.limit", options.kl.limit)):
        if not 0.0 <= value < math.inf:
            raise InputError(f"{name}={value}; wanted 0, for no limit, or more")
    if 0.0 < options.longer < 1.0:
        raise InputError(f"longer={options.longer}: the first phase would be too long already; wanted 0, or 1 or more")
    if options.kl.horizon != KlOptions().horizon and not options.kl.target:
        raise InputError(
            f"kl.horizon={options.kl.horizon} without kl.target: a coefficient that is fixed adapts over nothing; give "
            "kl.target, or leave it out"
        )
    if not prompts:
        raise InputError("no prompts to learn from: all are held out; lower held_out")


def check_train(train: TrainOptions) -> None:
    """Raises InputError for options of the loop that these stages do not look at."""
    usual = TrainOptions()
    remedies = {
        "batch_tokens": "a step learns from rollouts.prompts * rollouts.answers / rollouts.minibatches answers",
        "smoothing": "answers are sampled, not given",
        "compile": "rows of answers have many shapes",
        "workers": "answers are sampled, not collated",
    }
    for name, why in remedies.items():
        if getattr(train, name) != getattr(usual, name):
            raise InputError(f"train.{name}={getattr(train, name)} is not looked at here: {why}; leave it out")
