"""llama.cpp by llama-cpp-python, for benchmarks/decode.py: runs in the venv of the peers.

python with_llama.py FILE.gguf OUT.gguf PRECISION    quantises a file
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from typing import Any

import llama_cpp
import numpy as np
from protocol import Answers, Ids, Skipped, serve

ERROR = 4  # GGML_LOG_LEVEL_ERROR of ggml.h
TYPES = {
    "fp32": llama_cpp.LLAMA_FTYPE_ALL_F32,
    "bf16": llama_cpp.LLAMA_FTYPE_MOSTLY_BF16,
    "int8": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
    "int4": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0,
}


@llama_cpp.llama_log_callback
def errors_alone(level: int, text: bytes, _: Any) -> None:
    if level == ERROR:
        sys.stderr.write(text.decode(errors="replace"))


class Llama:
    """One model, with a context for each number of streams."""

    def __init__(self, request: dict[str, Any]) -> None:
        llama_cpp.llama_log_set(errors_alone, ctypes.c_void_p(0))
        self.model = llama_cpp.llama_model_load_from_file(
            request["path"].encode(), llama_cpp.llama_model_default_params()
        )
        if not self.model:
            raise ValueError(f"{request['path']} was not read")
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self._context: Any = None
        self._shape = (0, 0)

    def answer(self, prompts: Ids, new: int, room: int) -> Answers:
        streams, length = len(prompts), len(prompts[0])
        context = self._prepared(streams, room)
        batch = llama_cpp.llama_batch_init(streams * length, 0, 1)
        times: list[float] = []
        started = time.perf_counter()
        tokens, said, first = prompts, [], 0
        while len(said) < new:
            last = self._fill(batch, tokens, first)
            if llama_cpp.llama_decode(context, batch):
                raise ValueError("llama_decode found no room")
            said.append([self._likeliest(context, place) for place in last])
            first += len(tokens[0])
            tokens = [[id] for id in said[-1]]
            times.append(time.perf_counter() - started)
        llama_cpp.llama_batch_free(batch)
        return Answers.in_step(times, [list(ids) for ids in zip(*said)])

    def search(self, prompts: Ids, new: int, beams: int) -> Answers:
        raise Skipped("llama.cpp has no beam search")

    def _prepared(self, streams: int, room: int) -> Any:
        """An empty context for so many streams."""
        if self._shape != (streams, room):
            if self._context is not None:
                llama_cpp.llama_free(self._context)
            params = llama_cpp.llama_context_default_params()
            params.n_ctx, params.n_seq_max = streams * (256 * -(-room // 256)), streams
            params.n_batch, params.n_ubatch = streams * room, 512
            params.n_threads = params.n_threads_batch = int(os.environ["OMP_NUM_THREADS"])
            self._context = llama_cpp.llama_init_from_model(self.model, params)
            self._shape = streams, room
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        return self._context

    @staticmethod
    def _fill(batch: Any, tokens: Ids, first: int) -> list[int]:
        """Put the next tokens of each stream into a batch -> the places whose logits are wanted."""
        place, last = 0, []
        for stream, ids in enumerate(tokens):
            for number, id in enumerate(ids):
                batch.token[place], batch.pos[place] = id, first + number
                batch.n_seq_id[place], batch.seq_id[place][0] = 1, stream
                batch.logits[place] = number == len(ids) - 1
                place += 1
            last.append(place - 1)
        batch.n_tokens = place
        return last

    def _likeliest(self, context: Any, place: int) -> int:
        logits = llama_cpp.llama_get_logits_ith(context, place)
        return int(np.ctypeslib.as_array(logits, (self.vocab_size,)).argmax())


def quantize(path: str, out: str, precision: str) -> None:
    """Write the same model in another precision."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = TYPES[precision], 2
    if llama_cpp.llama_model_quantize(path.encode(), out.encode(), ctypes.byref(params)):
        raise SystemExit(f"{path} was not quantised to {precision}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        quantize(*sys.argv[1:])
    else:
        serve(Llama)
