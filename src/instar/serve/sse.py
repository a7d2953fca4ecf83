"""Server-sent events (WHATWG HTML, section 9.2) as OpenAI sends them, and whether anybody still listens."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .failure import Refusal, broken
from .log import place

T = TypeVar("T")
log = logging.getLogger("instar.serve")
PING = 15.0  # seconds without an event after which a comment keeps the connection from being taken for dead
STALLED = 30.0  # seconds that one event may take to be sent
DONE = "[DONE]"
DEEP = 4  # of an answer: itself, its choices, one of them, and its logprobs
BLOCK = 256  # items of a list that are written at a time
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode
_LINES = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}  # JSON itself escapes all others


def dumps(value: Mapping[str, Any]) -> str:
    """JSON in one line, also for readers that split at U+0085, U+2028 and U+2029. Raises ValueError for NaN."""
    said = _encode(value)
    return said if said.isascii() else said.translate(_LINES)


def dumps_in_parts(value: Mapping[str, Any]) -> str:
    """The same of a large answer, for a thread: Python's encoder lets no other thread run until it is done, so that it
    is given a little at a time."""
    said = "".join(_parts(value, DEEP))
    return said if said.isascii() else said.translate(_LINES)


def _parts(value: Any, deep: int) -> Iterator[str]:
    """deep: levels of objects that are taken apart; what is within them is small, and large lists of it are not."""
    if isinstance(value, Mapping) and deep:
        yield "{"
        for number, (key, inner) in enumerate(value.items()):
            yield f"{',' * bool(number)}{_encode(key)}:"
            yield from _parts(inner, deep - 1)
        yield "}"
    elif isinstance(value, list):
        yield "["
        apart = deep and value and isinstance(value[0], Mapping)
        for start in range(0, len(value), 1 if apart else BLOCK):
            yield "," * bool(start)
            if apart:
                yield from _parts(value[start], deep - 1)
            else:
                yield _encode(value[start : start + BLOCK])[1:-1]
        yield "]"
    else:
        yield _encode(value)


class EventStream(Response):
    """An answer in events. Where it fails on its way its last event is an error, never a silent end; where the client
    leaves, or reads nothing for half a minute, it ends at once."""

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncGenerator[Any],
        closed: Callable[[], None] = lambda: None,
        *,
        ping: float = PING,
        stalled: float = STALLED,
    ) -> None:
        """events: objects, or texts that are sent as they are, or what `written` knows; closed: called once, however
        it ends."""
        self.events, self.closed, self.ping, self.stalled = events, closed, ping, stalled
        self.status_code, self.background = 200, None
        self.init_headers({"cache-control": "no-cache", "x-accel-buffering": "no"})
        self._sending = False
        self._sent = 0.0  # when the last event began to be sent, by the loop's clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        speaks = asyncio.create_task(self._speak(send, scope.setdefault("instar.note", {})))
        others = [asyncio.create_task(left(receive)), asyncio.create_task(self._watch(send))]
        try:
            await asyncio.wait([speaks, *others], return_when=asyncio.FIRST_COMPLETED)
            if speaks.done():
                speaks.result()
        finally:
            for task in (speaks, *others):
                task.cancel()
            await asyncio.gather(speaks, *others, return_exceptions=True)
            self.closed()

    async def _speak(self, send: Send, note: dict[str, Any]) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async with aclosing(self.events) as events:
                async for event in events:
                    await self._say(send, self.written(event))
        except Refusal as refusal:
            note["error"] = refusal.code or refusal.kind
            await self._say(send, f"data: {dumps(refusal.body)}\n\n")
        except Exception as error:  # the status has been sent: all that can be done is to say that it failed
            note["error"] = "internal_error"
            log.error("a stream failed: %s", place(error))
            await self._say(send, f"data: {dumps(broken().body)}\n\n")
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def written(self, event: Any) -> str:
        """An event as it is sent."""
        return f"data: {event if isinstance(event, str) else dumps(event)}\n\n"

    async def _say(self, send: Send, text: str) -> None:
        self._sending, self._sent = True, asyncio.get_running_loop().time()
        await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
        self._sending = False

    async def _watch(self, send: Send) -> None:
        """Say that we are still there where there is nothing else to say; ends where the client does not read."""
        loop = asyncio.get_running_loop()
        self._sent = loop.time()
        while True:
            limit = self.stalled if self._sending else self.ping
            wait = self._sent + limit - loop.time()
            if wait > 0:
                await asyncio.sleep(min(wait, self.ping))
            elif self._sending:
                return
            else:
                self._sent = loop.time()
                try:
                    async with asyncio.timeout(self.stalled):
                        await send({"type": "http.response.body", "body": b": still here\n\n", "more_body": True})
                except TimeoutError:
                    return


async def left(receive: Receive) -> None:
    """Wait until the client has left. All of its body has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What the work gives. Where the client leaves before, the work is cancelled: Refusal (499), of which nobody hears
    but the log."""
    working, leaving = asyncio.create_task(work), asyncio.create_task(left(request.receive))
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Refusal(499, "The client has left.", code="cancelled")
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
