"""What is asked of an engine, and what it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch

from ..config import InputError
from ..config.options import SamplingOptions

if TYPE_CHECKING:
    from .constrain import Constraint

Finish = Literal["stop", "length", "cancelled", "failed"]
DRAWN = 64  # numbers that a request's luck is asked for at a time


class Beam(NamedTuple):
    """An unfinished answer: where its keys are, and the token that is read next."""

    row: int
    id: int


class Luck:
    """The numbers, uniform in [0, 1), by which a request draws: its i-th token always by the i-th, so that to compute
    an answer once more, or several tokens of it at a time, cannot change it."""

    def __init__(self, seed: int) -> None:
        """Raises InputError for a seed that is no whole number of 63 bits."""
        if not -(2**63) <= seed < 2**63:
            raise InputError(f"seed={seed}, wanted a whole number of at most 63 bits")
        self._generator = torch.Generator().manual_seed(seed)
        self._numbers: list[float] = []

    def of(self, place: int) -> float:
        """The number of one token."""
        while place >= len(self._numbers):
            self._numbers += torch.rand(DRAWN, generator=self._generator, dtype=torch.float64).tolist()
        return self._numbers[place]


@dataclass(frozen=True)
class Hypothesis:
    """One answer that beam search found. ids: without the stop; logprobs: of each id, in nats; score: by which answers
    are ranked, the stop counted; finish: stop or length."""

    ids: list[int]
    logprobs: list[float]
    score: float
    finish: Finish


@dataclass(frozen=True)
class Considered:
    """What one step of a beam search weighed, the likeliest first: of each candidate the beam that it goes on from, its
    token, the token's log-probability, the sum with it, and whether it ends there; next: which of them go on."""

    parents: list[int]
    ids: list[int]
    logprobs: list[float]
    sums: list[float]
    ended: list[bool]
    next: list[int]


@dataclass(eq=False)
class Request:
    """One answer in the making. source: what an encoder-decoder answers, else empty; adapter: what is heeded for it, ""
    for the bare model and None for whatever is active; root: what the keys of its tokens depend on besides them; ids:
    what was said so far, without the stop; logprobs: of each id, in nats, under the model's own distribution;
    alternatives: the likeliest ids at each place and their log-probabilities, where options.top_logprobs asks; finish:
    None while it goes on; error: why it failed; cached: tokens of the prompt whose keys were known already; preempted:
    how often it lost its memory to others and was computed again; drafted, accepted: tokens guessed ahead, and those
    that were right.

    Beam search says nothing before its end: then hypotheses holds the n best answers, or as many as there are, best
    first, and ids and logprobs are those of the best. Who wants to see it at work sets heard, which is told of every
    step."""

    number: int
    prompt: list[int]
    source: list[int]
    options: SamplingOptions
    luck: Luck
    stops: frozenset[int]
    constraint: Constraint | None = None
    adapter: str | None = None
    root: bytes = b""
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    alternatives: list[list[tuple[int, float]]] = field(default_factory=list)
    finish: Finish | None = None
    error: str | None = None
    cached: int = 0
    preempted: int = 0
    drafted: int = 0
    accepted: int = 0
    n: int = 1
    hypotheses: list[Hypothesis] = field(default_factory=list)
    row: int = -1
    beams: list[Beam] = field(default_factory=list)
    draft: list[int] = field(default_factory=list)
    heard: Callable[[Considered], None] | None = None

    @property
    def text(self) -> list[int]:
        """All that stands in its row: prompt and answer."""
        return self.prompt + self.ids

    @property
    def width(self) -> int:
        """Beams side by side, 0 where it is no beam search."""
        return self.options.beams if self.options.strategy == "beam" else 0


@dataclass(frozen=True)
class Event:
    """A request said a token, or finished, or both. id is None where a stop token ended it, it failed, or it searched
    with beams."""

    request: Request
    id: int | None
    logprob: float
    finish: Finish | None
    alternatives: list[tuple[int, float]] | None = None
