"""What a reader is given, and what it gives back.

Raw data is a stranger's, so nothing in it is fatal: a reader yields a `Raw` for each document and a `Broken` for
whatever it had to give up, and goes on. Both are counted, and the report names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Piece:
    """Part of one file of a source, small enough to be read by one task.

    address: a local path or an fsspec address, or world:NAME. start, stop: of lines of bytes (.jsonl) or of row groups
    (.parquet) that begin in [start, stop); 0, 0 is the whole. size: bytes as they are stored.
    """

    source: str
    kind: str
    address: str
    size: int
    start: int = 0
    stop: int = 0
    fields: tuple[str, ...] = ()  # keys of a row that hold its texts; none takes the usual ones


@dataclass(frozen=True, slots=True)
class Raw:
    """One document: its text, its number in the file from 1, and what is known about it (url, title, language, date,
    encoding, author, licence, path), plain JSON values."""

    text: str
    number: int
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Broken:
    """What could not be read. reason: one of REASONS; detail: what was found and wanted, one short sentence; size:
    bytes given up, as far as known."""

    reason: str
    number: int
    detail: str
    size: int = 0


class Refused(Exception):
    """How a reader says what it gives up and why; `reading.read` makes a `Broken` of it. reason: one of REASONS."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


# why something is given up -> how the report says it
REASONS = {
    "empty": "no text in it",
    "binary": "not text",
    "encoding": "no known encoding reads it",
    "truncated": "the file ends in the middle",
    "compressed": "the compression is damaged",
    "expands": "unpacks to more than is allowed",
    "long": "longer than is allowed",
    "shape": "a row of another shape",
    "json": "not JSON",
    "markup": "markup that cannot be parsed",
    "deep": "nested too deeply",
    "slow": "took longer than is allowed",
    "crash": "its reader died",
    "archive": "not the archive that its name says",
    "generated": "written by a program for programs",
    "status": "the answer of a server that it has no such page",
    "unknown": "no reader for this kind of file",
    "missing": "cannot be opened",
}
