"""How likely a model finds texts after what stands before them: sums of log-probabilities of many at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..batch import IGNORE, View
from ..config import InputError
from ..data.collate import fill, view_of
from ..infer.reader import resting
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer

LOGITS = 1 << 24  # that exist at once


@dataclass(frozen=True)
class Window:
    """ids of one forward pass, from which of them on their surprise counts, how many before them were left out because
    the model reads no more, and for an encoder-decoder what its encoder reads."""

    ids: list[int]
    first: int
    cut: int = 0
    source: Sequence[int] = ()


@dataclass(frozen=True)
class Likelihood:
    """logprob: nats, summed over `tokens`; hits: how many of them are the model's likeliest."""

    logprob: float
    tokens: int
    hits: int

    @property
    def greedy(self) -> bool:
        return self.hits == self.tokens


def begin(tokenizer: Tokenizer) -> list[int]:
    """What stands before the first token of a text by itself: the begin token where the tokenizer has one."""
    return tokenizer.prompt("") or ([] if tokenizer.bos is None else [tokenizer.bos])


def whole(model: Transformer, tokenizer: Tokenizer, texts: Sequence[str]) -> list[Window]:
    """Texts of which every token counts. Without a begin token nothing foresees the first one, and it does not count.

    Raises InputError for a text longer than the model reads, or of which no token counts.
    """
    if model.config.encoder_layers:
        raise InputError("found an encoder-decoder, which reads a source first; wanted a model of texts by themselves")
    before, longest = begin(tokenizer), reach(model)
    found = [Window([*before, *ids], 1) for ids in tokenizer.encode_batch(texts)]
    for window, text in zip(found, texts):
        if not 1 < len(window.ids) <= longest + 1:
            raise InputError(f"{_quoted(text)} is {len(window.ids)} tokens, wanted from 2 to {longest + 1}")
    return found


def after(model: Transformer, tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]) -> list[Window]:
    """(context, continuation) pairs, of which the continuation counts.

    Both are encoded as one text, and the continuation is what the context alone did not fill, as
    lm-evaluation-harness has it: blanks at the end of a context belong to the continuation. A pair that is too long
    loses the beginning of its context. An encoder-decoder has the context as its source. Raises InputError for a
    continuation that is empty or longer than the model reads.
    """
    if model.config.encoder_layers:
        return _answers(model, tokenizer, pairs)
    pairs = [(context.rstrip(), context[len(context.rstrip()) :] + text) for context, text in pairs]
    contexts = tokenizer.encode_batch([context for context, _ in pairs])
    joined = tokenizer.encode_batch([context + text for context, text in pairs])
    alone, longest = tokenizer.prompt(""), reach(model)
    found = []
    for (_, text), context, ids in zip(pairs, contexts, joined):
        before = alone if context else begin(tokenizer)
        first = max(1, len(before) + min(len(context), len(ids) - 1))
        full = [*before, *ids]
        cut = max(0, len(full) - longest - 1)
        if not text.strip() or not cut < first < len(full):
            raise _too_long(text, len(full) - first, longest)
        found.append(Window(full[cut:], first - cut, cut))
    return found


def _answers(model: Transformer, tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]) -> list[Window]:
    """What an encoder-decoder says of each context: the continuation by itself, behind the start of decoding."""
    longest, start = reach(model), model.config.start
    if start < 0:
        raise InputError("start=-1: nothing says what decoding begins with; set start in the model's config")
    found = []
    for (context, text), ids in zip(pairs, tokenizer.encode_batch([text.strip() for _, text in pairs])):
        if not 1 <= len(ids) <= longest:
            raise _too_long(text, len(ids), longest)
        source = tokenizer.document(context.rstrip())
        cut = max(0, len(source) - longest)
        found.append(Window([start, *ids], 1, cut, source[cut:]))
    return found


@torch.inference_mode()
def score(
    model: Transformer,
    windows: Sequence[Window],
    *,
    batch: int = 64,
    each: Callable[[int], None] = lambda done: None,
) -> list[Likelihood]:
    """The likelihood of what counts in each window, in their order, `batch` windows of about the same length at a time.
    each: called with how many more were read. What stands beside a window in its batch changes no figure.
    """
    found: dict[int, Likelihood] = {}
    order = sorted(range(len(windows)), key=lambda number: len(windows[number].ids))
    with resting(model):
        for start in range(0, len(order), batch):
            part = order[start : start + batch]
            nats, hits = foresee(model, [windows[number] for number in part])
            sizes = [len(windows[number].ids) - windows[number].first for number in part]
            for number, own, right in zip(part, nats.split(sizes), hits.split(sizes)):
                found[number] = Likelihood(-math.fsum(own.tolist()), len(own), int(right.sum()))
            each(len(part))
    return [found[number] for number in range(len(windows))]


def foresee(model: Transformer, part: Sequence[Window]) -> tuple[Tensor, Tensor]:
    """Every token that counts, window after window -> its surprise in nats and whether it was the likeliest, both (N,).
    Windows are padded on the right."""
    width = max(len(window.ids) for window in part) - 1
    tokens = fill([[np.array(window.ids[:-1])] for window in part], width, 0).to(model.device)
    counts = [[np.full(window.first - 1, IGNORE), np.array(window.ids[window.first :])] for window in part]
    targets = fill(counts, width, IGNORE).to(model.device)
    source, view = _sources(part, model.device)
    # causal: what stands behind a token cannot change it
    hidden = model.hidden(tokens, source=source, source_view=view)
    return surprise(model, "lm", hidden, targets)


def surprise(model: Transformer, head: str, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """hidden (B, T, D), targets (B, T) -> the nats of each target that is not IGNORE, row after row, and whether it was
    the likeliest: both (N,). A bounded number of logits exists at once."""
    counted = targets != IGNORE
    chunk = max(1, LOGITS // model.config.vocab_size)
    nats, hits = [], []
    for states, wanted in zip(hidden[counted].split(chunk), targets[counted].split(chunk)):
        logits = model.heads[head](states)
        nats.append(torch.nn.functional.cross_entropy(logits, wanted, reduction="none"))
        hits.append(logits.argmax(-1) == wanted)
    return torch.cat(nats), torch.cat(hits)


def _sources(part: Sequence[Window], device: torch.device) -> tuple[Tensor | None, View | None]:
    """What the encoder reads (B, S), padded on the right, and which of it is real; None where there is no encoder."""
    if not any(window.source for window in part):
        return None, None
    rows = [[np.array(window.source)] for window in part]
    width = max(len(window.source) for window in part)
    return fill(rows, width, 0).to(device), view_of(rows, width).to(device)


def reach(model: Transformer) -> int:
    """Tokens that the model reads. Raises InputError for one that sees what it is to foresee, or says no tokens."""
    if "lm" not in model.heads:
        raise InputError(f"found a model with the heads {', '.join(model.heads) or '(none)'}, wanted the head lm")
    if not model.config.causal:
        raise InputError("found a model that reads both ways (causal=false), wanted one that foresees the next token")
    return model.config.max_positions


def _too_long(text: str, tokens: int, longest: int) -> InputError:
    return InputError(f"{_quoted(text)} is {tokens} tokens, wanted from 1 to {longest}")


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}...")
