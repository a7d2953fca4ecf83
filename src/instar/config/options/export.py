"""Writing a model for other programs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .screen import REQUIRED, Screen


@dataclass(frozen=True)
class ExportOptions(Screen):
    """Write a model for other programs: a Hugging Face folder, or a GGUF file for llama.cpp."""

    # run folder, Hugging Face folder or hf:org/name
    model: str = field(default="", metadata=REQUIRED)
    # hf is a folder; gguf is one file with the tokenizer and the chat template inside
    format: str = field(default="", metadata=REQUIRED)
    # where it goes; nothing must be there yet
    out: str = field(default="", metadata=REQUIRED)
    # of the matrices; auto keeps what the model is stored in
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
