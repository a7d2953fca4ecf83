"""Texts read whole, and the same read token by token: with the keys of what stood before kept, and without."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from ...config import InputError
from ...infer.prompt import check_speaks
from ...model.cache import KVCache
from ...model.transformer import Transformer
from .verdict import Case

# the widest gap between two ways to the same logits, in standard deviations of these
LIMITS = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 2e-1}


@dataclass(frozen=True)
class Text:
    """Ids that a model reads, (1, T), and for an encoder-decoder what they are said of, (1, S)."""

    ids: Tensor
    source: Tensor | None = None

    def cut(self, length: int) -> Text:
        """Its first tokens."""
        return Text(self.ids[:, :length], self.source)


def texts_of(case: Case, count: int, longest: int) -> list[Text]:
    """So many texts of the world of at most so many tokens: stories, or for an encoder-decoder translations of such.

    Raises InputError for a model that does not go on with a text.
    """
    model, tokenizer = case.model, case.tokenizer
    check_speaks(model)
    longest, device = min(longest, model.config.max_positions), model.device
    if not model.config.encoder_layers:
        texts = [tokenizer.document(text)[:longest] for text in case.stories(count)]
        return [Text(torch.tensor([ids], device=device)) for ids in texts if len(ids) > 1]
    if model.config.source_vocab_size or model.config.start < 0:
        raise InputError("an encoder-decoder whose sources have a vocabulary of their own, or that knows no start")
    found = []
    for record in case.records("translation", count):
        source = tokenizer.document(record["source"])[: model.config.max_positions]
        ids = [model.config.start, *tokenizer.encode(record["target"])][:longest]
        found.append(Text(torch.tensor([ids], device=device), torch.tensor([source], device=device)))
    return found


def at_once(model: Transformer, text: Text) -> Tensor:
    """The logits behind each token, in one pass: (T, V) in fp32 at least."""
    return widened(model.heads["lm"](model.hidden(text.ids, source=text.source)[0]))


def one_by_one(model: Transformer, text: Text) -> Tensor:
    """The same in T passes over one token each, with the keys and values of those before it kept."""
    cache, rows = begun(model, text, text.ids.shape[1]), []
    for place in range(text.ids.shape[1]):
        rows.append(
            model.hidden(text.ids[:, place : place + 1], source=text.source if not place else None, cache=cache)
        )
    return widened(model.heads["lm"](torch.cat(rows, 1)[0]))


def alone(model: Transformer, text: Text) -> Tensor:
    """The same in T passes, each over all tokens up to one and nothing behind it, with nothing kept."""
    memory = None if text.source is None else model.encode(text.source)
    last = [model.hidden(text.ids[:, : n + 1], memory=memory)[:, -1:] for n in range(text.ids.shape[1])]
    return widened(model.heads["lm"](torch.cat(last, 1)[0]))


def begun(model: Transformer, text: Text, room: int) -> KVCache:
    """An empty cache for one text of so many tokens."""
    source = 0 if text.source is None else text.source.shape[1]
    return KVCache(model.config, 1, room, source_capacity=source, dtype=model.dtype, device=model.device)


def gap_of(one: Tensor, other: Tensor) -> float:
    """The largest difference of two logits, in standard deviations of the first."""
    return float((one - other).abs().max() / one.std())


def limit_of(model: Transformer) -> float:
    """How wide a gap of `gap_of` may be where the model computes as it does."""
    return LIMITS[model.dtype]


def now(device: torch.device) -> float:
    """Seconds, when all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def widened(logits: Tensor) -> Tensor:
    """In fp32 at least."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
