"""Decoders that read a text and say its class, or one number, a reward: transformers' ForSequenceClassification."""

from __future__ import annotations

from dataclasses import replace

from ...config import ModelConfig
from .family import Family, Foreign
from .labels import read_labels, write_labels

HEAD = "heads.classify.out.weight"
# the last real token stands for the text; transformers takes the last one that is not its padding
SAYS: Foreign = {"heads_of": ("classify",), "pooled": "none", "pooling": "last"}


def classifier(family: Family) -> Family:
    """The family whose body is that of a language model's family, and whose head has no bias and is named `score`."""

    def read(data: Foreign) -> Foreign:
        return family.read(data) | SAYS | {"heads_of": ["classify"]} | read_labels(data)

    def write(config: ModelConfig) -> Foreign:
        return family.write(config) | write_labels(config)

    def holds(config: ModelConfig) -> bool:
        says = all(getattr(config, name) == value for name, value in SAYS.items())
        return says and family.holds(replace(config, heads_of=("lm",)))

    body = {ours: theirs for ours, theirs in family.names.items() if not ours.startswith("heads.")}
    stem = family.architecture.removesuffix("ForCausalLM").removesuffix("LMHeadModel")
    stem = "Gemma3Text" if stem == "Gemma3" else stem
    return replace(
        family, architecture=f"{stem}ForSequenceClassification", names=body | {HEAD: "score.weight"}, read=read,
        write=write, holds=holds,
    )  # fmt: skip
