"""One figure for a model of whatever kind: how surprised it is by some data, read as the model reads it.

A decoder foresees texts, or the replies of dialogues; a masked model what was hidden in texts; an encoder-decoder
targets after their sources. A model that names no tokens reads, and has no such figure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from ..batch import IGNORE
from ..config import InputError
from ..data.dialogues import load_dialogues
from ..data.pairs import pair_of
from ..data.records import THREADS
from ..data.sources import Document
from ..infer.reader import resting
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer
from . import likelihood, masked, perplexity
from .likelihood import Likelihood

BATCH = 8
PLAIN, PAIRED = ("world:stories?count=400&seed=7",), ("world:translation?threads=1&count=400&seed=7",)
Reading = Callable[[Transformer, Tokenizer, Sequence[Document]], float | None]


def usual_data(model: Transformer) -> tuple[str, ...]:
    """Sources of the built-in world that a model of this kind can read."""
    return PAIRED if model.config.encoder_layers else PLAIN


def reading_of(model: Transformer) -> Reading:
    """How a model of this kind reads documents; what it gives is the perplexity of what the model foresees, or None."""
    if model.config.encoder_layers:
        return _pairs if "lm" in model.heads else _texts
    if "masked" in model.heads:
        return _hidden
    return _next if "lm" in model.heads and model.config.causal else _texts


def _next(model: Transformer, tokenizer: Tokenizer, documents: Sequence[Document]) -> float:
    if tokenizer.template and all(any(key in document.record for key in THREADS) for document in documents):
        return _replies(model, tokenizer, documents)
    return perplexity.measure(model, tokenizer, (document.text for document in documents), batch=BATCH).perplexity


@torch.inference_mode()
def _replies(model: Transformer, tokenizer: Tokenizer, documents: Sequence[Document]) -> float:
    """Of dialogues what the assistant says, behind what the chat template writes before it."""
    store, _ = load_dialogues(documents, tokenizer, context=likelihood.reach(model))
    total, count = 0.0, 0
    with resting(model):
        for number in range(len(store)):
            ids = torch.from_numpy(store.tokens(number).astype(np.int64)).to(model.device)
            learnt = torch.tensor(store.teaches(number, 1, len(ids)), device=model.device)
            hidden = model.hidden(ids[None, :-1])
            targets = torch.where(learnt, ids[1:], IGNORE)[None]
            nats, _ = likelihood.surprise(model, "lm", hidden, targets)
            total, count = total + float(nats.double().sum()), count + len(nats)
    return math.exp(min(700.0, total / count))


def _hidden(model: Transformer, tokenizer: Tokenizer, documents: Sequence[Document]) -> float:
    hidden = masked.hide(model, tokenizer, (document.text for document in documents))
    return _perplexity(masked.restore(model, hidden, batch=BATCH))


def _pairs(model: Transformer, tokenizer: Tokenizer, documents: Sequence[Document]) -> float:
    windows = likelihood.after(model, tokenizer, [document.read(pair_of) for document in documents])
    return _perplexity(likelihood.score(model, windows, batch=BATCH))


@torch.inference_mode()
def _texts(model: Transformer, tokenizer: Tokenizer, documents: Sequence[Document]) -> None:
    with resting(model):
        for document in documents:
            ids = tokenizer.document(document.text)[: model.config.max_positions]
            tokens = torch.tensor([ids], device=model.device)
            model.hidden(tokens, source=None if model.encoder is None else tokens)


def _perplexity(found: Sequence[Likelihood]) -> float:
    tokens = sum(one.tokens for one in found)
    if not tokens:
        raise InputError("no text to measure: the model foresees no token of it")
    return math.exp(min(700.0, -math.fsum(one.logprob for one in found) / tokens))
