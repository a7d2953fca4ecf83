"""What the routes of the server share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from ..config.options import ServeOptions
from ..text.tokenizer import Tokenizer
from .desk import Desk, stopping
from .failure import Refusal, bad, no_such_model
from .metrics import Metrics
from .render import Renderer
from .rounds import Rounds
from .sse import dumps, dumps_in_parts
from .wire import Facts

T = TypeVar("T")
THREADS = 4  # that split texts into tokens, and write answers
MANY = 1000  # entries of an answer that are written on the event loop at most
COMPOSED = 3  # by how much NFC shortens a text at most: Hangul of three letters, of three bytes each as is the whole
UTF8 = {bytes([byte]) for byte in range(256) if byte not in (0xC0, 0xC1) and byte < 0xF5}  # of which texts are made


@dataclass(frozen=True)
class Card:
    """One name that requests may ask for. adapter: "" is the bare base; created: when its folder was written, in
    seconds; parent: the name of its base."""

    name: str
    adapter: str
    created: int
    parent: str | None = None


@dataclass
class Service:
    """models: by the names that requests use; a name is a key of this mapping and never a path."""

    options: ServeOptions
    tokenizer: Tokenizer
    models: Mapping[str, Card]
    facts: Facts
    desk: Desk
    renderer: Renderer
    metrics: Metrics
    threads: ThreadPoolExecutor
    draining: bool = False
    _rounds: Rounds = field(init=False, repr=False)
    _entered: int = field(default=0, init=False)
    _left: asyncio.Event = field(default_factory=asyncio.Event, init=False, repr=False)

    def __post_init__(self) -> None:
        # one thread is left for answers
        self._rounds = Rounds(THREADS - 1, waiting_of(self.options, self.facts), self.options.queue_seconds)

    @property
    def fingerprint(self) -> str:
        """OpenAI's system_fingerprint: which weights answered."""
        return f"fp_{self.facts.fingerprint[:12]}"

    def card(self, name: str) -> Card:
        """Raises Refusal (404) for a name that there is not."""
        if name not in self.models:
            raise no_such_model(", ".join(self.models))
        return self.models[name]

    async def in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        """Work for an answer that would hold up the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, work, *arguments)

    async def written(self, value: Mapping[str, Any], entries: int) -> Response:
        """An answer in one piece. entries: tokens and their alternatives in it; where they are many, it is written in a
        thread."""
        said = dumps(value) if entries <= MANY else await self.in_thread(dumps_in_parts, value)
        return Response(said, media_type="application/json")

    async def in_turn(self, client: str, work: Callable[..., T], *arguments: Any) -> T:
        """Work for a request that would hold up the event loop, as the splitting of a long text into tokens; clients
        take turns. Raises Refusal as Rounds.run does."""
        return await self._rounds.run(client, self.threads, partial(work, *arguments))

    @cached_property
    def most_bytes(self) -> int | None:
        """Bytes that a text of as many tokens as the model reads can have at most, blanks aside; None where that is not
        known, since a token may stand for a text of any length."""
        normalizer = self.tokenizer.vocabulary.spec.get("normalizer")
        said = {self.tokenizer.token_bytes(id) for id in range(self.tokenizer.vocab_size)}
        if (normalizer and normalizer["type"] != "NFC") or not said >= UTF8:
            return None
        return self.facts.context * max(map(len, said)) * (COMPOSED if normalizer else 1)

    def check_fits(self, texts: Sequence[str], param: str) -> None:
        """Refuse (400) texts that cannot be few enough tokens, before any of them is read."""
        most = self.most_bytes
        if most is None or sum(map(len, texts)) * 4 <= most:
            return
        # a template may leave out blanks around a text, and a control token those beside it
        if sum(len("".join(text.split()).encode()) for text in texts) > most:
            raise bad(
                f"This model reads {self.facts.context} tokens at most, and so much text cannot be that few. Shorten "
                "it.", param, "context_length_exceeded",
            )  # fmt: skip

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """While it holds, a request is on its way that `drain` waits for, though the desk may not know of it yet.
        Raises Refusal (503) where the server drains."""
        if self.draining:
            raise stopping()
        self._entered += 1
        try:
            yield
        finally:
            self._entered -= 1
            if not self._entered:
                self._left.set()

    async def drain(self, seconds: float) -> int:
        """Take no more requests, wait for those there are, then fail the rest with 503 -> how many those were. Where it
        is cancelled the rest fail at once."""
        loop = asyncio.get_running_loop()
        self.draining, end = True, loop.time() + seconds
        with contextlib.suppress(TimeoutError):
            try:
                async with asyncio.timeout_at(end):
                    while self._entered:
                        self._left.clear()
                        await self._left.wait()
            except asyncio.CancelledError:
                await self.desk.drain(0)
                raise
        return await self.desk.drain(max(0.0, end - loop.time()))


def waiting_of(options: ServeOptions, facts: Facts) -> int:
    """Requests that may wait to be read: as many as may wait for an engine, and no fewer than it has rows."""
    return max(options.queue, facts.slots)


def service_of(request: Request) -> Service:
    """Raises Refusal (503) until everything is loaded."""
    service = getattr(request.app.state, "service", None)
    if service is None:
        raise Refusal(503, "The model is being loaded.", code="loading", headers={"Retry-After": "5"})
    return service


def client_of(request: Request) -> str:
    """Who asks, as the gate found out: fair shares and shared keys of prompts are told apart by it."""
    return request.scope.get("instar.client", "anonymous")
