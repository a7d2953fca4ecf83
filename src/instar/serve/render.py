"""Conversations -> ids in a process of its own with limits on time and memory, since templates come from strangers.

The sandbox of text/template.py counts what a template does and ends it where that is too much. Should a template find
a way that is not counted, it ends this process, and one conversation is refused. What the two processes tell each
other is a JSON line for each conversation; this module is what both share, and what the other one runs.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..config import InputError
from ..text.tokenizer import Tokenizer
from .failure import Refusal, bad, broken, unavailable
from .rounds import Rounds
from .turns import tools_read, turns

log = logging.getLogger(__name__)
CPU_SECONDS = 1.0  # of computing, for each conversation
SECONDS = 30.0  # by the clock; a process that computes nothing and never answers is ended too
MEMORY = 512 * 2**20  # beyond what the process has once the tokenizer is loaded
WAITING = 256  # conversations that wait at most, where it is not said
LATEST = 60.0  # seconds that one may take with its wait, where it is not said
LONG = 200_000  # characters; where so many take too long, they are too many for any model that we serve
_TOO_LONG = "context_length_exceeded"
_OUT_OF_MEMORY = 3  # with which the process ends where Python finds no more
_PLACE = re.compile(r"(messages|tools)\[\d+\]")
_PROBE = '{"a": "b"}'
# what the sandbox says of its own limits
_LIMITS = re.compile(
    r"it takes more than [\d,]+ steps|it makes more than [\d,]+ characters on its way|a text is longer than [\d,]+ char"
    r"acters|(a sum|a repetition|a number|a replacement|a joined text) is too long|RecursionError|MemoryError"
)


class Renderer:
    """Give it conversations from one event loop; they are rendered one after the other, and clients take turns.

    template: the chat template, None where the model has none; known once it was started.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        cpu_seconds: float = CPU_SECONDS,
        memory: int = MEMORY,
        waiting: int = WAITING,
        seconds: float = LATEST,
    ) -> None:
        """folder: that of the tokenizer; cpu_seconds: of computing, for each conversation; memory: bytes that rendering
        may take beyond what the tokenizer does; waiting: conversations that wait at most; seconds: that one may take by
        the clock, its wait included."""
        self.folder, self.cpu_seconds, self.memory = str(folder), cpu_seconds, memory
        self.template: str | None = None
        self._process: subprocess.Popen[str] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="render")
        self._lock = threading.Lock()  # whether it is closed, against a process that is just being started
        self._closed = False
        self._rounds = Rounds(1, waiting, seconds)

    async def start(self) -> None:
        """Raises InputError where the tokenizer cannot be loaded."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._begin)

    async def chat(self, messages: Sequence[Any], *, tools: Sequence[Any] | None = None, client: str = "") -> list[int]:
        """The prompt of the next answer to messages as OpenAI writes them, as ids. client: who asks. Raises Refusal:
        400 for what is wrong with the messages or tools, and where the template fails or takes too much; 429 where too
        many wait; 504 where its time ran out; 503 where the process cannot be started again."""
        if self._closed:
            raise _stopping()

        def work() -> list[int]:
            return self._ask({"messages": messages, "tools": tools or None})

        try:
            return await self._rounds.run(client, self._thread, work)
        except RuntimeError:  # the thread has ended
            if self._closed:
                raise _stopping() from None
            raise

    async def close(self) -> None:
        """End the process; what still waits is refused with 503."""
        with self._lock:
            self._closed = True
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            await asyncio.to_thread(_reap, process)
        self._thread.shutdown(wait=False)

    def _ask(self, question: Mapping[str, Any]) -> list[int]:
        try:
            line = json.dumps(question) + "\n"
        except (ValueError, RecursionError):
            raise bad("The messages or tools are nested too deeply.", "messages") from None
        for _ in range(2):
            try:
                answer, code = self._exchange(line)
            except (InputError, OSError) as error:  # it cannot be started again, of which the request is not guilty
                log.error("the process that renders chats cannot be started: %s", type(error).__name__)
                raise unavailable("Conversations cannot be read now.", "renderer_failed") from None
            if answer:
                told = json.loads(answer)
                if "ids" in told:
                    return told["ids"]
                raise bad(told["refused"], told["param"], told["code"])
            if self._closed:
                raise _stopping()
            if code in (-signal.SIGPROF, -signal.SIGALRM):
                raise bad(
                    f"The chat template takes more than {self.cpu_seconds:g} s for this conversation; shorten it.",
                    "messages", _too_long(len(line)),
                )  # fmt: skip
            if code in (_OUT_OF_MEMORY, -signal.SIGABRT, -signal.SIGSEGV):
                raise bad(
                    "The chat template takes too much memory for this conversation; shorten it.", "messages",
                    _too_long(len(line)),
                )  # fmt: skip
            # where somebody else killed it, the conversation need not be at fault
            log.warning("the process that renders chats ended with %d and is started again", code)
            if code != -signal.SIGKILL:
                break
        raise broken()

    def _exchange(self, line: str) -> tuple[str, int]:
        """Say a line -> the answer, empty where the process ended, and then how it did."""
        process = self._process
        if process is None or process.poll() is not None:
            process = self._begin()
        assert process.stdin is not None
        assert process.stdout is not None
        # ValueError: closed in the meantime
        with suppress(BrokenPipeError, ValueError):
            process.stdin.write(line)
            process.stdin.flush()
            answer = process.stdout.readline()
            if answer.endswith("\n"):  # else it ended in the middle of it
                return answer, 0
        return "", _reap(process)

    def _begin(self) -> subprocess.Popen[str]:
        if self._closed:
            raise _stopping()
        process = subprocess.Popen(
            [sys.executable, "-m", "instar.serve.render", self.folder, str(self.cpu_seconds), str(self.memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
                "TOKENIZERS_PARALLELISM": "false",
            },
            encoding="utf-8",
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        told = json.loads(line) if line.endswith("\n") else {}
        if "template" not in told:
            code = _reap(process)
            raise InputError(told.get("failed") or f"the process that renders chats ended with {code}")
        with self._lock:
            if not self._closed:
                self._process, self.template = process, told["template"]
                return process
        process.kill()
        _reap(process)
        raise _stopping()


def _reap(process: subprocess.Popen[str]) -> int:
    """Close the pipes of a process that has ended, or ends because of it -> its code."""
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with suppress(BrokenPipeError):
            pipe.close()
    return process.wait()


def _stopping() -> Refusal:
    return unavailable("The server is stopping.", "draining")


def _too_long(characters: int) -> str | None:
    """The code by which a client knows that it has to leave out what was said long ago."""
    return _TOO_LONG if characters > LONG else None


class _Chats:
    """What the other process knows: a tokenizer, and how its template wants the arguments of a call."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.spelt = self._takes_spelt()

    def answer(self, line: str) -> dict[str, Any]:
        question = json.loads(line)
        tools = question["tools"]
        try:
            tools = tools_read(tools) if tools else None
        except InputError as error:
            return _refused(str(error), "tools")
        try:
            messages = turns(question["messages"], spelt=self.spelt)
            return {"ids": self.tokenizer.chat(messages, add_generation_prompt=True, tools=tools).ids}
        except InputError as error:
            message, limited = without_content(str(error), self.tokenizer.template or "")
            return _refused(message, "messages", _too_long(len(line)) if limited else None)

    def _takes_spelt(self) -> bool:
        """Whether the template writes arguments that are a text as that text, which keeps what the model has said to
        the letter. The others spell out an object, and would put a text between quotes."""
        call = {"id": "call00000", "type": "function", "function": {"name": "f", "arguments": _PROBE}}
        asked = {"role": "user", "content": "a"}
        called = {"role": "assistant", "content": None, "tool_calls": [call]}
        for content in (None, ""):
            try:
                ids = self.tokenizer.chat([asked, {**called, "content": content}], teach="all").ids
            except InputError:
                continue
            return _PROBE in self.tokenizer.decode(ids, skip_special=False)
        return False


