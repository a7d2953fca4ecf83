"""Preference pairs -> rows -> PreferencePairs. The two answers of a pair share its prompt, which is computed once.

A pair lies in a row as [trunk | chosen | rejected]. The trunk is the prompt without its last token; each branch begins
with that token, which has to say two first tokens, and goes on in the positions after it. A branch sees the trunk and
itself, so each answer is given the probability that it would have in a sequence of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from ..batch import IGNORE, PreferencePairs, View
from .collate import fill, width_of
from .packing import Bins, Row, Rows, best_fit
from .preferences import Preferences


class PreferenceRows(Rows):
    """Rows of whole pairs, best-fit; a piece (pair, 0, tokens) is a pair and how much of the row it takes.

    width: the tokens of a row, `context`, or those of the longest pair where one does not fit that: at most twice as
    much, since a prompt with one answer is never longer than the context. Positions never reach past the context.
    """

    def __init__(self, store: Preferences, context: int, share: bool = True) -> None:
        """share: the answers of a pair share its prompt; False: two sequences that have one each."""
        sizes = pair_sizes(store, share)
        self.width = max(context, int(sizes.max(initial=0)))
        self.bins: Bins = best_fit(sizes, self.width)

    def __len__(self) -> int:
        return len(self.bins)

    def row(self, row: int) -> Row:
        return self.bins.row(row)


def pair_sizes(store: Preferences, share: bool = True) -> np.ndarray:
    """The tokens that each pair takes of a row (N,): with one prompt and its last token once more, or with two."""
    prompts = store.bounds[:, 1] - store.bounds[:, 0]
    return store.lengths + (1 if share else prompts)


class Stretch(NamedTuple):
    """Tokens of a row that stand together: the ids from `said` on are those of an answer, the number of which is
    `answer` (-1: none is)."""

    ids: np.ndarray
    said: int
    position: int
    segment: int
    branch: int
    answer: int

    def targets(self) -> np.ndarray:
        """What each place should say."""
        following = np.full(len(self.ids), IGNORE, np.int64)
        if self.answer >= 0:
            following[self.said - 1 : -1] = self.ids[self.said :]
        return following

    def whose(self) -> np.ndarray:
        """The number of the answer that each target is of."""
        numbers = np.full(len(self.ids), -1, np.int64)
        if self.answer >= 0:
            numbers[self.said - 1 : -1] = self.answer
        return numbers


@dataclass(frozen=True)
class PreferenceCollate:
    """rows of pairs -> PreferencePairs, in which answers 2k and 2k + 1 are chosen and rejected of the k-th pair, row by
    row. T is the longest row rounded up to 16, or with `whole` the width of all rows.

    share: as of the rows. The view has segments always, and branches where answers share a prompt.
    """

    store: Preferences
    width: int
    pad: int | None = None
    share: bool = True
    whole: bool = False

    def __call__(self, rows: Sequence[Row]) -> PreferencePairs:
        laid: list[list[Stretch]] = []
        answers = 0
        for row in rows:
            laid.append(list(self._stretches(row, answers)))
            answers += 2 * len(row)
        ids = [[stretch.ids for stretch in row] for row in laid]
        width = width_of(ids, self.width, self.whole)
        chosen = [piece[0] for row in rows for piece in row]
        return PreferencePairs(
            tokens=fill(ids, width, self.pad or 0),
            targets=fill([[stretch.targets() for stretch in row] for row in laid], width, IGNORE),
            view=self._view(laid, width),
            answer=fill([[stretch.whose() for stretch in row] for row in laid], width, -1),
            last=_last(laid, width),
            margin=_picked(self.store.margins, chosen),
            reference=_picked(self.store.references, chosen),
        )

    def _stretches(self, row: Row, answers: int) -> Iterator[Stretch]:
        """What a row holds, in order; its first answer has the number `answers`."""
        for number, (pair, _, _) in enumerate(row):
            prompt, *said = self.store.pair(pair)
            first = answers + 2 * number
            if self.share:
                trunk, asks = prompt[:-1], prompt[-1:]
                yield Stretch(trunk, len(trunk), 0, number, 0, -1)
                for side, ids in enumerate(said):
                    branch = np.concatenate([asks, ids])
                    yield Stretch(branch, 1, len(trunk), number, 1 + side, first + side)
            else:
                for side, ids in enumerate(said):
                    yield Stretch(np.concatenate([prompt, ids]), len(prompt), 0, 2 * number + side, 0, first + side)

    def _view(self, laid: Sequence[Sequence[Stretch]], width: int) -> View:
        """Padding is a segment of its own; keep is left out where there is none."""
        used = np.array([sum(len(stretch.ids) for stretch in row) for row in laid])
        positions = [[stretch.position + np.arange(len(stretch.ids)) for stretch in row] for row in laid]
        segments = _spread(laid, width, lambda stretch: stretch.segment)
        for line, row, end in zip(segments, laid, used):
            line[end:] = row[-1].segment + 1
        return View(
            positions=fill(positions, width, 0),
            segments=segments,
            keep=None if used.min() == width else torch.from_numpy(np.arange(width) < used[:, None]),
            branches=_spread(laid, width, lambda stretch: stretch.branch) if self.share else None,
        )


def _spread(laid: Sequence[Sequence[Stretch]], width: int, of: Callable[[Stretch], int]) -> torch.Tensor:
    """One number for all tokens of a stretch (B, width), 0 for padding."""
    return fill([[np.full(len(stretch.ids), of(stretch)) for stretch in row] for row in laid], width, 0)


def _last(laid: Sequence[Sequence[Stretch]], width: int) -> torch.Tensor:
    """Where the last token of each answer stands among all places (N,)."""
    places: list[int] = []
    for number, row in enumerate(laid):
        place = number * width
        for stretch in row:
            place += len(stretch.ids)
            if stretch.answer >= 0:
                places.append(place - 1)
    return torch.tensor(places)


def _picked(values: np.ndarray | None, pairs: Sequence[int]) -> torch.Tensor | None:
    """What was given for these pairs, in one row."""
    return None if values is None else torch.from_numpy(values[list(pairs)]).flatten()
