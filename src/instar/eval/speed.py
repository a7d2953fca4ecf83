"""How fast a model answers: its prompts read, its tokens said, and the share of the machine's limit that both reach."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import torch

from ..config.options import SamplingOptions
from ..infer.engine import Engine
from ..infer.tune import kept_in
from ..model.transformer import Transformer
from .limits import Limits, key_bytes, prompt_operations, read_bytes, step_operations

WARMUP = 16  # tokens of the answers that are not counted
PRECISIONS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


@dataclass(frozen=True)
class Timing:
    """One round of answers. first: seconds until every stream had said a token; total: until the last had ended;
    rate: tokens a second of all streams together while all of them spoke, None where there was no such time; ids: what
    each said."""

    first: float
    total: float
    rate: float | None
    ids: list[list[int]]


def time_answers(engine: Engine, prompts: Sequence[Sequence[int]], new: int) -> Timing:
    """Let an idle engine answer prompts side by side with `new` tokens each, greedily; an encoder-decoder takes them
    as its sources. Raises InputError where `Engine.submit` does."""
    options = SamplingOptions(strategy="greedy", max_new_tokens=new)
    pairs = engine.model.config.encoder_layers > 0
    started = time.perf_counter()
    requests = [
        engine.submit([], options, source=prompt) if pairs else engine.submit(prompt, options) for prompt in prompts
    ]
    said = 0
    begun: tuple[float, int] | None = None
    ended: tuple[float, int] | None = None
    while engine.busy:
        events = engine.step()
        now = time.perf_counter() - started
        said += sum(event.id is not None for event in events)
        if begun is None and all(request.ids for request in requests):
            begun = now, said
        if ended is None and any(event.finish for event in events):
            ended = now, said
    total = time.perf_counter() - started
    ids = [request.ids for request in requests]
    if begun is None or ended is None or ended[0] <= begun[0]:
        return Timing(begun[0] if begun else total, total, None, ids)
    return Timing(begun[0], total, (ended[1] - begun[1]) / (ended[0] - begun[0]), ids)


@dataclass(frozen=True)
class Speed:
    """Medians of several rounds of `streams` answers, `new` tokens behind `prompt` tokens each. first: seconds until
    every stream had said a token; prompt_rate: tokens of prompts read a second until then; rate: tokens a second of all
    streams while all spoke; answer_rate: tokens said a second over the whole."""

    streams: int
    prompt: int
    new: int
    first: float
    prompt_rate: float
    rate: float | None
    answer_rate: float


def measure_speed(
    model: Transformer,
    streams: int,
    *,
    prompt: int = 128,
    new: int = 128,
    repeats: int = 3,
    seed: int = 0,
    compile: bool = False,
    done: Callable[[], None] = lambda: None,
) -> Speed:
    """Answer `streams` prompts of so many tokens side by side, `repeats` times after one round that is not counted.
    done: called after every round. Raises InputError where the model has no room for a prompt and its answer."""
    engine = Engine(model, slots=streams, capacity=prompt + new, compile=compile)
    generator = torch.Generator().manual_seed(seed)
    times = []
    for number in range(repeats + 1):
        # new ones every time, or they would be found in the cache
        ids = torch.randint(model.config.vocab_size, (streams, prompt), generator=generator).tolist()
        timing = time_answers(engine, ids, min(new, WARMUP) if number == 0 else new)
        times += [timing] if number else []
        done()
    first, total = median(time.first for time in times), median(time.total for time in times)
    rates = [time.rate for time in times if time.rate is not None]
    return Speed(
        streams, prompt, new, first, streams * prompt / first, median(rates) if rates else None, streams * new / total
    )


def shares(model: Transformer, limits: Limits, speed: Speed) -> tuple[float, float | None]:
    """The shares of the machine's limits that reading prompts and saying tokens reached."""
    streams, context, flow = speed.streams, speed.prompt + speed.new / 2, precision(model)
    reading = streams * prompt_operations(model.config, speed.prompt)
    prompts = limits.floor(read_bytes(model, streams * speed.prompt), reading, flow)
    keys = streams * key_bytes(model.config, context, kept_in(model).itemsize)
    step = limits.floor(read_bytes(model, streams) + keys, step_operations(model.config, streams, context), flow)
    return prompts / speed.first, None if speed.rate is None else step * speed.rate / streams


def precision(model: Transformer) -> str:
    """The same as an option says it."""
    return PRECISIONS[model.dtype]
