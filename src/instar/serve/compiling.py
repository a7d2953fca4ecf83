"""The grammars of an engine that are being compiled, beside its loop: one may take seconds, in which others are
answered."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ..config import InputError
from ..config.options import CONSTRAINTS, SamplingOptions
from .wire import Ask

REFUSED = 64  # constraints that cannot be, kept so that the other answers to their request need not try them
KEPT = 60.0  # seconds for which they are: on a busy machine one may have been given up that is good


@dataclass(frozen=True)
class Compiled:
    """A grammar is ready for an answer that waits for it, or is none."""

    ask: Ask
    found: Any


class Compiling:
    """Answers that wait for their grammars. All but `_work` is called from one thread."""

    def __init__(self, compile: Callable[[SamplingOptions], Any], done: Callable[[Compiled], None]) -> None:
        """compile: options -> a grammar, raises InputError where the constraint cannot be; done: told of each answer
        that was added, from another thread. What went wrong is an Exception in the place of the grammar."""
        self._compile, self._done = compile, done
        self._wanted: dict[int, bool] = {}  # whether somebody waits for it still
        self._refused: OrderedDict[tuple[Any, ...], tuple[str, float]] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="grammars")

    def __len__(self) -> int:
        return len(self._wanted)

    def add(self, ask: Ask) -> None:
        """An answer is to obey its constraint."""
        self._wanted[ask.id] = True
        self._thread.submit(self._work, ask)

    def cancel(self, id: int) -> bool:
        """Nobody waits for it any more -> whether somebody did. It is not compiled where that has not begun."""
        found = self._wanted.get(id, False)
        if found:
            self._wanted[id] = False
        return found

    def take(self, compiled: Compiled) -> bool:
        """One is done -> whether somebody waits for it."""
        return self._wanted.pop(compiled.ask.id)

    def _work(self, ask: Ask) -> None:
        """In a thread."""
        found: Any = None
        if self._wanted.get(ask.id):
            try:
                found = self._found(ask.options)
            except Exception as error:  # whatever it is, it belongs to this request
                found = error
        self._done(Compiled(ask, found))

    def _found(self, options: SamplingOptions) -> Any:
        key = (options.stop_ids, *(getattr(options, name) for name in CONSTRAINTS))
        why, until = self._refused.get(key, ("", 0.0))
        if until > time.monotonic():
            raise InputError(why)
        try:
            return self._compile(options)
        except InputError as error:
            self._refused[key] = str(error), time.monotonic() + KEPT
            self._refused.move_to_end(key)
            while len(self._refused) > REFUSED:
                self._refused.popitem(last=False)
            raise
