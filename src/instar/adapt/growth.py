"""Room for what a model could not say before: another head, more tokens. Its own layers stay the same objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ..config import InputError, ModelConfig
from ..model.heads import HEADS
from ..model.layers import entry
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer
from .targets import tables

ABOUT_HEADS = ("heads_of", "labels", "label_names", "pooled", "pooling")
GROWN = ("vocab_size", *ABOUT_HEADS)  # what may be another than the base's


@torch.no_grad()
def put_heads(model: Transformer, config: ModelConfig, *, seed: int = 0) -> list[str]:
    """Give a model the heads that a config asks for -> those that are new, drawn as `Transformer.initialise` draws
    them. One that answers the same stays."""
    about = {name: getattr(config, name) for name in ABOUT_HEADS}
    same = all(getattr(model.config, name) == value for name, value in about.items())
    new = [] if same else [name for name in config.heads_of if name != "lm" or name not in model.heads]
    model.config = replace(model.config, **about)
    generator = torch.Generator().manual_seed(seed)
    std = min(0.02, 0.5 * config.d_model**-0.5)
    heads: dict[str, nn.Module] = {name: model.heads[name] for name in config.heads_of if name not in new}
    for name in new:
        head: Any = entry(HEADS, "heads_of", name)(model.config)
        for full, weight in head.named_parameters():
            if weight.ndim < 2:
                weight.fill_(1.0 if "norm" in full and full.endswith("weight") else 0.0)
            else:
                nn.init.trunc_normal_(weight, std=std, a=-3 * std, b=3 * std, generator=generator)
        heads[name] = head.to(model.device)
    model.heads = nn.ModuleDict({name: heads[name] for name in config.heads_of})
    model.tie()
    return new


@torch.no_grad()
def grow_rows(model: Transformer, size: int) -> None:
    """Give the embedding, and heads that say tokens, as many rows; a new one is the mean of those before. Raises
    InputError for fewer than there are."""
    had = model.config.vocab_size
    if size < had:
        raise InputError(f"found a vocabulary of {size}, and the model has {had} rows; rows are never taken away")
    if size == had:
        return
    for _, table in tables(model):
        for name, weight in list(table.named_parameters(recurse=False)):
            more = weight.mean(0, keepdim=True).expand(size - had, *weight.shape[1:])
            more = torch.zeros_like(more) if name == "bias" else more
            setattr(table, name, nn.Parameter(torch.cat([weight, more]), weight.requires_grad))
        setattr(table, "num_embeddings" if isinstance(table, nn.Embedding) else "out_features", size)
    model.config = replace(model.config, vocab_size=size)
    model.tie()


def add_tokens(model: Transformer, tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[Tokenizer, list[int]]:
    """Make tokens of texts -> the tokenizer that knows them, and their ids, for which the model has rows then. Spare
    rows are used first. Raises InputError for a text that is ordinary text to the tokenizer."""
    more = tokenizer.with_controls(texts)
    grow_rows(model, max(model.config.vocab_size, more.vocabulary.size))
    return more, [more.specials[text] for text in dict.fromkeys(texts)]
