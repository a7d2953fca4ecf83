"""An engine that stays and answers whoever comes: with room for as long texts as there is memory for, and warm."""

from __future__ import annotations

from ..config import InputError
from ..config.options import EngineOptions, SamplingOptions
from ..hub.memory import free_bytes
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer
from .asking import check_how
from .draft import proposer
from .engine import CAPACITY, Engine
from .request import Request
from .tune import tune

MEBI = 1 << 20
SHARE = 4  # of a CPU's free memory, which others want as well, keys take one such part at most
LEAST = 256  # tokens of prompt and answer below which no engine is worth having
PROBE = 8  # tokens


def ready(model: Transformer, tokenizer: Tokenizer, how: EngineOptions, *, sharing: int = 1) -> Engine:
    """An engine for texts of up to 4096 tokens, prompt and answer, or as many as there is memory for, in which one
    request that fails leaves the others alone. What ends an answer is said with each request. sharing: engines of the
    same kind on this machine, which share its memory. Raises InputError where not even a short text finds room, and
    for a model that cannot say anything."""
    check_how(how)
    free = free_bytes(model.device)
    share = (SHARE if model.device.type == "cpu" else 2) * sharing
    budget = how.kv_budget * MEBI or (None if free is None else free // share)
    # what is measured differs from one process to the next, and with it the last bits
    if how.tune and not how.compile and not (how.deterministic and sharing > 1):
        tune(model)
    capacity = min(CAPACITY, model.config.max_positions)
    while True:
        try:
            propose = proposer(model, tokenizer, speculate=how.speculate, slots=how.slots, capacity=capacity)
            engine = Engine(
                model, slots=how.slots, capacity=capacity, source_capacity=capacity, propose=propose, budget=budget,
                chunk=how.chunk, deterministic=how.deterministic, compile=how.compile, isolate=True,
            )  # fmt: skip
            break
        except InputError:
            if capacity <= LEAST:
                raise
            capacity = max(LEAST, capacity // 2)
    # what is made at first is made now, and not while the first request waits for it
    first = probe(engine)
    engine.run()
    if how.compile and how.slots > 1:  # a step of several rows is compiled by itself
        for _ in range(2):
            probe(engine)
        engine.run()
    engine.forget()
    if first.finish == "failed":
        raise InputError(f"the model cannot be asked anything: {first.error}")
    return engine


def probe(engine: Engine) -> Request:
    """Ask for a few words that any model in order can say."""
    new = max(1, min(PROBE, engine.capacity - 1))
    source = [0] if engine.model.config.encoder_layers else None
    return engine.submit([0], SamplingOptions(strategy="greedy", max_new_tokens=new), source=source)
