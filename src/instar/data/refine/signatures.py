"""What of a document is compared with all others: two hashes of its text, and datatrove's MinHash signature.

Each task writes files of its own, sorted by hash; those of signatures are datatrove's, in its folders.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ...config.data import DuplicateOptions
from ..disk import sync
from .shingles import Shingles

FOLDER, DRAFTS = "duplicates", "drafts"
EXACT, NEAR = "exact", "near"
SUFFIXES = {EXACT: ".exact.sig", NEAR: ".minhash.sig"}
# documents whose hashes wait in memory for their files
WAITING = 4096


class Table(NamedTuple):
    """Sorted hashes that are compared with each other: a file for each task in one folder under FOLDER, `width` hashes
    for each document."""

    kind: str
    folder: str
    width: int


def tables(options: DuplicateOptions) -> list[Table]:
    """What there is to compare: the exact hashes, and each bucket of the signatures."""
    exact = [Table(EXACT, "exact", 2)] * options.exact
    near = [Table(NEAR, f"signatures/bucket_{bucket:03d}", options.hashes) for bucket in range(options.buckets)]
    return exact + near * options.near


class Signer:
    """Writes the hashes of the documents of one task, in the order in which they are stored."""

    def __init__(self, options: DuplicateOptions, work: Path, rank: int) -> None:
        folder = work / FOLDER
        self.documents = 0
        self._shingles = Shingles(options) if options.near else None
        self._hashes = {
            kind: Sorted(folder, [table for table in tables(options) if table.kind == kind], rank)
            for kind in (EXACT, NEAR)
            if getattr(options, kind)
        }

    def add(self, text: str) -> None:
        """The next document. What it adds is the same for the same text, whatever came before."""
        if EXACT in self._hashes:
            self._hashes[EXACT].add(self.documents, exact_hash(text))
        if self._shingles is not None and (signature := self._shingles.signature(text)) is not None:
            self._hashes[NEAR].add(self.documents, signature)
        self.documents += 1

    def close(self) -> None:
        """Sort what was added and give the files their names: they are whole, or they are not there."""
        for hashes in self._hashes.values():
            hashes.close()

    def abandon(self) -> None:
        """Leave nothing behind."""
        for hashes in self._hashes.values():
            hashes.abandon()


class Sorted:
    """Hashes of one task on their way into one file for each of several tables of the same width."""

    def __init__(self, folder: Path, of: Sequence[Table], rank: int) -> None:
        self._folder, self._waiting = folder, list[np.ndarray]()
        self._numbers: list[int] = []
        self._files: list[tuple[Table, Path, Path, BinaryIO]] = []
        for table in of:
            path = folder / table.folder / f"{rank:05d}{SUFFIXES[table.kind]}"
            draft = draft_of(folder, path)
            self._files.append((table, path, draft, draft.open("wb")))

    def add(self, document: int, hashes: np.ndarray) -> None:
        """hashes (tables * width,)."""
        self._waiting.append(hashes)
        self._numbers.append(document)
        if len(self._waiting) == WAITING:
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        hashes = np.stack(self._waiting).reshape(len(self._waiting), len(self._files), -1)
        for place, (table, _, _, file) in enumerate(self._files):
            rows = np.empty(len(hashes), row(table.width))
            rows["hashes"], rows["document"] = hashes[:, place], self._numbers
            file.write(rows.tobytes())
        self._waiting, self._numbers = [], []

    def close(self) -> None:
        self._flush()
        for table, path, draft, file in self._files:
            file.close()
            rows = np.fromfile(draft, row(table.width))
            write(path, self._folder, rows[order(rows["hashes"], rows["document"])])

    def abandon(self) -> None:
        for _, _, draft, file in self._files:
            file.close()
            draft.unlink(missing_ok=True)


def exact_hash(text: str) -> np.ndarray:
    """(2,) uint64 of a text without its blanks, which say nothing between Han characters and depend everywhere on how
    lines were broken."""
    digest = blake2b(digest_size=16)
    for start in range(0, len(text), 1 << 20):
        digest.update("".join(text[start : start + (1 << 20)].split()).encode("utf-8", "surrogatepass"))
    return np.frombuffer(digest.digest(), "<u8")


@cache
def row(width: int) -> np.dtype[Any]:
    """One document in a file of hashes."""
    return np.dtype([("hashes", "<u8", (width,)), ("document", "<u4")])


def order(hashes: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """Places of hashes (N, W) in the order of all their columns, then of documents (N,). Nearly all differ in the first
    column already, so only the rest is sorted by more."""
    places = np.argsort(hashes[:, 0], kind="stable")
    first = hashes[places, 0]
    same = first[1:] == first[:-1]
    tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
    if len(first) and len(tied):
        among = places[tied]
        places[tied] = among[np.lexsort((documents[among], *hashes[among].T[::-1]))]
    return places


def draft_of(folder: Path, path: Path) -> Path:
    """Where a file is written before it gets its name: not beside the others, because all files there are read."""
    place = folder / DRAFTS / f"{'-'.join(path.relative_to(folder).parts)}.{os.getpid()}"
    for one in (path, place):
        one.parent.mkdir(parents=True, exist_ok=True)
    return place


def write(path: Path, folder: Path, rows: np.ndarray) -> None:
    """Write rows to a file that is whole or not there."""
    draft = draft_of(folder, path)
    with draft.open("wb") as file:
        rows.tofile(file)
    finish(draft, path)


def finish(draft: Path, path: Path) -> None:
    """Bring a draft onto the disk and give it its name."""
    sync(draft)
    draft.replace(path)
    sync(path.parent)
