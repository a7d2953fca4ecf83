"""What the files of an adapter are called, and what is called how in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ...config.options import LoraOptions
from ...hub.families import Family, foreign_names, layout_of
from ...hub.places import ADAPTER
from ...model.adapters import own
from ...model.quantized import quantized
from ...model.transformer import Transformer
from ..targets import adaptable, tables

CONFIG, WEIGHTS = ADAPTER[:2]
PREFIX, A, B, ROWS = "base_model.model.", ".lora_A.weight", ".lora_B.weight", ".token_adapter.trainable_tokens_delta"
KEY = "instar"  # in the metadata of the file


@dataclass(frozen=True)
class Base:
    """What an adapter was made for: how it is called, of which revision, and the digest of its folder, where known."""

    name: str
    revision: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Stored:
    """An adapter as it lies in a folder. said: its config; ours: what we put into its metadata, of a stranger's
    nothing; options: those that it was made with."""

    folder: Path
    said: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    ours: Mapping[str, Any]
    options: LoraOptions

    @property
    def base(self) -> Base:
        name, revision, digest = (
            found if isinstance(found, str) else None
            for found in (self.said.get("base_model_name_or_path"), self.said.get("revision"), self.ours.get("base"))
        )
        return Base(name or "", revision, digest)


def family_of(model: Transformer) -> Family:
    """The layout that a model is saved in."""
    return layout_of(model.config, packed=any(quantized(model)))


def names(model: Transformer) -> dict[str, list[str]]:
    """The weights of the family -> those of ours that lie in each, in order. Left out: a tied head, which is the
    embedding, and heads that no config.json tells of."""
    left = set(model.tied())
    ours = [name for name in own(model.state_dict()) if name not in left]
    ours += [name for path, _ in adaptable(model) if (name := f"{path}.weight") not in ours]  # quantised ones
    heads = model.config.heads_of
    return foreign_names(family_of(model), [n for n in ours if n.split(".")[0] != "heads" or n.split(".")[1] in heads])


def places(model: Transformer) -> dict[str, list[str]]:
    """Of `names` those of layers that may have adapters."""
    able = {f"{path}.weight" for path, _ in adaptable(model)}
    return {theirs: held for theirs, held in names(model).items() if held[0] in able}


def table_names(model: Transformer) -> dict[str, str]:
    """The embedding and the heads that say tokens, unless they are one -> what the family calls them."""
    called = {held[0]: theirs.removesuffix(".weight") for theirs, held in names(model).items()}
    return {path: called[name] for path, _ in tables(model) if (name := f"{path}.weight") in called}


def head_names(model: Transformer) -> dict[str, list[str]]:
    """Of `names` those of heads that may travel with an adapter."""
    return {theirs: held for theirs, held in names(model).items() if held[0].startswith("heads.")}
