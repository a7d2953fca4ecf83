"""One vector a text, of a model without a head: texts that mean the like have vectors that point alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..batch import View
from ..config import InputError
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer
from .engine import resting
from .prompt import padded


@torch.inference_mode()
def embed(model: Transformer, tokenizer: Tokenizer, texts: Sequence[str], *, batch: int = 32) -> Tensor:
    """texts -> (N, D), pooled and brought to length one as the model's config says, `batch` texts at a time.

    Which other texts stand beside one changes nothing but the last digits. Raises InputError for a model with a head,
    for one that reads a source, and for a text that is longer than the model reads or has no token at all.
    """
    config = model.config
    if config.heads_of or config.encoder_layers:
        raise InputError(
            f"heads_of={config.heads_of} and encoder_layers={config.encoder_layers}: vectors of texts come from an "
            "encoder without a head; name a folder of sentence embeddings or a bare encoder"
        )
    if batch < 1:
        raise InputError(f"batch={batch}, wanted at least 1")
    rows = tokenizer.documents(texts)
    for number, row in enumerate(rows):
        if not 0 < len(row) <= config.max_positions:
            raise InputError(f"text {number} has {len(row)} tokens, and the model reads 1 to {config.max_positions}")
    # the like in length together, so that little is padded
    order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
    vectors = torch.empty(len(rows), config.d_model)
    with resting(model):
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            tokens, lengths = padded([rows[number] for number in chosen])
            keep = torch.arange(tokens.shape[1]) < torch.tensor(lengths)[:, None]
            vectors[chosen] = model(tokens.to(model.device), view=View(keep=keep).to(model.device)).float().cpu()
    return vectors
