"""A folder is a model and its tokenizer: load both, or say what is missing."""

from __future__ import annotations

from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

import torch

from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer, check_fits
from .families import family_of
from .files import Weights, load_model, refuse_adapter, save_model, weight_files
from .places import ADAPTER, holds_adapter, resolve

__all__ = ["export", "folder_digest", "load", "load_model", "load_tokenizer", "save"]


def load(
    name: str | Path, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> tuple[Transformer, Tokenizer]:
    """The model and the tokenizer of a run folder, a Hugging Face folder or hf:org/name[@revision].

    Raises InputError where one is missing or the tokenizer gives ids that the model has no row for.
    """
    folder = resolve(name)
    refuse_adapter(folder)
    tokenizer = Tokenizer.load(folder)
    model = load_model(folder, dtype=dtype, device=device)
    check_fits(tokenizer, model.config.vocab_size)
    return model, tokenizer


def save(model: Transformer, tokenizer: Tokenizer, out: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """Write a model and its tokenizer as one folder. dtype: None keeps that of the model."""
    stops = list(tokenizer.stops)
    ends = stops[0] if len(stops) == 1 else stops or None
    tokens = {"bos_token_id": tokenizer.bos, "eos_token_id": ends, "pad_token_id": tokenizer.pad}
    save_model(model, out, tokens=tokens, dtype=dtype)
    tokenizer.save(out)


def export(name: str | Path, out: str | Path, *, dtype: torch.dtype | None = None) -> dict[str, Any]:
    """Write the model and the tokenizer of a folder as a folder that transformers reads, and nothing else of it.

    dtype: None keeps that of the folder. Returns {"path", "architecture", "dtype", "weights", "bytes", "notes"}. Raises
    InputError where no family of transformers has this shape.
    """
    stored = Weights(name)
    family = family_of(stored.config)
    dtype = dtype or stored.dtype
    model, tokenizer = load(name, dtype=dtype)
    save(model, tokenizer, out, dtype=dtype)
    return {
        "path": str(out), "architecture": family.architecture, "dtype": str(dtype).removeprefix("torch."),
        "weights": model.size(), "bytes": sum(path.stat().st_size for path in Path(out).iterdir()), "notes": [],
    }  # fmt: skip


def load_tokenizer(name: str | Path) -> Tokenizer:
    """The tokenizer of a folder or of hf:org/name[@revision]."""
    return Tokenizer.load(resolve(name))


def folder_digest(folder: Path, *, weights_alone: bool = False) -> str:
    """sha256 of what makes a model what it is: its config, its weights, its tokenizer; of an adapter its own. What else
    lies there, such as what a run computed about its data, is no part of it. Raises InputError without weights."""
    names = ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "adapter_config.json")
    total = sha256()
    weights = [folder / name for name in ADAPTER[1:]] if holds_adapter(folder) else sorted(weight_files(folder))
    for path in [folder / name for name in names if not weights_alone] + weights:
        if path.is_file():
            with path.open("rb") as file:
                total.update(path.name.encode() + b"\0" + file_digest(file, "sha256").digest())
    return total.hexdigest()
