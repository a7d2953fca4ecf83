"""The ground that attention stands on: how a model tells which token stands where, and which tokens are alike to it.

Letters: P positions, T tokens, D model, H heads, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import InputError
from ..infer.reader import resting
from ..model.positions import Alibi, Learned, Relative, Rotary, Sinusoidal
from ..model.stack import Stack
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer
from .capture import Trace, words_of
from .intervene import without_positions
from .subject import Subject, Token, read


@dataclass(frozen=True)
class Ground:
    """What positions make of places alone, whatever stands there.

    kind: the scheme's name in the config; what: products (of the vectors that are added, or of a vector turned with
    itself), cosines (of vectors that were learned, which have no common length), bias (what is added to the scores),
    or none. maps (H or 1, P, P): queries down, keys across. vectors (P, D): what is added or turned, where there is
    such.
    """

    kind: str
    what: Literal["products", "cosines", "bias", "none"]
    maps: Tensor
    vectors: Tensor | None = None

    @property
    def curve(self) -> Tensor:
        """The mean of each map at offsets key - query = -(P - 1) ... P - 1: (H or 1, 2P - 1)."""
        count = self.maps.shape[-1]
        offsets = range(1 - count, count)
        return torch.stack([self.maps.diagonal(offset, 1, 2).mean(-1) for offset in offsets], -1)

    @property
    def unevenness(self) -> float:
        """By how much two places of one offset differ at most, relative to the largest value: 0 where the distance
        alone counts (a Toeplitz matrix)."""
        return toeplitz_gap(self.maps)


@torch.no_grad()
def ground(stack: Stack, count: int, *, window: bool = False) -> Ground:
    """Of the first `count` places. window: as in layers with one, which may turn by other angles. Raises InputError
    where so many positions were not learned."""
    scheme, config = stack.positions, stack.config
    if not 0 < count <= min(scheme.limit, 1 << 14):
        raise InputError(f"count={count} places, wanted 1 to {min(scheme.limit, 1 << 14):.0f}")
    device = next(stack.parameters()).device
    places = torch.arange(count, device=device)[None]
    if isinstance(scheme, (Learned, Sinusoidal)):
        vectors = scheme.add(torch.zeros(1, count, config.d_model, device=device), places)[0].double()
        alike = F.normalize(vectors, dim=-1) if isinstance(scheme, Learned) else vectors
        what: Literal["products", "cosines"] = "cosines" if isinstance(scheme, Learned) else "products"
        return Ground(config.positions, what, (alike @ alike.mT)[None], vectors)
    if isinstance(scheme, Rotary):
        turn = scheme.rotation(places, torch.float64, window=window, length=count)
        pairs = turn.cos.shape[-1]
        ones = torch.zeros(1, 1, count, 2 * pairs, dtype=torch.float64, device=device)
        ones[..., :pairs] = pairs**-0.5
        vectors = F.normalize(turn.turn(ones)[0, 0], dim=-1)
        return Ground(config.positions, "products", (vectors @ vectors.mT)[None], vectors)
    bias = scheme.bias(places, places, torch.float64) if isinstance(scheme, (Relative, Alibi)) else None
    if bias is None:
        return Ground(config.positions, "none", torch.zeros(1, count, count, dtype=torch.float64))
    return Ground(config.positions, "bias", bias[0])


def toeplitz_gap(maps: Tensor) -> float:
    """The most that two values on a diagonal of maps (..., P, P) differ, however far apart they stand, as a share of
    the largest value."""
    count = maps.shape[-1]
    size = float(maps.abs().max()) if maps.numel() else 0.0
    if not size:
        return 0.0
    diagonals = [maps.diagonal(offset, -2, -1) for offset in range(1 - count, count)]
    return max(float((each.amax(-1) - each.amin(-1)).max()) for each in diagonals) / size


def shift(vectors: Tensor, offset: int, pairs: Literal["neighbours", "halves"] = "neighbours") -> tuple[Tensor, float]:
    """The matrix M (D, D) of turns with PE(p + offset) = PE(p) M at every p, and the largest gap of the two (Vaswani
    et al. 2017, section 3.5: why sines were taken).

    vectors (P, D) of sines and cosines, whose pairs stand side by side or in halves: the angle of each pair is read
    from the first two places it can be, and holds at all others if such an M exists.
    """
    count, size = vectors.shape
    if not 0 < offset < count:
        raise InputError(f"offset={offset}, wanted 1 to {count - 1}, within the {count} places")
    step, apart = (2, 1) if pairs == "neighbours" else (1, (size + 1) // 2)
    first = torch.arange(size // 2) * step
    second = first + apart
    points = torch.complex(vectors[:, first].double(), vectors[:, second].double())
    turn = points[offset] / points[0]
    matrix = torch.zeros(size, size, dtype=torch.float64, device=vectors.device)
    matrix[first, first], matrix[first, second] = turn.real, turn.imag
    matrix[second, first], matrix[second, second] = -turn.imag, turn.real
    kept = torch.cat((first, second))
    gap = (vectors.double()[: count - offset] @ matrix - vectors.double()[offset:])[:, kept].abs().max()
    return matrix, float(gap)


@dataclass(frozen=True)
class Told:
    """What is made of two orders of the same tokens: how far apart the states of their last tokens are, relative to how
    long these are, in the end and by layer, L + 1 from the embeddings on; the likeliest ids behind both, with p; and
    KL(one || other) in nats, NaN without a head that says tokens."""

    apart: float
    by_layer: tuple[float, ...]
    kl: float
    top: tuple[list[tuple[int, float]], list[tuple[int, float]]]

    @property
    def apart_at_first(self) -> float:
        """After the first block."""
        return self.by_layer[1]

    @property
    def same_answer(self) -> bool:
        return self.top[0][:1] == [] or self.top[0][0][0] == self.top[1][0][0]


@dataclass(frozen=True)
class OrderLab:
    """Two orders of words with positions told and untold. reordered: both have the same tokens and the same last one,
    so that nothing but order tells them apart."""

    one: Subject
    other: Subject
    reordered: bool
    told: Told
    untold: Told


def order_lab(model: Transformer, tokenizer: Tokenizer, one: str, other: str, *, k: int = 5) -> OrderLab:
    """What a model makes of 狗咬人。 and 人咬狗。: of an encoder-decoder as sources. Raises InputError as `read`."""
    return order_of(read(model, tokenizer, one, said=1), read(model, tokenizer, other, said=1), k=k)


def order_of(one: Subject, other: Subject, *, k: int = 5) -> OrderLab:
    """As `order_lab`, of texts that are tokens already; the first token of an encoder-decoder's own text is what both
    begin with, and its state is compared."""
    if one.source:
        one, other = replace(one, tokens=one.tokens[:1]), replace(other, tokens=one.tokens[:1])
    first, second = ([token.id for token in subject.source or subject.tokens] for subject in (one, other))
    reordered = sorted(first) == sorted(second) and (bool(one.source) or first[-1] == second[-1])
    with resting(one.model):
        told = _told(one.capture(), other.capture(), k)
        with without_positions(one.model):
            untold = _told(one.capture(), other.capture(), k)
    return OrderLab(one, other, reordered, told, untold)


def reversed_order(subject: Subject, words: Sequence[tuple[int, int]]) -> Subject:
    """The same tokens with their words, [start, end) each, the other way round. What is not words, control tokens and
    punctuation marks, stays where it is, and so does the last token of a text that is gone on with, whatever it is:
    both orders end alike. Of an encoder-decoder the source is turned.
    """
    tokens = subject.source or subject.tokens
    fixed = [not any(_spoken(token) for token in tokens[start:end]) for start, end in words]
    if words and not subject.source:
        fixed[-1] = True
    turning = iter([span for span, stays in zip(reversed(words), reversed(fixed)) if not stays])
    spans = [span if stays else next(turning) for span, stays in zip(words, fixed)]
    turned = tuple(token for start, end in spans for token in tokens[start:end])
    return replace(subject, source=turned) if subject.source else replace(subject, tokens=turned)


def neighbours(model: Transformer, id: int, k: int = 8) -> list[tuple[int, float]]:
    """The k tokens whose embeddings point most nearly the same way: (id, cosine), the nearest first, itself left out.
    Raises InputError for an id that does not exist."""
    rows = _rows(model, [id])
    count = model.embed.num_embeddings
    with torch.no_grad():
        parts = torch.arange(count, device=model.device).split(8192)
        near = torch.cat([F.cosine_similarity(model.embed(part).float(), rows, dim=-1) for part in parts])
    near[id] = -torch.inf
    best = near.topk(min(k, count - 1))
    return [(int(other), float(cosine)) for cosine, other in zip(*best)]


def plane(model: Transformer, ids: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The embeddings of some tokens on the plane on which they are spread most (PCA; Pearson 1901): points (N, 2), and
    what share of their variance each axis shows (2,). A flat share means that the picture shows little of them."""
    rows = _rows(model, ids).double()
    centred = rows - rows.mean(0)
    u, size, axes = torch.linalg.svd(centred, full_matrices=False)
    # the sign of an axis is no one's: the largest entry of each is made positive
    signs = axes.gather(1, axes.abs().argmax(1, keepdim=True))[:, 0].sign()
    points, shares = u * size * signs, size.square() / size.square().sum().clamp(min=1e-30)
    return F.pad(points, (0, 2))[:, :2].cpu(), F.pad(shares, (0, 2))[:2].cpu()


