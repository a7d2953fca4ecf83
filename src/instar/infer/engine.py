"""Many requests at once over one memory: each step is one forward pass, in which answers go on and prompts are read.

The engine knows ids, never text.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from itertools import count
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..config import InputError
from ..config.errors import brief
from ..config.options import SamplingOptions
from ..hub.memory import free_bytes
from ..model.pages import Pages
from ..model.transformer import Transformer
from .asking import check, check_ids, recalls
from .chooser import Candidate, Chooser
from .prompt import check_prompt, check_source, check_speaks
from .reader import Reader, resting
from .request import Event, Finish, Luck, Request
from .router import root_of
from .schedule import Schedule, Work
from .search import Search, check_count
from .speculative import Proposer
from .tune import kept_in
from .weights import no_numbers

if TYPE_CHECKING:
    from .constrain import Constraint

CAPACITY = 4096  # tokens of a request where the caller names no number
CHUNK = 512  # tokens of a step
DRAFT = 16  # tokens guessed ahead of an answer at most
PUZZLES = 20  # steps that fail for nobody, before any token is said, behind which the engine itself may be broken


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
        isolate: bool = False,
    ) -> None:
        """slots: requests that run at a time; capacity: tokens that the longest reads, prompt and answer, by default
        what the model reads up to 4096; source_capacity: tokens of the longest source, as much by default; budget:
        bytes for keys and values, by default what all slots may need and at most half of the memory that is free;
        chunk: tokens read in one step; stops: ids that end every answer; propose: guesses how answers go on, which
        changes their speed and nothing else; deterministic: an answer does not depend on what else is asked, bit for
        bit, at a cost in speed; compile: the decoding step, which takes a while at first and is then faster, small
        models most; salt: keys of prompts are shared only within it; isolate: where a step fails, only the request
        that it fails for ends, with an error, and nothing is raised.

        Raises InputError for a model that cannot continue a text, and where the budget does not hold one request.
        """
        for name, value in (("slots", slots), ("chunk", chunk)):
            if value < 1:
                raise InputError(f"{name}={value}, wanted at least 1")
        check_speaks(model)
        self.model, self.deterministic, self.propose, self.isolate = model, deterministic, propose, isolate
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
        self._reader = Reader(model, self.schedule, deterministic=deterministic, compile=compile)
        self._chooser = Chooser(model, self.pages, self.capacity)
        self._search = Search(self.pages)
        self._numbers = count()
        self._puzzle = ""  # of a step that failed what it said, until somebody is found whom it fails for
        self._puzzles = 0  # of these steps, how many since a token was said
        self._warned: set[str] = set()

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
        salt: bytes = b"",
        adapter: str | None = None,
    ) -> Request:
        """Queue a prompt. source: what an encoder-decoder is to answer, whose prompt may be empty: it then begins with
        the model's `start`. seed: of this request's own draws, by default its number. constraint: what the answer may
        be, of which this is the only request. n: hypotheses of a beam search. salt: keys of this prompt are shared only
        with requests of the same. adapter: what is heeded for it, "" for the bare model, and None for whatever is
        active; requests of several are computed together, and share no keys. Raises InputError, before any work, where
        the prompt is empty, holds an unknown id, or leaves no room for max_new_tokens; for a source that is missing,
        not wanted, or not as the model can read it; for an adapter that the model does not have; and for beams that
        there can never be room for."""
        check(options)
        check_ids(options, self.model.config.vocab_size)
        check_count(options, n)
        self._reader.router.check(adapter)
        if constraint is not None and options.strategy == "beam":
            raise InputError("sampling.strategy=beam does not heed a constraint; leave it out, or say strategy sample")
        source = check_source(self.model, source, self.source_capacity)
        prompt = check_prompt(self.model, prompt, options.max_new_tokens, self.capacity)
        number = next(self._numbers)
        luck = Luck(number if seed is None else seed)
        ends = self.stops.union(stops, options.stop_ids)
        root = root_of(salt, adapter)
        request = Request(number, prompt, source, options, luck, ends, constraint, adapter, root, n=n)
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
        requests in it end and the error is raised, so that the engine can go on with others; or where it isolates,
        nothing is raised, and whoever it fails for ends with an error; but where it fails again and again for nobody,
        it is raised too."""
        self._draft()
        work = self.schedule.plan()
        events: list[Event] = []
        if not work:
            return events
        suspects = work.requests  # for whom it failed, if it does
        try:
            with resting(self.model):
                for request in self.schedule.begun:
                    self._chooser.begin(request)
                self._reader.sources(self.schedule.unread)
                masks = self._chooser.constrain(work.speakers)
                logits = self._reader.read(work)
            plain, searches = work.answers()
            suspects = work.speakers
            unsound = self._say(work, logits[plain] if searches else logits, masks, events)
            suspects = unsound + [request for request, _ in searches]
            self._go_on(searches, logits, events)
            if unsound:  # a text that is being read may hold such numbers too, and others have seen them
                suspects = unsound + [request for request, _ in work.reading if request not in work.speakers]
                raise no_numbers()
            self.schedule.spoken(work)
        except BaseException as error:
            self._puzzles = 0 if events else self._puzzles + 1
            if not self.isolate or not isinstance(error, Exception) or self._puzzles >= PUZZLES:
                self._puzzle, self._puzzles = "", 0
                for request in work.requests:
                    self.cancel(request)
                self.schedule.clear()
                raise
            self._isolate([request for request in suspects if request.finish is None], error, events)
        else:
            self._wonder(events)
        return events

    def _isolate(self, suspects: Sequence[Request], error: Exception, events: list[Event]) -> None:
        """A step failed. Of a request that failed alone, in a memory that nobody else had written to, it is known that
        the fault is its own; else those that it may have failed for are computed one by one, and so are those who were
        to be. Everyone else is computed again afterwards, and goes on where they were: ids are kept, and what is drawn
        by."""
        if suspects and self.schedule.suspects[:1] == suspects:
            self._fail(suspects[0], error, events)
            self._puzzle, self._puzzles, suspects = "", 0, []
        else:
            self._puzzle = brief(error)
        self.schedule.clear()
        self._search.clear()
        self.schedule.suspect({*suspects, *self.schedule.suspects})

    def _wonder(self, events: list[Event]) -> None:
        """A step did not fail. Where one did before, and nobody is left whom it may have failed for, that is told,
        once: else nobody would know, but that everything takes longer."""
        self._puzzles = 0 if events else self._puzzles
        if self._puzzle and not self.schedule.suspects:
            if self._puzzle not in self._warned and len(self._warned) < PUZZLES:
                self._warned.add(self._puzzle)
                warnings.warn(f"a step failed, and for none of its requests alone: {self._puzzle}", stacklevel=3)
            self._puzzle = ""

    def _fail(self, request: Request, error: Exception, events: list[Event]) -> None:
        """It ends, and says why."""
        request.error = str(error) if isinstance(error, InputError) else brief(error)
        self._finish(request, "failed")
        events.append(Event(request, None, 0.0, "failed"))

    def _draft(self) -> None:
        """Guess how answers go on, where that can change nothing but their speed."""
        if self.propose is None or self.schedule.suspects:
            return
        free = [request for request in self.schedule.speaking if speculates(request)]
        if not free:
            return
        try:
            guesses = self.propose.propose(free, DRAFT)
        except Exception as error:
            if not self.isolate:
                raise
            warnings.warn(f"nothing is guessed ahead any more: {brief(error)}", stacklevel=3)
            self.propose = None  # answers are the same without it
            return
        for request, guess in zip(free, guesses):
            request.draft = guess

    def _say(self, work: Work, logits: Tensor, masks: Future[Tensor] | None, events: list[Event]) -> list[Request]:
        """Choose a token for each row of logits, and tell what happened -> those whose logits are not numbers."""
        said = work.speakers
        if not said:
            return []
        unsound: list[Request] = []
        alive: list[tuple[Request, int]] = []
        for place, (request, found) in enumerate(zip(said, self._chooser.choose(said, logits, masks))):
            if not all(candidate.sound for candidate in found):
                unsound.append(request)
                continue
            before = len(events)
            kept = self._recorded(request, found, events)
            if self.propose is not None and len(found) > 1:
                accepted = max(0, len(events) - before - 1)
                request.drafted += len(found) - 1
                request.accepted += accepted
                self.propose.told(request, len(found) - 1, accepted)
            request.draft = []
            if request.finish is None and place < len(work.speaking):
                alive.append((request, kept))
        self.schedule.kept([request for request, _ in alive], [amount for _, amount in alive])
        return unsound

    def _go_on(self, searches: Sequence[tuple[Request, list[int]]], logits: Tensor, events: list[Event]) -> None:
        """Beams go on by a token each; of a search that is decided its answers are known at once."""
        for request in self._search.step(searches, logits) if searches else ():
            for best in request.hypotheses[:1]:
                request.ids, request.logprobs = list(best.ids), list(best.logprobs)
            if not request.hypotheses:
                request.error = "no answer has any probability"
            self._finish(request, request.hypotheses[0].finish if request.hypotheses else "failed")
            events.append(Event(request, None, 0.0, request.finish))

    def _recorded(self, request: Request, found: Sequence[Candidate], events: list[Event]) -> int:
        """As _record, of a request that may fail by itself."""
        try:
            if (why := _fault(request.constraint)) is not None:
                raise InputError(why)
            return self._record(request, found, events)
        except Exception as error:
            if not self.isolate and _fault(request.constraint) is None:
                raise
            self._fail(request, error, events)
            return 0

    def _record(self, request: Request, found: Sequence[Candidate], events: list[Event]) -> int:
        """Take the first of some candidates, and each next one as long as the draft foresaw the one before it -> how
        many tokens of its row hold."""
        for place, (id, chance, told) in enumerate(found):
            ended = request.constraint is not None and request.constraint.ended
            if ended or id in request.stops:
                self._finish(request, "stop")
                events.append(Event(request, None, chance, "stop"))
                return place + 1
            alternatives = None
            if request.options.top_logprobs and told is not None:
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
        return len(found)

    def _finish(self, request: Request, how: Finish) -> None:
        request.finish = how
        self._chooser.end(request)
        self.schedule.leave(request)
        if self.propose is not None:
            self.propose.forget(request)


def speculates(request: Request) -> bool:
    """Whether a guess can be checked by one look at each token: not where rules look back, or a constraint does."""
    return not recalls(request.options) and request.constraint is None


def _fault(constraint: Constraint | None) -> str | None:
    return None if constraint is None else constraint.error
