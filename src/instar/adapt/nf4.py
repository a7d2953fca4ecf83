"""Keeping the layers of a model in 4 bits while adapters learn beside them (QLoRA)."""

from __future__ import annotations

import torch

from ..config import InputError
from ..model.nf4 import NF4Linear
from ..model.quantized import quantized, replace
from ..model.transformer import Transformer
from .targets import adaptable


@torch.no_grad()
def to_nf4(model: Transformer, folder: object = "the model") -> int:
    """Put NF4Linear in the place of every linear layer of the blocks, one after the other -> how many there are. Those
    that choose experts, embeddings and heads stay as they are. Comes before adapters are attached. Raises InputError
    for a model of whole numbers."""
    if (found := next(quantized(model), None)) is not None:
        raise InputError(
            f"lora.bits=4, and {folder} is quantised to {found[1].grid.bits} bits already, beside which an adapter can "
            "learn; leave lora.bits out, or name the model that it was made from"
        )
    layers = adaptable(model)
    for name, layer in layers:
        replace(model, name, NF4Linear.of(layer))
    return len(layers)
