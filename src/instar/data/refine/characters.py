"""A text as code points, and what each of them is to `words.py`: arrays in place of a loop over words."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import regex

from .words import LETTERS, SINGLE

LIMIT = 0x40000  # all planes with letters; the rest are signs, and there is none that texts use
BLANK, LETTER, ALONE, SIGN = range(4)
BLOCK = 1 << 18  # characters looked at at a time, so that memory does not grow with the text
# a blank after a word, but not after a hyphen, which may go on behind it
END = regex.compile(r"(?<![-\u2010\u2011\u00ad\s])\s")


def codes(text: str) -> np.ndarray:
    """text of N characters -> (N,) uint32."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def text_of(points: np.ndarray) -> str:
    """(N,) code points -> text."""
    return points.astype("<u4", copy=False).tobytes().decode("utf-32-le", "surrogatepass")


def look_up(table: np.ndarray, points: np.ndarray) -> np.ndarray:
    """What a table (LIMIT,) says of each code point; those beyond are as the last one, which stands for nothing."""
    return table[np.minimum(points, LIMIT - 1)]


@cache
def alphabet() -> str:
    """Every character below LIMIT, at its own place."""
    return text_of(np.arange(LIMIT, dtype=np.uint32))


@cache
def kinds() -> np.ndarray:
    """(LIMIT,) uint8: BLANK, LETTER of a word, ALONE where it is a word by itself, or SIGN."""
    table = np.full(LIMIT, SIGN, np.uint8)
    patterns = {BLANK: r"\s+", LETTER: rf"(?V1){LETTERS}+", ALONE: rf"[{SINGLE}]+"}
    for kind, pattern in patterns.items():
        for match in regex.finditer(pattern, alphabet()):
            table[match.start() : match.end()] = kind
    return table


def runs(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Kinds (N,) of characters -> start and stop of each run of one kind; one that is ALONE is a run by itself."""
    begins = np.ones(len(found), bool)
    begins[1:] = (found[1:] != found[:-1]) | (found[1:] == ALONE)
    starts = np.flatnonzero(begins)
    return starts, np.append(starts, len(found))[1:]


def blocks(text: str, size: int = BLOCK) -> Iterator[tuple[int, int]]:
    """Start and stop of parts of a text, about `size` characters each, that end before a blank where there is one."""
    start = 0
    while start < len(text):
        stop = min(start + size, len(text))
        if stop < len(text) and (blank := END.search(text, stop, stop + size)):
            stop = blank.start()
        yield start, stop
        start = stop
