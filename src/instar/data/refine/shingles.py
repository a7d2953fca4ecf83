"""Runs of words of a text, hashed, and the signature of all of them: datatrove's MinHash to the bit, in arrays.

`MinhashDedupSignature` joins and hashes every run by itself and takes the remainder of every product; here words are
found in arrays of code points, a run is a slice of one string, and the remainder by 2^61 - 1 is two additions.
"""

from __future__ import annotations

import unicodedata
from functools import cache

import numpy as np
import xxhash
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
from datatrove.utils.text import NUMBERS_PATTERN, PUNCTUATION, PUNCTUATION_TRANS, TextNormConfig

from ...config.data import DuplicateOptions
from .characters import BLANK, LIMIT, alphabet, blocks, codes, kinds, look_up, runs, text_of
from .words import Words, unspaced

PRIME_BITS = np.uint64(61)
PRIME = np.uint64((1 << 61) - 1)
SPACE = 32
# runs that are hashed at a time: their products stay in the cache of a core
STEP = 128


class Shingles:
    """signature(text) -> (buckets * hashes,) uint64. Scratch memory is its own, so one is for one thread."""

    def __init__(self, options: DuplicateOptions) -> None:
        self.options = options
        parameters = MinhashDedupSignature(".", config=datatrove_config(options), language=Words()).parameters
        self._factors, self._terms = (values.reshape(-1) for values in parameters)
        self._products = np.empty((STEP, len(self._factors)), np.uint64)
        self._carries = np.empty_like(self._products)

    def signature(self, text: str) -> np.ndarray | None:
        """The smallest of each hash over all runs of words; None where the text is shorter than one run."""
        size = self.options.ngrams_han if unspaced(text) else self.options.ngrams
        least = None
        left = b""  # the last words of the block before, which begin runs that end in this one
        for start, stop in blocks(text):
            words = normalised(text[start:stop], self.options.numbers)
            joined = left + b" " + words if left and words else left or words
            found = hashed(joined, size)
            if len(found):
                lower = self.smallest(found)
                least = lower if least is None else np.minimum(least, lower)
            left = b" ".join(joined.rsplit(b" ", size - 1)[1:] if len(found) else [joined]) if size > 1 else b""
        return least

    def smallest(self, shingles: np.ndarray) -> np.ndarray:
        """shingles (N,) uint64 -> (H,) the smallest (factor * shingle + term mod 2^64) mod (2^61 - 1).

        With x = high * 2^61 + low that is low + high, or less by the prime in one of 2^58 cases, which is left out.
        """
        least = np.full(len(self._factors), ~np.uint64(0))
        for start in range(0, len(shingles), STEP):
            part = shingles[start : start + STEP, None]
            product, carry = self._products[: len(part)], self._carries[: len(part)]
            np.multiply(self._factors, part, out=product)
            np.add(product, self._terms, out=product)
            np.right_shift(product, PRIME_BITS, out=carry)
            np.bitwise_and(product, PRIME, out=product)
            np.add(product, carry, out=product)
            np.minimum(least, product.min(axis=0), out=least)
        return least


def datatrove_config(options: DuplicateOptions, han: bool = False) -> MinhashConfig:
    """The same in datatrove's words."""
    return MinhashConfig(
        n_grams=options.ngrams_han if han else options.ngrams,
        num_buckets=options.buckets,
        hashes_per_bucket=options.hashes,
        norm_config=TextNormConfig(norm_numbers=options.numbers),
    )


def normalised(text: str, numbers: bool = False) -> bytes:
    """The words of datatrove's `simplify_text`, lower case, without punctuation and accents, one space between."""
    text = text.lower()
    if numbers:
        text = NUMBERS_PATTERN.sub("0", text)
    if text.isascii():
        return " ".join(text.translate(PUNCTUATION_TRANS).split()).encode()
    punctuation, marks = _tables()
    points = codes(text)
    text = text_of(np.where(look_up(punctuation, points), np.uint32(SPACE), points))
    points = codes(unicodedata.normalize("NFD", text))
    points = points[~look_up(marks, points)]
    found = look_up(kinds(), points)
    starts, stops = runs(found)
    words = found[starts] != BLANK
    lengths = (stops - starts)[words]
    kept = np.insert(points[found != BLANK], np.cumsum(lengths)[:-1], SPACE)
    return text_of(kept).encode("utf-8", "surrogatepass")


def hashed(words: bytes, size: int) -> np.ndarray:
    """(N,) uint64: the hash of each run of `size` words, which have one space between them."""
    spaces = np.flatnonzero(np.frombuffer(words, np.uint8) == SPACE)
    count = len(spaces) + 2 - size if words else 0
    if count < 1:
        return np.zeros(0, np.uint64)
    starts = np.append(0, spaces + 1)[:count].tolist()
    stops = np.append(spaces, len(words))[size - 1 :].tolist()
    found = map(xxhash.xxh64_intdigest, map(words.__getitem__, map(slice, starts, stops)))
    return np.fromiter(found, np.uint64, count)


@cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """(LIMIT,) each: which characters are punctuation to datatrove, and which are accents."""
    punctuation, marks = np.zeros(LIMIT, bool), np.zeros(LIMIT, bool)
    punctuation[codes(PUNCTUATION)] = True
    marks[[place for place, sign in enumerate(alphabet()) if unicodedata.category(sign) == "Mn"]] = True
    return punctuation, marks
