"""One look into a model: what is looked at, what was asked, and the forward pass, run once for all views."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from ..config import InputError
from ..config.options.inspecting import InspectOptions
from .capture import Side, Trace
from .subject import Subject, Token


@dataclass(frozen=True)
class Look:
    """known: what views found of the model itself, whatever it reads, and took long for: other looks at it, as long as
    it stays the same, may be given it; pictures: of heads, by kind, stack, size and layer, which every question about
    the same pass draws."""

    subject: Subject
    ask: InspectOptions
    known: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    pictures: dict[tuple[str, str, str, int, int], Tensor] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def trace(self) -> Trace:
        return self.subject.capture()

    def asked(self, ask: InspectOptions) -> Look:
        """Another question about the same text, by the same pass where it has been run."""
        look = replace(self, ask=ask)
        if "trace" in vars(self):
            vars(look)["trace"] = self.trace
        return look

    @property
    def which(self) -> str:
        """Whose attention is meant: `cross`, or `self`."""
        return "cross" if self.ask.side == "cross" else "self"

    @property
    def side(self) -> Side:
        """The stack that is meant. Raises InputError where the model has no such."""
        side = self.ask.side
        if side in ("auto", self.trace.own.name) or (side == "cross" and self.trace.encoder is not None):
            return self.trace.own
        if side == "encoder" and self.trace.encoder is not None:
            return self.trace.encoder
        has = "an encoder" if self.trace.own.name == "encoder" else "a decoder"
        raise InputError(f"side={side}, and the model is {has} alone; leave it out")

    @property
    def tokens(self) -> tuple[Token, ...]:
        """Those that the side reads."""
        encodes = self.side is self.trace.encoder
        return self.subject.source if encodes else self.subject.tokens

    @property
    def keys(self) -> tuple[Token, ...]:
        """Those that its attention looks at."""
        return self.subject.source if self.which == "cross" else self.tokens

    @property
    def layer(self) -> int:
        """Counted from 0. Raises InputError for one that does not exist."""
        return counted("layer", self.ask.layer, len(self.side.blocks))

    @property
    def head(self) -> int | None:
        """Counted from 0; None for the mean of all. Raises InputError for one that does not exist."""
        return None if self.ask.head == -1 else counted("head", self.ask.head, self.side.stack.config.heads)

    @property
    def at(self) -> int:
        """The place of the token that is asked about. Raises InputError for one that does not exist."""
        return counted("at", self.ask.at, len(self.tokens))


def counted(name: str, number: int, count: int) -> int:
    """A number of what is asked, -1 being the last. Raises InputError for one that does not exist."""
    if not -1 <= number < count:
        raise InputError(f"{name}={number}, wanted 0 to {count - 1}, or -1 for the last")
    return number if number >= 0 else count - 1
