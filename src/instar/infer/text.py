"""Text in, text out: prompts -> answers, whole or as they come, cut at stop strings and never inside a character."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ..config import InputError, unknown
from ..config.options import BEAMING, DRAWING, SamplingOptions
from ..model.transformer import Transformer
from ..text.tokenizer import Stream, Tokenizer
from .beam import Hypothesis, beam_search
from .engine import Engine, Event, Finish, Request
from .prompt import check_speaks

Prompt = str | Sequence[Mapping[str, Any]] | Sequence[int]  # a text, messages, or ids


@dataclass(frozen=True)
class Completion:
    """One answer. text: without the stop text; ids: all that was said, to the end of a stop text; logprobs: of each id,
    in nats; finish: stop (a stop token or text), or length; score: by which beam search ranks it."""

    text: str
    ids: list[int]
    logprobs: list[float]
    finish: Finish
    score: float | None = None


class Stops:
    """Cuts a stream where a stop text first begins, however it is split, and holds back what may still become one."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.held = ""
        self.hit = False

    def push(self, text: str) -> str:
        """New text -> what may be shown now. After a hit, nothing any more."""
        if self.hit:
            return ""
        self.held += text
        found, begun = self._found(), self._begun()
        # a longer stop that began earlier, and may yet be whole, would cut earlier
        self.hit = found < len(self.held) and found <= begun
        cut = min(found, begun)
        shown, self.held = self.held[:cut], "" if self.hit else self.held[cut:]
        return shown

    def end(self) -> str:
        """The stream is over: what was held back is text after all, up to a stop that stands in it."""
        found = self._found()
        self.hit = self.hit or found < len(self.held)
        shown, self.held = self.held[:found], ""
        return shown

    def _found(self) -> int:
        """Where the first whole stop begins."""
        places = (self.held.find(stop) for stop in self.texts)
        return min((place for place in places if place >= 0), default=len(self.held))

    def _begun(self) -> int:
        """Where the first stop begins that the text breaks off in."""
        size = len(self.held)
        return min((size - self._overlap(stop) for stop in self.texts), default=size)

    def _overlap(self, stop: str) -> int:
        """How many of the last characters are the beginning of a stop text."""
        longest = min(len(stop) - 1, len(self.held))
        return next((n for n in range(longest, 0, -1) if self.held.endswith(stop[:n])), 0)


class Answer:
    """The text of one request, as its tokens come; without a tokenizer there is none."""

    def __init__(self, request: Request, tokenizer: Tokenizer | None) -> None:
        self.request = request
        self.stream = None if tokenizer is None else Stream(tokenizer, continues=True)
        self.stops = Stops(request.options.stop)
        self.text = ""

    def push(self, event: Event) -> str:
        """What this event lets us show; whether a stop text ended the answer is then in `stopped`."""
        if self.stream is None:
            return ""
        shown = "" if event.id is None else self.stops.push(self.stream.push(event.id))
        if event.finish is not None and not self.stopped:
            shown += self.stops.push(self.stream.end()) + self.stops.end()
        self.text += shown
        return shown

    @property
    def stopped(self) -> bool:
        return self.stops.hit

    def completion(self) -> Completion:
        finish = "stop" if self.stopped else self.request.finish or "cancelled"
        return Completion(self.text, self.request.ids, self.request.logprobs, finish)


def complete(
    model: Transformer,
    tokenizer: Tokenizer | None,
    prompts: Sequence[Prompt],
    options: SamplingOptions,
    *,
    n: int = 1,
    seed: int = 0,
    chat: bool = False,
    slots: int = 64,
) -> list[Completion]:
    """n answers to each prompt, side by side: prompt 0's first. With `chat` a text is a user's message. What an
    encoder-decoder is given are sources, whole documents, and the answer stands by itself.

    The answers to one prompt draw with the seeds seed, seed + 1, ..., so each is what it would be alone; the same
    prompt twice gets the same answers. With strategy beam they are the n best, best first. Raises InputError before
    any work where a prompt leaves no room for an answer.
    """
    if n < 1:
        raise InputError(f"n={n}, wanted at least 1")
    if tokenizer is None and options.stop:
        raise InputError("stop texts need a tokenizer, and prompts that are ids have none")
    asked = _asked(model, tokenizer, prompts, chat)
    if not asked:
        return []
    if options.strategy == "beam":
        sources, begins = (asked, [[]] * len(asked)) if model.config.encoder_layers else (None, asked)
        stops = () if tokenizer is None else tokenizer.stops
        found = beam_search(model, begins, options, sources=sources, n=n, stops=stops, slots=slots)
        return [_completion(hypothesis, tokenizer) for best in found for hypothesis in best]
    engine = _engine(model, tokenizer, asked, options, min(slots, len(asked) * n))
    answers: dict[tuple[int, int], Answer] = {}
    # the longest first: prompts that are read together are then about as long, and little is padded
    for prompt in sorted(range(len(asked)), key=lambda number: len(asked[number]), reverse=True):
        for draw in range(n):
            answers[prompt, draw] = Answer(_submit(engine, asked[prompt], options, seed + draw), tokenizer)
    _follow(engine, {answer.request.number: answer for answer in answers.values()})
    return [answers[place].completion() for place in sorted(answers)]


def _completion(found: Hypothesis, tokenizer: Tokenizer | None) -> Completion:
    text = "" if tokenizer is None else tokenizer.decode(found.ids, continues=True)
    return Completion(text, found.ids, found.logprobs, found.finish, found.score)


