"""Whether other programs compute from a folder what we do: each reads it in a process of its own.

That process imports the other library, ours never does. Compared are the ids of texts and of a chat, every logit, and
the likeliest continuation; an encoder-decoder is given the texts as sources, and is asked about the same texts as what
was said of them. An encoder alone says nothing more: compared are the ids of whole documents, and logits or states.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..adapt.folders import whole
from ..config import InputError, ModelConfig
from ..config.options import SamplingOptions
from ..hub.families import OWN, layout_of
from ..hub.folders import load
from ..hub.places import resolve
from ..infer.text import complete
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer
from .readers import READERS, Reader

TEXTS = (
    "Once upon a time there was a red ball in the garden.",
    "从前，花园里有一只红色的皮球。",
    "Spaces  and\nlines,\ttabs; 3.14 and 2026, naïve café, 🙂👩‍👩‍👧.",
)  # fmt: skip
CHAT = [{"role": "user", "content": "Who has the ball? 谁有皮球？"}]
NEW_TOKENS = 16
GGUF = ".gguf"


def verify(name: str | Path, *, readers: Sequence[str] = tuple(READERS)) -> dict[str, Any]:
    """Compare what we and each reader make of a folder; llama.cpp reads the GGUF file that we write of it.

    Returns {"folder", "readers": {reader: gaps, or why it was skipped}, "same"}. `same` is False where any gap is more
    than its "tolerance", and None where no reader looked. Raises InputError for a folder that we cannot read.
    """
    if Path(name).suffix == GGUF:
        raise InputError(f"{name} is a GGUF file, which we write and do not read; verify the folder that it came from")
    with whole(str(name)) as place:  # of an adapter with its base
        return _verify(resolve(place), readers) | {"folder": str(resolve(name))}


def _verify(folder: Path, readers: Sequence[str]) -> dict[str, Any]:
    model, tokenizer = load(folder)
    if layout_of(model.config) is OWN:
        why = {"skipped": "no family of transformers has this shape, so the folder has our own layout"}
        return {"folder": str(folder), "readers": dict.fromkeys(readers, why), "same": None}
    new = NEW_TOKENS if model.config.causal and "lm" in model.config.heads_of else 0
    ids = _ids(tokenizer, TEXTS, new)
    chat = tokenizer.chat(CHAT, add_generation_prompt=True).ids if tokenizer.template is not None else None
    rows = [row for row in (*ids, chat) if row]
    room = int(min(model.config.max_positions - new, 256))
    if room < 1:
        raise InputError(f"{folder}: max_positions={model.config.max_positions}, wanted more than {new}")
    rows = [list(row[:room]) for row in rows]
    asked = {
        "folder": str(folder.resolve()), "rows": rows, "said": [_said(model.config, row) for row in rows],
        "texts": TEXTS, "chat": CHAT, "new": new,
    }  # fmt: skip
    found = {reader: _compare(READERS[reader], asked, model, tokenizer, chat) for reader in readers}
    verdicts = [gaps["same"] for gaps in found.values() if "skipped" not in gaps]
    return {"folder": str(folder), "readers": found, "same": all(verdicts) if verdicts else None}


def _ids(tokenizer: Tokenizer, texts: Sequence[str], new: int) -> list[list[int]]:
    """What is compared: the ids of texts that go on, and of whole documents where nothing more is said."""
    return [list(tokenizer.encode(text) if new else tokenizer.document(text)) for text in texts]


def _compare(
    reader: Reader, asked: dict[str, Any], model: Transformer, tokenizer: Tokenizer, chat: Sequence[int] | None
) -> dict[str, Any]:
    if find_spec(reader.module) is None:
        return {"skipped": f"{reader.module} is not installed"}
    with tempfile.TemporaryDirectory() as place:
        try:
            asked = asked | reader.prepare(asked, Path(place))
        except InputError as why:  # we have read the folder; it is the other program that cannot
            return {"skipped": str(why)}
        path = Path(place) / "logits.safetensors"
        told = _ask(reader, asked, path)
        if "failed" in told:
            return told | {"same": False}
        theirs = load_file(path)
    rows = zip(asked["rows"], asked["said"])
    gaps = [_gap(model, row, said, theirs[str(number)]) for number, (row, said) in enumerate(rows)]
    greedy = SamplingOptions(strategy="greedy", max_new_tokens=asked["new"])
    said = complete(model, None, asked["rows"], greedy) if asked["new"] else []
    words = [ours.ids == other for ours, other in zip(said, told["said"])]
    ids = [ours == other for ours, other in zip(_ids(tokenizer, asked["texts"], asked["new"]), told["ids"])]
    ids.append((list(chat) if chat else None) == told["chat"])
    tolerance = reader.tolerance(model.config)
    return {
        "version": told["version"], "logit_gap": max(gaps), "tolerance": tolerance, "texts": len(gaps),
        "same_words": sum(words) if asked["new"] else None, "same_ids": sum(ids), "of_ids": len(ids),
        "same": max(gaps) <= tolerance and all(words) and all(ids),
    }  # fmt: skip


def _said(config: ModelConfig, row: Sequence[int]) -> list[int]:
    """What an encoder-decoder has said of a source: the source, as far as it has words for it. Of others, nothing."""
    return [config.start, *(id for id in row if id < config.vocab_size)] if config.encoder_layers else []


@torch.no_grad()
def _gap(model: Transformer, row: Sequence[int], said: Sequence[int], theirs: Tensor) -> float:
    """The largest difference of a logit, or without a head of a state, in standard deviations of them all; infinite
    where shapes differ."""
    ids = torch.tensor([row])
    read = model if model.config.heads_of else model.hidden
    ours = (model(torch.tensor([said]), source=ids) if said else read(ids))[0]
    if ours.shape != theirs.shape:
        return float("inf")
    return float((ours - theirs).abs().max() / ours.std().clamp(min=1e-12))


def _ask(reader: Reader, asked: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """What the other program says, or {"failed"}: the last line of its complaint."""
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [sys.executable, "-c", reader.program, str(path)],
        input=json.dumps(asked), text=True, capture_output=True, env=os.environ | offline,
    )  # fmt: skip
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])
