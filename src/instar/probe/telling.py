"""One answer as the engine says it, watched: each pass of the loop with its logits, the choice and the growing cache.

Nothing in the engine knows of it: what it hears is the head's output and what `Engine.step` tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..config import InputError, ModelConfig
from ..config.options import CONSTRAINTS, SamplingOptions
from ..infer.answer import Answer
from ..infer.engine import Engine
from ..infer.prompt import check_speaks
from ..infer.reader import resting
from ..infer.request import Event, Luck
from ..infer.tune import kept_in
from ..model.transformer import Transformer
from .checks import limit
from .choice import Choice, Chosen, State, choose
from .panel import Unfit, Words
from .subject import Subject, within

if TYPE_CHECKING:
    from ..infer.constrain import Grammar

MOST_STEPS = 512
PLACES = 16  # whose logits are compared at a time


@dataclass(frozen=True)
class Pass:
    """One pass of the loop, counted from 0. read: how many tokens it read; held: tokens whose keys are kept after it;
    needed, used: bytes that those take, and bytes of the blocks that hold them, those of a source among them; whole:
    the choice with its distributions, where it is kept."""

    choice: Chosen
    number: int
    read: int
    held: int
    needed: int
    used: int
    whole: Choice | None = None

    @property
    def phase(self) -> str:
        return "decode" if self.number else "prefill"


@dataclass
class Told:
    """One answer. prompt, source, prefix: ids; ids: what was said, the prefix first, without the stop; passes: one a
    token, the stop's too, and none of the prefix; states: (D,) of each pass, of which the head made its logits."""

    prompt: list[int]
    source: list[int]
    options: SamplingOptions
    stops: frozenset[int]
    passes: list[Pass] = field(default_factory=list)
    states: list[Tensor] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    text: str = ""
    finish: str = ""
    prefix: list[int] = field(default_factory=list)

    @property
    def begun(self) -> list[int]:
        """What the first pass read."""
        return [*self.prompt, *self.prefix]

    @property
    def chosen(self) -> list[int]:
        """What each pass chose, the stop too."""
        return [each.choice.id for each in self.passes]

    @property
    def openest(self) -> Pass:
        """The pass at which the model was least decided, the first of several."""
        return max(self.passes, key=lambda each: each.choice.stages[0].entropy)

    def add(self, one: Pass, keep: int) -> None:
        """One more pass. Distributions are kept of the first, the last `keep` and the least decided."""
        self.passes.append(one)
        if len(self.passes) > keep:
            openest = self.openest.number
            for each in self.passes[1:-keep]:
                if each.whole is not None and each.number != openest:
                    self.passes[each.number] = replace(each, whole=None)


def speaks(options: SamplingOptions, room: int) -> tuple[SamplingOptions, list[Words]]:
    """The options of an answer that is said token by token, no longer than there is room for, and what was changed of
    those that were asked."""
    notes = []
    if options.strategy == "beam":
        options = SamplingOptions(
            "greedy", min_new_tokens=options.min_new_tokens, max_new_tokens=options.max_new_tokens
        )
        notes.append(
            Words(
                "Beam search weighs whole answers (view beam); token by token this shows greedy decoding.",
                "束搜索比较的是整个回答(见 beam 视图);这里逐词元展示贪心解码。",
            )
        )
    most = min(room, MOST_STEPS)
    if options.max_new_tokens > most:
        options = replace(options, max_new_tokens=most, min_new_tokens=min(most, options.min_new_tokens))
        notes.append(
            Words(f"The answer has room for {most} tokens here.", f"此处回答最多 {most} 个词元。"),
        )
    return options, notes


def begins(subject: Subject, *, anew: bool = True) -> tuple[list[int], list[int] | None]:
    """What an engine is given of a subject: prompt and source. anew: of an encoder-decoder whose tokenizer is at hand,
    the answer from its beginning; otherwise it goes on behind the tokens."""
    config = subject.model.config
    try:
        check_speaks(subject.model)
    except InputError as error:
        raise Unfit(Words(str(error), "编码器或没有语言模型头的模型无法续写；需要解码器")) from None
    ids = [token.id for token in subject.tokens]
    if not config.encoder_layers:
        return ids, None
    source = [token.id for token in subject.source]
    return ([] if anew and subject.tokenizer is not None and config.start >= 0 else ids), source


def room(model: Transformer, prompt: Sized) -> int:
    """Tokens that may follow a prompt; the last one is never read. Raises InputError where there is none."""
    left = model.config.max_positions + 1 - max(1, len(prompt))
    if left < 1:
        raise InputError(
            f"the text has {len(prompt)} tokens, and the model reads {model.config.max_positions}; shorten it"
        )
    return left