def _follow(engine: Engine, answers: Mapping[int, Answer]) -> None:
    """Step until every answer has ended."""
    while engine.busy:
        for event in engine.step():
            answer = answers[event.request.number]
            answer.push(event)
            if answer.stopped:
                engine.cancel(event.request)


def generate(
    model: Transformer,
    tokenizer: Tokenizer | None,
    prompts: Prompt | Sequence[Prompt],
    *,
    max_new_tokens: int = 128,
    strategy: str | None = None,
    n: int = 1,
    seed: int = 0,
    chat: bool = False,
    slots: int = 64,
    **rules: Any,
) -> list[Any]:
    """Answers to prompts: texts, or lists of ids where the tokenizer is None and the prompts are ids.

    strategy: greedy, sample or beam; by default sample where temperature, top_k, top_p or min_p is given, and beam
    where beams, length_penalty or early_stopping is. Further rules: min_new_tokens, repetition_penalty,
    presence_penalty, frequency_penalty, stop. What is not given changes nothing. Raises InputError for an unknown one.
    """
    options = sampling_options(max_new_tokens=max_new_tokens, strategy=strategy, **rules)
    if isinstance(prompts, str) or (prompts and isinstance(prompts[0], (int, Mapping))):
        prompts = [prompts]  # type: ignore[assignment]
    answers = complete(model, tokenizer, prompts, options, n=n, seed=seed, chat=chat, slots=slots)  # type: ignore[arg-type]
    return [answer.ids if tokenizer is None else answer.text for answer in answers]


def stream(
    model: Transformer,
    tokenizer: Tokenizer,
    prompt: Prompt,
    *,
    seed: int = 0,
    chat: bool = False,
    options: SamplingOptions | None = None,
    **rules: Any,
) -> Iterator[str]:
    """One answer in pieces, as soon as each is whole; joined they are what `generate` gives: beam search knows it at
    its end, in one piece. Closing the iterator stops the work. Raises InputError at once where `generate` would."""
    if options is not None and rules:
        raise InputError(f"found both options and {', '.join(rules)}; put all of it into the options")
    options = options or sampling_options(**rules)
    (ids,) = _asked(model, tokenizer, [prompt], chat)
    if options.strategy == "beam":
        return iter([complete(model, tokenizer, [ids], options)[0].text])
    engine = _engine(model, tokenizer, [ids], options, 1)
    return _pieces(engine, Answer(_submit(engine, ids, options, seed), tokenizer))


def _engine(
    model: Transformer,
    tokenizer: Tokenizer | None,
    asked: Sequence[Sequence[int]],
    options: SamplingOptions,
    slots: int,
) -> Engine:
    """An engine with room for the longest prompt, or source, and its answer."""
    longest, source = max(map(len, asked)), None
    if model.config.encoder_layers:
        longest, source = 1, longest
    stops = () if tokenizer is None else tokenizer.stops
    return Engine(model, slots=slots, capacity=longest + options.max_new_tokens, source_capacity=source, stops=stops)


def _submit(engine: Engine, ids: Sequence[int], options: SamplingOptions, seed: int) -> Request:
    if engine.model.config.encoder_layers:
        return engine.submit([], options, source=ids, seed=seed)
    return engine.submit(ids, options, seed=seed)


def _pieces(engine: Engine, answer: Answer) -> Iterator[str]:
    while engine.busy and not answer.stopped:
        for event in engine.step():
            if shown := answer.push(event):
                yield shown


def sampling_options(**rules: Any) -> SamplingOptions:
    """SamplingOptions from keywords; a stop may be one text, and without a strategy a rule of drawing means to draw,
    one of beam search to search. Raises InputError for an unknown keyword."""
    known = {f.name for f in fields(SamplingOptions)}
    for name in rules:
        if name not in known:
            raise unknown("sampling option", name, known)
    stop = rules.get("stop", ())
    meant = {"beam": BEAMING, "sample": DRAWING}
    implied = next((word for word, names in meant.items() if any(name in rules for name in names)), "greedy")
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    if isinstance(early := rules.get("early_stopping"), bool):  # as transformers says it
        rules["early_stopping"] = "full" if early else "likely"
    return SamplingOptions(**(rules | {"strategy": rules.get("strategy") or implied, "stop": stops}))


def _asked(model: Transformer, tokenizer: Tokenizer | None, prompts: Sequence[Prompt], chat: bool) -> list[list[int]]:
    """The ids of each prompt; of each source for an encoder-decoder, which reads a text as it did in training: a
    document with its end. Raises InputError for a model that cannot continue a text."""
    check_speaks(model)
    if not model.config.encoder_layers:
        return _ids(tokenizer, prompts, chat)
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    if chat or any(not isinstance(prompt, str) and _is_talk(prompt) for prompt in prompts):
        raise InputError("an encoder-decoder answers a source and holds no conversation; pass the text alone")
    if texts and tokenizer is not None and model.config.source_vocab_size:
        raise InputError("the sources of this model have a vocabulary of their own; pass their ids")
    return [
        tokenizer.document(prompt) if isinstance(prompt, str) and tokenizer is not None else _raw(prompt)
        for prompt in prompts
    ]


def _ids(tokenizer: Tokenizer | None, prompts: Sequence[Prompt], chat: bool) -> list[list[int]]:
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