def without_content(message: str, template: str) -> tuple[str, bool]:
    """What may be said of a failed rendering -> a sentence without anything of the conversation, and whether it tells
    of a limit.

    What a template raises itself is told as far as it stands in the template, word for word; a sentence that it made
    of the messages is not.
    """
    kind, _, detail = message.partition(": ")
    if kind == "the tokenizer failed":
        return "the tokenizer cannot read this conversation", False
    if kind != "the chat template failed":
        return message, "says more than" in message
    limited = _LIMITS.fullmatch(detail) is not None
    told = limited or any(form in template for form in (detail, detail.replace("'", "\\'")))
    return f"the chat template failed at this conversation{f': {detail}' if told else ''}", limited


def _refused(message: str, param: str, code: str | None = None) -> dict[str, Any]:
    """The field at fault is one message or tool where the sentence begins with its place."""
    if place := _PLACE.match(message):
        return {"refused": message, "param": place[0], "code": code}
    return {"refused": f"{message[:1].upper()}{message[1:]}", "param": param, "code": code}


def _limit_memory(more: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):  # only Linux tells how much there is
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * os.sysconf("SC_PAGE_SIZE") + more
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main() -> None:
    """One line for the template, then one for each conversation, until there are no more."""
    folder, cpu_seconds, memory = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    # Ctrl-C reaches all processes of a terminal; this one goes on until the server has no more conversations
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for ends in (signal.SIGPROF, signal.SIGALRM):  # also from inside a call of a library
        signal.signal(ends, signal.SIG_DFL)
    try:
        tokenizer = Tokenizer.load(folder)
    except InputError as error:
        print(json.dumps({"failed": str(error)}), flush=True)
        return
    _limit_memory(memory)
    with _timed(cpu_seconds):
        chats = _Chats(tokenizer)
    print(json.dumps({"template": tokenizer.template}), flush=True)
    for line in sys.stdin:
        with _timed(cpu_seconds):
            try:
                answer = json.dumps(chats.answer(line))
            except MemoryError:
                sys.exit(_OUT_OF_MEMORY)
        print(answer, flush=True)


@contextmanager
def _timed(cpu_seconds: float) -> Iterator[None]:
    """What takes longer ends the process."""
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    main()
