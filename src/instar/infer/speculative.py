"""Speculation: tokens guessed cheaply, which the model then reads all at once instead of one by one.

A proposer guesses; the engine reads the guesses behind the text and keeps those that its ordinary sampler would have
chosen there, so nothing here can change an answer. It can only waste time, and each request's pace sees to that: long
guesses where they come true, short ones where they do not, none where they do not pay.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import islice
from typing import Protocol

from ..config import InputError
from .pace import Paces
from .request import Request


class Proposer(Protocol):
    """Whatever guesses how answers go on."""

    def propose(self, requests: Sequence[Request], most: int) -> list[list[int]]:
        """Guesses of at most `most` tokens for each request, empty where there is none."""
        ...

    def told(self, request: Request, drafted: int, accepted: int) -> None:
        """So many tokens of a request's guess were read, and so many of them came true."""
        ...

    def forget(self, request: Request) -> None:
        """The request has ended."""
        ...


class NGram:
    """Guesses that a text goes on as it did before: what followed the last few tokens where they last stood (prompt
    lookup, Saxena 2023; LLMA, Yang et al. 2023). Nothing to load, and good for answers that quote their prompt."""

    def __init__(
        self,
        *,
        least: int = 2,
        longest: int = 4,
        most: int = 16,
        rows: int = 16,
        trial: float = 0.2,
        sources: bool = False,
    ) -> None:
        """least, longest: of the last tokens, how many must have stood there; most: tokens of one guess; rows, trial:
        as in Paces; sources: look in an encoder-decoder's source too, which must then have the answer's vocabulary."""
        if not 1 <= least <= longest:
            raise InputError(f"least={least} and longest={longest}, wanted 1 <= least <= longest")
        self.least, self.longest, self.sources = least, longest, sources
        self.paces = Paces(most, rows, trial)
        self._indexes: dict[Request, Index] = {}

    def propose(self, requests: Sequence[Request], most: int) -> list[list[int]]:
        """See Proposer."""
        lengths = self.paces.next(requests, most)
        return [self._guess(request, length) if length > 0 else [] for request, length in zip(requests, lengths)]

    def _guess(self, request: Request, length: int) -> list[int]:
        index = self._indexes.get(request)
        if index is None:
            index = self._indexes[request] = Index(self.least, self.longest)
            index.extend(request.source if self.sources else [])
            index.extend(request.prompt)
            index.asked = len(index.ids)
        index.extend(request.ids[len(index.ids) - index.asked :])
        # after failures only the surest sign will do: chance alone repeats two tokens often, and four rarely
        guess = index.find(length, self.longest if self.paces[request].doubtful else self.least)
        return before_stop(guess, request.stops)

    def told(self, request: Request, drafted: int, accepted: int) -> None:
        """See Proposer."""
        self.paces.told(request, drafted, accepted)

    def forget(self, request: Request) -> None:
        """See Proposer."""
        self.paces.forget(request)
        self._indexes.pop(request, None)


class Index:
    """Where each run of `least` to `longest` tokens last stood in a text that grows; a token costs the same whatever
    the text's length."""

    def __init__(self, least: int, longest: int) -> None:
        self.ids: list[int] = []
        self.asked = 0  # tokens that stood there before the answer
        # for each size, the longest first: run -> where the token behind its last occurrence stands
        self._places: dict[int, dict[tuple[int, ...], int]] = {size: {} for size in range(longest, least - 1, -1)}

    def extend(self, ids: Sequence[int]) -> None:
        """The text goes on so."""
        if not ids:
            return
        before = len(self.ids)
        self.ids += ids
        for size, places in self._places.items():
            # the run at the very end has nothing behind it yet: it is entered when there is
            first = max(before, size)
            if len(self.ids) - first == 1:  # the usual step
                places[tuple(self.ids[first - size : first])] = first
            else:
                known = self.ids[first - size : -1]
                runs = zip(*(islice(known, shift, None) for shift in range(size)))
                places.update(zip(runs, range(first, len(self.ids))))

    def find(self, most: int, least: int) -> list[int]:
        """What followed the longest run, of at least `least` tokens, that the text ends with and that stood in it
        before: `most` tokens, or none. Where that run touches the end, its period goes on.
        Example: [1, 2, 3, 4, 1, 2] -> [3, 4, 1, 2, 3, ..]."""
        for size, places in self._places.items():
            if size < least:
                break
            place = places.get(tuple(self.ids[-size:]))
            if place is not None:
                behind = self.ids[place : place + most]
                return (behind * (most // len(behind) + 1))[:most]
        return []


def before_stop(guess: list[int], stops: Collection[int]) -> list[int]:
    """A guess without the token that would end the answer: the step that reads it says that one itself."""
    return next((guess[:place] for place, id in enumerate(guess) if id in stops), guess)
