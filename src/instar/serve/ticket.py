"""One answer on its way: what the desk gives to whoever asked."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Literal

from .failure import Refusal
from .wire import Ask, Embed, Score

Finish = Literal["stop", "length"]
BACKLOG = 2**20  # bytes that wait for a reader at most, about
TOKEN_BYTES = 256  # of a token that waits, and of the event that tells it
ALTERNATIVE_BYTES = 128  # of each alternative that is told with it


@dataclass(frozen=True, slots=True)
class Token:
    """A token was said, or the answer ended, or both. id is None where a stop ended it; alternatives: likeliest ids
    with their log-probabilities, where asked for."""

    id: int | None
    logprob: float
    finish: Finish | None
    alternatives: list[tuple[int, float]] | None = None


@dataclass
class Backlog:
    """Bytes that wait for one reader, of all the answers that it reads."""

    bytes: int = 0


class Errand:
    """A piece of work for an engine, from the queue to its end. message: what the engine is asked; kind: of request,
    for the counters; tokens: read for it; engine: who does it, None while it waits; asked, begun, said: when it came,
    when it had its turn, and when its last token came, by the loop's clock; over: whether it has ended; request, parts:
    the id of the first errand of the same request, and how many errands that has; reads: it takes no row of an engine's
    answers."""

    reads = False

    def __init__(self, message: Ask | Embed | Score, client: str, kind: str, tokens: int) -> None:
        self.message, self.client, self.kind, self.tokens = message, client, kind, tokens
        self.id = self.request = message.id
        self.parts = 1
        self.engine: int | None = None
        self.asked = self.begun = self.said = 0.0
        self.count = self.cached = 0
        self.timer: asyncio.TimerHandle | None = None
        self.over = False

    def fail(self, refusal: Refusal) -> None:
        """It ends without what was asked for: whoever waits is told so."""
        raise AssertionError  # each kind of errand says how


class Reply(Errand):
    """Work whose answer is one message."""

    reads = True

    def __init__(self, message: Embed | Score, client: str, kind: str, tokens: int) -> None:
        super().__init__(message, client, kind, tokens)
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def fail(self, refusal: Refusal) -> None:
        if not self.answer.done():
            self.answer.set_exception(refusal)


class Ticket(Errand):
    """Iterate over its tokens; the last one has a finish. ask: what was asked; backlog: what waits for its reader;
    cached: tokens of the prompt whose keys were known, from the first token on; count: tokens said so far."""

    def __init__(
        self, ask: Ask, client: str, kind: str = "chat", leave: Callable[[Ticket, str], None] | None = None
    ) -> None:
        """leave: what to do where nobody waits any more, and how that is to be counted."""
        super().__init__(ask, client, kind, len(ask.prompt) + len(ask.source or ()))
        self.ask = ask
        self._leave = leave
        self._tokens: deque[Token] = deque()
        self._failure: Refusal | None = None
        self._news = asyncio.Event()
        self._read, self._early, self._bytes = False, 0, 0
        self.backlog = Backlog()  # the answers to one request share one

    async def first(self) -> None:
        """Wait until there is a first token. Raises Refusal: 400 where the engine refuses the request, 504 where its
        time ran out, 503 where the engine died or the server stops, 500 where it failed."""
        while not self._tokens:
            if self._failure is not None:
                raise self._failure
            if self.over:
                return
            self._news.clear()
            await self._news.wait()

    def __aiter__(self) -> AsyncIterator[Token]:
        """Raises Refusal as `first` does. To give up waiting for a token loses none of them."""
        if not self._read:
            self._read, self._early = True, len(self._tokens)
        return self

    async def __anext__(self) -> Token:
        await self.first()
        if not self._tokens:
            raise StopAsyncIteration
        token = self._tokens.popleft()
        if self._early:
            self._early -= 1
        else:
            self._count(-size_of(token))
        return token

    def cancel(self) -> None:
        """Nobody waits for it any more; its row is free within a step. Harmless where it has ended."""
        if self._leave is not None and not self.over:
            self._leave(self, "aborted")

    def enough(self) -> None:
        """The answer is complete as it stands, at a text that ends it: as `cancel`, but it counts as finished."""
        if self._leave is not None and not self.over:
            self._leave(self, "finished")

    def say(self, token: Token) -> bool:
        """A token has come -> whether its reader keeps up. An answer that nobody has begun to read, as the second of
        two that are read one after the other, may grow as long as it was asked to be."""
        self._tokens.append(token)
        if self._read:
            self._count(size_of(token))
        self._news.set()
        return self.backlog.bytes <= BACKLOG

    def _count(self, size: int) -> None:
        self._bytes += size
        self.backlog.bytes += size

    def fail(self, refusal: Refusal) -> None:
        """What was said before can still be read, then comes the refusal."""
        self._failure = refusal
        self._news.set()

    def forget(self) -> None:
        """What waits to be read is not wanted any more."""
        self._tokens.clear()
        self._count(-self._bytes)
        self._early = 0


def size_of(token: Token) -> int:
    """Bytes that a token takes while it waits, about."""
    return TOKEN_BYTES + ALTERNATIVE_BYTES * len(token.alternatives or ())
