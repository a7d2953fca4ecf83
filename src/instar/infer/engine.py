"""Many requests at once over one KV cache: each step admits what waits, or gives every running request one token.

The engine knows ids, never text.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

import torch
from torch import Tensor

from ..config import InputError
from ..config.options import SamplingOptions
from ..model.cache import KVCache
from ..model.transformer import Transformer
from .prompt import check_prompt, check_source, check_speaks, new_cache, read
from .sampling import Rules, Said, check, draws, logprob, penalises

Finish = Literal["stop", "length", "cancelled"]
PREFILL = 8192  # tokens of prompts, or of sources, read in one step, padding included
CAPACITY = 4096  # tokens of a request where the caller names no number


@dataclass(eq=False)
class Request:
    """One answer in the making. source: what an encoder-decoder answers, else empty; ids: what was said so far, without
    the stop; logprobs: of each id, in nats, under the model's own distribution; finish: None while it goes on."""

    number: int
    prompt: list[int]
    source: list[int]
    options: SamplingOptions
    luck: torch.Generator
    stops: frozenset[int]
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: Finish | None = None
    row: int = -1


@dataclass(frozen=True)
class Event:
    """A request said a token, or finished, or both. id is None where a stop token ended it."""

    request: Request
    id: int | None
    logprob: float
    finish: Finish | None


class Engine:
    """submit requests, then step while it is busy."""

    def __init__(
        self,
        model: Transformer,
        *,
        slots: int = 64,
        capacity: int | None = None,
        source_capacity: int | None = None,
        stops: Iterable[int] = (),
    ) -> None:
        """slots: requests that run at a time; capacity: tokens that the longest reads, prompt and answer, by default
        what the model reads up to 4096; source_capacity: tokens of the longest source, as much by default; stops: ids
        that end every answer. Raises InputError for a model that cannot continue a text."""
        if slots < 1:
            raise InputError(f"slots={slots}, wanted at least 1")
        check_speaks(model)
        self.model = model
        self.capacity = min(capacity or CAPACITY, model.config.max_positions)
        self.source_capacity = min(source_capacity or CAPACITY, model.config.max_positions)
        self.stops = frozenset(stops)
        self.cache = new_cache(model, slots, self.capacity, self.source_capacity)
        self.waiting: deque[Request] = deque()
        self.running: dict[int, Request] = {}  # by row
        self._free = list(range(slots))
        self._numbers = count()
        self._crew: Crew | None = None
        self._said: Said | None = None

    @property
    def busy(self) -> bool:
        """Whether there is anything to step for."""
        return bool(self.waiting or self.running)

    def submit(
        self,
        prompt: Sequence[int],
        options: SamplingOptions,
        *,
        source: Sequence[int] | None = None,
        seed: int | None = None,
        stops: Iterable[int] = (),
    ) -> Request:
        """Queue a prompt. source: what an encoder-decoder is to answer, whose prompt may be empty: it then begins with
        the model's `start`. seed: of this request's own draws, by default its number. Raises InputError, before any
        work, where the prompt is empty, holds an unknown id, or leaves no room for max_new_tokens; and for a source
        that is missing, not wanted, or not as the model can read it."""
        check(options)
        if options.strategy == "beam":
            raise InputError("sampling.strategy=beam: an engine says one token at a time; call infer.beam.beam_search")
        source = check_source(self.model, source, self.source_capacity)
        prompt = check_prompt(self.model, prompt, options.max_new_tokens, self.capacity)
        number = next(self._numbers)
        luck = _luck(number if seed is None else seed)
        request = Request(number, prompt, source, options, luck, self.stops | frozenset(stops))
        self.waiting.append(request)
        return request

    def cancel(self, request: Request) -> None:
        """End a request where it stands; its row is free for the next."""
        if request.finish is None:
            self.waiting = deque(other for other in self.waiting if other is not request)
            self._finish(request, "cancelled")

    def run(self) -> None:
        """Step until every request has finished."""
        while self.busy:
            self.step()

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """One forward pass: of new prompts where some wait and rows are free, else of every running request. Where it
        fails its requests end, so that the engine can go on with others."""
        admitted = self._admit()
        if not self.running:
            return []
        crew = Crew(self.cache, admitted) if admitted else self._all()
        try:
            with resting(self.model):
                logits = self._read(crew) if admitted else self._continue(crew)
            return self._say(crew, logits)
        except BaseException:
            for request in crew.requests:
                self._finish(request, "cancelled")
            raise

    def _admit(self) -> list[Request]:
        """As many waiting requests as there are rows, and as their prompts fit one step."""
        admitted: list[Request] = []
        longest = 0
        while self.waiting and self._free:
            longest = max(longest, len(self.waiting[0].prompt), len(self.waiting[0].source))
            if admitted and longest * (len(admitted) + 1) > PREFILL:
                break
            request = self.waiting.popleft()
            request.row = heapq.heappop(self._free)
            self.running[request.row] = request
            self._begin(request)
            admitted.append(request)
        return admitted

    def _begin(self, request: Request) -> None:
        """Prepare the count of tokens of a row."""
        if self._said is None and penalises(request.options):
            self._said = Said(len(self.cache), self.model.config.vocab_size, self.model.device)
        if self._said is not None:
            self._said.begin(request.row, request.prompt)

    def _all(self) -> Crew:
        """Every running request, in the order of rows: a full cache is then read where it stands."""
        requests = [self.running[row] for row in sorted(self.running)]
        if self._crew is None or self._crew.requests != requests:
            self._crew = Crew(self.cache, requests)
        return self._crew

    def _read(self, crew: Crew) -> Tensor:
        """Read prompts into empty rows -> logits (B, V) behind each."""
        prompts, sources = ([getattr(request, side) for request in crew.requests] for side in ("prompt", "source"))
        return read(self.model, prompts, crew.cache, sources if self.model.config.encoder_layers else None)

    def _continue(self, crew: Crew) -> Tensor:
        """Read the last token that each request said -> logits (B, V) behind it."""
        last = torch.tensor([[request.ids[-1]] for request in crew.requests], device=self.model.device)
        return self.model(last, cache=crew.cache)[:, -1]

    def _say(self, crew: Crew, logits: Tensor) -> list[Event]:
        """Choose a token for each row, and tell what happened. The only wait for the device in a step."""
        rules = crew.rules(logits)
        shaped = logits
        if rules.penalising and self._said is not None:
            shaped = rules.penalise(logits, *self._said.at(crew.rows))
        shaped = crew.hold(shaped)
        ids = rules.choose(shaped, crew.luck() if rules.drawing else None)
        if self._said is not None:
            self._said.add(crew.rows, ids)
        numbers, chances = torch.stack((ids.to(logits.dtype), logprob(logits, ids))).tolist()
        check_numbers(chances)
        return [self._record(*said) for said in zip(crew.requests, map(int, numbers), chances)]

    def _record(self, request: Request, id: int, chance: float) -> Event:
        if id in request.stops:
            self._finish(request, "stop")
            return Event(request, None, chance, "stop")
        request.ids.append(id)
        request.logprobs.append(chance)
        if len(request.ids) == request.options.max_new_tokens:
            self._finish(request, "length")
        return Event(request, id, chance, request.finish)

    def _finish(self, request: Request, how: Finish) -> None:
        request.finish = how
        if request.row >= 0:
            del self.running[request.row]
            heapq.heappush(self._free, request.row)
            request.row = -1


