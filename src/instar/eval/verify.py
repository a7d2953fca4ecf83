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

from ..config import InputError, ModelConfig
from ..config.options import SamplingOptions
from ..hub.families import OWN, layout_of
from ..hub.files import resolve
from ..hub.folders import load
from ..infer.text import complete
from ..model.transformer import Transformer

TEXTS = (
    "Once upon a time there was a red ball in the garden.",
    "从前，花园里有一只红色的皮球。",
    "Spaces  and\nlines,\ttabs; 3.14 and 2026, naïve café, 🙂👩‍👩‍👧.",
)  # fmt: skip
CHAT = [{"role": "user", "content": "Who has the ball? 谁有皮球？"}]
NEW_TOKENS = 16
TOLERANCE = 1e-4  # of a logit, in units of the logits' standard deviation

# The other side: {"folder", "rows", "said", "texts", "chat", "new"} on stdin; logits to the file that is its argument,
# the rest as JSON on the last line of stdout.
WITH_TRANSFORMERS = """
import json, sys, torch, transformers
from safetensors.torch import save_file
asked = json.load(sys.stdin)
pairs = any(asked["said"])
auto = transformers.AutoModelForSeq2SeqLM if pairs else transformers.AutoModelForCausalLM
if not asked["new"]:
    named = transformers.AutoConfig.from_pretrained(asked["folder"]).architectures
    auto = getattr(transformers, named[0])
model = auto.from_pretrained(asked["folder"], dtype=torch.float32, attn_implementation="eager").eval()
tokenizer = transformers.AutoTokenizer.from_pretrained(asked["folder"])
logits, said = {}, []
with torch.no_grad():
    for number, (row, begun) in enumerate(zip(asked["rows"], asked["said"])):
        ids = torch.tensor([row])
        more = {"decoder_input_ids": torch.tensor([begun])} if pairs else {}
        out = model(ids, **more)
        out = out.logits if "logits" in out else out.last_hidden_state
        logits[str(number)] = out[0].float().contiguous()
        if not asked["new"]:
            continue
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=asked["new"], do_sample=False,
                             eos_token_id=None, pad_token_id=0, repetition_penalty=1.0, num_beams=1, min_length=0,
                             no_repeat_ngram_size=0, bad_words_ids=None, forced_bos_token_id=None,
                             forced_eos_token_id=None)
        said.append(out[0, 1 if pairs else len(row):].tolist())
save_file(logits, sys.argv[1])
chat = None
if tokenizer.chat_template:
    chat = tokenizer.apply_chat_template(asked["chat"], add_generation_prompt=True, return_dict=False)
ids = [tokenizer(text, add_special_tokens=not asked["new"])["input_ids"] for text in asked["texts"]]
print(json.dumps({"version": transformers.__version__, "said": said, "ids": ids, "chat": chat}))
"""
READERS = {"transformers": WITH_TRANSFORMERS}


def verify(name: str | Path, *, readers: Sequence[str] = tuple(READERS)) -> dict[str, Any]:
    """Compare what we and each reader make of a folder.

    Returns {"folder", "readers": {reader: gaps, or why it was skipped}, "same"}. `same` is False where any gap is more
    than TOLERANCE, and None where no reader is installed. Raises InputError for a folder that we cannot read.
    """
    folder = resolve(name)
    model, tokenizer = load(folder)
    if layout_of(model.config) is OWN:
        why = {"skipped": "no family of transformers has this shape, so the folder has our own layout"}
        return {"folder": str(folder), "readers": dict.fromkeys(readers, why), "same": None}
    new = NEW_TOKENS if model.config.causal and "lm" in model.config.heads_of else 0
    texts = [list(tokenizer.encode(text) if new else tokenizer.document(text)) for text in TEXTS]
    chat = tokenizer.chat(CHAT, add_generation_prompt=True).ids if tokenizer.template is not None else None
    rows = [row for row in (*texts, chat) if row]
    room = int(min(model.config.max_positions - new, 256))
    if room < 1:
        raise InputError(f"{folder}: max_positions={model.config.max_positions}, wanted more than {new}")
    rows = [list(row[:room]) for row in rows]
    asked = {
        "folder": str(folder.resolve()), "rows": rows, "said": [_said(model.config, row) for row in rows],
        "texts": TEXTS, "chat": CHAT, "new": new, "ids": texts,
    }  # fmt: skip
    found = {reader: _compare(reader, asked, model, chat) for reader in readers}
    verdicts = [gaps["same"] for gaps in found.values() if "skipped" not in gaps]
    return {"folder": str(folder), "readers": found, "same": all(verdicts) if verdicts else None}


def _compare(reader: str, asked: Mapping[str, Any], model: Transformer, chat: Sequence[int] | None) -> dict[str, Any]:
    if find_spec(reader) is None:
        return {"skipped": f"{reader} is not installed"}
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "logits.safetensors"
        told = _ask(reader, asked, path)
        if "failed" in told:
            return told | {"same": False}
        theirs = load_file(path)
    rows = zip(asked["rows"], asked["said"])
    gaps = [_gap(model, row, said, theirs[str(number)]) for number, (row, said) in enumerate(rows)]
    greedy = SamplingOptions(strategy="greedy", max_new_tokens=NEW_TOKENS)
    said = complete(model, None, asked["rows"], greedy) if asked["new"] else []
    words = [ours.ids == other for ours, other in zip(said, told["said"])]
    ids = [ours == other for ours, other in zip(asked["ids"], told["ids"])]
    ids.append((list(chat) if chat else None) == told["chat"])
    return {
        "version": told["version"], "logit_gap": max(gaps), "texts": len(gaps),
        "same_words": sum(words) if asked["new"] else None, "same_ids": sum(ids), "of_ids": len(ids),
        "same": max(gaps) <= TOLERANCE and all(words) and all(ids),
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


def _ask(reader: str, asked: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """What the other program says, or {"failed"}: the last line of its complaint."""
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [sys.executable, "-c", READERS[reader], str(path)],
        input=json.dumps(asked), text=True, capture_output=True, env=os.environ | offline,
    )  # fmt: skip
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])
