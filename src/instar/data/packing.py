"""Lengths of documents -> rows of a batch. A row is a list of pieces (document, start, stop).

Three ways, one result: `windows` cuts the stream of all documents every `context` tokens and costs nothing to
compute; `best_fit` keeps documents whole wherever they fit a row; `one_each` gives every document a row of its own.
Every token is in exactly one piece, and a piece is a segment of its own in its row: positions restart at 0 there,
also for a document that goes on from the row before, and nothing is seen across pieces.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, overload

import numpy as np

from ..config import InputError

Piece = tuple[int, int, int]  # document, start, stop
Row = list[Piece]


class Rows(Sequence[Row]):
    """Rows by number. split: documents that were longer than a row and lie in several pieces."""

    split = 0

    @abstractmethod
    def row(self, row: int) -> Row:
        """The pieces of row 0 <= row < len(self)."""

    @overload
    def __getitem__(self, row: int) -> Row: ...
    @overload
    def __getitem__(self, row: slice) -> list[Row]: ...
    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[r] for r in range(*row.indices(len(self)))]
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return self.row(row)


class Windows(Rows):
    """Row r holds the tokens [r * context, (r + 1) * context) of the stream; computed when it is asked for. Documents
    are cut wherever a window ends, so none counts as split."""

    def __init__(self, lengths: np.ndarray, context: int) -> None:
        self.context = _checked(context)
        self.ends = np.cumsum(lengths, dtype=np.int64)
        self.total = int(self.ends[-1]) if len(self.ends) else 0

    def __len__(self) -> int:
        return -(-self.total // self.context)

    def row(self, row: int) -> Row:
        begin = int(row) * self.context
        end = min(begin + self.context, self.total)
        document = int(np.searchsorted(self.ends, begin, side="right"))
        pieces: Row = []
        while begin < end:
            stop = int(self.ends[document])
            start = int(self.ends[document - 1]) if document else 0
            if stop > begin:
                pieces.append((document, begin - start, min(stop, end) - start))
                begin = min(stop, end)
            document += 1
        return pieces


class Bins(Rows):
    """Rows that were filled beforehand."""

    def __init__(self, pieces: np.ndarray, order: np.ndarray, bounds: np.ndarray, split: int) -> None:
        """pieces (P, 3): document, start, stop; order (P,): pieces row by row; bounds (R+1,): where rows begin."""
        self.pieces, self.order, self.bounds, self.split = pieces, order, bounds, split

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def row(self, row: int) -> Row:
        chosen = self.order[self.bounds[row] : self.bounds[row + 1]]
        return [(d, start, stop) for d, start, stop in self.pieces[chosen].tolist()]


def windows(lengths: np.ndarray, context: int) -> Windows:
    """Cut the stream of documents every `context` tokens; the last row may be shorter."""
    return Windows(lengths, context)


def best_fit(lengths: np.ndarray, context: int) -> Bins:
    """Best-fit decreasing: the longest piece first, each into the fullest row that still takes it.

    https://doi.org/10.1137/0203025; for language models https://arxiv.org/abs/2404.10830.
    """
    pieces, split = _pieces(np.asarray(lengths, np.int64), _checked(context))
    sizes = pieces[:, 2] - pieces[:, 1]
    order = np.argsort(-sizes, kind="stable")
    row_of = np.empty(len(pieces), np.int64)
    row_of[order], rows = _fill(sizes[order].tolist(), context)
    by_row = order[np.argsort(row_of[order], kind="stable")]
    bounds = np.concatenate([[0], np.cumsum(np.bincount(row_of, minlength=rows))])
    return Bins(pieces, by_row, bounds, split)


def one_each(lengths: np.ndarray, context: int) -> Bins:
    """Every document alone in its row; one that is too long lies in several rows."""
    pieces, split = _pieces(np.asarray(lengths, np.int64), _checked(context))
    return Bins(pieces, np.arange(len(pieces)), np.arange(len(pieces) + 1), split)


PACKINGS: dict[str, Callable[[np.ndarray, int], Rows]] = {
    "windows": windows, "best-fit": best_fit, "none": one_each,
}  # fmt: skip


def _pieces(lengths: np.ndarray, context: int) -> tuple[np.ndarray, int]:
    """Documents as pieces (P, 3) of at most `context` tokens, and how many documents needed several."""
    counts = -(-lengths // context)
    document = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = number * context
    stop = np.minimum(start + context, lengths[document])
    # The one token left of a document was already the last target of the piece before: it has nothing to say.
    spent = (stop - start == 1) & (number > 0)
    return np.stack([document, start, stop], axis=1)[~spent], int((counts > 1).sum())


def _fill(sizes: list[int], context: int) -> tuple[list[int], int]:
    """For pieces from long to short: the row each goes to, and the number of rows.

    The bits of one integer say which amounts of free room exist, so finding the tightest fit is a shift.
    """
    rows_with: dict[int, list[int]] = {}
    rooms = 0
    rows = 0
    chosen: list[int] = []
    for size in sizes:
        fits = rooms >> size
        if fits:
            room = size + (fits & -fits).bit_length() - 1
            row = rows_with[room].pop()
            if not rows_with[room]:
                rooms ^= 1 << room
        else:
            room, row, rows = context, rows, rows + 1
        left = room - size
        if left:
            rows_with.setdefault(left, []).append(row)
            rooms |= 1 << left
        chosen.append(row)
    return chosen, rows


def _checked(context: int) -> int:
    if context < 2:
        raise InputError(f"context={context} leaves nothing to predict; it must be at least 2")
    return context
