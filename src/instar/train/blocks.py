"""torch.compile, applied to the blocks of a finished model from outside, tried before it is trusted."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from ..batch import Batch
from .objectives import Objective, mean

LOSS, NORM = 0.01, 0.1  # relative gaps that a change of kernels explains


def compile_blocks(model: Any, objective: Objective, batch: Batch, warn: Callable[[str], None]) -> bool:
    """Compile each block in place, then compare loss and gradient on one batch with those of the plain blocks.

    Where compiling fails or the numbers differ, the blocks are put back after one warning. Weights, gradients and
    random state are left as they were; the first call costs a compilation.
    """
    wanted = _outcome(model.eval(), objective, batch)
    for block in model.all_blocks():
        block.forward = _compiled(block.forward)
    try:
        found = _outcome(model, objective, batch)
        _outcome(model.train(), objective, batch)  # dropout draws other numbers: only that it runs is to be seen
    except Exception as error:  # whatever a compiler, a missing C++ among them, comes up with
        trouble = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
    else:
        model.forget()
        if all(math.isclose(w, f, rel_tol=gap) for w, f, gap in zip(wanted, found, (LOSS, NORM))):
            return True
        trouble = f"loss and gradient norm were {found}, wanted {wanted}"
    for block in model.all_blocks():
        del block.forward
    warn(f"torch.compile is off, the plain blocks go on ({trouble})")
    return False


def _compiled(forward: Callable[..., Any]) -> Callable[..., Any]:
    """The compiled function where gradients are taken, the plain one elsewhere: evaluation and generation have a shape
    of their own at every call, as have the places that teach, and each would be compiled anew until torch gives up."""
    fast = torch.compile(forward, dynamic=False)

    def chosen(*inputs: Any, **named: Any) -> Any:
        return (fast if torch.is_grad_enabled() and "places" not in named else forward)(*inputs, **named)

    return chosen


def _outcome(model: Any, objective: Objective, batch: Batch) -> tuple[float, float]:
    """Mean loss and gradient norm of one batch."""
    model.zero_grad()
    with torch.random.fork_rng():
        total = mean(objective(model, batch), max(1, batch.count()))
        total.backward()
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    model.zero_grad()
    return float(total.detach()), float(norm)
