"""What a look into a model may take of memory, asked before it is taken."""

from __future__ import annotations

from ..config import InputError

BUDGET = 4_000_000_000  # bytes of one view, beside the model and its trace


def afford(wanted: int, what: str, remedy: str) -> None:
    """Raises InputError where `what` needs more bytes than there is room for; remedy: what to ask instead."""
    if wanted > BUDGET:
        raise InputError(f"{what} needs about {wanted / 1e9:.1f} GB, and may take {BUDGET / 1e9:.1f} GB; {remedy}")
