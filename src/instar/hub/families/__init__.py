"""All we know of foreign checkpoints: for each family its config and its names of weights, both ways.

A family has no code of its own anywhere else. Ours: `blocks.{n}.attention.q.weight` and so on, as in model/.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ...config import InputError, ModelConfig, from_dict, unknown
from .bart import BART
from .bert import BERT
from .classes import classifier
from .experts import EXPERTS
from .family import IGNORED, PLAIN, Family, Foreign
from .gemma import GEMMA
from .gpt2 import GPT2
from .llama import LLAMA
from .marian import MARIAN
from .modernbert import MODERNBERT
from .neox import NEOX
from .own import OWN
from .phi import PHI3
from .rope import check_length
from .t5 import T5

DECODERS = (*LLAMA, *GEMMA, *EXPERTS, PHI3, NEOX, GPT2)
# transformers has no class of these that says classes
SPEAK_ALONE = {"Ernie4_5_MoeForCausalLM"}
CLASSIFIERS = tuple(classifier(family) for family in DECODERS if family.architecture not in SPEAK_ALONE)
FAMILIES: dict[str, Family] = {
    family.architecture: family for family in (*DECODERS, *BART, MARIAN, T5, *BERT, *MODERNBERT, *CLASSIFIERS)
}
# What training goes on with and a family may have no key for; transformers keeps the key and looks away.
UNSAID_KEY, UNSAID = "instar", {"dropout", "attention_dropout", "pooling"}
KNOWN = FAMILIES | {OWN.architecture: OWN}
_LAYER = re.compile(r"\bblocks\.(\d+)\.")
_EXPERT = re.compile(r"\bexperts\.(\d+)\.")


class NoFamily(InputError):
    """No family of transformers has this shape."""


def config_from_hf(data: Foreign) -> ModelConfig:
    """config.json -> ModelConfig. Raises InputError for a family, a key or a value that we do not compute."""
    family = family_named(data)
    _refuse_unknown(family, data)
    unsaid = data.get(UNSAID_KEY) or {}
    if not isinstance(unsaid, dict) or not unsaid.keys() <= UNSAID:
        raise InputError(f"config.json says {UNSAID_KEY}={unsaid!r}; wanted an object with {', '.join(sorted(UNSAID))}")
    shape = _shape_of(family, data)
    return from_dict(ModelConfig, unsaid, base=shape, where=f"config.json {UNSAID_KEY}") if unsaid else shape


def _shape_of(family: Family, data: Foreign) -> ModelConfig:
    """What the family makes of a config.json."""
    tied = data.get("tie_word_embeddings", family.tied)
    try:
        shape = {"vocab_size": data["vocab_size"], "tied": bool(tied), **family.read(data)}
    except KeyError as error:
        raise InputError(f"config.json of {family.architecture} lacks the key {error}") from None
    return from_dict(ModelConfig, shape, where="config.json")


def config_to_hf(
    config: ModelConfig, dtype: str = "float32", *, packed: bool = False, **tokens: int | list[int] | None
) -> Foreign:
    """ModelConfig -> config.json. packed: as layout_of takes it; tokens: bos_token_id and the like."""
    family = layout_of(config, packed=packed)
    head = {"architectures": [family.architecture], "model_type": family.model_type, "vocab_size": config.vocab_size}
    tail = {"tie_word_embeddings": config.tied, "dtype": dtype, "torch_dtype": dtype, "use_cache": True}
    said = family.write(config)
    for key in family.own:
        if tokens.get(key, said[key]) != said[key]:
            raise InputError(
                f"{family.architecture} of position_start={config.position_start} means {key}={said[key]} to "
                f"transformers, and the tokenizer says {tokens[key]}; set position_start to one more than that"
            )
    whole = head | said | tail | {"bos_token_id": None, "eos_token_id": None} | tokens
    read = _shape_of(family, whole)
    lost = {name: value for name in UNSAID if (value := getattr(config, name)) != getattr(read, name)}
    return whole | ({UNSAID_KEY: lost} if lost else {})


def family_of(config: ModelConfig) -> Family:
    """The family of transformers that has a shape of ours. Raises NoFamily, naming what none has."""
    check_length(config)
    for family in FAMILIES.values():
        if family.holds(config):
            return family
    words = (*PLAIN, "act", "qkv_bias", "bias", "windows", "expert_norm", "dense_layers", "balance_by")
    said = ", ".join(f"{word}={getattr(config, word)}" for word in words)
    raise NoFamily(f"no known family has {said}; known: {', '.join(FAMILIES)}")


def layout_of(config: ModelConfig, *, packed: bool = False) -> Family:
    """The family that a config of ours is saved as: one of transformers' where one has this shape, else our own layout,
    which nobody else reads. packed: with quantised weights, which lie in rows: the layers of a family that lie in
    columns would be taken for missing."""
    try:
        family = family_of(config)
    except NoFamily:
        return OWN
    return OWN if packed and family.transposed else family


def family_named(data: Foreign) -> Family:
    """The family that a config.json names."""
    names = data.get("architectures") or []
    for name in names:
        if name in KNOWN:
            return KNOWN[name]
    raise unknown("architecture", ", ".join(map(str, names)) or str(data.get("model_type")), FAMILIES)


def foreign_names(family: Family, ours: Iterable[str]) -> dict[str, list[str]]:
    """Their name -> the weights of ours that it holds, in order. Example: h.0.attn.c_attn.bias -> q, k and v's.
    {n} is the layer of either stack, {e} the expert."""
    held: dict[str, list[str]] = {}
    patterns = {name: _EXPERT.sub("experts.{e}.", _LAYER.sub("blocks.{n}.", name)) for name in ours}
    names = family.names
    for pattern in family.instead.keys() & set(patterns.values()):
        names = {**names, **family.instead[pattern]}
    for name, pattern in patterns.items():
        n, e = _LAYER.search(name), _EXPERT.search(name)
        theirs = names[pattern].format(n=n and n[1], e=e and e[1])
        held.setdefault(theirs, []).append(name)
    return held


def _refuse_unknown(family: Family, data: Foreign) -> None:
    for key, allowed in family.fixed.items():
        if key in data and data[key] not in allowed:
            raise InputError(
                f"config.json says {key}={data[key]!r}; we compute {family.architecture} with {allowed[0]!r}"
            )
    known = IGNORED | family.keys | family.fixed.keys() | {UNSAID_KEY}
    for key, value in data.items():
        if key not in known and value not in (None, False, [], {}):
            raise InputError(f"config.json says {key}={value!r}, which we do not know for {family.architecture}")
