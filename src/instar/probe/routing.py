"""What attention moves from where to where: its shares as they are, without the sink, weighted by what is moved, rolled
out over layers, put together by words, and all heads of a stack in one small picture each.

Letters: B batch, T queries, S keys, D model, H heads, E head size, L layers.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import InputError
from ..infer.reader import resting
from ..model.attention import Attention
from ..text.words import UNSPACED
from .capture import Seam, Side, Trace
from .subject import Token

IDLE = 0.9  # a head that leaves more than this to the sink moves nothing worth a label
AT_ONCE = 1 << 24  # weights that exist at a time
# of a share that is written in a byte by its root: a linear byte would make 0 of every row of 512 equal shares
STEPS = 255


def pieces(seam: Seam, most: int = AT_ONCE) -> Iterator[tuple[slice, Tensor]]:
    """The weights of some heads at a time, so that few exist at once: (heads, (B, some, T, S))."""
    batch, heads, queries, _ = seam.q.shape
    some = max(1, most // (batch * queries * seam.k.shape[2]))
    for start in range(0, heads, some):
        part = slice(start, min(start + some, heads))
        yield part, seam.weights(part) if some < heads else seam.weights()


def sinkless(weights: Tensor, sinks: Tensor | None = None) -> Tensor:
    """Shares of all but the sink: A_ij / (1 - A_i0), and 0 in its own column (Xiao et al. 2023 tell what a sink is).

    weights (..., T, S), rows that add up to 1; sinks (S,) bool: which keys they are, None for the first. A row that
    looks at nothing else is 0.
    """
    kept = weights.clone()
    kept[..., _sinks(weights, sinks)] = 0
    # not 1 - A_i0, which loses its digits where nearly all is on the sink
    left = kept.sum(-1, keepdim=True)
    some = left > torch.finfo(weights.dtype).eps
    return torch.where(some, kept / left.where(some, 1.0), 0.0)


def sunk(weights: Tensor, sinks: Tensor | None = None) -> Tensor:
    """The mean share of the sinks: weights (..., T, S) -> (...). The first of several rows is left out, which in a
    decoder sees nothing else."""
    rows = weights[..., 1:, :] if weights.shape[-2] > 1 else weights
    return rows[..., _sinks(weights, sinks)].sum(-1).mean(-1)


def idle(weights: Tensor, sinks: Tensor | None = None) -> Tensor:
    """Which heads leave more than 0.9 to the sink: weights (..., T, S) -> bool (...). A state on this text, no label
    of a head."""
    return sunk(weights, sinks) > IDLE


def _sinks(weights: Tensor, sinks: Tensor | None) -> Tensor:
    if sinks is None:
        return torch.arange(weights.shape[-1], device=weights.device) == 0
    if sinks.shape != weights.shape[-1:]:
        raise InputError(f"sinks of shape {tuple(sinks.shape)}, and the weights have {weights.shape[-1]} keys")
    return sinks.to(weights.device)


def sinks_among(keys: Sequence[Token], *, causal: bool) -> Tensor:
    """Which keys are sinks, (S,) bool: in a decoder the first token, elsewhere the control tokens, such as [CLS] and
    [SEP] (Clark et al. 2019, section 3.2). Of ids without a text nobody knows which are control tokens: the first."""
    control = torch.tensor([key.control for key in keys])
    first = torch.arange(len(keys)) == 0
    return first if causal or bool(control.all()) or not bool(control.any()) else control


@torch.no_grad()
def norm_weighted(
    seam: Seam, attention: Attention, weights: Tensor | None = None, heads: Sequence[int] | None = None
) -> Tensor:
    """How long what each head moves is: ||A_ij (x_j W_V) W_O|| of its slice of W_O (Kobayashi et al. 2020, equation 5)
    -> (B, H, T, S). Where a share is large and this is small, hardly anything is carried.

    The bias of W_V moves with the shares and is counted; that of W_O does not and is not. weights: the shares, where
    they are at hand; heads: these alone. What adapters add to W_O counts too.
    """
    weights = seam.weights(heads) if weights is None else weights
    lengths = [moved.norm(dim=-1) for moved in carried(seam.values(), attention, heads)]  # H of (B, S)
    return weights * torch.stack(lengths, dim=1)[:, :, None, :].to(weights)


@torch.no_grad()
def carried(values: Tensor, attention: Attention, heads: Sequence[int] | None = None) -> Iterator[Tensor]:
    """Values of each head (B, H, S, E) through the head's own slice of the output layer -> H of (B, S, D), or those of
    some heads, by the module itself, whatever it is made of, and without its bias."""
    wide = torch.promote_types(values.dtype, torch.float32)
    with resting(attention):
        nothing = values.new_zeros(1, values.shape[1] * values.shape[3])
        bias = attention.out(nothing)[0].to(wide)
        for head in range(values.shape[1]) if heads is None else heads:
            alone = torch.zeros_like(values)
            alone[:, head] = values[:, head]
            yield attention.out(alone.transpose(1, 2).flatten(2)).to(wide) - bias


def mean_weights(seam: Seam) -> Tensor:
    """The mean over heads: (B, T, S)."""
    return sum((part.sum(1) for _, part in pieces(seam)), torch.zeros(())) / seam.q.shape[1]


def rollout(side: Side) -> list[Tensor]:
    """How much of each token stands in each place behind every layer, if streams were mixed as the mean of heads says
    and the residual kept half: R_l = (A_l + I) / 2 R_{l-1} (Abnar and Zuidema 2020, section 3) -> L of (B, T, T), rows
    that add up to 1. It was made for encoders, and knows nothing of values, norms and feed-forward layers."""
    return list(rolling(side))


def rolling(side: Side) -> Iterator[Tensor]:
    """`rollout`, layer by layer, for whoever needs one of them and has no room for all."""
    rolled: Tensor | None = None
    for seam in side.attended:
        mean = mean_weights(seam)
        step = (mean + torch.eye(mean.shape[-1], dtype=mean.dtype, device=mean.device)) / 2
        rolled = step if rolled is None else step @ rolled
        yield rolled


def small(weights: Tensor, px: int) -> Tensor:
    """(..., T, S) -> (..., at most px, at most px), each the largest of what it covers, so that a single strong share
    is still seen."""
    size = min(px, weights.shape[-2]), min(px, weights.shape[-1])
    return F.adaptive_max_pool2d(weights.flatten(0, -3), size).unflatten(0, weights.shape[:-2])


def atlas(
    trace: Trace,
    side: Side | None = None,
    px: int = 32,
    *,
    which: str = "self",
    sinks: Tensor | None = None,
    layers: slice = slice(None),
    watch: Callable[[], None] = lambda: None,
) -> Tensor:
    """Every head of a stack in a small picture -> (L, H, R, C), R and C at most px, of the first text. Layer by layer,
    so that never more than one layer's weights exist. side: the trace's own by default; which: `self` or `cross`;
    sinks: leave these keys out (`sinkless`); layers: some of them; watch: is called between parts of the work, and may
    stop it by an exception. Raises InputError for px below 1, and where there is no such attention."""
    if px < 1:
        raise InputError(f"px={px}, wanted at least 1")
    found = []
    for seam in (trace.own if side is None else side).seams(which)[layers]:
        parts = []
        for _, part in pieces(seam):
            watch()
            parts.append(small(part[0] if sinks is None else sinkless(part[0], sinks), px))
        found.append(torch.cat(parts))
    return torch.stack(found)


def encode_shares(shares: Tensor) -> Tensor:
    """Shares from 0 to 1 -> bytes, by their root: 1/512 becomes 11, which is read as 0.00186, and not 0."""
    return shares.clamp(0, 1).sqrt().mul(STEPS).round().to(torch.uint8)


def decode_shares(bytes: Tensor) -> Tensor:
    """What `encode_shares` wrote -> fp32, at most 0.4 % of 1 off."""
    return (bytes.float() / STEPS).square()


def by_words(weights: Tensor, queries: Sequence[tuple[int, int]], keys: Sequence[tuple[int, int]]) -> Tensor:
    """weights (..., T, S) of tokens -> (..., words, words): what goes to a word is the sum over its tokens, what comes
    from one the mean over its own (Clark et al. 2019, section 4.1), so that rows still add up to 1. queries, keys:
    [start, end) of the tokens of each word."""
    to = torch.stack([weights[..., start:end].sum(-1) for start, end in keys], dim=-1)
    return torch.stack([to[..., start:end, :].mean(-2) for start, end in queries], dim=-2)


def words(tokens: Sequence[Token], text: str) -> list[tuple[int, int]]:
    """[start, end) of the tokens of each word: a word ends at a blank or a punctuation mark, in scripts without blanks
    between words after every character; control tokens stand alone, and the bytes of one character together. A token
    that holds several words is one: tokens are never cut."""
    of: list[int] = []  # the word of each character
    for number, found in enumerate(_WORD.finditer("".join(map(_kind, text)))):
        of += [number] * len(found[0])
    begins = [0] if tokens else []
    for place, (before, token) in enumerate(pairwise(tokens), 1):
        inside = not (before.control or token.control) and before.end > 0 and token.start < len(of)
        if not inside or of[before.end - 1] != of[token.start]:
            begins.append(place)
    return list(zip(begins, [*begins[1:], len(tokens)]))


# letters, with an apostrophe or a hyphen between them and the blank before them; or any one character
_WORD = re.compile(r" ?w+(?:'w+)*|.")


def _kind(letter: str) -> str:
    """One letter for each kind of character: w for those that stand together in words."""
    if letter in " '’-":
        return " " if letter == " " else "'"
    unspaced = any(low <= ord(letter) <= high for low, high in UNSPACED)
    return "w" if not unspaced and unicodedata.category(letter)[0] in "LNM" else "a"
