"""The process of the glass box: `python -m instar.serve.glass.worker FD`, started by `caller.py`.

It has weights of its own, does one thing after the other, and ends when the other end of its socket has gone.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import torch

from ...config import InputError, from_dict
from ...config.options import ServeOptions
from ...hub.memory import free_bytes
from ...train.machine import pick_device, weights_dtype
from ..inherited import inherited
from ..log import escaped, place
from .box import Binary, Box, Event, Operation
from .index import Index
from .ops import OPS
from .stock import Stock
from .traces import Traces
from .trouble import Abandoned, Trouble, broken, no_memory, trouble_of
from .wire import CANCEL, START, encoded, frame

NICE = 5  # by how much the process gives way to those that answer others
SHARE = 0.5  # of the memory that is free at the start: the weights of models at most
PAUSE = 0.2  # seconds before streams that had nothing to tell are asked again


class Worker:
    """The loop: a job, then an event of each stream, and so on."""

    def __init__(
        self, options: ServeOptions, line: socket.socket, inbox: SimpleQueue[Any], cancelled: set[int],
        ops: Mapping[str, Operation] = OPS,
    ) -> None:  # fmt: skip
        self.line, self.inbox, self.cancelled, self.ops = line, inbox, cancelled, ops
        device = pick_device(options.device)
        free = free_bytes(device)
        traces = Traces(options.glass.budget, options.glass.seconds)
        stock = Stock(
            Index(options), dtype=weights_dtype(options.dtype, device), device=device,
            budget=2**34 if free is None else int(free * SHARE), ward=self.check, left=traces.drop,
        )  # fmt: skip
        self.box = Box(stock, traces, options.glass, self.is_cancelled)
        self.working = 0  # the job that is being worked at
        self.streams: deque[tuple[int, Iterator[Event | None]]] = deque()
        self.told: list[str] = []

    def check(self, *_: Any) -> None:
        self.box.check()

    def is_cancelled(self) -> bool:
        return self.working in self.cancelled

    def run(self) -> None:
        """Until the process ends, which it does when nobody listens any more."""
        quiet = False
        while True:
            try:
                patience = None if not self.streams else PAUSE if quiet else 0.0
                self.take(self.inbox.get(block=patience != 0.0, timeout=patience))
            except Empty:
                pass
            quiet = not sum(self.go_on() for _ in range(len(self.streams)))

    def take(self, asked: Mapping[str, Any]) -> None:
        """One job: its answer, or the begin of its stream; or that one is cancelled, which is forgotten where it had
        ended before."""
        if asked["op"] == CANCEL:
            if all(id != asked["id"] for id, _ in self.streams):
                self.cancelled.discard(asked["id"])
            return
        self.work(asked["id"], lambda: self.answer(asked["id"], asked["op"], asked["args"]))

    def answer(self, id: int, op: str, args: Mapping[str, Any]) -> bool:
        self.box.check()
        if op not in self.ops:
            raise Trouble(404, "not_found", "there is no such operation")
        reply = self.ops[op](self.box, args)
        if isinstance(reply, Binary):
            self.tell({"id": id, "kind": "bytes", "type": reply.media_type, "name": reply.name}, reply.content)
        elif isinstance(reply, Mapping):
            self.tell({"id": id, "kind": "json", "type": "application/json"}, encoded(reply))
        else:
            self.streams.append((id, reply))
            return True
        return False

    def go_on(self) -> bool:
        """The next event of the stream whose turn it is -> whether it had something to tell."""
        id, events = self.streams.popleft()
        told = False

        def step() -> bool:
            nonlocal told
            self.box.check()
            for event in events:
                told = event is not None
                if event is not None:
                    self.tell({"id": id, "kind": "event", "name": event["event"]}, encoded(event["data"]))
                self.streams.append((id, events))
                return True
            told = True
            self.tell({"id": id, "kind": "end"})
            return False

        if not self.work(id, step):
            close(events)
        return told

    def work(self, id: int, do: Any) -> bool:
        """Do something for a job, and tell what stands in the way -> whether the job goes on."""
        self.working = id
        more = False
        try:
            more = do()
        except Abandoned:
            self.fail(id, Trouble(499, "cancelled", "nobody waits for it any more"))
        except Trouble as trouble:
            self.fail(id, trouble)
        except InputError as error:
            found = trouble_of(error)
            found.detail = self.box.stock.index.hidden(found.detail)
            self.fail(id, found)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                self.broke(id, error)
            else:
                self.box.traces.clear()
                self.fail(id, no_memory(0, self.box.traces.budget))
        except Exception as error:  # a fault of ours in one request ends none of the others
            self.broke(id, error)
        finally:
            self.working = 0
            if not more:
                self.cancelled.discard(id)
        return more

    def broke(self, id: int, error: Exception) -> None:
        say(f"a request failed: {place(error)}")
        self.fail(id, broken())

    def fail(self, id: int, trouble: Trouble) -> None:
        self.tell({"id": id, "kind": "error", "status": trouble.status}, encoded(trouble.body["error"]))

    def tell(self, header: dict[str, Any], body: bytes = b"") -> None:
        """Say it, and which models are loaded where that is news."""
        if (loaded := self.box.stock.loaded) != self.told:
            header["loaded"] = self.told = loaded
        try:
            self.line.sendall(frame(header, body))
            if body:
                self.line.sendall(body)
        except OSError:  # the front has gone
            os._exit(0)


def say(text: str) -> None:
    """A line of the log."""
    print(f"glass: {escaped(text)}", file=sys.stderr, flush=True)


def close(events: Iterator[Any]) -> None:
    """Let a generator tidy up; nobody hears what it has to say of that."""
    with suppress(Exception):
        getattr(events, "close", lambda: None)()


def out_of_memory(error: Exception) -> bool:
    """torch tells it of a CPU by its words alone."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)


def listen(line: socket.socket, inbox: SimpleQueue[Any], cancelled: set[int]) -> None:
    """Take jobs until the front has gone, and with it the reason to be; a job is cancelled at once, whatever goes on
    meanwhile."""
    code = 0
    try:
        with line.makefile("rb") as messages:
            for message in messages:
                asked = json.loads(message)
                if asked["op"] == CANCEL:
                    cancelled.add(asked["id"])
                inbox.put(asked)
    except (OSError, ValueError):  # it ended in the middle of a line
        code = 1
    finally:
        os._exit(code)


def main(arguments: Iterable[str]) -> int:
    """Work over the socket whose number is the only argument."""
    line = inherited(arguments)
    os.nice(NICE)
    inbox: SimpleQueue[Any] = SimpleQueue()
    cancelled: set[int] = set()
    Thread(target=listen, args=(line, inbox, cancelled), daemon=True).start()
    start = inbox.get()
    assert start["op"] == START
    warnings.simplefilter("ignore")  # they may repeat what was asked
    Worker(from_dict(ServeOptions, start["args"]), line, inbox, cancelled).run()
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
