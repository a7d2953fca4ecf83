"""Where requests wait for an engine, and who is next."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import secrets
from base64 import b64decode
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config.options import ServeOptions
from .failure import Refusal, bad, broken, busy, late, unavailable
from .fair import SAID, FairQueue
from .placing import Placing
from .ticket import Errand, Reply, Ticket, Token
from .wire import Ask, Beat, Cancel, Embed, Failed, Message, Refused, Score, Scored, Told, Vectors

if TYPE_CHECKING:
    from .fleet import Fleet
    from .metrics import Metrics

log = logging.getLogger("instar.serve")
SILENCE = 10.0  # seconds without a word from an engine after which it counts as stuck
READINGS = 4  # texts that are read and not answered, at a time in an engine that has answers to give
WINDOW = 60.0  # seconds by which the pace is judged
LONGEST_RETRY = 120  # seconds; OpenAI's client does not wait longer


class Desk:
    """Requests in, tickets out. All of it runs on the event loop.

    An errand waits, runs in one engine, and ends once: finished, failed (refused by the engine, out of time, or a fault
    of ours) or aborted (nobody waits for it). An engine is never asked for more answers at a time than it has rows.
    What it only reads takes no row and is bounded by itself, so that however much that is, no answer waits for it.
    """

    def __init__(self, fleet: Fleet, metrics: Metrics, options: ServeOptions) -> None:
        self.fleet, self.metrics, self.options = fleet, metrics, options
        fleet.desk = self
        self.draining = False
        self._ids = count(1)
        self._queue = FairQueue()
        self._running: dict[int, Errand] = {}
        # errands of each engine: answers, and what is only read
        self._loads: dict[bool, Counter[int]] = {False: Counter(), True: Counter()}
        self._placing = Placing()
        self._pace = Pace()
        self._settled: asyncio.Event | None = None
        self._secret = secrets.token_bytes(32)

    def ask(self, asks: Sequence[Ask], client: str, kind: str = "chat") -> list[Ticket]:
        """Queue the answers to one request, all or none of them; their `id` is filled in here. kind: chat or
        completion. In a full queue whoever has most gives up its newest for a client that has less. Raises Refusal: 429
        where nobody has more, 503 where the server drains or no engine lives, 400 for more answers than there is ever
        room for."""
        tickets = [Ticket(replace(ask, id=next(self._ids)), client, kind, self._left) for ask in asks]
        for ticket in tickets:
            ticket.request, ticket.parts = tickets[0].id, len(tickets)
        self._take(tickets)
        return tickets

    async def embed(self, work: Embed, client: str) -> Any:
        """Vectors -> numpy (N, D), float32. Raises Refusal."""
        tokens = sum(map(len, work.rows))
        found: Vectors = await self._reply(Reply(replace(work, id=next(self._ids)), client, "embedding", tokens))
        return np.frombuffer(b64decode(found.data), dtype="<f4").reshape(-1, found.width)

    async def score(self, work: Score, client: str) -> Scored:
        """Raises Refusal."""
        return await self._reply(Reply(replace(work, id=next(self._ids)), client, "score", len(work.ids)))

    def salt(self, client: str) -> str:
        """Within what a client's prompts share their keys: all that it asked under its key. Where nobody brings a key
        everyone is the same user. Else the time that an answer takes would tell what others have asked
        (CVE-2025-46570)."""
        if not client.startswith("key:"):
            return ""
        return hashlib.sha256(self._secret + client.encode()).hexdigest()

    @property
    def ready(self) -> bool:
        """Whether a request would be taken now: an engine lives, and the server does not drain."""
        return not self.draining and bool(self.fleet.living())

    @property
    def alive(self) -> bool:
        """Whether an engine's loop went round in the last ten seconds."""
        return any(self._silent(engine, math.inf) < SILENCE for engine in self.fleet.living())

    @property
    def waiting(self) -> int:
        """Errands that wait for their turn."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Errands that an engine works at."""
        return len(self._running)

    async def drain(self, seconds: float) -> int:
        """Take no more requests, wait for those there are, then fail the rest with 503 -> how many those were. Where it
        is cancelled the rest fail at once."""
        self.draining = True
        self._settled = self._settled or asyncio.Event()
        self._settle()
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._settled.wait(), seconds)
        finally:
            rest = [*self._queue, *self._running.values()]
            for errand in rest:
                self._drop(errand, "failed", stopping())
        return len(rest)

    def heard(self, engine: int, message: Message) -> None:
        """What an engine says. Of errands that have ended nothing is wanted any more."""
        if isinstance(message, Told):
            now = asyncio.get_running_loop().time()
            for id, token, logprob, finish, alternatives, cached in message.events:
                ticket = self._running.get(id)
                if isinstance(ticket, Ticket):
                    self._say(ticket, now, token, logprob, finish, alternatives, cached)
        elif isinstance(message, Refused):
            if (errand := self._running.get(message.id)) is not None:
                self._end(errand, "failed", bad(message.message, message.param))
        elif isinstance(message, Failed):
            log.error("engine %d failed at a request: %s", engine, message.message)
            if (errand := self._running.get(message.id)) is not None:
                self._end(errand, "failed", broken())
        elif isinstance(message, (Vectors, Scored)):
            reply = self._running.get(message.id)
            if isinstance(reply, Reply):
                if not reply.answer.done():
                    reply.answer.set_result(message)
                self._end(reply, "finished")
        elif isinstance(message, Beat):
            self._pump()  # an engine that was started again has rows to give

    def lost(self, engine: int) -> None:
        """An engine has died: what it worked at fails, and where none is left so does what waits."""
        self._placing.forget(engine)
        gone = [errand for errand in self._running.values() if errand.engine == engine]
        for errand in gone:
            self._end(errand, "failed", dead())
        if not self.fleet.living():
            for errand in list(self._queue):
                self._end(errand, "failed", dead())

    def _take(self, errands: Sequence[Errand]) -> None:
        """Queue errands, all or none, and begin what there is room for."""
        if self.draining:
            raise stopping()
        living = self.fleet.living()
        if not living:
            raise dead()
        self._pump()  # rows may have become free of which nothing was heard yet
        reads = errands[0].reads
        most = self.options.queue + self._most(reads) * len(living)
        if len(errands) > most:
            raise bad(f"{len(errands)} answers were asked for at once, and there is room for {most}; ask for fewer.")
        over = len(self._queue) + self._loads[reads].total() + len(errands) - most
        if over > 0:
            refusal = busy(self._retry_after())
            crowding = self._queue.crowding(errands[0].client, len(errands), over)
            if not crowding:
                raise refusal
            for errand in crowding:
                self._drop(errand, "failed", refusal)
        now = asyncio.get_running_loop().time()
        for errand in errands:
            self.metrics.started(errand.kind)
            errand.asked = now
            self._queue.add(errand)
            self._set_timer(errand, self.options.queue_seconds, "waiting for its turn", self.options.queue_seconds)
        self._pump()

    async def _reply(self, reply: Reply) -> Any:
        self._take([reply])
        try:
            return await reply.answer
        finally:
            if not reply.over:  # whoever asked was cancelled
                self._drop(reply, "aborted", gone())

    def _pump(self) -> None:
        """Give turns as long as an engine has room. One that has said nothing for long gets nothing more: what waits
        goes to the others, or waits until it is heard of."""
        while self._queue:
            free = {reads: self._free(reads) for reads in self._loads}
            errand = self._queue.next([reads for reads, engines in free.items() if engines])
            if errand is None:
                return
            self._begin(errand, self._placing.choose(free[errand.reads], errand.message))

    def _free(self, reads: bool) -> dict[int, int]:
        """The engines that have room for one more, each with how many it works at."""
        loads, most = self._loads[reads], self._most(reads)
        living = self.fleet.living()
        return {engine: loads[engine] for engine in living if loads[engine] < most and self._silent(engine) < SILENCE}

    def _most(self, reads: bool) -> int:
        """How many errands an engine works at."""
        return READINGS if reads and self.fleet.facts.speaks else self.fleet.facts.slots

    def _silent(self, engine: int, unknown: float = 0.0) -> float:
        """Seconds since an engine has said something. unknown: where it has said nothing yet."""
        when = self.fleet.heard_at.get(engine)
        return unknown if when is None else asyncio.get_running_loop().time() - when

    def _begin(self, errand: Errand, engine: int) -> None:
        now = asyncio.get_running_loop().time()
        errand.engine, errand.begun = engine, now
        self._running[errand.id] = errand
        self._loads[errand.reads][engine] += 1
        self._pace.begun(now)
        self.metrics.waited(now - errand.asked)
        first, total = self.options.first_seconds, self.options.total_seconds
        if isinstance(errand, Ticket) and first < total:
            self._set_timer(errand, first, "waiting for its first token", first)
        else:
            self._set_timer(errand, total, "work", total)
        self.fleet.tell(engine, errand.message)

    def _say(
        self,
        ticket: Ticket,
        now: float,
        token: int | None,
        logprob: float,
        finish: str | None,
        alternatives: list[list[Any]] | None,
        cached: int,
    ) -> None:
        """Hand on what a step said of one answer."""
        if finish not in (None, "stop", "length"):  # nobody here has cancelled it
            if finish == "failed":
                log.error("engine %s failed at a request", ticket.engine)
            self._end(ticket, "failed", broken())
            return
        if not ticket.said:
            ticket.cached = cached
            self.metrics.first(now - ticket.asked)
            total = self.options.total_seconds
            self._set_timer(ticket, ticket.begun + total - now, "work", total)
        elif token is not None:
            self.metrics.gap(now - ticket.said)
        ticket.said = now
        if token is not None:
            ticket.count += 1
            self._queue.charge(ticket.client, SAID)
        told = None if alternatives is None else [(int(id), chance) for id, chance in alternatives]
        if finish is not None:
            self._end(ticket, "finished")
        if not ticket.say(Token(token, logprob, finish, told)) and finish is None:  # type: ignore[arg-type]
            self._drop(ticket, "aborted", gone())
            ticket.forget()

    def _left(self, ticket: Ticket, how: str) -> None:
        """Nobody waits for more of an answer: it is complete as it stands (finished), or was given up (aborted)."""
        self._drop(ticket, how, gone())
        ticket.forget()

    def _set_timer(self, errand: Errand, wait: float, what: str, limit: float) -> None:
        """So many seconds from now an errand is late, unless it goes on. limit: what its client is told was allowed."""
        if errand.timer is not None:
            errand.timer.cancel()
        loop = asyncio.get_running_loop()
        errand.timer = loop.call_later(max(0.0, wait), self._drop, errand, "failed", late(what, limit))

    def _drop(self, errand: Errand, how: str, refusal: Refusal) -> None:
        """End an errand that its engine may still work at."""
        self._end(errand, how, refusal, cancels=True)

    def _end(self, errand: Errand, how: str, refusal: Refusal | None = None, *, cancels: bool = False) -> None:
        """The one way in which an errand ends. cancels: its engine is told. An engine reads messages in their order, so
        that the row is free before whoever is next asks for it."""
        now = asyncio.get_running_loop().time()
        errand.over = True
        if errand.timer is not None:
            errand.timer.cancel()
        if errand.engine is None:
            self._queue.remove(errand)
        else:
            del self._running[errand.id]
            self._loads[errand.reads][errand.engine] -= 1
            self._pace.ended(now)
            if cancels:
                self.fleet.tell(errand.engine, Cancel(errand.id))
        self.metrics.ended(errand.kind, how)
        if how == "finished":
            self.metrics.total(now - errand.asked)
        if errand.said or how == "finished":  # its prompt was read
            self.metrics.tokens(errand.tokens, errand.cached, errand.count)
        if refusal is not None:
            errand.fail(refusal)
        self._pump()
        self._settle()

    def _settle(self) -> None:
        """Tell whoever drains that nothing is left."""
        if self._settled is not None and not self._queue and not self._running:
            self._settled.set()

    def _retry_after(self) -> int:
        """Seconds until as many have had their turn as wait now, by the pace of the last minute."""
        pace = self._pace.per_second(asyncio.get_running_loop().time())
        seconds = len(self._queue) / pace if pace else self.options.queue_seconds
        return min(LONGEST_RETRY, max(1, math.ceil(seconds)))


class Pace:
    """How many errands end in a second."""

    def __init__(self) -> None:
        self._ends: deque[float] = deque(maxlen=4096)
        self._start: float | None = None

    def begun(self, now: float) -> None:
        """An engine began to work at one."""
        self._start = now if self._start is None else self._start

    def ended(self, now: float) -> None:
        """An engine is done with one."""
        self._ends.append(now)

    def per_second(self, now: float) -> float:
        """By what ended in the last minute."""
        while self._ends and now - self._ends[0] > WINDOW:
            self._ends.popleft()
        if not self._ends or self._start is None:
            return 0.0
        full = len(self._ends) == self._ends.maxlen
        since = self._ends[0] if full else max(self._start, now - WINDOW)
        return len(self._ends) / max(now - since, 1.0)


def stopping() -> Refusal:
    """The server drains."""
    return unavailable("The server is about to stop.", "draining")


def dead() -> Refusal:
    """An engine died, or none lives."""
    return unavailable("The engine of the model has stopped.", "engine_died")


def gone() -> Refusal:
    """Whoever asked reads no more; hardly ever does anybody hear of it."""
    return Refusal(499, "The request was given up: its answer was not read.", code="cancelled")
