"""A model that speaks: prompts as texts, messages or ids, and an engine that stays from one question to the next.

What was computed for one answer is known to the next that begins alike, so that the next turn of a conversation reads
only what is new in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..config import InputError
from ..config.options import CONSTRAINTS, EngineOptions, SamplingOptions
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer
from .answer import Answer, Completion
from .asking import check, check_how
from .draft import Drafting, proposer
from .engine import Engine
from .prompt import check_speaks
from .request import Hypothesis, Request
from .search import check_count
from .tune import tune

Prompt = str | Sequence[Mapping[str, Any]] | Sequence[int]  # a text, messages, or ids
MEBI = 1 << 20


class Speaker:
    """A model and its tokenizer, with what answers are computed with."""

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer | None,
        how: EngineOptions = EngineOptions(),  # noqa: B008  it is frozen
        *,
        draft: Drafting = None,
        reserve: int = 0,
    ) -> None:
        """draft: a smaller model that guesses, as in `proposer`; reserve: tokens that a request has room for at least,
        so that a longer one need not begin anew. Raises InputError for a model that cannot continue a text."""
        check_how(how)
        check_speaks(model)
        self.model, self.tokenizer, self.how, self.draft, self.reserve = model, tokenizer, how, draft, reserve
        self.engine: Engine | None = None
        self._answers: dict[Request, Answer] = {}  # those that are being said
        if how.tune and not how.compile:  # which tunes by itself
            tune(model)

    def complete(
        self,
        prompts: Sequence[Prompt],
        options: SamplingOptions,
        *,
        n: int = 1,
        seed: int | Sequence[int] = 0,
        chat: bool = False,
    ) -> list[Completion]:
        """n answers to each prompt, side by side: prompt 0's first. With `chat` a text is a user's message. What an
        encoder-decoder is given are sources, whole documents, and the answer stands by itself.

        The answers to one prompt draw with the seeds seed, seed + 1, ..., so each is what it would be alone; the same
        prompt twice gets the same answers. As many seeds as prompts give each its own, where answers are to be drawn
        independently. With strategy beam they are the n best, best first. Raises InputError before any work where a
        prompt leaves no room for an answer.
        """
        if n < 1:
            raise InputError(f"n={n}, wanted at least 1")
        asked = self._asked(prompts, options, chat)
        if not asked:
            return []
        seeds = [seed] * len(asked) if isinstance(seed, int) else seed
        if len(seeds) != len(asked):
            raise InputError(f"found {len(seeds)} seeds for {len(asked)} prompts, wanted one, or one for each")
        searches = options.strategy == "beam"
        if searches:
            check_count(options, n)
        engine = self._engine(asked, options, 1 if searches else n)
        answers: dict[tuple[int, int], Answer] = {}
        try:
            # the longest first: prompts that are read together are then about as long, and little is padded
            for prompt in sorted(range(len(asked)), key=lambda number: len(asked[number]), reverse=True):
                for draw in range(1 if searches else n):
                    answers[prompt, draw] = self._submit(
                        engine, asked[prompt], options, seeds[prompt] + draw, n if searches else 1
                    )
            while any(answer.request.finish is None for answer in answers.values()):
                self._step(engine)
        finally:
            self._end(engine, answers.values())
        found = [answers[place] for place in sorted(answers)]
        if not searches:
            return [answer.completion() for answer in found]
        return [self._found(best) for place, answer in enumerate(found) for best in _enough(answer.request, n, place)]

    def stream(self, prompt: Prompt, options: SamplingOptions, *, seed: int = 0, chat: bool = False) -> Iterator[str]:
        """One answer in pieces. Closing the iterator stops the work. Raises InputError at once where `complete`
        would, and later where the answer fails."""
        asked = self._asked([prompt], options, chat)
        if options.strategy == "beam":
            return iter([self.complete(asked, options)[0].text])
        engine = self._engine(asked, options, 1)
        return self._pieces(engine, self._submit(engine, asked[0], options, seed, 1))

    def _pieces(self, engine: Engine, answer: Answer) -> Iterator[str]:
        shown = 0
        try:
            while answer.request.finish is None:
                self._step(engine)
                if len(answer.text) > shown:
                    piece, shown = answer.text[shown:], len(answer.text)
                    yield piece
        finally:
            self._end(engine, [answer])
        if len(answer.text) > shown:  # it ended while another was asked for
            yield answer.text[shown:]
        if answer.request.error is not None:
            raise InputError(f"the answer failed: {answer.request.error}")

    def _step(self, engine: Engine) -> None:
        """Every answer goes on, whoever asked for it; one whose stop text was said has ended."""
        for event in engine.step():
            if (answer := self._answers.get(event.request)) is not None:
                answer.push(event)
                if answer.stopped:
                    engine.cancel(event.request)

    def _end(self, engine: Engine, answers: Iterable[Answer]) -> None:
        """Nobody waits for these any more."""
        for answer in answers:
            engine.cancel(answer.request)
            self._answers.pop(answer.request, None)

    def _asked(self, prompts: Sequence[Prompt], options: SamplingOptions, chat: bool) -> list[list[int]]:
        check(options)
        if options.strategy == "beam" and (self.how.speculate != "off" or self.draft is not None):
            raise InputError("beam search guesses nothing ahead; leave out speculate and draft, or say strategy greedy")
        texts = [name for name in ("stop", *CONSTRAINTS) if getattr(options, name)]
        if self.tokenizer is None and texts:
            raise InputError(f"{texts[0]} is text and needs a tokenizer, and prompts that are ids have none")
        return ids_of(self.model, self.tokenizer, prompts, chat)

    def _engine(self, asked: Sequence[Sequence[int]], options: SamplingOptions, n: int) -> Engine:
        """An engine with room for the longest prompt, or source, and its answer: the last one where it has."""
        longest, source = max(map(len, asked)), 0
        if self.model.config.encoder_layers:
            longest, source = 1, longest
        capacity = min(max(longest + options.max_new_tokens, self.reserve), self.model.config.max_positions)
        rows = min(self.how.slots, len(asked) * n)
        if options.strategy == "beam":
            rows = max(1, min(self.how.slots // options.beams, len(asked))) * options.beams
        old = self.engine
        if old and old.capacity >= capacity and old.source_capacity >= source and len(old.pages) >= rows:
            return old
        if old and self.reserve:  # a conversation that outgrew its room will go on to grow
            capacity = min(max(capacity, 2 * old.capacity), self.model.config.max_positions)
        how, stops = self.how, () if self.tokenizer is None else self.tokenizer.stops
        propose = proposer(
            self.model, self.tokenizer, speculate=how.speculate, draft=self.draft, slots=rows, capacity=capacity
        )
        self.engine = Engine(
            self.model, slots=rows, capacity=capacity, source_capacity=source or None, stops=stops, propose=propose,
            budget=how.kv_budget * MEBI or None, chunk=how.chunk, deterministic=how.deterministic, compile=how.compile,
        )  # fmt: skip
        return self.engine

    def _submit(self, engine: Engine, ids: Sequence[int], options: SamplingOptions, seed: int, n: int) -> Answer:
        constraint = None
        if self.tokenizer is not None and any(getattr(options, name) for name in CONSTRAINTS):
            from .constrain import compile as compile_grammar

            grammar = compile_grammar(self.tokenizer, options, self.model.config.vocab_size)
            constraint = None if grammar is None else grammar.start()
        encodes = self.model.config.encoder_layers > 0
        prompt, source = ([], ids) if encodes else (ids, None)
        request = engine.submit(prompt, options, source=source, seed=seed, n=n, constraint=constraint)
        answer = self._answers[request] = Answer(request, self.tokenizer)
        return answer

    def _found(self, found: Hypothesis) -> Completion:
        text = "" if self.tokenizer is None else self.tokenizer.decode(found.ids, continues=True)
        return Completion(text, found.ids, found.logprobs, found.finish, found.score)


def _enough(request: Request, n: int, place: int) -> list[Hypothesis]:
    """The n best answers. Raises InputError where there are fewer."""
    found = request.hypotheses
    if len(found) < n:
        raise InputError(
            f"n={n} answers are wanted, but to prompt {place} there are only {len(found)} of at most "
            f"{request.options.max_new_tokens} tokens"
        )
    return found


def ids_of(model: Transformer, tokenizer: Tokenizer | None, prompts: Sequence[Prompt], chat: bool) -> list[list[int]]:
    """The ids of each prompt; of each source for an encoder-decoder, which reads a text as it did in training: a
    document with its end. Raises InputError for a model that cannot continue a text."""
    check_speaks(model)
    if not model.config.encoder_layers:
        return _rendered(tokenizer, prompts, chat)
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    if chat or any(not isinstance(prompt, str) and _is_talk(prompt) for prompt in prompts):
        raise InputError("an encoder-decoder answers a source and holds no conversation; pass the text alone")
    if texts and tokenizer is not None and model.config.source_vocab_size:
        raise InputError("the sources of this model have a vocabulary of their own; pass their ids")
    return [
        tokenizer.document(prompt) if isinstance(prompt, str) and tokenizer is not None else _raw(prompt)
        for prompt in prompts
    ]


def _rendered(tokenizer: Tokenizer | None, prompts: Sequence[Prompt], chat: bool) -> list[list[int]]:
    """The ids of each prompt; conversations are rendered all at once."""
    if chat:
        prompts = [[{"role": "user", "content": p}] if isinstance(p, str) else p for p in prompts]
    talks = {k: prompt for k, prompt in enumerate(prompts) if not isinstance(prompt, str) and _is_talk(prompt)}
    if tokenizer is None:
        return [_raw(prompt) for prompt in prompts]
    rendered = tokenizer.chat_batch(list(talks.values()), add_generation_prompt=True) if talks else []  # type: ignore[arg-type]
    said = {k: chat.ids for k, chat in zip(talks, rendered)}
    return [
        said[k] if k in said else tokenizer.prompt(prompt) if isinstance(prompt, str) else _raw(prompt)
        for k, prompt in enumerate(prompts)
    ]


def _is_talk(prompt: Sequence[Any]) -> bool:
    return bool(prompt) and isinstance(prompt[0], Mapping)


def _raw(prompt: Prompt) -> list[int]:
    """Ids as they are. Raises InputError where they are none."""
    if isinstance(prompt, str) or not all(isinstance(id, int) for id in prompt):
        raise InputError(f"found the prompt {str(prompt)[:40]!r}, wanted a list of token ids; or pass a tokenizer")
    return [int(id) for id in prompt if isinstance(id, int)]
