"""What a server writes of its work: one readable line for each request, and what went wrong.

Lines are made of figures and of names from fixed lists, so that nothing of a prompt, a key or a path is in them; an
exception is told by its kind and its place, for its own words may hold a request's text. They are written by a thread
of their own: a terminal that stands still, or a full disk, costs lines and never holds up an answer.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TextIO

from ..config.errors import places

REQUESTS = logging.getLogger("instar.serve.requests")
WAITING = 10_000  # lines that may wait to be written
PROBES = ("/health", "/ready", "/metrics")  # asked every few seconds, by programs
EXPECTED = ("loading", "draining", "cancelled")  # no faults
_ENDS = re.compile(r"[\n<('\":]")  # of what asyncio says itself, before it shows an object
FRAMES = 8  # of an exception, innermost first


@dataclass(frozen=True)
class Entry:
    """One request. route: the template that matched, such as /v1/models/{name}, or - where none did; model: a name that
    is served; prompt, cached, answer: tokens; first, total: seconds to the first token and to the end; error: the code
    of what went wrong; left: the client went away before its answer was whole."""

    id: str
    status: int
    method: str
    route: str
    client: str
    total: float
    model: str | None = None
    prompt: int | None = None
    cached: int | None = None
    answer: int | None = None
    first: float | None = None
    error: str | None = None
    left: bool = False

    @property
    def fields(self) -> dict[str, Any]:
        """What there is to say, with times in milliseconds."""
        said: dict[str, Any] = {
            "status": self.status, "method": self.method, "route": self.route, "model": self.model,
            "prompt": self.prompt, "cached": self.cached or None, "answer": self.answer,
            "first_ms": None if self.first is None else round(1000 * self.first, 1),
            "total_ms": round(1000 * self.total, 1), "error": self.error, "left": self.left or None,
            "client": self.client, "id": self.id,
        }  # fmt: skip
        return {name: value for name, value in said.items() if value is not None}

    @property
    def line(self) -> str:
        """Example: 200 POST /v1/chat/completions  demo  12+34 tokens  first 45 ms, all 812 ms  key:1a2b3c4d  req_1f"""
        tokens = None if self.prompt is None else f"{self.prompt}+{self.answer or 0} tokens"
        if tokens and self.cached:
            tokens += f" ({self.cached} known)"
        first = "" if self.first is None else f"first {1000 * self.first:,.0f} ms, "
        parts = [
            f"{self.status} {self.method} {self.route}", self.model, tokens, f"{first}all {1000 * self.total:,.0f} ms",
            self.error, "the client left" if self.left else None, self.client, self.id,
        ]  # fmt: skip
        return "  ".join(part for part in parts if part)


def tell(entry: Entry) -> None:
    """Log one request: a fault of ours as an error, also where an answer had begun with 200; all others as they
    come."""
    failed = entry.status >= 500 or (entry.status < 400 and entry.error is not None)
    level = logging.ERROR if failed and entry.error not in EXPECTED else logging.INFO
    REQUESTS.log(level, "%s", entry.line, extra={"request": entry})


def say(text: str) -> None:
    """A line about the server as a whole, which needs no time before it."""
    logging.getLogger("instar.serve").info("%s", text, extra={"plain": True})


@dataclass
class Tally:
    """All requests that were logged. prompt and answer: tokens."""

    statuses: Counter[int] = field(default_factory=Counter)
    prompt: int = 0
    answer: int = 0
    left: int = 0

    def count(self, entry: Entry) -> None:
        self.statuses[entry.status] += 1
        self.prompt += entry.prompt or 0
        self.answer += entry.answer or 0
        self.left += entry.left


class Writer(logging.Handler):
    """Writes lines in a thread of its own. tally: of all requests; lost: lines that could not be written. A probe, such
    as GET /health, is written only where its answer is another than before."""

    def __init__(self, stream: TextIO, *, json: bool, quiet: bool) -> None:
        super().__init__(logging.ERROR if quiet else logging.INFO)
        self.setFormatter(Lines() if json else Readable())
        self.tally, self.lost = Tally(), 0
        self._stream, self._probed = stream, dict.fromkeys(PROBES, 200)
        self._lines: queue.Queue[str | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def filter(self, record: logging.LogRecord) -> bool:
        entry = getattr(record, "request", None)
        if entry is not None and entry.route in self._probed:
            before, self._probed[entry.route] = self._probed[entry.route], entry.status
            return before != entry.status
        return True

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self.lost += 1

    def close(self) -> None:
        """Write what waits, for a few seconds at most."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=2)
            self._thread.join(2)
        super().close()

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # a full disk, a reader that has left, a stream that is closed
                self.lost += 1


class Counting(logging.Filter):
    """Counts requests before any level leaves them out."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self.tally = tally

    def filter(self, record: logging.LogRecord) -> bool:
        entry = getattr(record, "request", None)
        if entry is not None:
            self.tally.count(entry)
        return True


class Readable(logging.Formatter):
    """A line for people. Whatever could move a terminal's cursor or begin a line is written as an escape."""

    def format(self, record: logging.LogRecord) -> str:
        if hasattr(record, "plain"):
            return escaped(record.getMessage())
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        return escaped(f"{when}  {_words(record)}")


class Lines(logging.Formatter):
    """A line of JSON for programs; times are seconds since 1970."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {"time": round(record.created, 3), "level": record.levelname.lower()}
        entry = getattr(record, "request", None)
        said |= {"message": _words(record)} if entry is None else entry.fields
        return json.dumps(said)


def escaped(text: str) -> str:
    r"""One line without control characters. Example: a newline becomes \x0a"""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def place(error: BaseException) -> str:
    """Where an exception came from, without its words. Example: ValueError at chat.py:31 < app.py:80"""
    return f"{type(error).__name__} at {places(error, FRAMES)}"


def _words(record: logging.LogRecord) -> str:
    words = record.getMessage().strip()
    if record.name == "asyncio":  # which repeats what it was working at
        words = f"asyncio: {_ENDS.split(words)[0].strip()}"
    if record.exc_info and record.exc_info[1] is not None:
        words += f": {place(record.exc_info[1])}"
    return words if record.levelno < logging.WARNING or hasattr(record, "request") else f"instar: {words}"


@contextlib.contextmanager
def logging_to(stream: TextIO, *, json: bool, quiet: bool) -> Iterator[Writer]:
    """While it holds, what this package, uvicorn and asyncio have to say goes to the stream: with json as lines of
    JSON; quiet leaves errors."""
    writer = Writer(stream, json=json, quiet=quiet)
    counting = Counting(writer.tally)
    ours, *theirs = loggers = [logging.getLogger(name) for name in ("instar", "uvicorn", "asyncio")]
    before = [(logger, logger.level, logger.propagate) for logger in loggers]
    ours.setLevel(logging.INFO)
    for logger in theirs:
        logger.setLevel(logging.ERROR)  # below that they tell of starting and stopping, and of clients that left
    REQUESTS.addFilter(counting)
    for logger in loggers:
        logger.addHandler(writer)
        logger.propagate = False
    try:
        yield writer
    finally:
        REQUESTS.removeFilter(counting)
        for logger, level, propagate in before:
            logger.removeHandler(writer)
            logger.setLevel(level)
            logger.propagate = propagate
        writer.close()
