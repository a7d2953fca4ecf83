"""Rows of pieces -> Batch. Pretraining and SFT are one function: they differ in which tokens of the store teach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..batch import IGNORE, Batch, View
from .packing import Row
from .shards import BRANCH, TokenStore

Laid = Sequence[Sequence[np.ndarray]]  # rows of pieces: the ids of each


@dataclass(frozen=True)
class Collate:
    """rows -> Batch of tokens (B, T) and targets (B, T), T being the longest row rounded up to 16, or with `whole` the
    context, since compiled blocks want one shape.

    targets[t] is the next token of the same document where that token teaches, else IGNORE; so the last token of a
    document predicts nothing, and neither does padding. A row cut inside a document predicts the token after the cut.
    """

    store: TokenStore
    context: int
    pad: int | None = None
    whole: bool = False

    def __call__(self, rows: Sequence[Row]) -> Batch:
        pieces = [[self.store.tokens(*piece) for piece in row] for row in rows]
        branches = [[self._branches(*piece) for piece in row] for row in rows]
        width = width_of(pieces, self.context, self.whole)
        targets = fill([[self.following(*piece) for piece in row] for row in rows], width, IGNORE)
        if any(each.any() for row in branches for each in row):
            view = view_of(pieces, width, branches)
        else:  # where nobody looks ahead, nobody sees the padding
            view = View() if all(len(row) == 1 for row in rows) else view_of(pieces, width)
        return Batch(fill(pieces, width, self.pad or 0), targets, view, evidence=self._evidence(rows, width))

    def _evidence(self, rows: Sequence[Row], width: int) -> torch.Tensor | None:
        """Where in its row the words stand that each target rests on; None where no document names any."""
        filled, named = np.zeros((len(rows), width, 2), np.int64), False
        for line, row in zip(filled, rows):
            place = 0
            for document, start, stop in row:
                found = self.store.evidence(document, start, stop)
                if found is not None:
                    line[place : place + len(found)] = np.where(found[:, :1] < start, 0, found + (place - start))
                    line[place : place + len(found)] *= found[:, 1:] > 0
                    named = True
                place += stop - start
        return torch.from_numpy(filled) if named else None

    def _branches(self, document: int, start: int, stop: int) -> np.ndarray:
        found = self.store.branches(document, start, stop)
        return np.zeros(stop - start, BRANCH) if found is None else found

    def following(self, document: int, start: int, stop: int) -> np.ndarray:
        """What the tokens [start, stop) of a document should say next; the last of a document nothing."""
        following = np.full(stop - start, IGNORE, np.int64)
        said = self.store.tokens(document, start + 1, stop + 1)
        teaches = self.store.teaches(document, start + 1, stop + 1)
        following[: len(said)] = said if teaches is None else np.where(teaches, said.astype(np.int64), IGNORE)
        return following


def width_of(rows: Laid, context: int, whole: bool = False) -> int:
    """The width of a batch: of its longest row rounded up to 16, so that shapes repeat, but at most the context; with
    `whole` the context."""
    longest = max(sum(map(len, row)) for row in rows)
    return context if whole else min(context, -(-longest // 16) * 16)


def fill(rows: Laid, width: int, padding: int) -> torch.Tensor:
    """The pieces of each row end to end, then padding: (B, width) int64."""
    filled = np.full((len(rows), width), padding, np.int64)
    for line, row in zip(filled, rows):
        place = 0
        for piece in row:
            line[place : place + len(piece)] = piece
            place += len(piece)
    return torch.from_numpy(filled)


def view_of(rows: Laid, width: int, branches: Laid | None = None) -> View:
    """The view of rows that were filled so, for whoever would see the padding: every piece a segment of its own with
    positions from 0, and so is the padding; what is as it would be without is left out. branches: of the tokens of each
    piece."""
    used = np.array([sum(map(len, row)) for row in rows])
    keep = None if used.min() == width else torch.from_numpy(np.arange(width) < used[:, None])
    if branches is None and all(len(row) == 1 for row in rows):
        return View(keep=keep)
    places = [[np.arange(len(piece)) for piece in row] for row in rows]
    if branches is not None:
        places = [[places_of(each) for each in row] for row in branches]
    positions = fill(places, width, 0)
    segments = fill([[np.full(len(piece), n) for n, piece in enumerate(row)] for row in rows], width, 0)
    for b, row in enumerate(rows):
        segments[b, used[b] :] = len(row)
    return View(positions, segments, keep, branches=None if branches is None else fill(branches, width, 0))


def places_of(branches: np.ndarray) -> np.ndarray:
    """The position of each token of texts that begin alike, all of which go on where the trunk ends."""
    places = np.arange(len(branches))
    begins = np.append(True, branches[1:] != branches[:-1])
    trunk = int((branches == 0).sum())
    return places - np.maximum.accumulate(np.where(begins, places, 0)) + np.where(branches > 0, trunk, 0)
