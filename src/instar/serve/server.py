"""A server's life: it listens, loads, answers, drains and ends.

It listens before the model is loaded, so that a port that is taken is told at once, and so that whoever asks meanwhile
is told to wait (503). uvicorn's own handling of signals is left out: it would close connections whose answers are on
their way, and end with the signal.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import uvicorn

from ..config import InputError
from ..config.options import ServeOptions
from .app import create_app
from .gate import HEADERS, GateRules
from .opening import open_service
from .protocol import Protocol
from .service import Service

SIGNALS = (signal.SIGTERM, signal.SIGINT)
BACKLOG = 1024  # connections that wait to be accepted
KEEP_ALIVE = 75  # seconds that an idle connection stays open; longer than clients keep theirs
FAREWELL = 5  # seconds that clients have to read what was said last
FILES = 8192  # open at a time, connections among them
DEATH = 1.0  # seconds that a server whose engines have died still says so

log = logging.getLogger(__name__)


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one. Raises InputError where it cannot."""
    if not 0 <= port < 65536:
        raise InputError(f"port={port}, wanted one from 0 to 65535; 0 takes a free one")
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise InputError(f"host={host} is no name or address that is known here; wanted one of this machine") from None
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise InputError(_why_not(host, port, error)) from None
    listener.setblocking(False)
    return listener


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is taken by another program; name another, or --port 0 for a free one"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"host={host} is no address of this machine; wanted 127.0.0.1, or 0.0.0.0 for all it has"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"port {port} is not allowed to this user; name one above 1023"
    return f"cannot listen at port {port} of {host}: {error.strerror}"


def address(listener: socket.socket) -> str:
    """Where a program on this machine finds the server. Example: http://127.0.0.1:8000"""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Stopping:
    """Signals that say stop. asked: the first has come; pressed: the second; after that a third one kills."""

    def __init__(self) -> None:
        self.asked, self.pressed = asyncio.Event(), asyncio.Event()
        self.signal = 0

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """While it holds, signals come here."""
        loop = asyncio.get_running_loop()

        def heard(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(self.stop, number)

        before = {number: signal.signal(number, heard) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def stop(self, number: int) -> None:
        self.signal = number
        if not self.asked.is_set():
            self.asked.set()
            return
        self.pressed.set()
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)


class Listening(uvicorn.Server):
    """uvicorn's server, which leaves signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(options: ServeOptions, rules: GateRules, listener: socket.socket, ready: Callable[[Service], None]) -> int:
    """Serve until a signal or the death of the last engine -> the exit status: 0 after a signal, 1 where the engines
    died, 128 and the signal where a second one broke answers off. ready: called once requests are answered. Raises
    InputError where the model cannot be loaded."""
    return asyncio.run(_run(options, rules, listener, ready))


async def _run(
    options: ServeOptions, rules: GateRules, listener: socket.socket, ready: Callable[[Service], None]
) -> int:
    opened: asyncio.Future[Service] = asyncio.get_running_loop().create_future()

    async def opening() -> Service:
        try:
            service = await open_service(options)
        except Exception as error:  # whatever it is, it is told to whoever waits for the service, with its own words
            if not opened.done():
                opened.set_exception(error)
            raise
        if not opened.done():
            opened.set_result(service)
        return service

    _allow_files()
    stopping = Stopping()
    with stopping.listening():
        app = create_app(opening, rules=rules, glass=options)
        server = Listening(
            uvicorn.Config(
                app, http=Protocol, ws="none", lifespan="on", log_config=None, access_log=False, proxy_headers=False,
                server_header=False, h11_max_incomplete_event_size=HEADERS, timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=FAREWELL,
            )
        )  # fmt: skip
        listening = asyncio.create_task(server.serve(sockets=[listener]))
        listening.add_done_callback(lambda _: stopping.asked.set())  # it ends before it was told to: a fault of ours
        try:
            return await _answer(opened, stopping, ready)
        finally:
            if app.state.glass is not None:  # streams of its would hold up the end
                await app.state.glass.stop()
            server.should_exit = True
            await _first(listening, stopping.pressed)
            server.force_exit = stopping.pressed.is_set()
            await listening
            if server.force_exit:  # uvicorn leaves this out then, and engines would be left behind
                await server.lifespan.shutdown()


def _allow_files() -> None:
    """Each connection is an open file; of those many systems allow fewer than they could, unless asked."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _answer(opened: asyncio.Future[Service], stopping: Stopping, ready: Callable[[Service], None]) -> int:
    """From loading to the end of draining -> the exit status."""
    await _first(opened, stopping.asked)
    if stopping.asked.is_set():  # also where the signal reached an engine first, and loading failed of it
        opened.cancel()
        return 0
    service = opened.result()
    dead = service.desk.fleet.dead
    while not (service.desk.ready or dead.is_set() or stopping.asked.is_set()):
        await asyncio.sleep(0.01)
    if service.desk.ready:
        ready(service)
    died = asyncio.create_task(dead.wait())
    if not await _first(died, stopping.asked):
        died.cancel()
        return await _drain(service, stopping)
    log.error("the last engine has died; this server ends")
    await asyncio.sleep(DEATH)
    return 1


async def _drain(service: Service, stopping: Stopping) -> int:
    """Let answers end, for as long as the options say, or until a second signal."""
    seconds = service.options.drain_seconds
    log.info("draining: answers have %g s to end; a second signal breaks them off", seconds)
    draining = asyncio.create_task(service.drain(seconds))
    if not await _first(draining, stopping.pressed):
        draining.cancel()
        return 128 + stopping.signal
    if cut := draining.result():
        log.warning("%d answers were broken off after %g s", cut, seconds)
    return int(service.desk.fleet.dead.is_set())


async def _first(wanted: asyncio.Future[Any], other: asyncio.Event) -> bool:
    """Wait for whichever comes first -> whether it was the wanted one. Neither is cancelled."""
    waiting = asyncio.create_task(other.wait())
    await asyncio.wait({wanted, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    return wanted.done()