class Crew:
    """The requests that one step is about, with what needs preparing once while they stay the same."""

    def __init__(self, cache: KVCache, requests: list[Request]) -> None:
        rows = [request.row for request in requests]
        self.requests = requests
        self.cache = cache.rows(rows)
        self.rows = torch.tensor(rows, device=cache.device)
        self._rules: Rules | None = None

    def rules(self, logits: Tensor) -> Rules:
        """How each of them chooses from logits like these."""
        if self._rules is None:
            self._rules = Rules([request.options for request in self.requests], logits)
        return self._rules

    def luck(self) -> Tensor:
        """The next number of each request's own chance; greedy requests use none up."""
        numbers = [
            float(torch.rand((), generator=request.luck, dtype=torch.float64)) if draws(request.options) else 0.0
            for request in self.requests
        ]
        return torch.tensor(numbers, dtype=torch.float64)

    def hold(self, logits: Tensor) -> Tensor:
        """logits (B, V), where rows that have to say more first cannot end."""
        short = [
            (row, list(request.stops))
            for row, request in enumerate(self.requests)
            if len(request.ids) < request.options.min_new_tokens and request.stops
        ]
        if short:
            logits = logits.clone()
            for row, stops in short:
                logits[row, stops] = -torch.inf
        return logits


def check_numbers(chances: Iterable[float]) -> None:
    """Raise InputError where log-probabilities are not numbers."""
    if any(chance != chance for chance in chances):
        raise InputError(
            "the model's logits are not numbers: its weights are damaged, or too large for half precision; "
            "check the folder, or load it with dtype fp32"
        )


@contextmanager
def resting(model: Transformer) -> Iterator[None]:
    """With the model as it is outside of training, without dropout; afterwards as it was."""
    training = model.training
    if training:
        model.eval()
    try:
        yield
    finally:
        if training:
            model.train()


def _luck(seed: int) -> torch.Generator:
    if not -(2**63) <= seed < 2**63:
        raise InputError(f"seed={seed}, wanted a whole number of at most 63 bits")
    return torch.Generator().manual_seed(seed)
