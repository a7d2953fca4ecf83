"""Rows of pieces -> Batch for an encoder-decoder that restores what was taken from a text: span corruption (T5) and
denoising (BART).

Each piece of a row is corrupted by itself and is a segment of its own on both sides, so packed documents do not see
each other. A piece is read as a document, with the begin and end that the tokenizer gives one, also where it was cut;
rows should therefore hold FRAME tokens less than the model can take.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..batch import Batch
from ..config import InputError
from ..text.words import Words
from .loader import Place
from .noise import MEAN, RATE, SPAN_RATE, check_rate, generator, infill, permute, sentinels_needed, spans
from .packing import Row
from .pairs import pair_batch
from .shards import TokenStore

FRAME = 2


@dataclass(frozen=True, kw_only=True)
class _Restore(ABC):
    """rows, places -> Batch: what a model is given back to restore. See `pair_batch` for its parts.

    start: the id that decoding begins with; begin: the id that documents begin with, if any; end: their last. Noise is
    drawn from the seed and a row's place in the sequence. Widths are rounded up to `multiple`.
    """

    store: TokenStore
    start: int
    end: int
    begin: int | None = None
    pad: int | None = None
    seed: int = 0
    multiple: int = 1

    wants_places: ClassVar[bool] = True

    def __call__(self, rows: Sequence[Row], places: Sequence[Place]) -> Batch:
        noisy = [self.noisy(row, place) for row, place in zip(rows, places, strict=True)]
        sources, targets = ([[piece[side] for piece in row] for row in noisy] for side in (0, 1))
        return pair_batch(sources, targets, self.start, self.pad, multiple=self.multiple)

    def noisy(self, row: Sequence[tuple[int, int, int]], place: Place) -> list[tuple[np.ndarray, np.ndarray]]:
        """The source and the target document of each piece of a row."""
        draws = generator(self.seed, place.number)
        return [self._document(self.store.tokens(*piece), draws) for piece in row]

    def _document(self, ids: np.ndarray, draws: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        first = int(len(ids) > 0 and ids[0] == self.begin)
        last = len(ids) - int(len(ids) > first and ids[-1] == self.end)
        source, target = self.corrupted(ids[first:last].astype(np.int64), draws)
        before = [] if self.begin is None else [self.begin]
        source, target = (np.concatenate([before, side, [self.end]]).astype(np.int64) for side in (source, target))
        return source, target

    @abstractmethod
    def corrupted(self, ids: np.ndarray, draws: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The tokens of a text without begin and end -> those of the source and those of the target."""


@dataclass(frozen=True, kw_only=True)
class SpanCollate(_Restore):
    """Span corruption: `noise.spans` says what becomes of a text. longest: tokens of the longest row.

    Raises InputError for a rate outside (0, 1), or where the tokenizer has too few sentinels for the longest row.
    """

    sentinels: Sequence[int]
    longest: int
    rate: float = SPAN_RATE
    mean: float = MEAN

    def __post_init__(self) -> None:
        check_rate(self.rate, self.mean)
        needed = sentinels_needed(self.longest, self.rate, self.mean)
        if needed > len(self.sentinels):
            raise InputError(
                f"rows of {self.longest} tokens take {needed} sentinels, and the tokenizer has {len(self.sentinels)}; "
                f"train one with --sentinels {needed}, or shorten the context"
            )

    def corrupted(self, ids: np.ndarray, draws: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return spans(ids, self.sentinels, self.rate, self.mean, draws)


@dataclass(frozen=True, kw_only=True)
class DenoiseCollate(_Restore):
    """Denoising: sentences in another order where `permuted`, then spans under one mask each; the target is the text.

    Raises InputError for a rate outside (0, 1) or a tokenizer without a mask.
    """

    words: Words
    mask: int | None
    rate: float = RATE
    mean: float = MEAN
    permuted: bool = True

    def __post_init__(self) -> None:
        check_rate(self.rate, self.mean)
        if self.mask is None:
            raise InputError("this tokenizer has no mask token; train one with --masks, or choose another objective")

    def corrupted(self, ids: np.ndarray, draws: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        assert self.mask is not None
        moved = permute(ids, self.words.sentence_ends(ids), draws) if self.permuted else ids
        return infill(moved, self.mask, self.rate, self.mean, draws), ids