def _rows(model: Transformer, ids: Sequence[int]) -> Tensor:
    count = model.embed.num_embeddings
    for id in ids:
        if not 0 <= id < count:
            raise InputError(f"id={id}, wanted 0 to {count - 1}")
    with torch.no_grad():
        return model.embed(torch.tensor(list(ids), device=model.device)).float()


def _spoken(token: Token) -> bool:
    return any(letter.isalnum() for letter in token.piece) and not token.control


def _told(one: Trace, other: Trace, k: int) -> Told:
    apart = _apart(one.hidden, other.hidden)
    by_layer = tuple(_apart(x, y) for x, y in zip(one.own.stream, other.own.stream))
    try:
        head = words_of(one.model)
    except InputError:
        return Told(apart, by_layer, float("nan"), ([], []))
    with torch.no_grad():
        logs = [head(trace.hidden[:, -1])[0].double().log_softmax(-1) for trace in (one, other)]
    tops = [log.exp().topk(min(k, len(log))) for log in logs]
    likeliest, second = ([(int(id), float(p)) for p, id in zip(*top)] for top in tops)
    kl = float((logs[0].exp() * (logs[0] - logs[1])).nan_to_num(0.0).sum())
    return Told(apart, by_layer, kl, (likeliest, second))


def _apart(one: Tensor, other: Tensor) -> float:
    """Of the last states of two texts (1, T, D)."""
    x, y = one[0, -1].double(), other[0, -1].double()
    return float((x - y).norm() / ((x.norm() + y.norm()) / 2).clamp(min=1e-30))
