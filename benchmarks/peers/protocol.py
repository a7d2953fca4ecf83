"""What each measured system speaks: a process of its own that answers one JSON line with another.

It knows only the standard library, for the venv of the peers has no instar. Requests:

    {"do": "load", "path", "precision", "flow"}                               -> seconds, memory
    {"do": "answer", "streams", "prompt", "new", "room", "beams", "seed"}     -> seconds, rate, memory, the first ids

Both may be answered by {"skipped": why}, or by {"failed": what}.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

LOWEST = 3  # ids below may be special
STATUS = Path("/proc/self/status")
Ids = list[list[int]]


class Skipped(Exception):
    """A system cannot do what is asked, and why."""


@dataclass
class Answers:
    """Of S streams with N tokens each. first: seconds until every stream had said a token, 0 where that is not told;
    total: until all were done; rate: tokens a second in between, all streams together."""

    first: float
    total: float
    rate: float | None
    ids: Ids
    way: str = ""  # which of several ways of the system this was

    @classmethod
    def in_step(cls, times: list[float], ids: Ids, way: str = "") -> Answers:
        """Of streams that say their tokens at the same times, counted from the beginning."""
        first, total = times[0], times[-1]
        rate = len(ids) * (len(times) - 1) / (total - first) if len(times) > 1 else None
        return cls(first, total, rate, ids, way)


class System(Protocol):
    """What is measured."""

    vocab_size: int

    def answer(self, prompts: Ids, new: int, room: int) -> Answers:
        """Greedy answers of so many tokens each, whatever ends a text. room: tokens of the longest prompt and answer
        of this shape, by which memory and compiled steps are laid out."""

    def search(self, prompts: Ids, new: int, beams: int) -> Answers:
        """The likeliest answer to each by beam search."""


def prompts_of(seed: int, streams: int, length: int, vocab_size: int) -> Ids:
    """The same for every system; another seed has nothing in common with it."""
    luck = random.Random(seed)
    return [[luck.randrange(LOWEST, vocab_size) for _ in range(length)] for _ in range(streams)]


@dataclass
class Memory:
    """Bytes of this process. before, after: resident; peak: the most in between; before_own, peak_own: what was not a
    file mapped into memory, which gives way when others need room."""

    before: int = 0
    before_own: int = 0
    after: int = 0
    peak: int = 0
    peak_own: int = 0
    _ended: threading.Event = field(default_factory=threading.Event, repr=False)

    def report(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in ("before", "before_own", "after", "peak", "peak_own")}


def status() -> dict[str, int]:
    """Linux tells of this process: VmRSS, VmHWM, RssAnon, ... in bytes."""
    lines = STATUS.read_text(encoding="utf-8").splitlines() if STATUS.is_file() else []
    words = [line.split() for line in lines]
    return {word[0].rstrip(":"): int(word[1]) * 1024 for word in words if len(word) == 3 and word[2] == "kB"}


@contextmanager
def watched(*, own: bool = False) -> Iterator[Memory]:
    """Watch memory while something is done; nothing is known where Linux does not tell. own: find peak_own too, for
    which a second thread looks again and again; no time should be taken meanwhile."""
    begun = status()
    memory = Memory(before=begun.get("VmRSS", 0), before_own=begun.get("RssAnon", 0))
    if STATUS.is_file():
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew

    def look() -> None:
        while not memory._ended.wait(0.005):
            memory.peak_own = max(memory.peak_own, status().get("RssAnon", 0))

    watcher = threading.Thread(target=look, daemon=True)
    if own:
        watcher.start()
    try:
        yield memory
    finally:
        memory._ended.set()
        if own:
            watcher.join()
        now = status()
        memory.after, memory.peak = now.get("VmRSS", 0), now.get("VmHWM", 0)
        memory.peak_own = max(memory.peak_own, now.get("RssAnon", 0))


def serve(load: Callable[[dict[str, Any]], System]) -> None:
    """Answer requests until there are no more; load makes the system."""
    # what libraries print goes to stderr: stdout is for answers alone
    said = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    system: list[System] = []
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = _load(load, request, system) if request["do"] == "load" else _answer(system[0], request)
        except Skipped as why:
            answer = {"skipped": str(why)}
        except Exception as error:  # a peer fails in ways of its own; the others go on
            traceback.print_exc()
            answer = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200]}
        said.write(json.dumps(answer) + "\n")
        said.flush()


def _load(load: Callable[[dict[str, Any]], System], request: dict[str, Any], system: list[System]) -> dict[str, Any]:
    started = time.perf_counter()
    with watched(own=True) as memory:
        system.append(load(request))
    return {"seconds": time.perf_counter() - started, "memory": memory.report()} | getattr(system[0], "facts", {})


def _answer(system: System, request: dict[str, Any]) -> dict[str, Any]:
    prompts = prompts_of(request["seed"], request["streams"], request["prompt"], system.vocab_size)
    with watched() as memory:
        if request["beams"]:
            done = system.search(prompts, request["new"], request["beams"])
        else:
            done = system.answer(prompts, request["new"], request["room"])
    if any(len(ids) != request["new"] for ids in done.ids):
        raise ValueError(f"answers of {sorted({len(ids) for ids in done.ids})} tokens, wanted {request['new']}")
    return {
        "first": done.first, "total": done.total, "rate": done.rate, "way": done.way, "ids": done.ids[0][:64],
        "memory": memory.report(),
    }  # fmt: skip
