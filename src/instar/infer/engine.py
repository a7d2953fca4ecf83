"""Many requests at once over one memory: each step is one forward pass, in which answers go on and prompts are read.

The engine knows ids, never text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..config import InputError
from ..config.options import SamplingOptions
from ..hub.memory import free_bytes
from ..model.layers import Linear
from ..model.pages import Pages
from ..model.ragged import Ragged
from ..model.step import CompiledStep
from ..model.transformer import Transformer
from .asking import check, check_ids, draws, recalls
from .prompt import check_prompt, check_source, check_speaks, read_sources
from .request import Event, Finish, Luck, Request
from .said import Said
from .sampling import Rules
from .schedule import Schedule, Work, rows_of
from .search import Search, check_count
from .speculative import Proposer
from .tune import kept_in, tune
from .weights import check_numbers, logprob

if TYPE_CHECKING:
    from .constrain import Constraint, Masks

CAPACITY = 4096  # tokens of a request where the caller names no number
CHUNK = 512  # tokens of a step
DRAFT = 16  # tokens guessed ahead of an answer at most
TILE = 16  # rows of every product in an engine whose answers are the same bit for bit


class Engine:
    """submit requests, then step while it is busy."""

    def __init__(
        self,
        model: Transformer,
        *,
        slots: int = 64,
        capacity: int | None = None,
        source_capacity: int | None = None,
        budget: int | None = None,
        chunk: int = CHUNK,
        stops: Iterable[int] = (),
        propose: Proposer | None = None,
        deterministic: bool = False,
        compile: bool = False,
        salt: bytes = b"",
    ) -> None:
        """slots: requests that run at a time; capacity: tokens that the longest reads, prompt and answer, by default
        what the model reads up to 4096; source_capacity: tokens of the longest source, as much by default; budget:
        bytes for keys and values, by default what all slots may need and at most half of the memory that is free;
        chunk: tokens read in one step; stops: ids that end every answer; propose: guesses how answers go on, which
        changes their speed and nothing else; deterministic: an answer does not depend on what else is asked, bit for
        bit, at a cost in speed; compile: the decoding step, which takes a while at first and is then faster, small
        models most; salt: keys of prompts are shared only within it.

        Raises InputError for a model that cannot continue a text, and where the budget does not hold one request.
        """
        for name, value in (("slots", slots), ("chunk", chunk)):
            if value < 1:
                raise InputError(f"{name}={value}, wanted at least 1")
        check_speaks(model)
        self.model, self.deterministic, self.propose = model, deterministic, propose
        self.capacity = min(capacity or CAPACITY, model.config.max_positions)
        self.source_capacity = min(source_capacity or CAPACITY, model.config.max_positions)
        self.stops = frozenset(stops)
        free = free_bytes(model.device)
        self.pages = Pages(
            model.config, slots, self.capacity,
            source_capacity=self.source_capacity if model.config.encoder_layers else 0,
            budget=budget if budget is not None or free is None else free // 2, chunk=max(chunk, DRAFT + 1),
            dtype=kept_in(model), device=model.device, salt=salt,
        )  # fmt: skip
        self.schedule = Schedule(self.pages, chunk)
        if compile:
            tune(model, compiles=True)
        self._compiled = CompiledStep(model, self.pages) if compile and not deterministic else None
        self._numbers = count()
        self._rules: tuple[list[Request], Rules] | None = None
        self._said: Said | None = None
        self._search = Search(self.pages)
        self._masks: Masks | None = None
        self._linears = [module for module in model.modules() if isinstance(module, Linear)]

    @property
    def busy(self) -> bool:
        """Whether there is anything to step for."""
        return self.schedule.busy

    @property
    def running(self) -> list[Request]:
        """The requests that have a row."""
        return [*self.schedule.speaking, *self.schedule.searching, *self.schedule.reading]

    @property
    def waiting(self) -> list[Request]:
        """The requests that have none yet, or lost it, in the order in which they get one."""
        return list(self.schedule.waiting)

    def submit(
        self,
        prompt: Sequence[int],
        options: SamplingOptions,
        *,
        source: Sequence[int] | None = None,
        seed: int | None = None,
        stops: Iterable[int] = (),
        constraint: Constraint | None = None,
        n: int = 1,
    ) -> Request:
        """Queue a prompt. source: what an encoder-decoder is to answer, whose prompt may be empty: it then begins with
        the model's `start`. seed: of this request's own draws, by default its number. constraint: what the answer may
        be, of which this is the only request. n: hypotheses of a beam search. Raises InputError, before any work, where
        the prompt is empty, holds an unknown id, or leaves no room for max_new_tokens; for a source that is missing,
        not wanted, or not as the model can read it; and for beams that there can never be room for."""
        check(options)
        check_ids(options, self.model.config.vocab_size)
        check_count(options, n)
        if constraint is not None and options.strategy == "beam":
            raise InputError("sampling.strategy=beam does not heed a constraint; leave it out, or say strategy sample")
        source = check_source(self.model, source, self.source_capacity)
        prompt = check_prompt(self.model, prompt, options.max_new_tokens, self.capacity)
        number = next(self._numbers)
        luck = Luck(number if seed is None else seed)
        ends = self.stops.union(stops, options.stop_ids)
        request = Request(number, prompt, source, options, luck, ends, constraint, n=n)
        self.schedule.submit(request)
        return request

    def cancel(self, request: Request) -> None:
        """End a request where it stands; its memory is free for others at once."""
        if request.finish is None:
            self._finish(request, "cancelled")

    def run(self) -> None:
        """Step until every request has finished."""
        while self.busy:
            self.step()

    def forget(self) -> None:
        """Nothing is known of any prompt any more: to be called when the model's weights have changed, or its active
        adapters."""
        self.pages.forget()

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """One forward pass: every answer goes on, and prompts are read as far as the chunk allows. Where it fails, the
        requests in it end, so that the engine can go on with others."""
        self._draft()
        work = self.schedule.plan()
        if not work:
            return []
        try:
            with resting(self.model), self._tiled():
                for request in self.schedule.begun:
                    self._begin(request)
                read_sources(self.model, self.pages, self.schedule.unread, alone=self.deterministic)
                masks = self._constrain(work)
                logits = self._read(work)
            plain, searches = work.answers()
            events = self._say(work, logits[plain] if searches else logits, masks)
            events += self._go_on(searches, logits)
            self.schedule.spoken(work)
            return events
        except BaseException:
            for request in work.requests:
                if request.finish is None:
                    self._finish(request, "cancelled")
            self.schedule.clear()
            raise

    def _draft(self) -> None:
        """Guess how answers go on, where that can change nothing but their speed."""
        if self.propose is None:
            return
        free = [request for request in self.schedule.speaking if speculates(request)]
        for request, guess in zip(free, self.propose.propose(free, DRAFT) if free else ()):
            request.draft = guess

    def _begin(self, request: Request) -> None:
        """Keep the tokens of a row where rules look back at them."""
        if not recalls(request.options):
            return
        if self._said is None:
            self._said = Said(len(self.pages), self.capacity, self.model.config.vocab_size, self.model.device)
        self._said.begin(request.row, request.prompt, request.ids)

    def _constrain(self, work: Work) -> Future[Tensor] | None:
        """Begin to find out what constraints allow, while the model computes."""
        constraints = [request.constraint for request in speakers(work)]
        if not any(constraints):
            return None
        if self._masks is None:
            from .constrain import Masks

            self._masks = Masks(self.model.config.vocab_size)
        return self._masks.begin(constraints)

    def _read(self, work: Work) -> Tensor:
        """The forward pass -> logits (R, V) behind each token of those that speak, and behind each text that ended."""
        tokens: list[int] = []
        for request in work.speaking:
            tokens += [request.ids[-1], *request.draft]
        tokens += [beam.id for beam in work.beams]
        for request, amount in work.reading:
            start = int(self.pages.lengths[request.row])
            tokens += request.text[start : start + amount]
        amounts = [amount for _, amount in work.reading]
        counts = [1 + len(request.draft) for request in work.speaking] + [1] * len(work.beams) + amounts
        if self._compiled is not None and not amounts and len(tokens) == len(counts):
            return self._compiled(work.rows, tokens)
        ragged = Ragged(self.pages, work.rows, counts, steady=self.deterministic)
        batch = torch.tensor([tokens]).to(self.model.device, non_blocking=True)
        hidden = self.model.hidden(batch, cache=ragged)[0]
        begun = len(work.speaking) + len(work.beams)
        spoken = sum(counts[:begun])
        ends = ragged.ends()[begun:][np.array(work.ending, dtype=bool)]
        wanted = np.concatenate((np.arange(spoken), ends))
        if len(wanted) < len(hidden):
            hidden = hidden[torch.from_numpy(wanted).to(hidden.device)]
        self._keep([request for request, _ in work.reading], amounts)
        return self.model.heads["lm"](hidden)

    def _keep(self, requests: Sequence[Request], counts: Sequence[int]) -> None:
        """Rows hold so many tokens more."""
        if not requests:
            return
        by_row = {request.row: request for request in requests}
        for row in self.pages.advance(rows_of(requests), np.array(counts)).tolist():
            self.pages.fill(row, by_row[row].text)

    def _say(self, work: Work, logits: Tensor, masks: Future[Tensor] | None) -> list[Event]:
        """Choose a token for each row of logits, and tell what happened. The only wait for the device in a step."""
        said = speakers(work)
        if not said:
            return []
        spans = [1 + len(request.draft) for request in said]
        each = said if max(spans) == 1 else [request for request, span in zip(said, spans) for _ in range(span)]
        rules = self._ruled(each, logits)
        rows = torch.from_numpy(rows_of(each)).to(logits.device) if rules.counting else None
        allowed = None if masks is None else masks.result().to(logits.device)
        shaped = rules.shape(logits, self._said, rows, self._short(each), allowed)
        ids = rules.choose(shaped, self._luck(said, spans) if rules.drawing else None)
        if rules.counting and self._said is not None and rows is not None:
            self._said.add(rows, ids)
        told = rules.alternatives(logits)
        numbers, chances = torch.stack((ids.double(), logprob(logits, ids).double())).tolist()
        check_numbers(chances)
        more = [None] * len(each) if told is None else list(zip(told[0].tolist(), told[1].tolist()))
        events: list[Event] = []
        kept: list[int] = []
        at = 0
        for request, span in zip(said, spans):
            answers = zip(map(int, numbers[at : at + span]), chances[at : at + span], more[at : at + span])
            before = len(events)
            kept.append(self._record(request, list(answers), events))
            at += span
            if self.propose is not None and span > 1:
                request.drafted += span - 1
                request.accepted += len(events) - before - 1
                self.propose.told(request, span - 1, len(events) - before - 1)
            request.draft = []
        alive = [(r, n) for r, n in zip(said[: len(work.speaking)], kept) if r.finish is None]
        self._keep([request for request, _ in alive], [amount for _, amount in alive])
        return events

    def _go_on(self, searches: Sequence[tuple[Request, list[int]]], logits: Tensor) -> list[Event]:
        """Beams go on by a token each; of a search that is decided its answers are known at once."""
        events = []
        for request in self._search.step(searches, logits) if searches else ():
            for best in request.hypotheses[:1]:
                request.ids, request.logprobs = list(best.ids), list(best.logprobs)
            if not request.hypotheses:
                request.error = "no answer has any probability"
            self._finish(request, request.hypotheses[0].finish if request.hypotheses else "failed")
            events.append(Event(request, None, 0.0, request.finish))
        return events

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
        return torch.tensor(short, device=self.model.device)

    def _luck(self, said: Sequence[Request], spans: Sequence[int]) -> Tensor:
        """The number by which each row draws; greedy requests use none up."""
        numbers = [
            request.luck.of(len(request.ids) + place) if draws(request.options) else 0.0
            for request, span in zip(said, spans)
            for place in range(span)
        ]
        return torch.tensor(numbers, dtype=torch.float64)

    def _record(self, request: Request, answers: Sequence[tuple], events: list[Event]) -> int:
        """Take the first of some answers, and each next one as long as the draft foresaw the one before it -> how many
        tokens of its row hold."""
        if (why := _fault(request.constraint)) is not None:
            request.error = why
            self._finish(request, "failed")
            events.append(Event(request, None, 0.0, "failed"))
            return 0
        for place, (id, chance, told) in enumerate(answers):
            ended = request.constraint is not None and request.constraint.ended
            if ended or id in request.stops:
                self._finish(request, "stop")
                events.append(Event(request, None, chance, "stop"))
                return place + 1
            alternatives = None
            if request.options.top_logprobs:
                alternatives = list(zip(*told))[: request.options.top_logprobs]
                request.alternatives.append(alternatives)
            request.ids.append(id)
            request.logprobs.append(chance)
            if request.constraint is not None:
                request.constraint.advance(id)
                ended = request.constraint.ended
            if ended or len(request.ids) == request.options.max_new_tokens:
                self._finish(request, "stop" if ended else "length")
            events.append(Event(request, id, chance, request.finish, alternatives))
            if request.finish is not None or place >= len(request.draft) or request.draft[place] != id:
                return place + 1
        return len(answers)

    def _finish(self, request: Request, how: Finish) -> None:
        request.finish = how
        if self._said is not None and request.row >= 0:
            self._said.end(request.row)
        self.schedule.leave(request)
        if self.propose is not None:
            self.propose.forget(request)

    @contextmanager
    def _tiled(self) -> Iterator[None]:
        """With all products of a fixed number of rows, where answers are to be the same bit for bit."""
        if not self.deterministic:
            yield
            return
        try:
            for linear in self._linears:
                linear.tile = TILE
            yield
        finally:
            for linear in self._linears:
                linear.tile = 0


def speculates(request: Request) -> bool:
    """Whether a guess can be checked by one look at each token: not where rules look back, or a constraint does."""
    return not recalls(request.options) and request.constraint is None


def speakers(work: Work) -> list[Request]:
    """Who says something at the end of a step: those that go on, then those whose text was read to its end."""
    return [*work.speaking, *(request for request in work.ended if not request.width)]


def _fault(constraint: Constraint | None) -> str | None:
    return None if constraint is None else constraint.error


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
