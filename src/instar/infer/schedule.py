"""Who is read in the next step: of all requests those that there is room for, in the order in which they came.

Answers go on first, one token each, then prompts are read, in chunks, as far as the step has room for tokens. Where an
answer finds no block to go on in, whoever came last gives up its own and is computed again later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..config import InputError
from ..model.pages import Pages, blocks_of
from ..model.pool import BLOCK, Pool
from .request import Beam, Request


@dataclass(frozen=True)
class Work:
    """One step. speaking: requests that go on, each by its last token and its draft; searching: those that do with
    beams; reading: those whose text is read, and how many tokens of it; ending: of each of these, whether nothing of
    its text is left then."""

    speaking: list[Request]
    searching: list[Request]
    reading: list[tuple[Request, int]]
    ending: list[bool]

    def __bool__(self) -> bool:
        return bool(self.speaking or self.searching or self.reading)

    @property
    def requests(self) -> list[Request]:
        """All that is in it."""
        return [*self.speaking, *self.searching, *(request for request, _ in self.reading)]

    @property
    def beams(self) -> list[Beam]:
        """The beams of all searches."""
        return [beam for request in self.searching for beam in request.beams]

    @property
    def rows(self) -> np.ndarray:
        """The rows that are read: of those that speak, of beams, of texts."""
        beams = np.array([beam.row for beam in self.beams], dtype=np.int64)
        return np.concatenate((rows_of(self.speaking), beams, rows_of([request for request, _ in self.reading])))

    @property
    def ended(self) -> list[Request]:
        """Those whose text was read to its end."""
        return [request for (request, _), ends in zip(self.reading, self.ending) if ends]

    @property
    def speakers(self) -> list[Request]:
        """Who says something at the end of it: those that go on, then those whose text was read to its end."""
        return [*self.speaking, *(request for request in self.ended if not request.width)]

    @property
    def adapters(self) -> list[str | None]:
        """What each of its rows heeds."""
        found = [request.adapter for request in self.speaking]
        found += [request.adapter for request in self.searching for _ in request.beams]
        return found + [request.adapter for request, _ in self.reading]

    def answers(self) -> tuple[list[int], list[tuple[Request, list[int]]]]:
        """Of the logits, one for each token of those that speak, each beam and each text that ended: which are of
        those that say a token, and with each search, which are of its beams. Beams begin alike."""
        at = sum(1 + len(request.draft) for request in self.speaking)
        plain, searches = list(range(at)), []
        for request in self.searching:
            searches.append((request, list(range(at, at + request.width))))
            at += request.width
        for place, request in enumerate(self.ended, at):
            if request.width:
                searches.append((request, [place] * request.width))
            else:
                plain.append(place)
        return plain, searches


class Schedule:
    """The requests of an engine, and the rows of its memory."""

    def __init__(self, pages: Pages, chunk: int) -> None:
        """chunk: tokens of one step, where there are that many."""
        self.pages, self.chunk = pages, chunk
        self.waiting: deque[Request] = deque()
        self.reading: list[Request] = []  # in the order in which they came
        self.speaking: list[Request] = []  # in the order of rows, so that a full memory is read where it lies
        self.searching: list[Request] = []  # those that go on with beams
        self.begun: list[Request] = []  # whose row is new since the last plan
        self.unread: list[Request] = []  # whose source is to be read
        self.suspects: list[Request] = []  # one of whom a step failed for: each is computed alone, the first now

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.waiting or self.reading or self.speaking or self.searching)

    @property
    def free_rows(self) -> int:
        """Rows that nobody has, nor will have when the beams of a text begin."""
        return self.pages.free_rows - sum(request.width - 1 for request in self.reading if request.width)

    def submit(self, request: Request) -> None:
        """A request waits from now on. Raises InputError for beams that there can never be room for."""
        if request.width > len(self.pages):
            raise InputError(
                f"sampling.beams={request.width}, and this engine runs {len(self.pages)} rows at a time; ask for fewer "
                "beams, or for an engine with more slots"
            )
        for pool in self.pages.pools.values():
            if (wanted := self._wanted(request, pool)) > pool.total and request.width:
                raise InputError(
                    f"{request.width} beams of {request.options.max_new_tokens} tokens behind a prompt of "
                    f"{len(request.prompt)} may take {wanted} blocks, and the KV budget holds {pool.total}; ask for "
                    "fewer beams or tokens, or allow more"
                )
        self.waiting.append(request)

    def plan(self) -> Work:
        """The work of the next step, with room made for it."""
        self.begun, self.unread = [], []
        self.pages.extend([beam.row for request in self.searching for beam in request.beams])
        self._set_aside()
        self._make_room()
        left = self.chunk - sum(1 + len(request.draft) for request in self.speaking)
        left -= sum(request.width for request in self.searching)
        reading: list[tuple[Request, int]] = []
        for request in self.reading:
            left -= self._read_on(request, left, reading)
        if self.reading and not (reading or self.speaking or self.searching):
            self._unblock(reading)  # before others are let in: who is, keeps its row until it was read
            left -= sum(count for _, count in reading)
        while self.waiting and left > 0 and self.free_rows > 0:
            if (next := self._next()) is None:
                break
            self._admit(next)
            left -= self._read_on(next, left, reading)
        ending = [len(r.prompt) + len(r.ids) == self.pages.lengths[r.row] + count for r, count in reading]
        return Work(list(self.speaking), list(self.searching), reading, ending)

    def kept(self, requests: Sequence[Request], counts: Sequence[int]) -> None:
        """Rows hold so many tokens more."""
        if not requests:
            return
        by_row = {request.row: request for request in requests}
        for row in self.pages.advance(rows_of(requests), np.array(counts)).tolist():
            self.pages.fill(row, by_row[row].text)

    def spoken(self, work: Work) -> None:
        """What was read to its end goes on speaking, where it has not finished."""
        if over := set(work.ended):
            self.reading = [request for request in self.reading if request not in over]
            more = [request for request in work.ended if request.finish is None]
            self.searching += [request for request in more if request.width]
            alone = [request for request in more if not request.width]
            self.speaking = sorted([*self.speaking, *alone], key=lambda request: request.row)
        if self.suspects and self.suspects[0] in self.speaking:
            self._acquit()

    def suspect(self, requests: Iterable[Request]) -> None:
        """A step failed for one of these, and nobody has a row now: each is to be computed alone until it has said a
        token, or where it searches until it is decided. Those that came last go first."""
        self.suspects = sorted(requests, key=lambda request: request.number, reverse=True)

    def _acquit(self) -> None:
        """The step does not fail for the first of them. It makes way for the next, and most of what it computed stays
        known."""
        request = self.suspects.pop(0)
        if self.suspects:
            self._preempt(request)

    def leave(self, request: Request) -> None:
        """A request is done with, wherever it stands."""
        self._withdraw(request)
        if request in self.suspects:
            self.suspects.remove(request)

    def _withdraw(self, request: Request) -> None:
        """A request stands nowhere, and what it had is free."""
        for group in (self.waiting, self.reading, self.speaking, self.searching, self.begun, self.unread):
            if request in group:
                group.remove(request)
        if request.row >= 0:
            for row in [beam.row for beam in request.beams] or [request.row]:
                self.pages.close(row)
            request.row, request.beams = -1, []
        if request.width:
            self._set_aside()

    def _set_aside(self) -> None:
        """What beams may still need is kept free for them, since they are not computed again: their answers' blocks,
        which are known to nobody else, and so come back to them when a beam gives them up."""
        reading = [request for request in self.reading if request.width]
        beams = [(beam.row, len(r.prompt) // BLOCK) for r in self.searching for beam in r.beams]
        for pool in self.pages.pools.values():
            pool.owed = sum(_beyond(request, pool) for request in (*reading, *self.searching))
            if beams:
                rows, starts = np.array(beams, dtype=np.int64).T
                pool.owed += sum(_begun(request) for request in self.searching) - pool.held(rows, starts)

    def clear(self) -> None:
        """Everyone gives up their rows, and is computed again: of what is in the memory nothing is to be trusted."""
        for request in [*self.speaking, *self.reading, *self.searching]:
            self._preempt(request)
        self.pages.clear()

    def _make_room(self) -> None:
        """Every answer can go on by its next token, or has given up its row."""
        rows = np.array([request.row for request in self.speaking], dtype=np.int64)
        counts = np.array([1 + len(request.draft) for request in self.speaking], dtype=np.int64)
        if not len(rows):
            return
        cramped = set(self.pages.cramped(rows, counts).tolist())
        for request in sorted((r for r in self.speaking if r.row in cramped), key=lambda r: r.number):
            while request.row >= 0 and not self._extend(request):
                self._preempt(self._last())

    def _extend(self, request: Request) -> bool:
        """Make room for the next token, with its draft where there is room for that too."""
        length = int(self.pages.lengths[request.row])
        if self.pages.grow(request.row, length + 1 + len(request.draft)):
            return True
        request.draft = []
        return self.pages.grow(request.row, length + 1)

    def _last(self) -> Request:
        """Whoever came last of those who have a row."""
        return max((*self.speaking, *self.reading), key=lambda request: request.number)

    def _preempt(self, request: Request) -> None:
        """A request gives up its row, and waits before all others to be computed again."""
        self._withdraw(request)
        request.preempted += 1
        request.draft = []
        place = next((n for n, other in enumerate(self.waiting) if other.number > request.number), len(self.waiting))
        self.waiting.insert(place, request)

    def _read_on(self, request: Request, left: int, reading: list[tuple[Request, int]]) -> int:
        """Plan as much of a text as there is room for -> how many tokens."""
        length = int(self.pages.lengths[request.row])
        count = min(len(request.prompt) + len(request.ids) - length, left)
        if count <= 0 or not self.pages.grow(request.row, length + count):
            return 0
        reading.append((request, count))
        return count

    def _unblock(self, reading: list[tuple[Request, int]]) -> None:
        """Texts hold all the memory and none can be read on: those that came last give theirs up."""
        first = min(self.reading, key=lambda request: request.number)
        while not self._read_on(first, self.chunk, reading):
            self._preempt(self._last())

    def _next(self) -> Request | None:
        """The first that waits and can begin. One whose beginning is being computed for another waits for that; nobody
        overtakes one that only lacks room."""
        for request in self.waiting if not self.suspects else [r for r in self.suspects[:1] if r.row < 0]:
            text = request.text
            known, coming = self.pages.match(text, self._root(request))
            if coming:
                continue
            if self.free_rows < request.width or not self._has_room(request, known // BLOCK):
                return None
            lacks = request.source and not self.pages.source_fits(request.source, request.root)
            return None if lacks else request
        return None

    def _has_room(self, request: Request, known: int) -> bool:
        """Whether there is room for a text of which so many blocks are known, and for a block more of everyone: who is
        let in should not be thrown out at once."""
        if self.pages.ample and not request.width:
            return True
        crowd = 0 if self.pages.ample else len(self.speaking) + len(self.reading)
        for pool in self.pages.pools.values():
            if pool.owed or request.width:  # to use what is known takes it from what is free
                wanted = self._wanted(request, pool)
            elif pool.window:
                continue
            else:
                wanted = blocks_of(len(request.text)) - known
            if wanted + crowd > pool.room:
                return False
        return True

    def _wanted(self, request: Request, pool: Pool) -> int:
        """How many blocks a text may take at once, with those that its beams are owed."""
        return min(blocks_of(len(request.text)), self.pages.needs[pool.window]) + _beyond(request, pool)

    def _admit(self, request: Request) -> None:
        self.waiting.remove(request)
        request.row, known = self.pages.open(request.text, self._root(request))
        if not request.preempted:
            request.cached = known
        if request.source and not self.pages.attend_to(request.row, request.source, request.root):
            self.unread.append(request)
        self.reading.append(request)
        self.begun.append(request)
        if request.width:
            self._set_aside()

    def _root(self, request: Request) -> bytes:
        """What the keys of a text depend on besides itself."""
        return self.pages.root_of(request.source, request.root) if request.source else request.root


def _beyond(request: Request, pool: Pool) -> int:
    """How many blocks the beams of a request take at most, beyond those of its prompt: each goes on in blocks of its
    own, the first of which may begin with the end of the prompt."""
    first, end = len(request.prompt) // BLOCK, blocks_of(len(request.prompt) + request.options.max_new_tokens - 1)
    each = min(end - first, blocks_of(pool.window) + 1) if pool.window else end - first
    return request.width and request.width * each - _begun(request)


def _begun(request: Request) -> int:
    """Whether the last block of the prompt has room for more, 0 or 1."""
    return int(len(request.prompt) % BLOCK > 0)


def rows_of(requests: Sequence[Request]) -> np.ndarray:
    """The rows of some requests."""
    return np.array([request.row for request in requests], dtype=np.int64)
