"""Grammars tried in a process of their own, before the process that answers compiles them.

The library's own limits do not hold every grammar: the intersection of twenty patterns takes hours, and rules that
name each other in a long chain overflow the stack, which ends a process without a word. Here such a grammar ends
nothing but its trial. This module is what both processes share, and what the tried one runs; it imports no torch.
"""

from __future__ import annotations

import faulthandler
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

# with the start of a process, a grammar is refused within two
SECONDS = 1.5
MEMORY = 2 * 2**30
# less than any thread has that later works with the grammar
STACK = 2**20
# with which the watch of faulthandler ends a process
TOO_LONG = 1
LIMITS: dict[str, Any] = {
    # 1,500 optional properties branch so widely
    "max_items_in_row": 20_000,
    "initial_lexer_fuel": 1_000_000,
    "step_lexer_fuel": 200_000,
    "step_max_items": 50_000,
    "max_lexer_states": 100_000,
    "max_grammar_size": 500_000,
    # what it adds to an error shows the schema to whoever reads the log
    "verbose_errors": False,
}
Encode = Callable[[str], Sequence[int]]


class Words:
    """A vocabulary as the library wants it: the bytes of each id, and an end of its own behind the last.

    Control tokens have no bytes, so that no grammar allows one, and `end` stands for all that may stop an answer.
    """

    bos_token_id = None

    def __init__(self, pieces: Sequence[bytes], encode: Encode | None = None) -> None:
        """pieces: the bytes of each id, b"" for one that no text is made of."""
        self.end = self.eos_token_id = len(pieces)
        self.tokens = [*pieces, b"<|end|>"]
        self.special_token_ids = [self.end, *(id for id, piece in enumerate(pieces) if not piece)]
        self.encode = encode
        self._ids = {piece: id for id, piece in enumerate(pieces) if piece}
        self._longest = max(map(len, self._ids), default=0)

    def __call__(self, raw: bytes) -> list[int]:
        """Ids that spell exactly these bytes: what a grammar leaves no choice in is said as the model has read it."""
        text = raw.decode(errors="replace")
        # some encoders put a blank before every text; behind a line's end none of it is left
        for before in ("", "\n") if self.encode else ():
            ids = list(self.encode(before + text))  # type: ignore[misc]
            for start in range(3):
                if b"".join(self.tokens[id] for id in ids[start:]) == raw:
                    return ids[start:]
        return self._greedily(raw)

    def _greedily(self, raw: bytes) -> list[int]:
        """The longest piece again and again, as far as the vocabulary can spell."""
        ids = []
        while raw:
            sizes = range(min(self._longest, len(raw)), 0, -1)
            id = next((self._ids[raw[:size]] for size in sizes if raw[:size] in self._ids), None)
            if id is None:
                break
            ids.append(id)
            raw = raw[len(self.tokens[id]) :]
        return ids


def tokenizer(words: Words) -> Any:
    """The library's view of a vocabulary; a third of a second for 50,000 words."""
    from llguidance import LLTokenizer, TokenizerWrapper

    return LLTokenizer(TokenizerWrapper(words), n_vocab=len(words.tokens), eos_token=words.end)


def begin(words: Any, grammar: str) -> Any:
    """A matcher that knows what an answer may begin with; `is_error` where it cannot."""
    from llguidance import LLMatcher, LLParserLimits

    matcher = LLMatcher(words, grammar, log_level=0, limits=LLParserLimits(**LIMITS))
    if not matcher.is_error():
        matcher.compute_bitmask()
    return matcher


def reason(matcher: Any) -> str:
    """Why a matcher failed, in one line."""
    said = matcher.get_error().split("<non-verbose/>")[0].split("<backtrace>")[0]
    if said.startswith("NoExtension"):
        return "no answer satisfies it"
    line = " ".join(said.split())
    return line if len(line) <= 300 else f"{line[:300]}..."


class Trial:
    """The other process, started when it is first needed, and again after a grammar has ended it."""

    def __init__(self, words: Words) -> None:
        self._header = json.dumps([piece.decode("latin-1") for piece in words.tokens[:-1]])
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def fault(self, grammar: str) -> str | None:
        """What is wrong with a grammar, or None. Raises OSError where no process can be started."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._process = self._start()
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            with suppress(BrokenPipeError):
                self._process.stdin.write(json.dumps(grammar) + "\n")
                self._process.stdin.flush()
            if answer := self._process.stdout.readline():
                return json.loads(answer)
            code, self._process = self._process.wait(), None
        if code == TOO_LONG:
            return f"compiling it takes more than {SECONDS:g} s; write it simpler, above all what intersects or repeats"
        return "compiling it needs more memory than it may have, or its rules lead too deep; write it smaller"

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "instar.infer.trial"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
            encoding="utf-8",
        )
        weakref.finalize(self, _end, process)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(self._header + "\n")
        process.stdin.flush()
        if not process.stdout.readline():
            raise OSError(f"{sys.executable} ended with {process.wait()}")
        return process


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with suppress(BrokenPipeError):
            pipe.close()
    process.wait()


def _serve() -> None:
    """One line for the vocabulary, then one for each grammar, until there are no more; answers a line for each."""
    words = tokenizer(Words([piece.encode("latin-1") for piece in json.loads(sys.stdin.readline())]))
    print("ready", flush=True)
    with open(os.devnull, "w") as nowhere:
        for line in sys.stdin:
            # ends the process even from inside a call of the library
            faulthandler.dump_traceback_later(SECONDS, exit=True, file=nowhere)
            matcher = begin(words, json.loads(line))
            fault = reason(matcher) if matcher.is_error() else None
            faulthandler.cancel_dump_traceback_later()
            print(json.dumps(fault), flush=True)


def main() -> None:
    """Serve on a small stack and in little memory."""
    with suppress(ImportError):  # Windows has no such limits
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    threading.stack_size(STACK)
    server = threading.Thread(target=_serve)
    server.start()
    server.join()


if __name__ == "__main__":
    main()
