"""Instar, for benchmarks/decode.py: runs in our own venv."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from protocol import Answers, Ids, serve

from instar.adapt.quantize import bytes_of
from instar.config.options import SamplingOptions
from instar.eval.limits import read_bytes
from instar.eval.speed import time_answers
from instar.hub.folders import load_model
from instar.infer.beam import beam_search
from instar.infer.engine import Engine
from instar.infer.tune import kept_in, tune
from instar.model.quantized import quantized

TRIAL = 24  # tokens of an answer by which two ways are compared
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Instar:
    """One model, with an engine for each number of streams."""

    def __init__(self, request: dict[str, Any]) -> None:
        # quantised weights keep their own precision; the other ones, and what flows between all, have that of `flow`
        dtype = DTYPES[request["precision"] if request["precision"] in DTYPES else request["flow"]]
        self.model = load_model(request["path"], dtype=dtype)
        self.vocab_size = self.model.config.vocab_size
        self.facts = {
            "weights": bytes_of(self.model), "read": read_bytes(self.model), "key": kept_in(self.model).itemsize
        }  # fmt: skip
        self._engines: dict[tuple[int, int], Engine] = {}
        tune(self.model)

    def answer(self, prompts: Ids, new: int, room: int) -> Answers:
        shape = len(prompts), room
        if shape not in self._engines:
            self._engines[shape] = self._fastest(prompts, new, room)
        timing = time_answers(self._engines[shape], prompts, new)
        return Answers(timing.first, timing.total, timing.rate, timing.ids)

    def _fastest(self, prompts: Ids, new: int, room: int) -> Engine:
        """As it is, or with a compiled step, whichever took less in a trial; quantised products, which are spread out
        in pieces, take a compiler minutes."""
        best, taken = None, math.inf
        for compile in (False, True) if not any(quantized(self.model)) else (False,):
            engine = Engine(self.model, slots=len(prompts), capacity=room, compile=compile)
            time_answers(engine, prompts, 2)  # what is compiled is compiled now
            took = time_answers(engine, prompts, min(new, TRIAL)).total
            if took < taken:
                best, taken = engine, took
        assert best is not None
        best.forget()
        return best

    def search(self, prompts: Ids, new: int, beams: int) -> Answers:
        options = SamplingOptions(strategy="beam", beams=beams, max_new_tokens=new, min_new_tokens=new)
        started = time.perf_counter()
        found = beam_search(self.model, prompts, options)
        return Answers(0.0, time.perf_counter() - started, None, [best[0].ids for best in found])


if __name__ == "__main__":
    serve(Instar)
