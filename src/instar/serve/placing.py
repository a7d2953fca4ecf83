"""Which engine a request goes to: the least busy, and of those that hardly differ one that has read its beginning."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from .wire import Ask, Embed, Score

NEAR = 2  # requests by which two engines hardly differ
LENGTHS = (256, 128, 64, 32)  # ids of a beginning that are looked at: of a longer conversation the last turn's too
MOST = 8192  # beginnings kept


class Placing:
    """Which engine has read which beginnings. An engine keeps the keys of what it has read for a while, and they save
    reading the same again."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, int] = OrderedDict()

    def choose(self, loads: Mapping[int, int], message: Ask | Embed | Score) -> int:
        """loads: requests of each engine that has room for one more -> an engine."""
        if len(loads) == 1:
            return next(iter(loads))
        least = min(loads.values())
        if not isinstance(message, Ask):
            return min(loads, key=loads.__getitem__)
        near = {engine for engine, load in loads.items() if load <= least + NEAR}
        keys = beginnings(message)
        known = (self._known.get(key, -1) for key in keys)
        engine = next((engine for engine in known if engine in near), min(loads, key=loads.__getitem__))
        for key in keys:
            self._known[key] = engine
            self._known.move_to_end(key)
        while len(self._known) > MOST:
            self._known.popitem(last=False)
        return engine

    def forget(self, engine: int) -> None:
        """An engine that died has read nothing."""
        self._known = OrderedDict((key, other) for key, other in self._known.items() if other != engine)


def beginnings(ask: Ask) -> list[int]:
    """A number for each beginning of a prompt, longest first; two that differ in it share no keys. A prompt too short
    to share any has none."""
    root = (ask.adapter, ask.salt, tuple(ask.source or ()))
    return [hash((root, tuple(ask.prompt[:length]))) for length in LENGTHS if len(ask.prompt) >= length]
