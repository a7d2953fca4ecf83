"""Lets a training loop take steps when it is asked to, so that systems can take turns: for benchmarks/alignment.py.

It knows only the standard library. A process answers one JSON line with another:

    {"do": "load", ...}               -> what `ready` is told, seconds, cpu, memory; the first step is still to come
    {"do": "steps", "count": N}       -> seconds, samples, tokens, computed, losses of these steps, memory; cpu: seconds
                                         of all threads, which a busy machine does not change much

A loop that fails answers {"failed": what} to whatever was asked of it; the end of the requests ends the process.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, TextIO

from protocol import Memory, watched


@dataclass
class Gate:
    """What a loop calls: `ready` once before its first step, `passed` after each."""

    answers: TextIO
    started: float = field(default_factory=time.perf_counter)
    computing: float = field(default_factory=time.process_time)
    left: int = 0
    told: dict[str, Any] = field(default_factory=dict)
    _watch: ExitStack = field(default_factory=ExitStack)
    _memory: Memory = field(default_factory=Memory)

    def __post_init__(self) -> None:
        self._memory = self._watch.enter_context(watched())

    def ready(self, **facts: Any) -> None:
        """All that comes before training is done."""
        self.told = facts
        self._answer()

    def passed(self, loss: float, samples: int, tokens: int, computed: int) -> None:
        """One optimizer step was taken. samples, tokens: what it learnt from; computed: tokens with padding, and a
        prompt that is shared counted once."""
        self.told["losses"].append(loss)
        for name, count in (("samples", samples), ("tokens", tokens), ("computed", computed)):
            self.told[name] += count
        self.left -= 1
        if not self.left:
            self._answer()

    def _answer(self) -> None:
        """Tell what was done, and wait until more is wanted."""
        clocks = {"seconds": time.perf_counter() - self.started, "cpu": time.process_time() - self.computing}
        self._watch.close()
        say(self.answers, self.told | clocks | {"memory": self._memory.report()})
        request = json.loads(sys.stdin.readline() or "null")
        if request is None:
            os._exit(0)  # nothing of what was learnt is wanted
        self.left = request["count"]
        self.told = {"losses": [], "samples": 0, "tokens": 0, "computed": 0}
        self._memory = self._watch.enter_context(watched())
        self.started, self.computing = time.perf_counter(), time.process_time()


def say(answers: TextIO, told: dict[str, Any]) -> None:
    answers.write(json.dumps(told) + "\n")
    answers.flush()


def run(train: Callable[[dict[str, Any], Gate], None]) -> None:
    """Train as the first line asks for."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print goes to stderr: stdout is for answers alone
    gate = Gate(answers)
    try:
        train(json.loads(sys.stdin.readline()), gate)
    except Exception as error:  # a peer fails in ways of its own; the others go on
        traceback.print_exc()
        lines = str(error).strip().splitlines() or [""]
        say(answers, {"failed": f"{type(error).__name__}: {lines[0]}"[:200]})
