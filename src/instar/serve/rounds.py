"""Work before the desk: conversations that are rendered and texts that are split into tokens wait here for a thread.

Clients have their turns one after the other (round robin), whatever each of them brought: it is not known yet how many
tokens their requests are.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from .failure import busy, late

T = TypeVar("T")
RETRY = 2  # seconds; what is done here takes moments


class Rounds:
    """Give it work from one event loop. waiting: pieces of work that wait for their turn.

    Whoever is cancelled while it waits is woken only later in the loop's round: until then its turn stands in the line,
    is over, and can be told nothing.
    """

    def __init__(self, places: int, most: int, seconds: float) -> None:
        """places: pieces of work that are done at a time; most: that wait; seconds: for one piece, its wait
        included."""
        self.most, self.seconds = most, seconds
        self._free = places
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def waiting(self) -> int:
        return sum(map(len, self._lines.values()))

    async def run(self, client: str, threads: Executor, work: Callable[[], T]) -> T:
        """What the work gives, done in a thread. Raises Refusal: 429 where too many wait, 504 where it took too long.
        A thread cannot be stopped: its place is free once the work has ended, whoever still waits for it."""
        try:
            async with asyncio.timeout(self.seconds):
                await self._turn(client)
                try:
                    doing = asyncio.get_running_loop().run_in_executor(threads, work)
                except RuntimeError:  # the threads have ended
                    self._leave()
                    raise
                doing.add_done_callback(self._done)
                return await asyncio.shield(doing)
        except TimeoutError:
            raise late("waiting to be read", self.seconds) from None

    async def _turn(self, client: str) -> None:
        if self._free and not self._lines:
            self._free -= 1
            return
        if self.waiting >= self.most:
            self._make_room(client)
        turn = asyncio.get_running_loop().create_future()
        self._lines.setdefault(client, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._leave()  # it had its turn in the same moment
            else:
                self._forget(client, turn)
            raise

    def _make_room(self, client: str) -> None:
        """Whoever has most gives up its newest for a client that has less, as at the desk; else the client is told to
        come again."""
        longest = max(self._lines, key=lambda other: len(self._lines[other]), default=client)
        if longest == client or len(self._lines[longest]) <= len(self._lines.get(client, ())) + 1:
            raise busy(RETRY)
        turn = self._lines[longest][-1]
        self._forget(longest, turn)
        if not turn.done():  # else whoever it was has just left, which makes as much room
            turn.set_exception(busy(RETRY))

    def _forget(self, client: str, turn: asyncio.Future[None]) -> None:
        line = self._lines.get(client, deque())
        if turn in line:
            line.remove(turn)
            if not line:
                del self._lines[client]

    def _leave(self) -> None:
        """A place is free: the next client that has not left has its turn, and then goes behind the others."""
        while self._lines:
            client, line = next(iter(self._lines.items()))
            turn = line.popleft()
            waits = not turn.done()
            if not line:
                del self._lines[client]
            elif waits:
                self._lines.move_to_end(client)
            if waits:
                turn.set_result(None)
                return
        self._free += 1

    def _done(self, doing: asyncio.Future[T]) -> None:
        if not doing.cancelled():
            doing.exception()  # so that nobody is told of it where whoever asked has left
        self._leave()
