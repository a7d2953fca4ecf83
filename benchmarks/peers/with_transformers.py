"""transformers, for benchmarks/decode.py: runs in the venv of the peers.

Three ways of greedy decoding, of which the fastest at a shape counts: eager steps over a cache that grows; a static
cache and a compiled step; the same with weights frozen into it, so that the compiler may lay them out anew. The loop is
shorter than that of `generate`, and so never slower. Beam search is `generate`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch._inductor.config
import transformers
from protocol import Answers, Ids, serve
from transformers import DynamicCache, StaticCache

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
TRIAL = 8  # tokens by which ways are compared
LOOK = 3  # tokens of the first look at a system, for which nothing is compiled
Clock = Callable[[], None]


class Transformers:
    """One model, with the best way for each shape."""

    def __init__(self, request: dict[str, Any]) -> None:
        transformers.logging.set_verbosity_error()
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            request["path"], dtype=DTYPES[request["precision"]], attn_implementation="sdpa"
        ).eval()
        self.model.generation_config.eos_token_id = None
        self.vocab_size = self.model.config.vocab_size
        self.ways: dict[str, Callable[[torch.Tensor, int, int, Clock], list[torch.Tensor]]] = {"eager": self._eager}
        for way in request.get("ways", ["compiled", "frozen"]):
            self.ways[way] = partial(self._static, way)
        self._best: dict[tuple[int, int, bool], str] = {}
        self._steps: dict[tuple[str, int, int], Any] = {}

    @torch.no_grad()
    def answer(self, prompts: Ids, new: int, room: int) -> Answers:
        shape = len(prompts), room, new > 1
        if new != LOOK and shape not in self._best:
            trials = {way: self._timed(way, prompts, min(new, TRIAL), room) for way in self.ways for _ in range(2)}
            self._best[shape] = min(trials, key=lambda way: -(trials[way].rate or 0.0) or trials[way].first)
        return self._timed(self._best.get(shape, "eager"), prompts, new, room)

    def _timed(self, way: str, prompts: Ids, new: int, room: int) -> Answers:
        times: list[float] = []
        started = time.perf_counter()

        def clock() -> None:
            times.append(time.perf_counter() - started)

        said = self.ways[way](torch.tensor(prompts), new, room, clock)
        return Answers.in_step(times, torch.stack(said, 1).tolist(), way)

    def _eager(self, ids: torch.Tensor, new: int, room: int, clock: Clock) -> list[torch.Tensor]:
        cache, said = DynamicCache(config=self.model.config), []
        for _ in range(new):
            logits = self.model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
            said.append(logits[:, -1].argmax(-1))
            ids = said[-1][:, None]
            clock()
        return said

    def _static(self, way: str, ids: torch.Tensor, new: int, room: int, clock: Clock) -> list[torch.Tensor]:
        key = way, len(ids), room
        if key not in self._steps:
            cache = StaticCache(config=self.model.config, max_cache_len=room)
            self._step(cache, ids[:, :1], torch.arange(1))  # makes its tensors, which is not to be compiled
            self._steps[key] = cache, torch.compile(partial(self._step, cache), dynamic=False)
        cache, step = self._steps[key]
        cache.reset()
        with torch._inductor.config.patch(freezing=way == "frozen"):
            # one prompt is compiled too; of many it would take long, and is the lesser part
            read = step if len(ids) == 1 else partial(self._step, cache)
            logits = read(ids, torch.arange(ids.shape[1]))
            said = [logits.argmax(-1)]
            clock()
            for place in range(ids.shape[1], ids.shape[1] + new - 1):
                said.append(step(said[-1][:, None], torch.tensor([place])).argmax(-1))
                clock()
        return said

    def _step(self, cache: StaticCache, ids: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Read ids (B, T) that stand at places (T,) -> logits (B, V) behind the last."""
        out = self.model(
            ids, past_key_values=cache, use_cache=True, logits_to_keep=1, cache_position=places,
            position_ids=places[None],
        )  # fmt: skip
        return out.logits[:, -1]

    @torch.no_grad()
    def search(self, prompts: Ids, new: int, beams: int) -> Answers:
        ids, started = torch.tensor(prompts), time.perf_counter()
        out = self.model.generate(
            ids, attention_mask=torch.ones_like(ids), num_beams=beams, do_sample=False, max_new_tokens=new,
            min_new_tokens=new, pad_token_id=0,
        )  # fmt: skip
        return Answers(0.0, time.perf_counter() - started, None, out[:, ids.shape[1] :].tolist(), "generate")


if __name__ == "__main__":
    serve(Transformers)
