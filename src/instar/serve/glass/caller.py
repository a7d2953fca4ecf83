"""The front's side of the process that computes for the glass box: started when it is asked first, and again where it
has died; ended when nobody asks for a while, and with the server."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing
from itertools import count
from typing import Any

from ...config.options import ServeOptions
from ...config.strict import to_dict
from ..fleet import PATIENCE, Spawned, described, environment, spawn
from .trouble import Trouble
from .wire import CANCEL, FINAL, LINE, START, encoded

LOG = logging.getLogger("instar.serve")
PROGRAM = ("-P", "-m", "instar.serve.glass.worker")
WAITING = 8  # jobs that wait behind the one that works
STREAMS = 16  # streams that are open at a time

Frame = tuple[dict[str, Any], bytes]


class Job:
    """What was asked and is not yet answered to its end, though perhaps nobody waits for it any more."""

    def __init__(self, stream: bool) -> None:
        self.stream = stream
        self.frames: asyncio.Queue[Frame | Trouble] = asyncio.Queue()


class Caller:
    """All of it runs on the event loop. loaded: the ids of the models that the process held when it last spoke."""

    program = PROGRAM

    def __init__(self, options: ServeOptions) -> None:
        self.options = options
        self.loaded: list[str] = []
        self._ids = count(1)
        self._jobs: dict[int, Job] = {}
        self._child: Spawned | None = None
        self._birth: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._idle: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Of the process, where there is one."""
        return None if self._child is None else self._child.process.pid

    async def ask(self, op: str, args: Mapping[str, Any]) -> Frame:
        """The answer: a header, whose `type` is the media type, and a body. Where this is cancelled the work is
        abandoned. Raises Trouble."""
        async with aclosing(self._frames(op, args, stream=False)) as frames:
            async for header, body in frames:
                if header["kind"] in ("json", "bytes"):
                    return header, body
        raise Trouble(500, "internal_error", "an answer was wanted, and a stream came")

    async def stream(self, op: str, args: Mapping[str, Any]) -> AsyncGenerator[Frame]:
        """The events, each with its `name` in the header. Where it is closed the work is abandoned. Raises Trouble,
        also behind some events."""
        async with aclosing(self._frames(op, args, stream=True)) as frames:
            async for header, body in frames:
                if header["kind"] == "event":
                    yield header, body
                elif header["kind"] != "end":
                    raise Trouble(500, "internal_error", "a stream was wanted, and one answer came")

    async def close(self) -> None:
        """End the process; none is left afterwards."""
        self._closed = True
        self._let_go()
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _frames(self, op: str, args: Mapping[str, Any], *, stream: bool) -> AsyncGenerator[Frame]:
        """What is said of one job, to its last frame."""
        most = STREAMS if stream else WAITING + 1
        if sum(job.stream == stream for job in self._jobs.values()) >= most:
            raise Trouble(429, "busy", f"{most} requests are worked at or wait; come again in a moment", limit=most)
        number, job = next(self._ids), Job(stream)
        self._jobs[number] = job
        self._rest_later(False)
        sent = done = False
        try:
            child = await self._living()
            child.writer.write(encoded({"id": number, "op": op, "args": args}) + b"\n")
            sent = True
            while not done:
                found = await job.frames.get()
                if isinstance(found, Trouble):
                    done = True
                    raise found
                done = found[0]["kind"] in FINAL
                yield found
        finally:
            if not sent or done:
                self._ended(number)
            elif number in self._jobs and self._child is not None:
                # a job that nobody waits for keeps its place until the process has let go of it
                self._child.writer.write(encoded({"id": number, "op": CANCEL}) + b"\n")

    def _ended(self, number: int) -> None:
        self._jobs.pop(number, None)
        self._rest_later(not self._jobs)

    def _rest_later(self, quiet: bool) -> None:
        """Nobody asks, or somebody does again."""
        if not quiet and self._idle is not None:
            self._idle.cancel()
            self._idle = None
        elif quiet and self._idle is None and self._child is not None:
            self._idle = asyncio.get_running_loop().call_later(self.options.glass.idle, self._let_go)

    async def _living(self) -> Spawned:
        """The process, started where there is none; who waits for it may leave meanwhile. Raises Trouble (503) where it
        cannot be started."""
        if self._child is None:
            if self._birth is None:
                self._birth = self._run(self._bear())
            await asyncio.shield(self._birth)
        if self._child is None:
            raise died()
        return self._child

    async def _bear(self) -> None:
        try:
            child = await spawn(self.program, environment(self.options), LINE)
        except OSError as error:
            LOG.error("the process of the glass box could not be started: %s", type(error).__name__)
            return
        finally:
            self._birth = None
        start = {"op": START, "args": to_dict(self.options) | {"api_key": []}}
        child.writer.write(encoded(start) + b"\n")
        self._child = child
        self._run(self._listen(child))
        if self._closed:
            self._let_go()

    async def _listen(self, child: Spawned) -> None:
        """Give each job what is said of it, until the process ends."""
        try:
            while line := await child.reader.readline():
                header = json.loads(line)
                body = await child.reader.readexactly(header["size"])
                self._heard(header, body)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # it has died in the middle of a word
        except (ValueError, KeyError, TypeError):  # whatever speaks there is no process of ours
            LOG.error("the process of the glass box said what is no message")
        finally:
            self._lost(child)

    def _heard(self, header: dict[str, Any], body: bytes) -> None:
        self.loaded = header.pop("loaded", self.loaded)
        job = self._jobs.get(header["id"])
        if job is None:
            return
        if header["kind"] == "error":
            said = json.loads(body)
            job.frames.put_nowait(Trouble(header["status"], said.pop("code"), said.pop("detail"), **said))
        else:
            job.frames.put_nowait((header, body))
        if header["kind"] in FINAL:
            self._ended(header["id"])

    def _lost(self, child: Spawned) -> None:
        """The process has ended. Where nobody ended it, nobody waits for it in vain."""
        died = self._child is child
        if died:
            self._let_go()
        self._run(self._bury(child, died))

    async def _bury(self, child: Spawned, died: bool) -> None:
        status = await child.end(PATIENCE)
        if died:
            LOG.error("the process of the glass box ended %s; the next request starts another", described(status))

    def _let_go(self) -> None:
        """End the process: nobody asks, the server stops, or it has ended by itself. What was asked of it fails."""
        self._rest_later(False)
        child, self._child = self._child, None
        self.loaded = []
        jobs, self._jobs = self._jobs, {}
        for job in jobs.values():
            job.frames.put_nowait(died())
        if child is not None:
            child.writer.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def died() -> Trouble:
    """503."""
    return Trouble(503, "worker_died", "the process that computes for this page has ended; ask again")
