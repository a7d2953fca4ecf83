"""A second process for what a stranger's data may hang, blow up or crash: it is lost alone, and a new one goes on.

It is a fresh interpreter, not a fork, and every thread has its own: so it can be started in any thread of any process,
a daemonic worker included, and holds none of its parent's memory. Its time is computing time, counted by the kernel: a
busy machine refuses no page that an idle one takes, and a process whose parent is gone ends too. It answers in JSON.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO, cast

from .piece import Refused

__all__ = ["Answer", "Sandbox", "serve"]

Answer = Callable[[dict[str, Any], bytes], dict[str, Any]]
SIZES = struct.Struct("<QQ")  # bytes of the JSON object, bytes of the data that follow it
MEMORY = 4 << 30  # bytes of addresses that the process may take
QUESTIONS = 10_000  # after so many a new process takes over, so that nothing grows with the input
ROOM = 1 << 19  # bytes of the pipe of questions
START = 120.0  # seconds in which it must be ready
PATIENCE = 30.0  # times the computing time that it may take by the clock, beside START
PDEATHSIG = 1  # prctl(2)


class Sandbox:
    """Asks a function of a module in another process. function: "module:name" of an `Answer`, which is called with an
    empty question first, before time is counted, to import all that it needs; nothing of that is imported here."""

    def __init__(self, function: str) -> None:
        self.function = function
        self._local = threading.local()

    def ask(self, question: dict[str, Any], data: bytes, seconds: float) -> dict[str, Any]:
        """What the function gives back. Raises Refused: what the function refused; "slow" after so many seconds of
        computing, "crash" if the process died. Raises ImportError for a library that the function lacks."""
        child = self._child()
        try:
            answer = child.ask({**question, "seconds": seconds}, data, START + PATIENCE * seconds)
        except (EOFError, OSError):
            raise self._lost(child, seconds) from None
        except BaseException:  # interrupted between question and answer: the next question would get this answer
            child.end()
            raise
        if "missing" in answer:
            raise ImportError(answer["detail"], name=answer["missing"])
        if "refused" in answer:
            raise Refused(answer["refused"], answer["detail"])
        return answer

    def end(self) -> None:
        """End this thread's process; the next question starts another."""
        child: _Child | None = getattr(self._local, "child", None)
        if child is not None:
            child.end()

    def _child(self) -> _Child:
        child: _Child | None = getattr(self._local, "child", None)
        if child is None or not child.usable():
            if child is not None:
                child.end()
            child = self._local.child = _Child(self.function)
        return child

    def _lost(self, child: _Child, seconds: float) -> Refused:
        code = child.end()
        if code == -signal.SIGPROF:
            return Refused("slow", f"more than limits.seconds={seconds:g} seconds of computing")
        said = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return Refused("crash", f"the process that read it died: {said}")


class _Child:
    def __init__(self, function: str) -> None:
        module, name = function.split(":")
        start = (
            f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; "
            f"serve({module!r}, {name!r}, {os.getpid()})"
        )
        # unbuffered: what is written is sent, and what is read is all that `select` must know of
        self._process = subprocess.Popen(
            [sys.executable, "-c", start], bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        _widen(self._process.stdin)
        self._asked = 0
        self._close = weakref.finalize(self, _end, self._process)

    def usable(self) -> bool:
        """False after it ended, after many questions, and in a fork, which has no such child and must leave its
        parent's pipes alone."""
        return self._asked < QUESTIONS and self._process.poll() is None

    def ask(self, question: dict[str, Any], data: bytes, seconds: float) -> dict[str, Any]:
        self._asked += 1
        _send(cast(BinaryIO, self._process.stdin), question, data)
        stream = cast(BinaryIO, self._process.stdout)
        waiting = select.poll()
        waiting.register(stream, select.POLLIN)
        if not waiting.poll(seconds * 1000):
            raise EOFError
        return _receive(stream)[0]

    def end(self) -> int:
        """-> its exit code, minus the signal that ended it."""
        self._close()
        return self._process.returncode or 0


def _widen(pipe: Any) -> None:
    """Room in a pipe for most pages, so that the processes take turns once a page and not once for every 64 KB."""
    with suppress(OSError, AttributeError):  # Linux alone has this, and gives each user so much and no more
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, ROOM)


def _end(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        cast(BinaryIO, stream).close()
    try:
        process.wait(0.05)  # one that died tells of what; one that reads sees the end of its questions
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def serve(module: str, name: str, parent: int) -> None:
    """The life of the process: answer what stands on the standard input until it ends."""
    from importlib import import_module

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # the parent may have ignored or blocked it
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})
    _die_with(parent)
    # what a library prints must not stand between the answers
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    questions = os.fdopen(os.dup(0), "rb")
    try:
        answer: Answer = getattr(import_module(module), name)
        answer({}, b"")
    except ImportError as error:
        _answer_missing(questions, answers, error)
        return
    _limit_memory()
    sys.setrecursionlimit(20_000)  # of Python's own frames, which take no stack of the machine
    while True:
        try:
            question, data = _receive(questions)
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_PROF, question.pop("seconds"))  # SIGPROF, left as it is, ends the process
        _send(answers, _answered(answer, question, data), b"")
        signal.setitimer(signal.ITIMER_PROF, 0)


def _answered(answer: Answer, question: dict[str, Any], data: bytes) -> dict[str, Any]:
    try:
        return answer(question, data)
    except Refused as refused:
        return {"refused": refused.reason, "detail": refused.detail}
    except ImportError as error:
        return {"missing": error.name or "", "detail": str(error)}
    except RecursionError:
        return {"refused": "deep", "detail": "nested too deeply for its reader"}
    except MemoryError:
        return {"refused": "expands", "detail": f"its reader asked for more than {MEMORY:,} bytes of memory"}
    except Exception as error:  # whatever a library raises for a stranger's data, it is the data's
        said = " ".join(str(error).split())[:300]
        return {"refused": "crash", "detail": f"{type(error).__name__}: {said}"}


def _answer_missing(questions: BinaryIO, answers: BinaryIO, error: ImportError) -> None:
    _receive(questions)
    _send(answers, {"missing": error.name or "", "detail": str(error)}, b"")


def _die_with(parent: int) -> None:
    """Linux ends this process when the thread that started it ends; elsewhere the end of the questions does."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before that was asked for
        os._exit(1)


def _limit_memory() -> None:
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_AS)
    wanted = MEMORY if most == resource.RLIM_INFINITY else min(MEMORY, most)
    resource.setrlimit(resource.RLIMIT_AS, (wanted, most))


def _send(stream: BinaryIO, value: dict[str, Any], data: bytes) -> None:
    head = json.dumps(value).encode()
    for part in (SIZES.pack(len(head), len(data)) + head, data):
        rest = memoryview(part)
        while rest:
            rest = rest[stream.write(rest) :]


def _receive(stream: BinaryIO) -> tuple[dict[str, Any], bytes]:
    """Raises EOFError."""
    size, more = SIZES.unpack(_exactly(stream, SIZES.size))
    return json.loads(_exactly(stream, size)), _exactly(stream, more)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    parts = io.BytesIO()
    while size:
        part = stream.read(min(size, 1 << 20))
        if not part:
            raise EOFError
        parts.write(part)
        size -= len(part)
    return parts.getvalue()
