"""The engines of a server: each a process, spoken to over a socket that it inherits.

An engine that dies takes down its own requests. Where there are others it is started again; where it was the only one
the server has nothing left to answer with, and says so.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..config import InputError
from ..config.errors import Failed as Broken
from ..config.options import ServeOptions
from ..config.strict import to_dict
from .wire import LINE, Beat, Facts, Failed, Message, Start, dump, load

if TYPE_CHECKING:
    from .desk import Desk

LOG = logging.getLogger("instar.serve")
PATIENCE = 5.0  # seconds that an engine has to end by itself
ROOM = ("context", "longest", "slots")  # of the facts: what requests are promised before an engine is chosen
PROGRAM = ("-P", "-m", "instar.serve.worker")
PAUSE = 1.0  # seconds before an engine is started again, and twice as long each time
DEATHS, WITHIN = 5, 600.0  # so many deaths in so many seconds, and an engine is given up
HUNG = 120.0  # seconds of silence at least after which an engine is ended: it says something once a second
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


@dataclass
class Spawned:
    """A process of ours, and the socket that it hears and speaks by."""

    process: subprocess.Popen[bytes]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def end(self, patience: float = PATIENCE) -> int:
        """Let it go, and where it does not, make it -> its exit status, negative for a signal."""
        self.writer.close()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, self._wait, patience, loop)

    def _wait(self, patience: float, loop: asyncio.AbstractEventLoop) -> int:
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.hang_up(loop)
            return self.process.wait()

    def hang_up(self, loop: asyncio.AbstractEventLoop) -> None:
        """End it and its socket, without waiting: a process that hangs in a driver may go on for a while. From any
        thread."""
        self.process.kill()
        loop.call_soon_threadsafe(self.writer.transport.abort)


async def spawn(program: Sequence[str], environment: Mapping[str, str], line: int = LINE) -> Spawned:
    """Start Python with these words and the number of a socket that it inherits. line: bytes of the longest line that
    it may say."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, *program, str(theirs.fileno())]
    with theirs:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], env=environment)
    reader, writer = await asyncio.open_connection(sock=ours, limit=line)
    return Spawned(process, reader, writer)


class Child:
    """An engine's process, as long as it lives."""

    def __init__(self, spawned: Spawned) -> None:
        self._spawned = spawned
        self.process, self._reader, self._writer = spawned.process, spawned.reader, spawned.writer
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def start(cls, number: int, options: ServeOptions) -> Child:
        """A new process, which begins to load."""
        child = cls(await spawn(PROGRAM, environment(options)))
        child.tell(Start(to_dict(replace(options, api_key=())), number))
        return child

    def tell(self, message: Message) -> None:
        """Never waits: what an engine is asked is little, and bounded by its slots."""
        if not self._writer.is_closing():
            self._writer.write(dump(message))

    async def messages(self) -> AsyncIterator[Message]:
        """What it says, until it ends."""
        while True:
            try:
                line = await self._reader.readline()
                if not line.endswith(b"\n"):  # it has ended, perhaps in the middle of a word
                    return
                message = load(line)
            except ConnectionError:
                return
            except (ValueError, KeyError, TypeError):  # whatever speaks there is no engine of ours
                LOG.error("an engine said what is no message")
                return
            yield message

    async def facts(self, number: int) -> Facts:
        """Wait until it has loaded. Raises InputError with its own words where it cannot."""
        async for message in self.messages():
            if isinstance(message, Facts):
                return message
            if isinstance(message, Failed):
                raise InputError(message.message)
        status = await self.end()
        raise Broken(f"engine {number} ended {described(status)} while it loaded its model; the lines above say more")

    async def end(self) -> int:
        """Let it go, and where it does not, make it -> its exit status, negative for a signal."""
        return await self._spawned.end(PATIENCE)

    def kill(self) -> int:
        """At once -> its exit status. From any thread."""
        self.hang_up()
        return self.process.wait()

    def hang_up(self) -> None:
        """End it and its socket, without waiting."""
        self._spawned.hang_up(self._loop)


