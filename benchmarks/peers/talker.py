"""A model for benchmarks/serve.py: random weights, a tokenizer that fills its vocabulary, and a chat template.

    python talker.py FOLDER '{"d_model": 768, ...}' fp32 bf16

Writes FOLDER/fp32 in Hugging Face's layout and FOLDER/fp32.gguf, and so on; prints as its last line which files could
not be made and why, and on what CPU this is. Runs in our own venv.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from instar.config import InputError, ModelConfig
from instar.hub.files import save_model
from instar.hub.gguf import export
from instar.model.transformer import Transformer
from instar.text.tokenizer import Tokenizer
from instar.train.machine import describe

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SYLLABLES = [consonant + vowel for consonant in "bcdfghjklmnprstvwz" for vowel in "aeiou"]
WORDS, TEXTS, LENGTH = 40_000, 3_000, 200


def texts() -> Iterator[str]:
    """Words that there are not, of which any vocabulary can be learnt; their letters are ASCII, so that every token is
    a text that a server can send at once."""
    luck = random.Random(0)
    words = ["".join(luck.choices(SYLLABLES, k=luck.randint(1, 5))) for _ in range(WORDS)]
    for _ in range(TEXTS):
        yield " ".join(luck.choices(words, k=LENGTH))


def make(folder: Path, shape: dict[str, Any], names: Sequence[str]) -> dict[str, str]:
    """What is missing, and why."""
    missing: dict[str, str] = {}
    wanted = [name for name in names if not (folder / name).exists() or not (folder / f"{name}.gguf").exists()]
    if not wanted:
        return missing
    tokenizer = Tokenizer.train(texts(), shape["vocab_size"])
    config = ModelConfig(norm_eps=1e-5, tied=True, max_positions=2048, **shape)
    model = Transformer(config, seed=0)
    with torch.no_grad():
        # their logits are 0, and never the largest of so many: no answer ends before its longest
        model.embed.weight[list(tokenizer.stops)] = 0
    ends = {"bos_token_id": tokenizer.bos, "eos_token_id": list(tokenizer.stops), "pad_token_id": tokenizer.pad}
    for name in wanted:
        save_model(model, folder / name, dtype=DTYPES[name], tokens=ends)
        tokenizer.save(folder / name)
        try:
            export(folder / name, folder / f"{name}.gguf")
        except InputError as why:  # without the library that writes such files
            missing[f"{name}.gguf"] = str(why)
    return missing


if __name__ == "__main__":
    absent = make(Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:])
    print(json.dumps({"missing": absent, "cpu": describe(torch.device("cpu"))["cpu"]}))
