"""Copies: texts that are the same but for blanks, and texts that have most of their runs of words in common.

Of several copies the first stays: of the earlier source, the earlier file, the earlier place in it. So the order of the
sources in a recipe says whose copy is kept.

Near copies are found by MinHash (Broder 1997) with datatrove's signatures in datatrove's files, so that its own stages
can go on from here. The stages below find the same clusters with arrays: they open one file at a time where datatrove's
open all of them, the first of a cluster stays whatever the order of the pairs, and a copy knows of which document it is
one. Memory grows with the documents of one task and with the copies that are found, not with the documents.

A text of fewer words than one run has no near copies, only exact ones.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from datatrove.pipeline.base import PipelineStep

from ...config.data import DuplicateOptions
from .arrays import mapped
from .signatures import EXACT, FOLDER, NEAR, SUFFIXES, Signer, Table, draft_of, finish, order, row, tables, write

__all__ = ["Clusters", "Copy", "Match", "Removed", "Signer", "Stage", "find_steps"]

# documents whose hashes one task compares
PART = 1 << 19
# hashes looked at for each bound between two parts
SAMPLE = 64
MARK = np.uint64(1 << 63)  # of a root: the copy is a near one


class Stage(NamedTuple):
    """What an executor runs next: its name, the pipeline, and how many tasks."""

    name: str
    pipeline: list[PipelineStep]
    tasks: int


@dataclass(frozen=True, slots=True)
class Copy:
    """Why a document goes, "exact" or "near", and which one stays in its place: its task and its index there."""

    reason: str
    task: int
    index: int


def find_steps(options: DuplicateOptions, work: Path) -> list[Stage]:
    """What is run, one after the other, between the last `Signer.close` and the first `Removed`; nothing where nothing
    is asked. Call it once all documents are signed: how many tasks there are comes from how many documents."""
    found = tables(options)
    if not found:
        return []
    parts = max(1, *(-(-sum(_counts(work / FOLDER, table).values()) // PART) for table in found))
    return [
        Stage("pairs", [Match(str(work), found, parts)], len(found) * parts),
        Stage("clusters", [Clusters(str(work))], 1),
    ]


class Removed:
    """Which documents of a task are copies. Raises FileNotFoundError where `find_steps` were not run to the end."""

    def __init__(self, options: DuplicateOptions, work: Path, rank: int) -> None:
        self._indices, self._roots = np.zeros((2, 0), np.uint64)
        if options.exact or options.near:
            found = mapped(_found(work), "<u8").reshape(2, -1)
            first, last = np.searchsorted(found[0], np.array([rank << 32, (rank + 1) << 32], np.uint64))
            self._indices = found[0, first:last] & np.uint64(0xFFFFFFFF)
            self._roots = np.array(found[1, first:last])

    def __len__(self) -> int:
        return len(self._indices)

    def get(self, index: int) -> Copy | None:
        """What the document at this index is a copy of, or None where it stays."""
        place = int(np.searchsorted(self._indices, np.uint64(index)))
        if place == len(self._indices) or int(self._indices[place]) != index:
            return None
        root = int(self._roots[place])
        return Copy(NEAR if root & int(MARK) else EXACT, (root & ~int(MARK)) >> 32, root & 0xFFFFFFFF)


class Match(PipelineStep):
    """Pairs of documents with the same hashes. Each task takes one part of one table and writes its pairs as
    datatrove's .dups: task and index of the first, task and index of the other."""

    name, type = "pairs", "duplicates"

    def __init__(self, work: str, of: Sequence[Table], parts: int = 1) -> None:
        super().__init__()
        self.work, self.tables, self.parts = work, list(of), parts

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        folder = Path(self.work) / FOLDER
        number, part = divmod(rank, self.parts)
        table = self.tables[number]
        found = pairs(folder, table, *bounds_of(folder, table, self.parts)[part : part + 2])
        self.stat_update("pairs", value=len(found))
        bucket = [other for other in self.tables if other.kind == table.kind].index(table)
        write(_pairs_of(folder, table.kind) / f"{bucket:05d}_{part:02d}.dups", folder, found)


class Clusters(PipelineStep):
    """Pairs -> which document is a copy of which. Copies of copies are copies; the first of all stays."""

    name, type = "clusters", "duplicates"

    def __init__(self, work: str) -> None:
        super().__init__()
        self.work = work

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        folder = Path(self.work) / FOLDER
        exact, near = (clusters(sorted(_pairs_of(folder, kind).glob("*.dups"))) for kind in (EXACT, NEAR))
        near = near[:, ~np.isin(near[0], exact[0])]  # counted once, and as what it is first of all
        for kind, found in ((EXACT, exact), (NEAR, near)):
            self.stat_update(kind, value=found.shape[1])
        near[1] |= MARK
        found = np.concatenate([exact, near], axis=1)
        draft = draft_of(folder, _found(Path(self.work)))
        with draft.open("wb") as file:
            found[:, np.argsort(found[0])].astype("<u8", copy=False).tofile(file)
        finish(draft, _found(Path(self.work)))