class Fleet:
    """start, then tell; `desk.heard` and `desk.lost` are called back. All of it runs on the event loop.

    facts: the first engine's, but with the least context, longest and slots of all; beats: the last of each engine that
    lives; heard_at: when each said something last, in the loop's time; dead: set when no engine lives and none is
    being started again.
    """

    desk: Desk | None = None
    facts: Facts

    def __init__(self, options: ServeOptions) -> None:
        self.options, self.count = options, options.replicas
        self.beats: dict[int, Beat] = {}
        self.heard_at: dict[int, float] = {}
        self.dead = asyncio.Event()
        self._living: dict[int, Child] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._burials: set[asyncio.Task[None]] = set()
        self._given_up: set[int] = set()
        self._ended: dict[int, list[float]] = {}

    async def start(self) -> Facts:
        """Start all engines and wait until they have loaded. Raises InputError where the model cannot be served, and
        Failed where a process died; none is left then."""
        if not 1 <= self.count <= 256:
            raise InputError(f"replicas={self.count}, wanted a whole number from 1 to 256")
        started = [asyncio.ensure_future(self._born(number)) for number in range(self.count)]
        try:
            found = await asyncio.gather(*started)
        except BaseException:
            for task in started:
                task.cancel()
            born = await asyncio.gather(*started, return_exceptions=True)
            await asyncio.gather(*(one[0].end() for one in born if isinstance(one, tuple)))
            raise
        facts = [one for _, one in found]
        least = {name: min(getattr(one, name) for one in facts) for name in ROOM}
        self.facts = replace(facts[0], **least)
        for number, (child, _) in enumerate(found):
            self._living[number] = child
            self._tasks.append(asyncio.ensure_future(self._keep(number, child)))
        return self.facts

    def living(self) -> list[int]:
        """The engines that can be told something."""
        return sorted(self._living)

    def pids(self) -> dict[int, int]:
        """The processes of those."""
        return {number: child.process.pid for number, child in self._living.items()}

    def tell(self, engine: int, message: Message) -> None:
        """Never blocks. What is told to an engine that has died is lost, of which `desk.lost` is told."""
        if (child := self._living.get(engine)) is not None:
            child.tell(message)

    async def close(self) -> None:
        """End all processes; none is left afterwards."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        children = list(self._living.values())
        self._living.clear()
        await asyncio.gather(*(child.end() for child in children), *self._burials)

    async def _born(self, number: int) -> tuple[Child, Facts]:
        child = await Child.start(number, self.options)
        try:
            return child, await child.facts(number)
        except BaseException:
            child.kill()
            raise

    async def _keep(self, number: int, child: Child | None) -> None:
        """The life of one engine, and its lives after that."""
        while child is not None:
            await self._listen(number, child)
            # told first, so that nobody waits while the process is buried
            del self._living[number]
            self.beats.pop(number, None)
            self._told(number)
            hopeless = self.count == 1 or self._often(number)
            if hopeless:
                self._give_up(number)
            await self._bury(number, child)
            child = None if hopeless else await self._again(number)
        self._give_up(number)

    async def _bury(self, number: int, child: Child) -> None:
        """Wait until a process has ended. Where that is broken off, `close` waits for it."""

        async def ending() -> None:
            LOG.error("engine %d ended %s", number, described(await child.end()))

        burial = asyncio.ensure_future(ending())
        self._burials.add(burial)
        burial.add_done_callback(self._burials.discard)
        await asyncio.shield(burial)

    def _give_up(self, number: int) -> None:
        self._given_up.add(number)
        if len(self._given_up) == self.count and not self.dead.is_set():
            LOG.critical("no engine is left")
            self.dead.set()

    async def _listen(self, number: int, child: Child) -> None:
        """Pass on what an engine says until it says no more."""
        loop = asyncio.get_running_loop()
        self.heard_at[number] = loop.time()
        watching = asyncio.ensure_future(self._watch(number, child))
        try:
            await self._hear(number, child)
        finally:
            watching.cancel()

    async def _watch(self, number: int, child: Child) -> None:
        """End an engine that has said nothing for so long that it hangs: it is then lost as one that died. Counted in
        steps, so that a time in which all of the server stood still, as by Ctrl-Z, is one of them."""
        patience = max(HUNG, self.options.first_seconds)
        step, silent, heard = min(1.0, patience / 10), 0.0, self.heard_at[number]
        while silent < patience:
            await asyncio.sleep(step)
            silent = silent + step if heard == self.heard_at[number] else 0.0
            heard = self.heard_at[number]
        LOG.error("engine %d has said nothing for %g s and is ended", number, patience)
        child.hang_up()

    async def _hear(self, number: int, child: Child) -> None:
        loop = asyncio.get_running_loop()
        async for message in child.messages():
            self.heard_at[number] = loop.time()
            if isinstance(message, Beat):
                self.beats[number] = message
            if self.desk is not None:
                try:
                    self.desk.heard(number, message)
                except Exception as error:  # what one message led to is no reason to give up an engine
                    LOG.error("a message of engine %d was not understood: %s", number, type(error).__name__)

    def _told(self, number: int) -> None:
        if self.desk is not None:
            try:
                self.desk.lost(number)
            except Exception as error:  # the engine is to be started again all the same
                LOG.error("the loss of engine %d was not understood: %s", number, type(error).__name__)

    def _often(self, number: int) -> bool:
        """An engine has died -> whether it has done so too often."""
        now = asyncio.get_running_loop().time()
        ended = self._ended[number] = [when for when in [*self._ended.get(number, []), now] if when > now - WITHIN]
        if len(ended) >= DEATHS:
            LOG.error("engine %d died %d times in %g minutes and is given up", number, len(ended), WITHIN / 60)
        return len(ended) >= DEATHS

    async def _again(self, number: int) -> Child | None:
        """Start an engine again, later the oftener it dies; None where it does so too often."""
        first = True
        while first or not self._often(number):
            first = False
            await asyncio.sleep(PAUSE * 2 ** (len(self._ended[number]) - 1))
            try:
                child, facts = await self._born(number)
            except (InputError, Broken, OSError) as error:
                LOG.error("engine %d could not be started again: %s", number, type(error).__name__)
                continue
            if any(getattr(facts, name) < getattr(self.facts, name) for name in ROOM):
                LOG.error("engine %d found less memory than the server began with", number)
                await self._bury(number, child)
                continue
            if facts.fingerprint != self.facts.fingerprint:
                LOG.error("engine %d found other weights than the server began with; start the server anew", number)
                await self._bury(number, child)
                return None
            LOG.warning("engine %d was started again", number)
            self._living[number] = child
            return child
        return None


def environment(options: ServeOptions) -> dict[str, str]:
    """What an engine's process is started with, unless the user has said otherwise: threads that sleep where they wait,
    since it shares the machine with the front, and no more of them in all than there are cores."""
    found = {name: value for name, value in os.environ.items() if name != "INSTAR_API_KEY"}
    found["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
    if not any(word in found for word in WAITING):
        found["OMP_WAIT_POLICY"] = "PASSIVE"
    found.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if options.replicas > 1:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        found.setdefault("OMP_NUM_THREADS", str(max(1, cores // options.replicas)))
    return found


def described(status: int) -> str:
    """An exit status in words."""
    return f"by signal {-status}" if status < 0 else f"with status {status}"
