"""The measuring side of a system that answers over HTTP, or would: its process, and what it reads."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

from instar.cli.waiting import prepare
from instar.config import InputError
from instar.config.options import BenchServeOptions
from instar.serve.load import Asking, Reply, Target, agree

from .worker import HERE, LOAD_SECONDS, Place, Process, _last_line

POLL = 0.2  # seconds between two looks whether a server is there
CLOSE_SECONDS = 10.0
INSTAR = "import sys; from instar.cli import main; main(sys.argv[1:])"
# name -> as the table says it
SYSTEMS = {
    "instar": "instar serve",
    "engine": "its engine, no server",
    "transformers": "transformers serve",
    "transformers batching": "transformers serve --continuous-batching",
    "llama.cpp": "llama_cpp.server",
    "llama.cpp batch": "llama.cpp, all prompts in a batch, no server",
}
OURS = ("instar", "engine")


class Contestant(Protocol):
    """What is measured. why_not: nothing where it can be."""

    why_not: str

    def loop(self, texts: Sequence[str], streams: int, new: int) -> list[Reply]:
        """Answer all texts with `new` tokens each, so many at a time."""

    def pause(self) -> None:
        """Keep still while another is measured."""

    def go_on(self) -> None: ...

    def close(self) -> None: ...


class Server:
    """A server in a process group of its own, which is stopped while others are measured."""

    def __init__(self, words: Sequence[str], port: int, environment: dict[str, str], timeout: float) -> None:
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - close() does
        self.process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=self.errors, stderr=self.errors, env=environment,
            start_new_session=True,
        )  # fmt: skip
        self.target = Target(f"http://127.0.0.1:{port}/v1", timeout=timeout)
        self.asking: Asking | None = None
        self.why_not = self._wait()

    def _wait(self) -> str:
        """Until it has answered once -> why it does not, or nothing."""
        until, why = time.monotonic() + LOAD_SECONDS, ""
        while time.monotonic() < until:
            if self.process.poll() is not None:
                self.errors.seek(0)
                return _last_line(self.errors.read()) or f"ended with {self.process.returncode}"
            try:
                asyncio.run(self.target.models())
                self.asking = asyncio.run(agree(self.target, BenchServeOptions(prompt=1, ignore_end=False)))
                return ""
            except InputError as error:  # not yet
                why = str(error)
                time.sleep(POLL)
        return why

    def loop(self, texts: Sequence[str], streams: int, new: int) -> list[Reply]:
        assert self.asking is not None
        bodies = [self.asking.body(text, new) for text in texts]
        replies = asyncio.run(self.target.load(self.asking.path, bodies, streams))
        for reply in replies:
            # no answer has another end; not every server counts, and some count texts of several tokens
            reply.tokens = new if reply.finish == "length" else reply.tokens
        return replies

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        self.go_on()
        self._signal(signal.SIGTERM)
        try:
            self.process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self.process.wait()
        self._signal(signal.SIGKILL)  # what it has left behind
        self.errors.close()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


class Bare(Process):
    """Our engine without a server."""

    def __init__(self, place: Place, precision: str) -> None:
        environment = place.environment()
        prepare(environment, serves=True)  # as the processes of a server have it
        super().__init__([place.python, str(HERE / "with_engine.py")], environment)
        path = str(place.folder / precision)
        self.loaded = self.ask({"do": "load", "path": path, "dtype": dtype_of(precision)}, LOAD_SECONDS)

    def loop(self, texts: Sequence[str], streams: int, new: int) -> list[Reply]:
        told = self.ask({"do": "loop", "texts": list(texts), "streams": streams, "new": new})
        if "failed" in told:
            return [Reply(time.perf_counter(), "no answer", said=told["failed"])]
        return [Reply(**reply) for reply in told["replies"]]

    def pause(self) -> None:
        """It sleeps while nothing is asked."""

    def go_on(self) -> None: ...


class LlamaBatch(Process):
    """llama.cpp's library answers all prompts in one batch, step by step together: what a server of it that batches
    could give at most. Its prompts are ids of the same number."""

    def __init__(self, place: Place, precision: str, tokens: int) -> None:
        super().__init__([str(place.peers), str(HERE / "with_llama.py")], place.environment())
        self.tokens, self.seed = tokens, 0
        path = str(place.folder / f"{precision}.gguf")
        self.loaded = self.ask({"do": "load", "path": path, "precision": precision}, LOAD_SECONDS)

    def loop(self, texts: Sequence[str], streams: int, new: int) -> list[Reply]:
        replies = []
        for _ in range(0, len(texts), streams):
            self.seed += 1
            asked = {"streams": streams, "prompt": self.tokens, "new": new, "room": self.tokens + new, "beams": 0}
            began = time.perf_counter()
            told: dict[str, Any] = self.ask({"do": "answer", "seed": self.seed} | asked)
            if "total" not in told:
                return [Reply(began, "no answer", said=told.get("failed") or told["skipped"])]
            gaps = [(told["total"] - told["first"]) / (new - 1)] * (new - 1)
            replies += [
                Reply(began, "", told["first"], told["total"], gaps, new, self.tokens, finish="length")
            ] * streams  # fmt: skip
        return replies

    def pause(self) -> None:
        """It sleeps while nothing is asked."""

    def go_on(self) -> None: ...


def start(system: str, precision: str, place: Place, tokens: int, timeout: float) -> Contestant | str:
    """A system that is ready, or why it is not. precision: what lies in the folder; tokens: of a prompt."""
    if system not in OURS and not place.peers.is_file():
        return f"{place.peers} is missing; make bench-serve builds it"
    if system == "engine":
        found: Contestant = Bare(place, precision)
    elif system == "llama.cpp batch":
        found = LlamaBatch(place, precision, tokens)
    else:
        port = free_port()
        found = Server(words_of(system, precision, place, port), port, place.environment(), timeout)
    if why := found.why_not:
        found.close()
        return why
    return found


def words_of(system: str, precision: str, place: Place, port: int) -> list[str]:
    """The command of a server. The dtype is that of the files, which every peer takes by itself."""
    folder, threads = str(place.folder / precision), str(place.threads)
    if system == "instar":
        dtype = ["--dtype", dtype_of(precision)]
        return [place.python, "-c", INSTAR, "serve", "--model", folder, "--port", str(port), *dtype]
    if system == "llama.cpp":
        # one request at a time is all it can: others wait, and must not end the one that runs
        alone = ["--interrupt_requests", "false", "--verbose", "false", "--n_ctx", "2048"]
        by = ["--n_threads", threads, "--n_threads_batch", threads, "--port", str(port)]
        return [str(place.peers), "-m", "llama_cpp.server", "--model", f"{folder}.gguf", *alone, *by]
    batching = ["--continuous-batching"] if system == "transformers batching" else []
    command = str(place.peers.with_name("transformers"))
    return [command, "serve", folder, "--device", "cpu", "--port", str(port), *batching]


def dtype_of(precision: str) -> str:
    """What ours is told: fp32 as it is, and for bf16 weights what it would do by itself."""
    return "fp32" if precision == "fp32" else "auto"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
