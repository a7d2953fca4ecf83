"""What is done to a text before a model has to restore it: masking, span corruption, denoising. Pure functions.

Every draw comes from a generator that is handed in. `generator(seed, number)` makes the one of a row, so that what
becomes of a row depends on these two alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..config import InputError

RATE, SPAN_RATE, MEAN = 0.30, 0.15, 3.0


def generator(seed: int, number: int) -> np.random.Generator:
    """The draws of one row."""
    return np.random.default_rng((seed, number))


def check_rate(rate: float, mean: float = 1.0) -> None:
    """Raise InputError for a share outside (0, 1), or spans shorter than a token on the average."""
    if not 0.0 < rate < 1.0:
        raise InputError(f"rate={rate}, wanted a share of the tokens above 0 and below 1")
    if not mean >= 1.0:
        raise InputError(f"span_length={mean}, wanted spans of at least 1 token on the average")


def choose(words: np.ndarray, allowed: np.ndarray, rate: float, draws: np.random.Generator) -> np.ndarray:
    """Which tokens (T,) are to be restored: each word is chosen with probability `rate`, with all of its tokens.

    words (T,): the number of each token's word, from 0; allowed (T,): what may be chosen at all. Where there is such a
    word at least one is chosen, since a row without any would teach nothing.
    """
    chosen = np.zeros(int(words[-1]) + 1 if len(words) else 0, bool)
    possible = np.unique(words[allowed])
    chosen[possible] = draws.random(len(possible)) < rate
    if len(possible) and not chosen.any():
        chosen[possible[draws.integers(len(possible))]] = True
    return chosen[words] & allowed


def corrupt(
    ids: np.ndarray,
    chosen: np.ndarray,
    mask: int,
    ordinary: np.ndarray,
    draws: np.random.Generator,
    *,
    masked: float = 0.8,
    swapped: float = 0.1,
) -> np.ndarray:
    """ids (T,) as the model sees them: of the chosen ones eight in ten are the mask, one in ten is a random one of the
    `ordinary` ids, and the rest stay (Devlin et al. 2019, https://arxiv.org/abs/1810.04805)."""
    places = np.flatnonzero(chosen)
    fate = draws.random(len(places))
    seen = np.array(ids, np.int64)
    seen[places[fate < masked]] = mask
    swap = places[(fate >= masked) & (fate < masked + swapped)]
    seen[swap] = ordinary[draws.integers(len(ordinary), size=len(swap))]
    return seen


def span_counts(length: int, rate: float, mean: float) -> tuple[int, int]:
    """How many of `length` tokens are taken away, and in how many spans: of the tokens a share of `rate`, but at least
    one, and one stays; spans of `mean` tokens on the average, with something kept before each."""
    if length < 2:
        return length, length
    taken = min(max(round(length * rate), 1), length - 1)
    return taken, min(max(round(taken / mean), 1), length - taken)


def segments(items: int, parts: int, draws: np.random.Generator) -> np.ndarray:
    """The lengths (parts,) of a division of `items` things in a row into parts of at least one; each division is
    equally likely."""
    cuts = np.sort(draws.permutation(items - 1)[: parts - 1]) + 1
    return np.diff(np.concatenate([[0], cuts, [items]]))


def spans(
    ids: np.ndarray, sentinels: Sequence[int], rate: float, mean: float, draws: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """ids (T,) -> source, target by span corruption (Raffel et al. 2020, https://arxiv.org/abs/1910.10683, 3.1.4).

    The text is cut into kept and taken stretches by turns, the first of them kept, the last taken. In the source a
    sentinel stands for each that is taken; the target is what was taken, each after its sentinel, and one more sentinel
    at the end. Raises InputError where there are too few sentinels; `sentinels_needed` says how many a length takes.

    Example: the best of all | [0] of all, and [0] the best [1].
    """
    taken, count = span_counts(len(ids), rate, mean)
    if count + 1 > len(sentinels):
        raise InputError(
            f"{len(ids)} tokens lose {count} spans, which takes {count + 1} sentinels; the tokenizer has "
            f"{len(sentinels)}; train one with sentinels={count + 1}, or shorten the rows"
        )
    marks = np.array(sentinels[: count + 1], np.int64)
    if not len(ids):
        return np.empty(0, np.int64), marks
    lost = segments(taken, count, draws)
    kept = segments(len(ids) - taken, count, draws) if len(ids) > taken else np.zeros(count, np.int64)
    ends = np.cumsum(np.stack([kept, lost], 1).ravel())
    pieces = np.split(np.asarray(ids, np.int64), ends[:-1])
    source = [part for piece, mark in zip(pieces[::2], marks) for part in (piece, [mark])]
    target = [part for mark, piece in zip(marks, pieces[1::2]) for part in ([mark], piece)]
    return _end_to_end(source), _end_to_end([*target, marks[-1:]])


def sentinels_needed(length: int, rate: float = SPAN_RATE, mean: float = MEAN) -> int:
    """The sentinels that span corruption of so many tokens takes."""
    return span_counts(length, rate, mean)[1] + 1


def infill(ids: np.ndarray, mask: int, rate: float, mean: float, draws: np.random.Generator) -> np.ndarray:
    """Text infilling (Lewis et al. 2020, https://arxiv.org/abs/1910.13461): spans whose lengths are Poisson(mean), of
    `rate` of the tokens together, are replaced by one mask each.

    A span of no tokens is a mask that stands for nothing. The last span is cut where the share is reached; spans lie
    anywhere between the tokens that stay, each arrangement equally likely. The result is never longer than ids (T,).
    """
    taken = round(len(ids) * rate)
    lengths: list[int] = []
    while (left := taken - sum(lengths)) > 0:
        lengths.append(min(int(draws.poisson(mean)), left))
    empty = [n for n, length in enumerate(lengths) if not length]
    for n in reversed(empty[max(0, taken - (len(lengths) - len(empty))) :]):
        del lengths[n]
    stay = len(ids) - taken
    is_span = np.zeros(stay + len(lengths), bool)
    is_span[draws.permutation(len(is_span))[: len(lengths)]] = True
    # what each item covers, then where it begins
    sizes = np.ones(len(is_span), np.int64)
    sizes[is_span] = lengths
    begins = np.cumsum(sizes) - sizes
    seen = np.full(len(is_span), mask, np.int64)
    seen[~is_span] = np.asarray(ids, np.int64)[begins[~is_span]]
    return seen


def permute(ids: np.ndarray, ends: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    """The sentences of ids (T,) in a random order (Lewis et al. 2020). ends (T,): which tokens end a sentence; what
    follows the last of them is one too."""
    sentences = [part for part in np.split(ids, np.flatnonzero(ends) + 1) if len(part)]
    return _end_to_end([sentences[n] for n in draws.permutation(len(sentences))])


def _end_to_end(parts: Sequence[np.ndarray | Sequence[int]]) -> np.ndarray:
    return np.concatenate([np.empty(0, np.int64), *parts]).astype(np.int64, copy=False)
