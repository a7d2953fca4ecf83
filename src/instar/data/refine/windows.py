"""Runs of words of a text as numbers, and where each stands in it: for looking texts up in other texts.

Two texts count as the same whatever their case, accents, width of letters, punctuation, apostrophes, hyphens inside
words, also those at the end of a line, invisible characters, blanks and line breaks. A Han or kana character is a word.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache

import numpy as np
import regex

from ..hashes import mix
from .characters import ALONE, BLANK, LETTER, LIMIT, SIGN, alphabet, codes, kinds, runs

# a hyphen inside a word, with the line break after it if there is one, and signs that nobody sees
HYPHENS = "-\u2010\u2011\u00ad－"
HYPHEN = regex.compile(
    rf"[{HYPHENS}](?<=[\p{{L}}\p{{M}}\p{{Cf}}].)\p{{Cf}}*+(?:[ \t]*+\r?\n[ \t]*+)?+\p{{Cf}}*+(?=\p{{L}})"
)
# one that ends a line: its word goes on in the next, or it belongs to another, as in middle- and high-income
ENDING = regex.compile(rf"[{HYPHENS}]\p{{Cf}}*+[ \t]*+\r?\n")
# a line break as JSON writes it, and a backslash, after which n is a letter
ESCAPED = regex.compile(r"\\[nrt\\]")
# inside a word they say nothing, and around one neither
APOSTROPHES = "'`´’‘ʼ＇"
JOINTS = regex.compile(rf"(?<=\w)[{HYPHENS}{APOSTROPHES}](?=\w)")
# further kinds: nothing where it stands, such as accents and what is not seen, and what becomes several characters
GONE, SEVERAL = 4, 5
BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse
INVERSE = pow(BASE, -1, 1 << 64)


@dataclass(frozen=True)
class Words:
    """The W words of a text: hashes (W,) uint64, starts and stops (W,) in its characters, and which are Han or kana."""

    hashes: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    alone: np.ndarray

    def __len__(self) -> int:
        return len(self.hashes)

    def after(self, before: Words, offset: int, count: int) -> Words:
        """The last `count` words of the text before, then these, which begin at the offset."""
        mine = (self.hashes, self.starts + offset, self.stops + offset, self.alone)
        left = (before.hashes, before.starts, before.stops, before.alone)
        return Words(*(np.concatenate([old[-count:], new]) for old, new in zip(left, mine)))


class Sums:
    """Hashes of runs of values (N,) uint64: for each span the sum of values[start + j] * BASE^j mod 2^64, a polynomial
    of what stands in it, from one sum over all."""

    def __init__(self, values: np.ndarray) -> None:
        powers, self._inverses = _powers(1 << len(values).bit_length())
        self._totals = np.zeros(len(values) + 1, np.uint64)
        np.cumsum(values * powers[: len(values)], out=self._totals[1:])

    def of(self, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
        """(S,) starts and stops of spans -> (S,) uint64."""
        return mix((self._totals[stops] - self._totals[starts]) * self._inverses[starts])

    def windows(self, size: int, starts: np.ndarray | None = None) -> np.ndarray:
        """The runs of `size` values from starts on, or all."""
        if starts is None:
            starts = np.arange(max(0, len(self._totals) - size))
        return self.of(starts, starts + size)


def words_of(text: str, *, apart: bool = False, escaped: bool = False) -> Words:
    """The words of a text. apart: apostrophes and hyphens divide words, as where somebody made blanks of punctuation;
    escaped: it is written as in JSON, where a backslash and n are a line break and not the beginning of LaTeX's nabla.
    Memory is about 80 bytes for each character, so give it parts of a long text."""
    folded, table = _tables()
    points, places = np.minimum(codes(text), LIMIT - 1), None
    found = table[points]
    if (found == SEVERAL).any():
        parts = [_fold(sign) if kind == SEVERAL else sign for sign, kind in zip(text, found.tolist())]
        text, places = "".join(parts), np.repeat(np.arange(len(text)), [len(part) for part in parts])
        points = np.minimum(codes(text), LIMIT - 1)
        found = table[points]
    if apart:
        found[np.isin(points, codes(APOSTROPHES + HYPHENS))] = BLANK
    elif any(sign in text for sign in HYPHENS):
        for match in HYPHEN.finditer(text):
            found[match.start() : match.end()] = GONE
    for match in ESCAPED.finditer(text) if escaped else ():
        found[match.start() : match.end()] = BLANK
    kept = np.flatnonzero(found != GONE)
    if len(kept) < len(found):
        points, found = points[kept], found[kept]
        places = kept if places is None else places[kept]
    starts, stops = runs(found)
    kinds_of = found[starts]
    words = (kinds_of == LETTER) | (kinds_of == ALONE)
    starts, stops = starts[words], stops[words]
    # NUL is no letter, so that no letter counts for nothing
    hashes = Sums(folded[points]).of(starts, stops)
    if places is not None:
        starts, stops = places[starts], places[stops - 1] + 1
    return Words(hashes, starts, stops, kinds_of[words] == ALONE)


@cache
def _powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """BASE^i and BASE^-i mod 2^64 for i below a power of two."""
    if count == 1:
        return np.ones(1, np.uint64), np.ones(1, np.uint64)
    half = count // 2
    powers, inverses = _powers(half)
    far, back = np.uint64(pow(BASE, half, 1 << 64)), np.uint64(pow(INVERSE, half, 1 << 64))
    return np.concatenate([powers, powers * far]), np.concatenate([inverses, inverses * back])


def _fold(sign: str) -> str:
    """A character in lower case, without accents and in its usual width; several letters where it stands for them."""
    plain = "".join(one for one in unicodedata.normalize("NFKD", sign) if unicodedata.category(one) != "Mn")
    return unicodedata.normalize("NFC", plain.lower()) or sign


@cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """(LIMIT,) both: what a character becomes, uint64, and which kind that is, or GONE, or SEVERAL."""
    folded, found = np.arange(LIMIT, dtype=np.uint64), kinds().copy()
    for place, sign in enumerate(alphabet()):
        category = unicodedata.category(sign)
        if category in ("Mn", "Me", "Cf"):
            found[place] = GONE
        elif category == "Pc":  # ____ is a gap that is to be filled in
            found[place] = SIGN
        elif sign.lower() != sign or unicodedata.decomposition(sign):
            letters = _fold(sign)
            # radicals are signs, and mean characters
            if category[0] in "LN" or (len(letters) == 1 and letters.isalnum()):
                folded[place] = ord(letters[0])
                found[place] = SEVERAL if len(letters) > 1 else kinds()[ord(letters)]
    found[codes(APOSTROPHES)] = GONE
    return folded, found
