"""Models for benchmarks/decode.py: random weights in a folder of Hugging Face's layout, and what is made of it.

    python make.py FOLDER '{"d_model": 768, ...}' hf int8 int4 bf16.gguf

Writes those of FOLDER/hf (bf16), FOLDER/int8 and FOLDER/int4 (ours) and FOLDER/bf16.gguf that are named, and prints as
its last line which of them could not be made and why. Runs in our own venv.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from instar.adapt.quantize import GROUP, quantize
from instar.config import InputError, ModelConfig
from instar.data.corpus import read
from instar.hub.files import save_model
from instar.hub.folders import load
from instar.hub.gguf import export
from instar.model.grid import Grid
from instar.model.transformer import Transformer
from instar.text.tokenizer import Tokenizer

TEXTS = "world:stories?count=300&facts=0"


def make(folder: Path, shape: dict[str, object], names: Sequence[str]) -> dict[str, str]:
    """What is missing, and why."""
    source, missing = folder / "hf", {}
    if "hf" in names:
        config = ModelConfig(norm_eps=1e-5, tied=False, max_positions=2048, **shape)  # type: ignore[arg-type]
        tokenizer = Tokenizer.train((document.text for document in read([TEXTS])), min(512, config.vocab_size))
        save_model(Transformer(config), source, dtype=torch.bfloat16, tokens=ends(tokenizer))
        tokenizer.save(source)
    for name, bits in {"int8": 8, "int4": 4}.items():
        if name in names:
            model, tokenizer = load(source, dtype=torch.bfloat16)
            quantize(model, Grid(bits, GROUP[bits], symmetric=True))
            save_model(model, folder / name, tokens=ends(tokenizer))
            tokenizer.save(folder / name)
    if "bf16.gguf" in names:
        try:
            export(source, folder / "bf16.gguf")
        except InputError as why:  # without the library that writes such files
            missing["bf16.gguf"] = str(why)
    return missing


def ends(tokenizer: Tokenizer) -> dict[str, object]:
    """What config.json says of special tokens."""
    return {"bos_token_id": tokenizer.bos, "eos_token_id": list(tokenizer.stops), "pad_token_id": tokenizer.pad}


if __name__ == "__main__":
    print(json.dumps(make(Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:])))
