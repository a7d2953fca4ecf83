"""The other programs that read our folders, each as a small program of its own that only `verify` starts.

A reader is given {"folder", "rows", "said", "texts", "chat", "new", and what `prepare` made} on stdin; it writes logits
to the safetensors file that is its argument, and prints {"version", "said", "ids", "chat"} as the last line of stdout.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ..config import InputError, ModelConfig
from ..hub.configs import CONFIG, LIMIT
from ..hub.gguf import export
from ..hub.packed import read_grid

TOLERANCE = 1e-4  # of a logit, in units of the logits' standard deviation
ROUGH = 1e-2  # of llama.cpp's, which looks gelu up in a table of half precision
STRINGS = 200  # random ones whose ids llama.cpp, which has a tokenizer of its own, is asked for


@dataclass(frozen=True)
class Reader:
    """module: what must be installed; program: what is run. prepare(asked, a new folder) -> what is asked instead; it
    raises InputError where the other program does not know such a model. tolerance: of a logit's gap."""

    module: str
    program: str
    prepare: Callable[[Mapping[str, Any], Path], dict[str, Any]] = lambda asked, place: {}
    tolerance: Callable[[ModelConfig], float] = lambda config: TOLERANCE


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
# keys and values in fp32: type 0; the cache is fp16 otherwise
WITH_LLAMA_CPP = """
import json, sys, llama_cpp, numpy
from llama_cpp.llama_chat_format import Jinja2ChatFormatter
from safetensors.numpy import save_file
asked = json.load(sys.stdin)
room = max(map(len, asked["rows"] + asked["said"])) + asked["new"]
states = not asked["new"]
model = llama_cpp.Llama(asked["file"], n_ctx=room, n_batch=room, n_ubatch=room, logits_all=True, type_k=0, type_v=0,
                        embedding=states, pooling_type=0 if states else -1, verbose=False)
def read(row, run):
    model._batch.set_batch(batch=row, n_past=0, logits_all=True)
    run(model._batch)
def begin(row, begun):
    model.reset()
    if begun:
        model._ctx.kv_cache_clear()
        read(row, model._ctx.encode)
    model.eval(begun or row)
    return model.scores[: model.n_tokens].copy()
logits, said = {}, []
for number, (row, begun) in enumerate(zip(asked["rows"], asked["said"])):
    if states:
        read(row, model._ctx.decode)
        found = llama_cpp.llama_get_embeddings(model._ctx.ctx)
        logits[str(number)] = numpy.ctypeslib.as_array(found, (len(row), model.n_embd())).copy()
        continue
    logits[str(number)] = begin(row, begun)
    if begun:
        begin(row, begun[:1])
    said.append([])
    for _ in range(asked["new"]):
        said[-1].append(int(model.scores[model.n_tokens - 1].argmax()))
        if len(said[-1]) < asked["new"]:
            model.eval(said[-1][-1:])
save_file(logits, sys.argv[1])
chat, template = None, model.metadata.get("tokenizer.chat_template")
if template:
    prompt = Jinja2ChatFormatter(template, eos_token="", bos_token="")(messages=asked["chat"]).prompt
    chat = model.tokenize(prompt.encode(), add_bos=False, special=True)
ids = [model.tokenize(text.encode(), add_bos=states, special=False) for text in asked["texts"]]
print(json.dumps({"version": llama_cpp.__version__, "said": said, "ids": ids, "chat": chat}))
"""


def _as_gguf(asked: Mapping[str, Any], place: Path) -> dict[str, Any]:
    """The folder as a GGUF file in fp32, texts no longer than it reaches, and many strings more."""
    report = export(asked["folder"], place / "model.gguf", dtype=torch.float32)
    new = min(asked["new"], report["context"] // 2)
    cut = {name: [row[: report["context"] - new] for row in asked[name]] for name in ("rows", "said")}
    return cut | {"file": report["path"], "new": new, "texts": [*asked["texts"], *strings(STRINGS)]}


def strings(count: int, seed: int = 0) -> list[str]:
    """Random texts of what tokenizers stumble over: scripts, digits, blanks, line ends, quotes, marks, emoji."""
    draw = random.Random(seed)
    parts = (
        *"aZéßñŁжΩאกहあア한字。，“”…!?#'\"\\/_-.,;:()[]{}<>|@&*+=~^`$%¿·°½²٣४", " ", "  ", "   ", "\n", "\r\n", "\n\n",
        "\t", "\u3000", "\u00a0", "\u200d", "\u0301", "\ufeff", "'s", "'LL", "n't", "don't", "0", "7", "42", "2026",
        "123456789", "3.14", "１２", "word", " The", "lower UPPER", "CamelCase", "皮球", "从前，花园里",
        "漢字かな交じり", "🙂", "👩‍👩‍👧", "🇩🇪", "𝔘𝔫𝔦", "<|im_end|>", "<|", "http://a.b/c?d=1",
    )  # fmt: skip
    return ["".join(draw.choices(parts, k=draw.randint(1, 24))) for _ in range(count)]


def _as_it_is(asked: Mapping[str, Any], place: Path) -> dict[str, Any]:
    """The folder itself; transformers reads quantised ones with the library of their layout."""
    quantised = read_grid(Path(asked["folder"]), CONFIG, LIMIT) is not None
    if quantised and find_spec("compressed_tensors") is None:
        raise InputError(
            "transformers reads quantised folders with compressed-tensors, which is not installed here; "
            "pip install compressed-tensors"
        )
    return {}


READERS = {
    "transformers": Reader("transformers", WITH_TRANSFORMERS, _as_it_is),
    "llama.cpp": Reader(
        "llama_cpp", WITH_LLAMA_CPP, _as_gguf, lambda config: ROUGH if config.act.startswith("gelu") else TOLERANCE
    ),
}
