"""Beam searches side by side: which answers go on at each step, which have ended, and which request is decided.

Of each request the W likeliest unfinished answers go on together, each in a row of the memory; behind every one of them
each token is a candidate, and the likeliest candidates over all of them are the next. A score is the sum of an answer's
log-probabilities over length ** length_penalty, where the length counts what was generated, the end token too, and
nothing of the prompt. Scores and stopping are those of transformers, so that one weighs answers here as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import InputError
from ..config.options import SamplingOptions
from ..model.pages import Pages
from .request import Beam, Considered, Hypothesis, Request
from .weights import no_numbers


def check_count(options: SamplingOptions, n: int) -> None:
    """Raise InputError where one request cannot have n answers."""
    if options.strategy != "beam" and n != 1:
        raise InputError(f"n={n} and sampling.strategy={options.strategy}; submit the prompt {n} times, or say beam")
    if not 1 <= n <= max(1, options.beams):
        raise InputError(f"n={n}, wanted from 1 to beams={options.beams}; ask for fewer answers or for more beams")


@dataclass
class Texts:
    """Answers to P requests, N each: ids and logprobs (P, N, T), of which `lengths` (P, N) tokens are said; scores
    (P, N), -inf where there is no answer; stopped (P, N) bool."""

    ids: Tensor
    logprobs: Tensor
    scores: Tensor
    lengths: Tensor
    stopped: Tensor

    @classmethod
    def none(cls, requests: int, width: int, most: int, like: Tensor) -> Texts:
        """No answers yet; `like` tells the precision and the device."""
        ids = torch.zeros(requests, width, most, dtype=torch.int64, device=like.device)
        scores = torch.full((requests, width), -torch.inf, dtype=like.dtype, device=like.device)
        return cls(ids, ids.to(like), scores, ids.new_zeros(requests, width), scores > 0)

    def of(self, requests: Tensor) -> Texts:
        """Those of some requests."""
        return Texts(*(part[requests] for part in vars(self).values()))

    def pick(self, which: Tensor) -> Texts:
        """Some answers to each request, which (P, M)."""
        rows = torch.arange(len(which), device=which.device)[:, None]
        return Texts(*(part[rows, which] for part in vars(self).values()))

    def join(self, other: Texts, dim: int) -> Texts:
        """These and others: to further requests (dim 0), or to the same (dim 1)."""
        longest = max(self.ids.shape[-1], other.ids.shape[-1])
        parts = (
            [F.pad(part, (0, longest - part.shape[-1])) if part.ndim == 3 else part for part in pair]
            for pair in zip(vars(self).values(), vars(other).values())
        )
        return Texts(*(torch.cat(pair, dim=dim) for pair in parts))

    def best(self, count: int) -> Texts:
        """The best of each request, best first."""
        return self.pick(self.scores.topk(count).indices)

    def say(self, ids: Tensor, logprobs: Tensor) -> None:
        """Every answer goes on by one token, ids (P, N)."""
        at = self.lengths[..., None]
        self.ids.scatter_(2, at, ids[..., None])
        self.logprobs.scatter_(2, at, logprobs[..., None])
        self.lengths = self.lengths + 1

    def hypotheses(self) -> list[list[Hypothesis]]:
        """As Python has them; what is no answer is left out."""
        columns = [part.tolist() for part in vars(self).values()]
        return [
            [
                Hypothesis(ids[:length], logprobs[:length], score, "stop" if stopped else "length")
                for ids, logprobs, score, length, stopped in zip(*rows)
                if score > -torch.inf
            ]
            for rows in zip(*columns)
        ]


class Batch:
    """The searches of one width W, whose P requests may have begun at different steps and differ in all else.

    live: answers that go on, best first, whose scores are sums of log-probabilities; done: the best that have ended.
    """

    def __init__(self, width: int, logits: Tensor) -> None:
        """logits (..., V): of the size, in the precision and on the device of those to come."""
        self.width, self.requests = width, list[Request]()
        like = logits.new_empty(0, dtype=torch.promote_types(logits.dtype, torch.float32))
        self.live, self.done = Texts.none(0, width, 0, like), Texts.none(0, width, 0, like)
        self.said: list[int] = []  # tokens of each live answer
        self.stops = torch.zeros(0, logits.shape[-1], dtype=torch.bool, device=logits.device)  # (P, V): what ends
        self.ends = 0  # how many tokens end an answer, at most

    def meet(self, requests: Sequence[Request]) -> None:
        """Go on with exactly these: those that are new begin, those that are not named are over."""
        staying = [place for place, request in enumerate(self.requests) if request in set(requests)]
        if len(staying) < len(self.requests):
            kept = torch.tensor(staying, dtype=torch.int64, device=self.stops.device)
            self.live, self.done, self.stops = self.live.of(kept), self.done.of(kept), self.stops[kept]
            self.requests = [self.requests[place] for place in staying]
            self.said = [self.said[place] for place in staying]
        known = set(self.requests)
        if fresh := [request for request in requests if request not in known]:
            self._begin(fresh)

    def _begin(self, fresh: Sequence[Request]) -> None:
        most = max(request.options.max_new_tokens for request in fresh)
        begun = Texts.none(len(fresh), self.width, most, self.live.scores)
        self.done = self.done.join(begun, 0)
        # all beams begin alike: the first alone counts, or each answer would be found W times
        begun.scores[:, 0] = 0.0
        self.live = self.live.join(begun, 0)
        stops = torch.zeros(len(fresh), self.stops.shape[1], dtype=torch.bool)
        for row, request in zip(stops, fresh):
            row[[id for id in request.stops if 0 <= id < len(row)]] = True
        self.ends = max(self.ends, int(stops.sum(1).max()))
        self.stops = torch.cat((self.stops, stops.to(self.stops.device)))
        self.requests += fresh
        self.said += [0] * len(fresh)

    def step(self, logits: Tensor) -> tuple[list[list[int]], list[list[int]], dict[Request, list[Hypothesis]]]:
        """logits (P, W, V) behind each beam -> which beam each of the next goes on from, and its token, W of each
        request; and the answers of those that are decided."""
        width, live = self.width, self.live
        self.said = [said + 1 for said in self.said]
        chances = logits.to(live.scores.dtype).log_softmax(-1)
        self._forbid_stops(chances)
        # enough that W are left where every beam could end in every way; what is not among the likeliest behind one
        # beam is not among the likeliest behind all
        wanted = max(2, 1 + self.ends) * width
        likeliest, ids = chances.topk(min(wanted, logits.shape[-1]))
        sums, places = (live.scores[..., None] + likeliest).flatten(1).topk(min(wanted, likeliest[0].numel()))
        parents = places // likeliest.shape[-1]
        ids, chances = (part.flatten(1).gather(1, places) for part in (ids, likeliest))
        over, far, last, full = self._figures()
        stopped = self.stops.gather(1, ids)
        ended = stopped | last.bool()

        def said_by(which: Tensor) -> Texts:
            """Candidates (P, M) as answers."""
            texts = live.pick(parents.gather(1, which))
            texts.say(ids.gather(1, which), chances.gather(1, which))
            return texts

        # the likeliest W alone may end: those behind them are there to go on where others end
        if bool(ended[:, :width].any()):
            top = said_by(torch.arange(width, device=places.device).expand(len(places), width))
            top.stopped = stopped[:, :width]
            top.lengths = top.lengths - top.stopped.long()
            top.scores = (sums[:, :width] / over).masked_fill(~ended[:, :width], -torch.inf)
            self.done = self.done.join(top, 1).best(width)
        scores, next = sums.masked_fill(ended, -torch.inf).topk(width)
        self._tell(parents, ids, chances, sums, ended, next)
        self.live = said_by(next)
        self.live.scores = scores
        worst = self.done.scores.amin(1, keepdim=True)
        # none is decided before it has W answers
        open = (scores[:, :1] / far > worst) & ((full == 0) | (worst == -torch.inf))
        # what is no number counts as the largest
        told = parents.gather(1, next), ids.gather(1, next), open.long(), sums[:, :1].isnan().long()
        rows = torch.cat(told, dim=1).tolist()
        if any(row[-1] for row in rows):
            raise no_numbers()
        decided = [place for place, row in enumerate(rows) if not row[-2]]
        answers: dict[Request, list[Hypothesis]] = {}
        if decided:
            found = self.done.of(torch.tensor(decided, device=scores.device)).hypotheses()
            answers = {self.requests[place]: best for place, best in zip(decided, found)}
        return [row[:width] for row in rows], [row[width : 2 * width] for row in rows], answers

    def _tell(self, *found: Tensor) -> None:
        """Who wants to hear of a step does, before anything else becomes of it. found: the columns of `Considered`."""
        for place, request in enumerate(self.requests):
            if request.heard is not None:
                request.heard(Considered(*(column[place].tolist() for column in found)))

    def _forbid_stops(self, chances: Tensor) -> None:
        """Answers that are too short cannot end. chances (P, W, V) change in place."""
        short = [said <= request.options.min_new_tokens for said, request in zip(self.said, self.requests)]
        if any(short):
            ends = self.stops & torch.tensor(short, device=chances.device)[:, None]
            chances.masked_fill_(ends[:, None], -torch.inf)

    def _figures(self) -> Tensor:
        """By what the scores of this step are divided, and those that an answer may still get; whether this is the last
        step; and whether a request is decided once it has W answers: (4, P, 1)."""
        rows = []
        for said, options in zip(self.said, (request.options for request in self.requests)):
            most, penalty = options.max_new_tokens, options.length_penalty
            far = most if options.early_stopping == "never" and penalty > 0 else said
            rows.append((said**penalty, far**penalty, said == most, options.early_stopping == "full"))
        return torch.tensor(rows, dtype=self.live.scores.dtype).T[..., None].to(self.live.scores.device)


class Search:
    """The beam searches of an engine, and the rows of their beams."""

    def __init__(self, pages: Pages) -> None:
        self.pages = pages
        self._batches: dict[int, Batch] = {}

    def clear(self) -> None:
        """Every search begins anew."""
        self._batches = {}

    def step(self, searches: Sequence[tuple[Request, list[int]]], logits: Tensor) -> list[Request]:
        """Every search goes on by a token; with each, which of logits (R, V) stand behind its beams -> the requests
        that are decided, with their hypotheses."""
        rows = dict(searches)
        by_width: dict[int, list[Request]] = {}
        for request in rows:
            by_width.setdefault(request.width, []).append(request)
        self._batches = {width: self._batches.get(width) or Batch(width, logits) for width in by_width}
        going: list[tuple[Request, list[int], list[int]]] = []
        decided: dict[Request, list[Hypothesis]] = {}
        for width, requests in by_width.items():
            batch = self._batches[width]
            batch.meet(requests)
            which = torch.tensor([rows[request] for request in batch.requests], device=logits.device)
            parents, ids, found = batch.step(logits[which])
            decided |= found
            going += [each for each in zip(batch.requests, parents, ids) if each[0] not in found]
        for request, best in decided.items():
            request.hypotheses = best[: request.n]
        self._go_on(going)
        return list(decided)

    def _go_on(self, going: Sequence[tuple[Request, list[int], list[int]]]) -> None:
        """The rows that were read hold one token more, and become those of the next beams."""
        read = [beam.row for request, _, _ in going for beam in request.beams]
        filled = self.pages.advance(np.array(read, dtype=np.int64), 1).tolist()
        into, of = [], []
        for request, parents, ids in going:
            if not request.beams:
                more = [self.pages.fork(request.row) for _ in ids[1:]]
                request.beams = [Beam(row, id) for row, id in zip([request.row, *more], ids)]
                continue
            before = [beam.row for beam in request.beams]
            rows = seats(before, parents)
            into += rows
            of += [before[parent] for parent in parents]
            request.beams = [Beam(row, id) for row, id in zip(rows, ids)]
        self.pages.reorder(into, of)
        self.pages.slide(filled)


def seats(rows: Sequence[int], parents: Sequence[int]) -> list[int]:
    """In which row each next beam goes on: the first of a parent's where that stood, so that nothing moves as long as
    every beam goes on; others where nobody goes on."""
    left = set(parents)
    free = [row for beam, row in enumerate(rows) if beam not in left]
    found = []
    for parent in parents:
        found.append(rows[parent] if parent in left else free.pop())
        left.discard(parent)
    return found
