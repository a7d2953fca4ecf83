"""What every command can be told: what to print, where and how to compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

REQUIRED: dict[str, Any] = {"required": True}
# a group whose options may be said without its name
SHORT: dict[str, Any] = {"short": True}


@dataclass(frozen=True)
class Screen:
    """What every command prints, and where."""

    # print one JSON object on stdout; everything else goes to stderr
    json: bool = False
    # no progress bar and no tables
    quiet: bool = False


@dataclass(frozen=True)
class Machine(Screen):
    """Where and how a command computes."""

    # auto, cpu, cuda or mps
    device: str = "auto"
    # auto, fp32, bf16 or fp16: the precision of the products; weights being trained stay in fp32
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    # seed of everything random: initial weights, order of the data, draws
    seed: int = 0
