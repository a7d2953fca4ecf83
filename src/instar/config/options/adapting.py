"""Changing a finished model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .screen import REQUIRED, Machine, Screen


@dataclass(frozen=True)
class MergeOptions(Screen):
    """Make a model of an adapter and its base, as one folder that needs neither."""

    # folder of an adapter, ours or peft's, or hf:org/name
    model: str = field(default="", metadata=REQUIRED)
    # where the model goes; nothing must be there yet
    out: str = field(default="", metadata=REQUIRED)
    # the base, where it does not lie where the adapter says
    base: str = ""
    # of the weights that are written
    dtype: Literal["fp32", "bf16"] = "fp32"


@dataclass(frozen=True)
class QuantizeOptions(Machine):
    """Round the weights of a model to whole numbers of 8 or 4 bits, and tell what that costs."""

    # run folder, Hugging Face folder or hf:org/name
    model: str = field(default="", metadata=REQUIRED)
    # where the quantised model goes; nothing must be there yet
    out: str = field(default="", metadata=REQUIRED)
    # of a weight: 8 or 4
    bits: int = 8
    # weights of a row that share a scale: 32, 64, 128, or 0 for the whole row; left out, 0 with 8 bits and 32 with 4
    group: int | None = None
    # give every group a zero point too: more exact with 4 bits, and not read by transformers
    asymmetric: bool = False
    # texts like those that the model will read; left out, stories of the built-in world. Every second document shows
    # the layers what to be exact about, the others measure what was lost
    data: tuple[str, ...] = ()
    # documents that are read, of both kinds together
    limit: int = 400
