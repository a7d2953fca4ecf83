"""What a stage begins with: a model that learns itself, or one that stays as it is under an adapter that learns.

A stage whose --model is an adapter goes on with a copy of it. What it was before stays beside it as `previous`, and
what is saved is one adapter on the same base again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..adapt import peft
from ..adapt.folders import HUB, NAME, base_folder, base_of, load_adapted, save_adapter
from ..adapt.growth import add_tokens, put_heads
from ..adapt.lora import Delta, adapters, attach, check, copied, counts, freeze
from ..adapt.nf4 import to_nf4
from ..config import InputError, ModelConfig
from ..config.options import LoraOptions
from ..hub.folders import folder_digest, load
from ..hub.places import holds_adapter, resolve
from ..model.adapters import ADAPTERS
from ..model.attention import Attend
from ..model.layers import Dropout, Embedding, Linear
from ..model.quantized import refuse_quantized, settle
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer

PREVIOUS = "previous"


@dataclass(frozen=True)
class Adaptation:
    """The adapter that a stage trains. base: the model it is for; options: its own; tokens: how many have rows; heads:
    those that learn with it; chained: whether it goes on from another, which is there as `previous`."""

    base: peft.Base
    options: LoraOptions
    tokens: int = 0
    heads: tuple[str, ...] = ()
    chained: bool = False
    name: str = NAME

    def put_on(self, model: Transformer) -> Transformer:
        """The like of it on another model of this shape, as a forecast has it."""
        if self.options.bits:
            to_nf4(model)
        attach(model, self.name, self.options, tokens=range(self.tokens))
        if self.chained:
            copied(model, self.name, PREVIOUS)
        return self.freeze(model)

    def freeze(self, model: Transformer, *, besides: Sequence[str] = ()) -> Transformer:
        """Let gradients reach the adapter, its heads and further adapters alone."""
        freeze(model, train=(self.name, *besides), heads=self.heads)
        return model

    def save(self, model: Transformer, tokenizer: Tokenizer, folder: Path, tokens: Mapping[str, Any]) -> None:
        """Write the adapter as one folder that peft reads."""
        save_adapter(
            model, self.name, folder, self.base, tokenizer, heads=self.heads, tokens=dict(tokens)
        )  # fmt: skip


@dataclass(frozen=True)
class Begun:
    """What a stage begins with. told: its name, its folder and its hash; adaptation: None where the model learns
    itself."""

    model: Transformer
    tokenizer: Tokenizer
    told: Mapping[str, str]
    adaptation: Adaptation | None = None

    @property
    def born(self) -> Callable[[], Transformer] | None:
        """How a stage gets the model, where it is not made anew with another head."""
        return None if self.adaptation is None else lambda: self.model


def begin(name: str, lora: LoraOptions, *, seed: int = 0) -> Begun:
    """The model that --model names, frozen under an adapter where one is wanted or it comes with one. Raises InputError
    for adapters that cannot be, and for a quantised model that is to learn itself."""
    folder = resolve(name)
    told = {"name": name, "folder": str(folder), "sha256": folder_digest(folder)}
    if holds_adapter(folder):
        return _goes_on(name, folder, lora, told)
    model, tokenizer = load(folder)
    if lora == LoraOptions():
        refuse_quantized(model, name, "train an adapter for it with --lora.rank, or")
        return Begun(model, tokenizer, told)
    lora = check(lora)
    tokenizer, ids = add_tokens(model, tokenizer, lora.tokens) if lora.tokens else (tokenizer, [])
    if lora.bits:
        to_nf4(model, name)
    attach(model, NAME, lora, seed=seed, tokens=ids)
    adaptation = Adaptation(base_of(name), lora, len(ids))
    return Begun(adaptation.freeze(model), tokenizer, told, adaptation)


def _goes_on(name: str, folder: Path, lora: LoraOptions, told: Mapping[str, str]) -> Begun:
    """With a copy of the adapter of a folder."""
    stored = peft.read(folder)
    usual, had = LoraOptions(), stored.options
    for option in (field.name for field in fields(LoraOptions) if field.name != "dropout"):
        said, own = getattr(lora, option), getattr(had, option)
        if said != getattr(usual, option) and said != own:
            raise InputError(
                f"lora.{option}={_shown(said)}, and {name} holds an adapter with {option}={_shown(own)}, which this "
                f"stage goes on with; leave lora.{option} out, or make a model of it with `instar merge`, on which a "
                "new adapter can begin"
            )
    model, tokenizer = load_adapted(folder)
    for module in model.modules():
        if isinstance(module, Delta):
            module.drop.p = lora.dropout
    copied(model, NAME, PREVIOUS)
    base, home = stored.base, base_folder(stored)
    if Path(base.name).is_dir() or not HUB.fullmatch(base.name):  # it may have moved since
        base = replace(base, name=str(home.resolve()))
    base = replace(base, sha256=base.sha256 or folder_digest(home, weights_alone=True))
    tokens = len(adapters(model)[NAME].tokens)
    adaptation = Adaptation(base, replace(had, dropout=lora.dropout), tokens, chained=True)
    return Begun(adaptation.freeze(model), tokenizer, told, adaptation)


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def with_heads(begun: Begun, config: ModelConfig, *, seed: int) -> Begun:
    """The model under its adapter with the heads that a config asks for, which learn too; one that learns itself as it
    was."""
    if begun.adaptation is None:
        return begun
    put_heads(begun.model, config, seed=seed)
    adaptation = replace(begun.adaptation, heads=config.heads_of)
    adaptation.freeze(begun.model)
    return replace(begun, adaptation=adaptation)


def lighten(model: Transformer, dtype: torch.dtype) -> None:
    """Keep frozen matrices in the dtype of the products: they are cast to it at every use, so nothing else changes but
    the memory they take and the time the casts did."""
    for module in model.modules():
        weight = module._parameters.get("weight") if isinstance(module, Linear | Embedding) else None
        if weight is not None and not weight.requires_grad and weight.dtype != dtype:
            weight.data = weight.data.to(dtype)
    settle(model, dtype)


def sizes(model: nn.Module) -> dict[str, int]:
    """How many weights there are, how many learn and how many do not, for a report."""
    learning, frozen = counts(model)
    return {"parameters": learning + frozen, "trained": learning, "frozen": frozen}


def in_words(model: nn.Module) -> str:
    """The same for the screen."""
    learning, frozen = counts(model)
    whole = f"{learning + frozen:,} weights"
    return f"{whole}, of which {learning:,} learn, {learning / (learning + frozen):.2%}" if frozen else whole


def still(model: Transformer, *, adapters: bool = True) -> Transformer:
    """The model without dropout, or with that of its adapters alone; its config keeps it. Under another draw of it an
    answer has another probability than that under which it was said, or compared."""
    for name, module in model.named_modules():
        if isinstance(module, Dropout) and (adapters or ADAPTERS not in name.split(".")):
            module.p = 0.0
        elif isinstance(module, Attend):
            module.dropout = 0.0
    return model
