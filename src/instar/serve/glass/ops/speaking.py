"""An answer, token by token, as the engine says it, with what each token was chosen from; and the tree of a search."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

from ....config import InputError
from ....infer.asking import check, check_ids
from ....probe.draw.record import finite, record
from ....probe.look import Look
from ....probe.panel import Check
from ....probe.subject import MOST_TOKENS, Subject
from ....probe.telling import Pass, Told, begins, cache_gap, limit_of, room, speaks, telling
from ....probe.views.beam import beam as beam_of
from ....probe.views.generation import CACHED, ENGINE
from ....text.tokenizer import Stream
from ..box import Box, Event
from ..stock import Held
from ..trouble import too_long
from .question import one_of, refusing, sampling_of
from .reading import question_of, read_asked
from .tracing import as_changed

Around = Callable[[], AbstractContextManager[Any]]
TOP = 20  # likeliest tokens that are told of each step
PROVEN = 1024  # tokens of a text that is read once more, without a cache, at the end


@refusing
def generate(box: Box, args: Mapping[str, Any]) -> Iterator[Event]:
    """{model, adapter, messages | prompt | ids | trace, prefix_ids, sampling, seed, stop} -> events: `start`, a `token`
    for each that is said, `done`. max_new_tokens counts those behind the prefix. Raises InputError for sampling that is
    malformed and Trouble (413) where there is no room, before anything is said."""
    held, subject, around = subject_of(box, args)
    prompt, source = begins(subject)
    prefix = list(args.get("prefix_ids") or [])
    asked = sampling_of(args.get("sampling", {}), args.get("stop", ()))
    check(asked)
    check_ids(asked, held.config.vocab_size)
    left = min(MOST_TOKENS, room(held.model, prompt)) - len(prefix)
    if left < 1:
        raise too_long(held.config.max_positions, len(prompt) + len(prefix))
    options, notes = speaks(asked, left)
    options = replace(options, max_new_tokens=options.max_new_tokens + len(prefix))
    said, passes = telling(subject, options, args.get("seed", 0), prefix=prefix, top=TOP, around=around)
    ids = source if source is not None else said.prompt
    start = {
        "prompt_tokens": len(ids) + len(prefix), "ids": list(ids), "prefix": len(prefix),
        "sampling": finite(vars(options)), "notes": [note._asdict() for note in notes],
    }  # fmt: skip
    return _events(subject, said, passes, start, around)


def subject_of(box: Box, args: Mapping[str, Any]) -> tuple[Held, Subject, Around]:
    """The model, what it goes on with, and what its passes are run in: of a trace the intervention that it was made
    with. Raises Trouble for what there is not."""
    way = one_of(args, "messages", "prompt", "text", "ids", "trace")
    if way == "trace":
        kept = box.traces.find(args["trace"])
        return kept.held, kept.look.subject, partial(as_changed, kept.held, kept.changed)
    if not args.get("model"):
        raise InputError("found no model; wanted its id, or a trace")
    held = box.stock.get(args["model"], args.get("adapter", ""))
    asked = {name: args[name] for name in ("messages", "text", "ids", "chat", "target") if args.get(name)}
    if way == "prompt":
        asked["text"] = args["prompt"]
    if held.config.encoder_layers and not asked.get("target"):
        asked |= {"target_ids": [0]} if way == "ids" else {"target": "."}  # it is said anew, and not read
    return held, read_asked(held, asked), nullcontext


def _events(
    subject: Subject, told: Told, passes: Iterator[tuple[Pass, str]], start: dict[str, Any], around: Around
) -> Iterator[Event]:
    yield {"event": "start", "data": start}
    stream = None if subject.tokenizer is None else Stream(subject.tokenizer, continues=True)
    for id in told.prefix:
        if stream is not None:
            stream.push(id)
    began = before = time.monotonic()
    for one, shown in passes:
        now = time.monotonic()
        place = len(told.prefix) + one.number
        if place < len(told.ids):  # what ends an answer is no part of it
            # a text that may yet end the answer is held back, and what is half a character says nothing yet
            piece = shown if told.options.stop else "" if stream is None else stream.push(one.choice.id)
            yield {"event": "token", "data": _token(subject, told, one, place, piece, 1000 * (now - before))}
        before = time.monotonic()
    yield {"event": "done", "data": _done(subject, told, began, around)}


def _token(subject: Subject, told: Told, one: Pass, place: int, text: str, ms: float) -> dict[str, Any]:
    choice, whole = one.choice, one.whole
    assert whole is not None, "that of the last pass is kept"
    last = whole.stages[-1].chances
    raw = b"" if subject.tokenizer is None else subject.tokenizer.token_bytes(choice.id)
    return {
        "step": place, "id": choice.id, "text": text, "piece": subject.piece(choice.id),
        "b64": base64.b64encode(raw).decode(), "logprob": choice.logprob, "rank": choice.rank,
        "entropy": choice.stages[0].entropy, "kept": choice.stages[-1].kept, "u": choice.luck, "low": choice.low,
        "high": choice.high, "p": choice.stages[0].p, "p_after": choice.stages[-1].p,
        "top": [
            [id, subject.piece(id), float(whole.logits[id]), p, float(last[id])] for id, p in choice.top
        ],
        "phase": one.phase, "read": one.read, "kv_len": one.held, "kv_bytes": one.needed, "block_bytes": one.used,
        "ms": ms,
    }  # fmt: skip


def _done(subject: Subject, told: Told, began: float, around: Around) -> dict[str, Any]:
    """ids: of the whole answer, with what it began with, and without its stop."""
    seconds = time.monotonic() - began
    wrong = sum(one.choice.id != id for one, id in zip(told.passes, told.ids[len(told.prefix) :]))
    checks = [Check("engine", float(wrong), 0.0, ENGINE)]
    if told.passes and len(told.begun) + len(told.passes) <= PROVEN:
        with around():
            checks.append(Check("cached", cache_gap(subject.model, told), limit_of(subject.model), CACHED))
    stop = None
    if told.passes and len(told.prefix) + len(told.passes) > len(told.ids):
        id = told.passes[-1].choice.id
        stop = {"id": id, "piece": subject.piece(id), "logprob": told.passes[-1].choice.logprob}
    return {
        "finish": told.finish, "text": told.text, "ids": list(told.ids), "stop": stop, "seconds": seconds,
        "checks": [check.record() for check in checks],
    }  # fmt: skip


@refusing
def beam(box: Box, args: Mapping[str, Any]) -> dict[str, Any]:
    """{model, adapter, text | prompt | ids | messages | trace, sampling, top} -> the panel of a beam search."""
    _, subject, around = subject_of(box, args)
    kept = box.traces.find(args["trace"]) if args.get("trace") else None
    ask = question_of({name: args[name] for name in ("text", "ids", "messages", "chat") if args.get(name)})
    ask = ask if kept is None else kept.look.ask
    sampling = sampling_of(args.get("sampling", {}))
    if sampling.strategy == "beam":
        check(sampling)
    asked = replace(ask, sampling=sampling, top=args.get("top") or ask.top)
    with around():
        return record(beam_of(Look(subject, asked)))
