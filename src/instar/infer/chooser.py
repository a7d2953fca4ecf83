"""From the logits of a step to what each request may say next: the rules of all of them, applied at once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ..model.pages import Pages
from ..model.transformer import Transformer
from .asking import draws, recalls
from .request import Request
from .said import Said
from .sampling import Rules
from .schedule import rows_of
from .weights import logprob

if TYPE_CHECKING:
    from .constrain import Masks


class Candidate(NamedTuple):
    """A token behind a text or a part of its draft. logprob: in nats, under the model's own distribution; alternatives:
    the likeliest ids and their log-probabilities, where any request of the step asks."""

    id: int
    logprob: float
    alternatives: tuple[list[int], list[float]] | None

    @property
    def sound(self) -> bool:
        """Whether it was chosen from numbers."""
        return self.logprob == self.logprob


class Chooser:
    """Chooses for the requests of an engine."""

    def __init__(self, model: Transformer, pages: Pages, capacity: int) -> None:
        """capacity: tokens of the longest text."""
        self.pages, self.capacity = pages, capacity
        self.vocab_size, self.device = model.config.vocab_size, model.device
        self._rules: tuple[list[Request], Rules] | None = None
        self._said: Said | None = None
        self._masks: Masks | None = None

    def begin(self, request: Request) -> None:
        """Keep the tokens of a row where rules look back at them."""
        if not recalls(request.options):
            return
        if self._said is None:
            self._said = Said(len(self.pages), self.capacity, self.vocab_size, self.device)
        self._said.begin(request.row, request.prompt, request.ids)

    def end(self, request: Request) -> None:
        """It says no more in its row."""
        if self._said is not None and request.row >= 0:
            self._said.end(request.row)

    def constrain(self, said: Sequence[Request]) -> Future[Tensor] | None:
        """Begin to find out what constraints allow, while the model computes. A request has a row of logits behind each
        token of its draft too."""
        constraints = [request.constraint for request in said for _ in range(1 + len(request.draft))]
        if not any(constraints):
            return None
        if self._masks is None:
            from .constrain import Masks

            self._masks = Masks(self.vocab_size)
        return self._masks.begin(constraints)

    def choose(self, said: Sequence[Request], logits: Tensor, masks: Future[Tensor] | None) -> list[list[Candidate]]:
        """logits (R, V), of each request as many rows as it has a draft and one -> a token for each of them. The only
        wait for the device in a step."""
        spans = [1 + len(request.draft) for request in said]
        each = [request for request, span in zip(said, spans) for _ in range(span)]
        rules = self._ruled(each, logits)
        rows = torch.from_numpy(rows_of(each)).to(logits.device) if rules.counting else None
        allowed = None if masks is None else masks.result().to(logits.device)
        shaped = rules.shape(logits, self._said, rows, self._short(each), allowed)
        ids = rules.choose(shaped, self._luck(said, spans) if rules.drawing else None)
        if rules.counting and self._said is not None and rows is not None:
            self._said.add(rows, ids)
        told = rules.alternatives(logits)
        numbers, chances = torch.stack((ids.double(), logprob(logits, ids).double())).tolist()
        more = [None] * len(each) if told is None else list(zip(told[0].tolist(), told[1].tolist()))
        found = map(Candidate, map(int, numbers), chances, more)
        return [[next(found) for _ in range(span)] for span in spans]

    def _ruled(self, each: list[Request], logits: Tensor) -> Rules:
        """How each row of logits is chosen from; the same as long as the requests are."""
        if self._rules is None or self._rules[0] != each:
            options = [request.options for request in each]
            self._rules = each, Rules(options, logits, [request.stops for request in each])
        return self._rules[1]

    def _short(self, each: Sequence[Request]) -> Tensor | None:
        """Which rows have to say more before they may end; the next of a draft has said one token more."""
        if not any(request.options.min_new_tokens for request in each):
            return None
        short, ahead, last = [], 0, None
        for request in each:
            ahead = ahead + 1 if request is last else 0
            short.append(len(request.ids) + ahead < request.options.min_new_tokens)
            last = request
        return torch.tensor(short, device=self.device)

    def _luck(self, said: Sequence[Request], spans: Sequence[int]) -> Tensor:
        """The number by which each row draws; greedy requests use none up."""
        numbers = [
            request.luck.of(len(request.ids) + place) if draws(request.options) else 0.0
            for request, span in zip(said, spans)
            for place in range(span)
        ]
        return torch.tensor(numbers, dtype=torch.float64)
