"""What a look into a model may take of memory, asked before it is taken."""

from __future__ import annotations

from ..config import InputError

BUDGET = 4_000_000_000  # bytes of one view, beside the model and its trace


class TooLarge(InputError):
    """More memory than there is room for. need, budget: bytes."""

    def __init__(self, why: str, need: int, budget: int) -> None:
        super().__init__(why)
        self.need, self.budget = need, budget


def afford(wanted: int, what: str, remedy: str) -> None:
    """Raises TooLarge where `what` needs more bytes than there is room for; remedy: what to ask instead."""
    if wanted > BUDGET:
        why = f"{what} needs about {wanted / 1e9:.1f} GB, and may take {BUDGET / 1e9:.1f} GB; {remedy}"
        raise TooLarge(why, wanted, BUDGET)
