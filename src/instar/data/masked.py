"""Rows of pieces -> Batch for a masked model: it sees the text with holes and restores what stood there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..batch import IGNORE, Batch
from ..config import InputError
from ..text.words import Words
from .collate import fill, view_of, width_of
from .loader import Place
from .noise import RATE, check_rate, choose, corrupt, generator
from .packing import Row
from .shards import TokenStore


@dataclass(frozen=True)
class MaskedCollate:
    """rows, places -> Batch of tokens (B, T) and targets (B, T), which hold the original id at the chosen places,
    whatever stands there now, and IGNORE elsewhere.

    Chosen is a share of `rate` of the tokens (more than BERT's 0.15, as Wettig et al. 2023 advise,
    https://arxiv.org/abs/2202.08005), word by word unless `whole_words` is false, never a control token, never padding.
    A row has other holes each time it is seen, drawn from the seed and its place in the sequence; with `static` always
    the same, drawn from the seed and the row. Raises InputError for a rate outside (0, 1), or without a mask.
    """

    store: TokenStore
    context: int
    words: Words
    mask: int | None
    pad: int | None = None
    seed: int = 0
    rate: float = RATE
    static: bool = False
    whole_words: bool = True
    whole: bool = False

    wants_places: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_rate(self.rate)
        if self.mask is None:
            raise InputError("this tokenizer has no mask token; train one with --masks, or choose another objective")

    def __call__(self, rows: Sequence[Row], places: Sequence[Place]) -> Batch:
        pieces = [[self.store.tokens(*piece) for piece in row] for row in rows]
        width = width_of(pieces, self.context, self.whole)
        noisy = [self.noisy(row, place) for row, place in zip(pieces, places, strict=True)]
        seen, wanted = ([[row[side]] for row in noisy] for side in (0, 1))
        return Batch(fill(seen, width, self.pad or 0), fill(wanted, width, IGNORE), view_of(pieces, width))

    def noisy(self, row: Sequence[np.ndarray], place: Place) -> tuple[np.ndarray, np.ndarray]:
        """The pieces of a row -> what the model sees of them end to end (T,), and what it should say (T,)."""
        ids = np.concatenate(row).astype(np.int64)
        draws = generator(self.seed, place.row if self.static else place.number)
        chosen = choose(self._numbers(ids, row), ~self.words.control[ids], self.rate, draws)
        assert self.mask is not None
        return corrupt(ids, chosen, self.mask, self.words.ordinary, draws), np.where(chosen, ids, IGNORE)

    def _numbers(self, ids: np.ndarray, row: Sequence[np.ndarray]) -> np.ndarray:
        """The word of each token: no word reaches from one piece into the next."""
        if not self.whole_words:
            return np.arange(len(ids))
        fresh = np.zeros(len(ids), bool)
        fresh[np.cumsum([0, *map(len, row[:-1])])] = True
        return self.words.numbers(ids, fresh)
