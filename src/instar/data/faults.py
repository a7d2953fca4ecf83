"""Records that nothing can be learnt from: left out, counted by reason, and too many of them an error."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..config import InputError
from .sources import Document

SHOWN = 3  # records that are told, of each reason
MALFORMED = "malformed"


class Fault(InputError):
    """Why a record cannot be learnt from. reason: the one word by which such records are counted."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Faults:
    """The records at fault among all: `add` each, then `check`. counts: reason -> how many."""

    def __init__(self, limit: float, say: Callable[[str], None] | None = None) -> None:
        """limit: the share of all records that may be at fault, 1 for any number; at least one record may be, unless it
        is 0. say: is told the first of each reason and where they stand. Raises InputError for another limit."""
        if not 0.0 <= limit <= 1.0:
            raise InputError(f"bad_records={limit:g}; wanted a share from 0 (none) to 1 (any number)")
        self.limit = limit
        self.counts: dict[str, int] = {}
        self._say = say or (lambda text: None)
        self._first: dict[str, str] = {}

    def __len__(self) -> int:
        return sum(self.counts.values())

    def add(self, document: Document, error: InputError) -> None:
        """This record is at fault; an error that gives no reason of its own means that it has another shape."""
        reason = error.reason if isinstance(error, Fault) else MALFORMED
        self.counts[reason] = self.counts.get(reason, 0) + 1
        self._first.setdefault(reason, f"{document.where}: {error}")
        if self.counts[reason] <= SHOWN:
            self._say(f"left out {document.where}: {error}")

    def check(self, records: int) -> None:
        """Raises InputError where more of so many records are at fault than may be, with the reasons, how often each
        was found and where first."""
        if len(self) <= math.ceil(self.limit * records):
            return
        raise InputError(
            f"{len(self)} of {records} records cannot be learnt from, more than bad_records={self.limit:g} "
            f"allows: {self.listed}; correct them, or raise bad_records"
        )

    @property
    def listed(self) -> str:
        """How many were found for which reason, and where first."""
        return "; ".join(f"{count} {reason}, first {self._first[reason]}" for reason, count in self.counts.items())