def bounds_of(folder: Path, table: Table, parts: int) -> list[int]:
    """First hashes at which the parts of a table begin and end. The smallest of many hashes is a small number, so
    bounds between parts of one size must be looked up in the files."""
    counts = _counts(folder, table)
    total = sum(counts.values())
    if parts == 1 or not total:
        return [0, *[1 << 64] * parts]
    step = max(1, total // (parts * SAMPLE))
    sample, place = [], step // 2  # every step-th row of all files end to end
    for path, count in counts.items():
        if place < count:
            sample.append(np.array(np.memmap(path, row(table.width), "r")["hashes"][place::step, 0]))
            place += len(sample[-1]) * step
        place -= count
    seen = np.sort(np.concatenate(sample))
    return [0, *(int(seen[len(seen) * part // parts]) for part in range(1, parts)), 1 << 64]


def pairs(folder: Path, table: Table, low: int, high: int) -> np.ndarray:
    """(P, 4) uint32: task and index of a document, task and index of a copy, where the first hash is in [low, high). Of
    the copies inside a file only the first is compared with other files: a million times one page costs no memory."""
    kept, tasks = [np.zeros(0, row(table.width))], [np.zeros(0, "<u4")]
    found = [np.zeros((0, 4), "<u4")]
    for task, path in _files(folder, table):
        rows = _rows_of(path, table, low, high)
        first, copies = _same(rows["hashes"])
        here = np.full(len(copies), task, "<u4")
        found.append(np.stack([here, rows["document"][first], here, rows["document"][copies]], 1))
        kept.append(np.delete(rows, copies))
        tasks.append(np.full(len(rows) - len(copies), task, "<u4"))
    rows, task_of = np.concatenate(kept), np.concatenate(tasks)
    kept.clear()
    places = order(rows["hashes"], task_of)
    first, copies = (places[found] for found in _same(rows["hashes"][places]))
    found.append(np.stack([task_of[first], rows["document"][first], task_of[copies], rows["document"][copies]], 1))
    return np.concatenate(found)


def clusters(paths: Sequence[Path]) -> np.ndarray:
    """(2, N) uint64: the copies, sorted, and the first document of the cluster of each, as task << 32 | index. Files
    are taken one after the other, and after each one only this much is remembered."""
    found = np.zeros((2, 0), np.uint64)
    for path in paths:
        for pair in _read_pairs(path):
            edges = np.concatenate([found, pair], axis=1)
            nodes, where = np.unique(edges, return_inverse=True)
            ones, others = where.reshape(edges.shape)
            roots = nodes[components(ones, others, len(nodes))]
            found = np.stack([nodes, roots])[:, nodes != roots]
    return found


def components(ones: np.ndarray, others: np.ndarray, size: int) -> np.ndarray:
    """The smallest node of the component of each of `size` nodes, by hooking and pointer jumping (Shiloach and Vishkin
    1982); edges run from ones (E,) to others (E,)."""
    roots = np.arange(size)
    while ((one := roots[ones]) != (other := roots[others])).any():
        low = np.minimum(one, other)
        np.minimum.at(roots, one, low)
        np.minimum.at(roots, other, low)
        while ((up := roots[roots]) != roots).any():
            roots = up
    return roots


def _found(work: Path) -> Path:
    return work / FOLDER / "removed"


def _pairs_of(folder: Path, kind: str) -> Path:
    return folder / f"pairs-{kind}"


def _files(folder: Path, table: Table) -> list[tuple[int, Path]]:
    """The tasks that have hashes in a table, in order."""
    suffix = SUFFIXES[table.kind]
    return sorted((int(path.name.removesuffix(suffix)), path) for path in (folder / table.folder).glob(f"*{suffix}"))


def _counts(folder: Path, table: Table) -> dict[Path, int]:
    """How many documents each file of a table has."""
    return {path: path.stat().st_size // row(table.width).itemsize for _, path in _files(folder, table)}


def _rows_of(path: Path, table: Table, low: int, high: int) -> np.ndarray:
    """The rows of a file whose first hash is in [low, high)."""
    if (low, high) == (0, 1 << 64) or not path.stat().st_size:
        return np.fromfile(path, row(table.width))
    rows = np.memmap(path, row(table.width), "r")
    first, last = (bisect_left(rows, bound, key=lambda one: int(one["hashes"][0])) for bound in (low, high))
    return np.array(rows[first:last])


def _same(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted hashes (N, W) -> places of those that are the same as one before, and of the first of each, (C,) both."""
    repeats = np.zeros(len(hashes), bool)
    repeats[1:] = (hashes[1:] == hashes[:-1]).all(axis=1)
    first = np.maximum.accumulate(np.where(repeats, 0, np.arange(len(hashes))))
    return first[repeats], np.flatnonzero(repeats)


def _read_pairs(path: Path, count: int = 1 << 20) -> Iterator[np.ndarray]:
    """(2, P) uint64 of a file of pairs, so many at a time."""
    with path.open("rb") as file:
        while len(numbers := np.fromfile(file, "<u4", 4 * count)):
            ends = numbers.astype(np.uint64).reshape(-1, 2, 2)
            yield (ends[:, :, 0] << np.uint64(32) | ends[:, :, 1]).T
