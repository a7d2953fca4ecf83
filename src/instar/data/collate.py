"""Rows of pieces -> Batch. Pretraining and SFT are one function: they differ in which tokens of the store teach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..batch import IGNORE, Batch, View
from .packing import Row
from .shards import TokenStore


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
        used = [sum(stop - start for _, start, stop in row) for row in rows]
        width = self.context if self.whole else min(self.context, -(-max(used) // 16) * 16)
        shape = (len(rows), width)
        tokens = np.full(shape, self.pad or 0, np.int64)
        targets = np.full(shape, IGNORE, np.int64)
        plain = all(len(row) == 1 for row in rows)
        positions, segments = np.zeros((2, *shape), np.int64)
        for b, row in enumerate(rows):
            place = 0
            for segment, (document, start, stop) in enumerate(row):
                end = place + stop - start
                tokens[b, place:end] = self.store.tokens(document, start, stop)
                following = self.following(document, start, stop)
                targets[b, place : place + len(following)] = following
                if not plain:
                    positions[b, place:end] = np.arange(stop - start)
                    segments[b, place:end] = segment
                place = end
            segments[b, place:] = len(row)  # padding is a segment of its own: nobody sees it
        view = View() if plain else _view(positions, segments, used)
        return Batch(torch.from_numpy(tokens), torch.from_numpy(targets), view)

    def following(self, document: int, start: int, stop: int) -> np.ndarray:
        """What the tokens [start, stop) of a document should say next; one short where the document ends."""
        following = self.store.tokens(document, start + 1, stop + 1)
        teaches = self.store.teaches(document, start + 1, stop + 1)
        return following if teaches is None else np.where(teaches, following.astype(np.int64), IGNORE)


def _view(positions: np.ndarray, segments: np.ndarray, used: list[int]) -> View:
    width = positions.shape[1]
    keep = None if min(used) == width else torch.from_numpy(np.arange(width) < np.array(used)[:, None])
    return View(torch.from_numpy(positions), torch.from_numpy(segments), keep)
