"""How likely a model finds each token of a text behind those before it, and what it finds likelier there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from ..config import InputError
from ..model.cache import KVCache
from ..model.transformer import Transformer
from .prompt import check_speaks
from .weights import logprob, normaliser

CHUNK = 512  # tokens read at a time
LOGITS = 1 << 24  # that exist at once


@dataclass(frozen=True)
class Surprise:
    """logprobs: of all tokens but the first, in nats; alternatives: the likeliest ids at each of these places with
    their log-probabilities, the likeliest first."""

    logprobs: list[float]
    alternatives: list[list[tuple[int, float]]]


def surprise(model: Transformer, ids: Sequence[int], *, top: int = 0, chunk: int = CHUNK) -> Surprise:
    """top: alternatives at each place. Raises InputError for a model that does not continue texts by themselves, and
    for ids that it cannot read."""
    parts = list(pieces(model, ids, top=top, chunk=chunk))
    return Surprise(
        [value for part in parts for value in part.logprobs], [more for part in parts for more in part.alternatives]
    )


def check_text(model: Transformer, ids: Sequence[int]) -> None:
    """Raise InputError where `surprise` would."""
    check_speaks(model)
    config = model.config
    if config.encoder_layers:
        raise InputError("an encoder-decoder reads a source first; wanted a model of texts by themselves")
    if not 0 < len(ids) <= config.max_positions:
        raise InputError(f"the text has {len(ids)} tokens, and the model reads 1 to {config.max_positions}")
    if not 0 <= min(ids) <= max(ids) < config.vocab_size:
        raise InputError(f"the text holds ids outside 0 to {config.vocab_size - 1}")


@torch.inference_mode()
def pieces(model: Transformer, ids: Sequence[int], *, top: int = 0, chunk: int = CHUNK) -> Iterator[Surprise]:
    """`surprise` in parts, each of so many tokens, so that whoever asks can do something else in between. The model
    rests already."""
    check_text(model, ids)
    read, ids = list(ids[:-1]), list(ids)
    cache = KVCache(model.config, 1, max(1, len(read)), dtype=model.dtype, device=model.device)
    rows = max(1, LOGITS // model.config.vocab_size)
    for start in range(0, len(read), chunk):
        tokens = torch.tensor([read[start : start + chunk]], device=model.device)
        hidden = model.hidden(tokens, cache=cache)[0]
        found: list[float] = []
        more: list[list[tuple[int, float]]] = []
        for place in range(0, len(hidden), rows):
            logits = model.heads["lm"](hidden[place : place + rows])
            first = start + place + 1
            wanted = torch.tensor(ids[first : first + len(logits)], device=model.device)
            found += logprob(logits, wanted).tolist()
            if top:
                values, likeliest = logits.topk(min(top, logits.shape[-1]))
                chances = (values - normaliser(logits)).tolist()
                more += [list(zip(*row)) for row in zip(likeliest.tolist(), chances)]
        yield Surprise(found, more)
