"""A folder is a model and its tokenizer: load both, or say what is missing."""

from __future__ import annotations

from pathlib import Path

import torch

from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer, check_fits
from .files import load_model, refuse_adapter, resolve

__all__ = ["load", "load_model", "load_tokenizer"]


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


def load_tokenizer(name: str | Path) -> Tokenizer:
    """The tokenizer of a folder or of hf:org/name[@revision]."""
    return Tokenizer.load(resolve(name))
