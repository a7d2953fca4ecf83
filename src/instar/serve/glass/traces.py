"""Traces that are kept for a while, so that each view of a text costs no further pass."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from secrets import token_hex
from typing import Any

from ...config import ModelConfig
from ...probe.look import Look
from .stock import Held
from .trouble import Trouble, expired, no_memory


@dataclass
class Beside:
    """What a trace is held against: the same words, read by the model that `name` asks for. bytes: of its pass."""

    name: str
    held: Held
    look: Look
    bytes: int


@dataclass
class Kept:
    """A trace. look: with the pass that it holds; asked: what the client asked, to ask it of another model; changed:
    what was intervened in, None for a trace of the model as it is; beside: what it was held against last; more: what
    operations keep with it; bytes: of all that; drawn: of its look's pictures among them."""

    id: str
    held: Held
    look: Look
    asked: dict[str, Any]
    changed: dict[str, Any] | None = None
    beside: Beside | None = None
    more: dict[str, Any] = field(default_factory=dict)
    bytes: int = 0
    drawn: int = 0
    used: float = 0.0


class Traces:
    """At most `budget` bytes, the least recently used going first; each for `seconds` after its last use. clock: of
    seconds."""

    def __init__(self, budget: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.budget, self.seconds, self._clock = budget, seconds, clock
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._numbers, self._life = count(1), token_hex(3)  # of another process the same number is another trace

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes(self) -> int:
        return sum(kept.bytes for kept in self._kept.values())

    def keep(self, held: Held, look: Look, asked: dict[str, Any], changed: dict[str, Any] | None = None) -> Kept:
        """Keep a look, whose pass is run here if it was not. Raises Trouble (507) where it is larger than all the
        budget."""
        kept = Kept(f"t{next(self._numbers)}-{self._life}", held, look, asked, changed, bytes=look.trace.bytes)
        self._drop_old()
        self._make_room(kept.bytes)
        kept.used = self._clock()
        self._kept[kept.id] = kept
        return kept

    def find(self, id: str) -> Kept:
        """Raises Trouble (409) where it is not kept any more."""
        self._drop_old()
        if id not in self._kept:
            raise expired(id)
        kept = self._kept[id]
        kept.used = self._clock()
        self._kept.move_to_end(id)
        return kept

    def grown(self, kept: Kept, bytes: int) -> None:
        """So many bytes more are kept with it; others give way. Raises Trouble (507) where the budget is too small for
        this one alone."""
        if kept.id in self._kept:
            self._make_room(bytes, but=kept)
        kept.bytes += bytes

    def counted(self, kept: Kept) -> None:
        """Count the pictures that views have made of it; where there is no room for them they are not kept."""
        looks = [kept.look] if kept.beside is None else [kept.look, kept.beside.look]
        more = sum(picture.nbytes for look in looks for picture in look.pictures.values()) - kept.drawn
        try:
            self.grown(kept, more)
            kept.drawn += more
        except Trouble:
            for look in looks:
                look.pictures.clear()
            kept.bytes, kept.drawn = kept.bytes - kept.drawn, 0

    def check_room(self, bytes: int) -> None:
        """Before a pass is run. Raises Trouble (507) for one that could never be kept."""
        if bytes > self.budget:
            raise no_memory(bytes, self.budget)

    def hold(self, kept: Kept, name: str, held: Held, look: Look) -> None:
        """Keep what a trace is held against, in the place of what it was held against before; its pass is run here if
        it was not. Raises Trouble (507) where there is no room for both."""
        self._let_go(kept)
        bytes = look.trace.bytes
        self.grown(kept, bytes)
        kept.beside = Beside(name, held, look, bytes)

    def _let_go(self, kept: Kept) -> None:
        if kept.beside is not None:
            kept.bytes -= kept.beside.bytes
            kept.beside = None
            self.counted(kept)

    def drop(self, held: Held) -> None:
        """Those of a model that is let go, and what others were held against of it: a look keeps its model alive."""
        for id in [id for id, kept in self._kept.items() if kept.held is held]:
            del self._kept[id]
        for kept in self._kept.values():
            if kept.beside is not None and kept.beside.held is held:
                self._let_go(kept)

    def clear(self) -> None:
        self._kept.clear()

    def _drop_old(self) -> None:
        before = self._clock() - self.seconds
        for id in [id for id, kept in self._kept.items() if kept.used < before]:
            del self._kept[id]

    def _make_room(self, bytes: int, but: Kept | None = None) -> None:
        self.check_room(bytes + (but.bytes if but is not None else 0))
        for id in list(self._kept):
            if self.bytes + bytes <= self.budget:
                return
            if but is None or id != but.id:
                del self._kept[id]


def estimate(config: ModelConfig, tokens: int, source: int = 0, size: int = 4) -> int:
    """Bytes that a trace of so many tokens will hold, before any is computed. source: tokens of an encoder-decoder's
    source; size: bytes of a number."""
    total = _stack(config, config.layers, tokens, tokens)
    if config.encoder_layers:
        total += _stack(config, config.encoder_layers, source, source)
        head = config.head_size or config.d_model // config.heads
        total += config.layers * (2 * tokens * config.heads * head + 2 * source * config.kv_heads * head)
        total += config.layers * tokens * config.d_model  # what was moved from the source
    return total * size


def _stack(config: ModelConfig, layers: int, tokens: int, keys: int) -> int:
    """Numbers of one stack: the stream, what both parts of a block gave, and q, k, v and y of each attention."""
    head = config.head_size or config.d_model // config.heads
    seam = 2 * tokens * config.heads * head + 2 * keys * config.kv_heads * head
    return (3 * layers + 2) * tokens * config.d_model + layers * seam