def bytes_of(config: ModelConfig, tokens: int, source: int, size: int) -> int:
    """Keys and values of so many tokens, and of a source: 2 L K E (T + S) numbers of `size` bytes."""
    both = tokens + (source if config.encoder_layers else 0)
    return 2 * config.layers * config.kv_heads * config.head_size * both * size


@contextmanager
def heard(engine: Engine) -> Iterator[list[tuple[Tensor, Tensor, int]]]:
    """While it lasts, what the language model's head is given and says is kept, (R, D) and (R, V) of each call, with
    the bytes of all blocks that rows use then."""
    rows: list[tuple[Tensor, Tensor, int]] = []
    hook = engine.model.heads["lm"].register_forward_hook(
        lambda head, given, y: rows.append((given[0].detach(), y.detach(), in_use(engine)))
    )
    try:
        yield rows
    finally:
        hook.remove()


def in_use(engine: Engine) -> int:
    """Bytes of all blocks that rows use now."""
    return sum(pool.allocated * (pool.nbytes // pool.total) for pool in engine.pages.every)


def engine_for(
    subject: Subject, prompt: Sequence[int], source: Sequence[int] | None, most: int, rows: int = 1
) -> Engine:
    """An engine with room for one prompt and `most` tokens behind it, in so many rows, that ends as `generate` does."""
    return Engine(
        subject.model, slots=rows, capacity=max(1, len(prompt)) + most,
        source_capacity=len(source) if source else None,
        stops=() if subject.tokenizer is None else subject.tokenizer.stops,
    )  # fmt: skip


def tell(
    subject: Subject, options: SamplingOptions, seed: int, *, anew: bool = True, keep: int = 1, top: int = 1
) -> Told:
    """Let the engine answer, as `generate` does with this seed, and keep each pass in numbers, with its `top` likeliest
    tokens; with its distributions as `Told.add` says. Raises InputError as `Engine.submit` does, and where the answer
    fails."""
    told, passes = telling(subject, options, seed, anew=anew, keep=keep, top=top)
    for _ in passes:
        pass
    return told


def telling(
    subject: Subject,
    options: SamplingOptions,
    seed: int,
    *,
    anew: bool = True,
    keep: int = 1,
    top: int = 1,
    prefix: Sequence[int] = (),
    around: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> tuple[Told, Iterator[tuple[Pass, str]]]:
    """`tell`, pass by pass: the answer, empty as yet, and an iterator that lets it grow by a token each time and gives
    the pass and the text that may be shown since. Whoever stops asking stops the work, and between two passes the model
    is as it was.

    prefix: ids that the answer begins with, as if they had been said; they count as said tokens in every rule and in
    max_new_tokens; where they hold a stop already nothing is said. around: what each pass is run in, such as an
    intervention. Raises InputError at once as `Engine.submit` does, and for a prefix that a constraint forbids, and
    while it grows where the answer fails.
    """
    prompt, source = begins(subject, anew=anew)
    prefix = within("prefix_ids", prefix, subject.model.config.vocab_size)
    if prefix and len(prefix) >= options.max_new_tokens:
        raise InputError(f"the answer has {len(prefix)} tokens, and max_new_tokens={options.max_new_tokens}; want more")
    engine = engine_for(subject, prompt, source, options.max_new_tokens)
    grammar = _grammar(subject, options)
    constraint = None if grammar is None else grammar.start()
    request = engine.submit(prompt, options, source=source, seed=seed, constraint=constraint)
    answer = Answer(request, subject.tokenizer)
    for id in prefix:  # as an answer that lost its memory is computed again
        request.ids.append(id)
        request.logprobs.append(0.0)
        answer.push(Event(request, id, 0.0, None))
        if constraint is not None:
            constraint.advance(id)
            if constraint.error is not None:
                raise InputError(f"prefix_ids: {subject.spelt(prefix)!r} is no begin of an answer: {constraint.error}")
    told = Told(request.prompt, request.source, options, request.stops, ids=request.ids, logprobs=request.logprobs)
    told.text, told.prefix = answer.text, list(prefix)
    ends = bool(prefix) and prefix[-1] in request.stops and len(prefix) > options.min_new_tokens
    if ends or answer.stopped:
        engine.cancel(request)
        told.finish = "stop"
        del told.ids[len(prefix) - ends :], told.logprobs[len(prefix) - ends :]
    again = _Again(told, Luck(seed), grammar, subject.model, keep, top)
    return told, _passes(engine, answer, told, again, around)


def _passes(
    engine: Engine, answer: Answer, told: Told, again: _Again, around: Callable[[], AbstractContextManager[Any]]
) -> Iterator[tuple[Pass, str]]:
    request = answer.request
    while request.finish is None:
        shown = ""
        with around(), heard(engine) as rows:
            for event in engine.step():
                shown += answer.push(event)
                if answer.stopped:
                    engine.cancel(request)
        found = [again.choose(states[0].clone(), logits[0].clone(), used) for states, logits, used in rows
                 if len(logits)]  # fmt: skip
        told.text = answer.text
        if request.finish is not None:
            told.finish = answer.completion().finish
        if request.error is not None:
            raise InputError(f"the answer failed: {request.error}")
        for one in found:
            yield one, shown


def _grammar(subject: Subject, options: SamplingOptions) -> Grammar | None:
    asked = [name for name in CONSTRAINTS if getattr(options, name)]
    if not asked:
        return None
    if subject.tokenizer is None:
        raise InputError(f"sampling.{asked[0]} is text and needs a tokenizer, and there is none; leave it out")
    from ..infer.constrain import compile as compile_grammar

    return compile_grammar(subject.tokenizer, options, subject.model.config.vocab_size)


class _Again:
    """Each choice once more from the same logits by the same rules, for what the engine does not tell."""

    def __init__(
        self, told: Told, luck: Luck, grammar: Grammar | None, model: Transformer, keep: int, top: int
    ) -> None:
        self.told, self.luck, self.model, self.keep, self.top = told, luck, model, keep, top
        self.size, self.held, self.first = kept_in(model).itemsize, 0, len(told.prefix)
        self.masks = self.constraint = None
        if grammar is not None:
            from ..infer.constrain import Masks

            self.masks, self.constraint = Masks(model.config.vocab_size), grammar.start()
            for id in told.prefix:
                self.constraint.advance(id)

    def choose(self, state: Tensor, logits: Tensor, used: int) -> Pass:
        """The next pass, once the engine has said its token."""
        told, number = self.told, len(self.told.passes)
        place = self.first + number
        if self.constraint is not None and number > 0 and place <= len(told.ids):
            self.constraint.advance(told.ids[place - 1])
        allowed = None if self.masks is None else self.masks.of([self.constraint])[0]
        found = choose(
            logits, told.options, State(told.prompt, told.ids[:place], told.stops, allowed, self.luck.of(place))
        )
        read = 1 if number else len(told.begun)
        self.held += read
        needed = bytes_of(self.model.config, self.held, len(told.source), self.size)
        numbers = found.numbers(self.top, told.options.top_p)
        told.states.append(state)
        one = Pass(numbers, number, read, self.held, needed, used, found)
        told.add(one, self.keep)
        return one


@torch.no_grad()
def cache_gap(model: Transformer, told: Told) -> float:
    """`gap` of the logits of every pass and those of one pass over the whole text without a cache, some places at a
    time: over a large vocabulary those of all do not fit."""
    text = [*told.begun, *told.chosen][: len(told.begun) + len(told.passes) - 1]
    ids = torch.tensor([text], device=model.device)
    source = torch.tensor([told.source], device=model.device) if told.source else None
    head, apart, sizes = model.heads["lm"], [], []
    with resting(model):
        hidden = model.hidden(ids, source=source)[0, len(told.begun) - 1 :]
        if len(hidden) != len(told.states):
            return float("nan")
        for some, states in zip(hidden.split(PLACES), torch.stack(told.states).split(PLACES)):
            plain = head(some).double()
            apart.append((head(states).double() - plain).abs().max())
            sizes.append(plain.abs().max())
    return float(torch.stack(apart).max()) / max(1.0, float(torch.stack(sizes).max()))


def gap(one: Tensor, other: Tensor) -> float:
    """The largest difference, as a share of the largest of the other where that is above 1; NaN where they are no
    numbers."""
    one, other = one.double(), other.double()
    if one.shape != other.shape:
        return float("nan")
    scale = float(other.abs().max()) if other.numel() else 1.0
    return float((one - other).abs().max()) / max(1.0, scale) if one.numel() else 0.0


def limit_of(model: Transformer) -> float:
    """How far two ways of the same computation may lie apart, as a share, in the precision of a model's products and
    of its keys."""
    return max(limit(dtype, 1e-4) for dtype in (model.dtype, kept_in(model)))
