"""What a model is given to answer: prompts, and for an encoder-decoder sources, checked and then read into a cache."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..batch import View
from ..config import InputError
from ..model.pages import Pages
from ..model.ragged import keep_sources
from ..model.transformer import Transformer
from .request import Request

PREFILL = 8192  # tokens of sources read at a time, padding included


def check_speaks(model: Transformer) -> None:
    """Raise InputError where a model cannot continue a text."""
    config = model.config
    if not config.causal:
        raise InputError("causal=false: an encoder sees the whole text and cannot continue it; wanted a decoder")
    if "lm" not in config.heads_of:
        raise InputError(f"heads_of={config.heads_of}: the model has no language model's head and cannot continue")


def check_prompt(model: Transformer, prompt: Sequence[int], wanted: int, capacity: int) -> list[int]:
    """The prompt, or what an encoder-decoder begins with where it is empty. Raises InputError where there is none, it
    holds an unknown id, or leaves no room for `wanted` tokens: the last token of an answer is never read, so it needs
    none."""
    begins = model.config.start
    prompt = [int(id) for id in prompt] or ([begins] if begins >= 0 else [])
    asked, longest, rows = len(prompt), model.config.max_positions, model.config.vocab_size
    if not asked and model.config.encoder_layers:
        raise InputError("start=-1: it is not known what an answer begins with; pass a prompt, or set start")
    if not asked:
        raise InputError("the prompt is empty; a model needs at least one token to continue")
    if asked + wanted - 1 > capacity:
        whose = "the model reads" if capacity == longest else "this engine has room for"
        most = capacity + 1 - asked
        remedy = f"ask for at most {most}" if most > 0 else "shorten the prompt"
        raise InputError(
            f"the prompt has {asked} tokens and {wanted} more are wanted, but {whose} {capacity}; {remedy}"
        )
    if not 0 <= min(prompt) <= max(prompt) < rows:
        raise InputError(f"the prompt holds ids outside 0 to {rows - 1}")
    return prompt


def check_source(model: Transformer, source: Sequence[int] | None, capacity: int) -> list[int]:
    """The source, empty for a model without an encoder. Raises InputError where the two do not belong together, or the
    source is empty, too long, or holds an unknown id."""
    config = model.config
    if not config.encoder_layers:
        if source is not None:
            raise InputError("found a source, and a model without an encoder; pass it as the prompt")
        return []
    if source is None:
        raise InputError("an encoder-decoder answers a source, and there is none; pass source")
    if not source:
        raise InputError("the source is empty; an encoder needs at least one token to read")
    if len(source) > capacity:
        whose = "the model reads" if capacity == config.max_positions else "this engine has room for"
        raise InputError(f"the source has {len(source)} tokens, but {whose} {capacity}; shorten it")
    rows = config.source_vocab_size or config.vocab_size
    if not 0 <= min(source) <= max(source) < rows:
        raise InputError(f"the source holds ids outside 0 to {rows - 1}")
    return [int(id) for id in source]


def read_sources(model: Transformer, pages: Pages, requests: Sequence[Request], *, alone: bool = False) -> None:
    """Read the sources of requests, whose rows know of them already, and keep their keys. alone: each by itself, so
    that it has the same bits whatever else is read."""
    batch: list[Request] = []
    for request in sorted(requests, key=lambda request: -len(request.source)):
        if batch and (alone or len(batch[0].source) * (len(batch) + 1) > PREFILL):
            _read_sources(model, pages, batch)
            batch = []
        batch.append(request)
    if batch:
        _read_sources(model, pages, batch)


def _read_sources(model: Transformer, pages: Pages, requests: Sequence[Request]) -> None:
    tokens, lengths = padded([request.source for request in requests])
    keep = torch.arange(tokens.shape[1]) < torch.tensor(lengths)[:, None]
    view = None if bool(keep.all()) else View(keep=keep).to(model.device)
    memory = model.encode(tokens.to(model.device), view)
    keep_sources(pages, [request.row for request in requests], memory, keep, model.crossings())


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, list[int]]:
    """Rows of ids -> (B, longest) with zeros behind each, and how long each is."""
    lengths = [len(row) for row in rows]
    tokens = torch.zeros(len(lengths), max(lengths), dtype=torch.int64)
    for into, row in zip(tokens, rows):
        into[: len(row)] = torch.tensor(row)
    return tokens, lengths
