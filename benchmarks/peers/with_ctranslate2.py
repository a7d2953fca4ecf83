"""CTranslate2, for benchmarks/decode.py: runs in the venv of the peers.

python with_ctranslate2.py FOLDER OUT PRECISION      converts a folder of Hugging Face's layout
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import ctranslate2
from protocol import Answers, Ids, Skipped, serve

TYPES = {"fp32": "float32", "bf16": "bfloat16", "int8": "int8"}


class CTranslate2:
    """One model. It is asked in tokens as texts, which stand for ids here."""

    def __init__(self, request: dict[str, Any]) -> None:
        wanted = supported(request["precision"])
        self.generator = ctranslate2.Generator(
            request["path"], compute_type=wanted, inter_threads=1, intra_threads=int(os.environ["OMP_NUM_THREADS"])
        )
        self.names = json.loads((Path(request["path"]) / "vocabulary.json").read_text(encoding="utf-8"))
        self.vocab_size = len(self.names)
        self.facts = {"type": self.generator.compute_type}

    def answer(self, prompts: Ids, new: int, room: int) -> Answers:
        times = [0.0] * new
        started = time.perf_counter()

        def note(step: Any) -> bool:
            """Called for each token; the last stream to come to a step counts."""
            times[step.step] = time.perf_counter() - started
            return False

        ids = self._generate(prompts, new, beam_size=1, callback=note)
        times[-1] = time.perf_counter() - started
        return Answers.in_step(times, ids)

    def search(self, prompts: Ids, new: int, beams: int) -> Answers:
        started = time.perf_counter()
        ids = self._generate(prompts, new, beam_size=beams)
        return Answers(0.0, time.perf_counter() - started, None, ids)

    def _generate(self, prompts: Ids, new: int, **rules: Any) -> Ids:
        found = self.generator.generate_batch(
            [[self.names[id] for id in prompt] for prompt in prompts],
            max_length=new, min_length=new, end_token=[], include_prompt_in_result=False, **rules,
        )  # fmt: skip
        return [result.sequences_ids[0] for result in found]


def supported(precision: str) -> str:
    """What CTranslate2 calls it. Raises Skipped where this CPU has no instructions for it."""
    wanted = TYPES[precision]
    if wanted not in ctranslate2.get_supported_compute_types("cpu"):
        raise Skipped(f"no {wanted} on this CPU")
    return wanted


def convert(folder: str, out: str, precision: str) -> None:
    """Write what CTranslate2 reads."""
    wanted = supported(precision)
    converter = ctranslate2.converters.TransformersConverter(folder, low_cpu_mem_usage=True)
    converter.convert(out, quantization=wanted, force=True)
    config = Path(out) / "config.json"  # a tokenizer without a start token is written as null, and not read
    said = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps({name: "" if value is None else value for name, value in said.items()}), "utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        try:
            convert(*sys.argv[1:])
        except Skipped as why:
            sys.exit(str(why))
    else:
        serve(CTranslate2)
