"""Whether other programs compute from a folder what we do: each reads it in a process of its own.

That process imports the other library, ours never does. Compared are the ids of texts and of a chat, every logit, and
the likeliest continuation.
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

from ..config import InputError
from ..config.options import SamplingOptions
from ..hub.files import resolve
from ..hub.folders import load
from ..infer.text import complete
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer

TEXTS = (
    "Once upon a time there was a red ball in the garden.",
    "从前，花园里有一只红色的皮球。",
    "Spaces  and\nlines,\ttabs; 3.14 and 2026, naïve café, 🙂👩‍👩‍👧.",
)  # fmt: skip
CHAT = [{"role": "user", "content": "Who has the ball? 谁有皮球？"}]
NEW_TOKENS = 16
TOLERANCE = 1e-4  # of a logit, in units of the logits' standard deviation

# The other side: {"folder", "rows", "texts", "chat", "new"} on stdin; logits to the file that is its argument, the rest
# as JSON on the last line of stdout.
WITH_TRANSFORMERS = """
import json, sys, torch, transformers
from safetensors.torch import save_file
asked = json.load(sys.stdin)
model = transformers.AutoModelForCausalLM.from_pretrained(
    asked["folder"], dtype=torch.float32, attn_implementation="eager").eval()
tokenizer = transformers.AutoTokenizer.from_pretrained(asked["folder"])
logits, said = {}, []
with torch.no_grad():
    for number, row in enumerate(asked["rows"]):
        ids = torch.tensor([row])
        logits[str(number)] = model(ids).logits[0].float().contiguous()
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=asked["new"], do_sample=False,
                             eos_token_id=None, pad_token_id=0, repetition_penalty=1.0)
        said.append(out[0, len(row):].tolist())
save_file(logits, sys.argv[1])
chat = None
if tokenizer.chat_template:
    chat = tokenizer.apply_chat_template(asked["chat"], add_generation_prompt=True, return_dict=False)
ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in asked["texts"]]
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
    rows = [ids for text in TEXTS if (ids := tokenizer.encode(text))]
    chat = tokenizer.chat(CHAT, add_generation_prompt=True).ids if tokenizer.template is not None else None
    rows += [chat] if chat else []
    room = int(min(model.config.max_positions - NEW_TOKENS, 256))
    if room < 1:
        raise InputError(f"{folder}: max_positions={model.config.max_positions}, wanted more than {NEW_TOKENS}")
    rows = [list(row[:room]) for row in rows]
    asked = {"folder": str(folder.resolve()), "rows": rows, "texts": TEXTS, "chat": CHAT, "new": NEW_TOKENS}
    found = {reader: _compare(reader, asked, model, tokenizer, chat) for reader in readers}
    verdicts = [gaps["same"] for gaps in found.values() if "skipped" not in gaps]
    return {"folder": str(folder), "readers": found, "same": all(verdicts) if verdicts else None}


def _compare(
    reader: str, asked: Mapping[str, Any], model: Transformer, tokenizer: Tokenizer, chat: Sequence[int] | None
) -> dict[str, Any]:
    if find_spec(reader) is None:
        return {"skipped": f"{reader} is not installed"}
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "logits.safetensors"
        told = _ask(reader, asked, path)
        if "failed" in told:
            return told | {"same": False}
        theirs = load_file(path)
    gaps = [_gap(model, row, theirs[str(number)]) for number, row in enumerate(asked["rows"])]
    greedy = SamplingOptions(strategy="greedy", max_new_tokens=asked["new"])
    said = complete(model, None, asked["rows"], greedy)
    words = [ours.ids == other for ours, other in zip(said, told["said"])]
    ids = [list(tokenizer.encode(text)) == other for text, other in zip(asked["texts"], told["ids"])]
    ids.append((list(chat) if chat else None) == told["chat"])
    return {
        "version": told["version"], "logit_gap": max(gaps), "texts": len(gaps), "same_words": sum(words),
        "same_ids": sum(ids), "of_ids": len(ids),
        "same": max(gaps) <= TOLERANCE and all(words) and all(ids),
    }  # fmt: skip


@torch.no_grad()
def _gap(model: Transformer, row: Sequence[int], theirs: Tensor) -> float:
    """The largest difference of a logit, in standard deviations of the logits; infinite where shapes differ."""
    ours = model(torch.tensor([row]))[0]
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
