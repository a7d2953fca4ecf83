"""What each layer would say if it were the last: the raw logit lens (nostalgebraist 2020).

Every row of the residual stream goes through the last norm, computed anew for each, and through the model's own head:
softmax(W_U norm_f(h_l)). With the scale of the last row kept for all of them the first would look undecided where it
is not.

Letters: R rows of the stream, layers + 1; B batch, T places, V vocabulary, k likeliest tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..config import InputError
from ..infer.reader import resting
from ..model.transformer import Transformer
from .capture import Trace, words_of

RANKING = 2048  # multiplications that take as long as what is done with a logit
MOST_LOGITS = 1 << 21  # that are held at once, some ten times over


@dataclass(frozen=True)
class Lens:
    """What each row of the stream says of the next token (of the hidden one, in an encoder). Row 0 is what the first
    block is given, row L what the last one gave, and that row is the model's own answer.

    ids, p (R, B, T, k): the likeliest tokens and their probabilities; entropy (R, B, T) in nats; rank (R, B, T): where
    the model's own likeliest token stands, from 1; final (R, B, T): how likely it is; kl (R, B, T): KL(p_L || p_l) in
    nats; settled (B, T): the first row from which the likeliest token stays what it is; gap: of the last row's logits
    from the model's own, the largest.
    """

    ids: Tensor
    p: Tensor
    entropy: Tensor
    rank: Tensor
    final: Tensor
    kl: Tensor
    settled: Tensor
    gap: float


@torch.no_grad()
def lens(trace: Trace, k: int = 5, places: range | None = None) -> Lens:
    """Of the stack that speaks: a decoder, an encoder, or an encoder-decoder's decoder. places: of the text, T of them,
    by default all; so many are taken at a time that their logits fit, however large the vocabulary is.

    Raises InputError where no head says tokens, or k is below 1.
    """
    if k < 1:
        raise InputError(f"top={k}, wanted at least 1 token of each layer")
    k = min(k, trace.model.config.vocab_size)
    parts = [_read(trace, at, k) for at in _pieces(trace, places)]
    gap = max(gap for _, gap in parts)
    ids, p, entropy, rank, final, kl = (torch.cat(part, 2) for part in zip(*(read for read, _ in parts)))
    return Lens(ids, p, entropy, rank, final, kl, settled(ids[..., 0]), gap)


def logits_of(trace: Trace, row: int, at: slice | Tensor | None = None) -> Tensor:
    """What a row of the stream says at these places, or at all: logits (B, T, V), by the last norm and the model's own
    head. Raises InputError where no head says tokens."""
    x = trace.own.stream[row] if at is None else trace.own.stream[row][:, at]
    # a norm takes another way where there are gradients, and the last row is to have the bits of the model's own
    with resting(trace.model), torch.set_grad_enabled(trace.hidden.requires_grad):
        return words_of(trace.model)(trace.own.stack.norm(x)).detach()


def settled(ids: Tensor) -> Tensor:
    """ids (R, ...) -> (...), the first row from which on they are what the last one is."""
    return (ids != ids[-1]).flip(0).cumsum(0).eq(0).flip(0).int().argmax(0)


def exit_gap(trace: Trace, row: int, places: range | None = None) -> float:
    """How far the lens at a row of the stream is from the model itself with the blocks from there on left out: the
    largest difference of a logit at these places, or at all. 0 where the lens is right; a norm whose scale is another
    row's does not pass.

    Raises InputError for a row that does not exist.
    """
    count = len(trace.own.stream)
    if not 0 <= row < count:
        raise InputError(f"row={row} of the stream, wanted 0 to {count - 1}")
    model = trace.model
    head = words_of(model)
    with resting(model), torch.set_grad_enabled(trace.hidden.requires_grad), ended(model, row):
        hidden = model.hidden(trace.tokens, view=trace.view, source=trace.source, source_view=trace.source_view)
        return max(
            float((logits_of(trace, row, at) - head(hidden[:, at]).detach()).abs().max())
            for at in _pieces(trace, places)
        )


@contextmanager
def ended(model: Transformer, row: int) -> Iterator[None]:
    """While it lasts, the model's own stack ends after so many blocks: those from there on give what they are given."""
    with ExitStack() as hooks:
        for block in list(model.blocks)[row:]:
            hooks.callback(block.register_forward_hook(_as_given).remove)
        yield


def _as_given(block: nn.Module, given: tuple[Tensor, ...], y: Tensor) -> Tensor:
    return given[0]


def work_of(trace: Trace, places: int) -> int:
    """Multiplications of a lens at so many places: each row of the stream with every word, and what softmax and ranking
    take of each logit beside that."""
    config = trace.model.config
    return (config.layers + 1) * places * config.vocab_size * (config.d_model + RANKING)


def _pieces(trace: Trace, places: range | None) -> Iterator[slice]:
    """So many places at a time that their logits fit."""
    batch, count = trace.tokens.shape
    places = range(count) if places is None else places
    step = max(1, MOST_LOGITS // (batch * trace.model.config.vocab_size))
    return (slice(at, min(at + step, places.stop)) for at in range(places.start, places.stop, step))


Read = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def _read(trace: Trace, at: slice, k: int) -> tuple[Read, float]:
    """What a lens has of these places, and the gap of their last row."""
    own = trace.logits(at).detach()
    logs = own.log_softmax(-1)
    best = own.topk(k, dim=-1).indices[..., :1]  # of equal ones, that which the rows name too
    shares = logs.exp()
    found: list[Read] = []
    for row in range(len(trace.own.stream)):
        logits = logits_of(trace, row, at)
        here = logits.log_softmax(-1)
        ids = logits.topk(k, dim=-1).indices
        entropy = -(here.exp() * here).sum(-1)
        rank = 1 + (logits > logits.gather(-1, best)).sum(-1)
        kl = (shares * (logs - here)).sum(-1).clamp(min=0)
        found.append((ids, here.gather(-1, ids).exp(), entropy, rank, here.gather(-1, best).squeeze(-1).exp(), kl))
    gap = float((logits - own).abs().max())
    return tuple(torch.stack(part) for part in zip(*found)), gap  # type: ignore[return-value]
