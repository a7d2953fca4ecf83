"""One vector a text: texts that mean the like have vectors that point alike.

An encoder's config says how its vectors are read off. A decoder was taught none; its vector is the mean of what it
computes at each token, or what it computes at the last one, which alone has seen the whole text, brought to length one.
Of an encoder-decoder it is the same of what its encoder computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..batch import View
from ..config import InputError, ModelConfig
from ..model.heads import pool
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer
from .prompt import padded
from .reader import resting

Pooling = Literal["mean", "last"]


def has_vectors(config: ModelConfig) -> bool:
    """Whether what a model computes stands for texts: not where it was turned into classes or a number."""
    return set(config.heads_of) <= {"lm", "masked"}


def check_rows(config: ModelConfig, rows: Sequence[Sequence[int]], longest: int = 0) -> None:
    """Raise InputError for a model without vectors, and for a text that is empty, longer than `longest`, by default
    than the model reads, or holds an unknown id."""
    if not has_vectors(config):
        raise InputError(
            f"heads_of={', '.join(config.heads_of)}: vectors of texts come from a model without a head, or with that "
            "of a language model; name another folder"
        )
    longest = longest or config.max_positions
    size = (config.encoder_layers and config.source_vocab_size) or config.vocab_size
    for number, row in enumerate(rows):
        if not 0 < len(row) <= longest:
            raise InputError(f"text {number} has {len(row)} tokens, and the model reads 1 to {longest}")
        if not 0 <= min(row) <= max(row) < size:
            raise InputError(f"text {number} holds ids outside 0 to {size - 1}")


@torch.inference_mode()
def vectors_of(model: Transformer, rows: Sequence[Sequence[int]], pooling: Pooling = "mean") -> Tensor:
    """Rows of ids, which `check_rows` has passed -> (N, D), fp32. pooling: of all but encoders. The model rests
    already."""
    config = model.config
    tokens, lengths = padded(rows)
    view = View(keep=torch.arange(tokens.shape[1]) < torch.tensor(lengths)[:, None]).to(model.device)
    tokens = tokens.to(model.device)
    encodes = config.encoder_layers > 0
    states = model.encode(tokens, view) if encodes else model.hidden(tokens, view=view)
    alone = not encodes and not config.causal
    found = pool(states.float(), view, config.pooling if alone else pooling)
    return (F.normalize(found, dim=-1) if config.normalised or not alone else found).cpu()


@torch.inference_mode()
def embed(
    model: Transformer, tokenizer: Tokenizer, texts: Sequence[str], *, batch: int = 32, pooling: Pooling = "mean"
) -> Tensor:
    """texts -> (N, D), `batch` texts at a time; each is a document with its end. pooling: of all but encoders.

    Which other texts stand beside one changes nothing but the last digits. Raises InputError for a model that says
    classes or numbers, and for a text that is longer than the model reads or has no token at all.
    """
    if batch < 1:
        raise InputError(f"batch={batch}, wanted at least 1")
    rows = tokenizer.documents(texts)
    check_rows(model.config, rows)
    # the like in length together, so that little is padded
    order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
    vectors = torch.empty(len(rows), model.config.d_model)
    with resting(model):
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            vectors[chosen] = vectors_of(model, [rows[number] for number in chosen], pooling)
    return vectors
