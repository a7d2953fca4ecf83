"""Where words begin in a run of tokens, and where sentences end: read off the bytes of the tokens alone.

A word is a run of tokens of which only the first begins a word: letters that follow letters go on with it, digits that
follow digits, and the bytes of one character always belong together. Blanks and punctuation begin a new word. Scripts
without blanks between words (Chinese characters, kana, Thai and its neighbours) have no such mark, so there a word is
what the tokenizer made one piece, and a character that it made several pieces of bytes is one word.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

import numpy as np

from .tokenizer import Tokenizer

INSIDE, OTHER, LETTER, DIGIT, CONTROL = -1, 0, 1, 2, 3
# scripts that put no blanks between words
UNSPACED = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3000, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0xFF00, 0xFFEF), (0x20000, 0x323AF),
)  # fmt: skip
# what a character is whose later bytes are missing, by its first: two bytes are Latin, Greek, Cyrillic, Arabic...;
# of three bytes those of India, of Korea; all else is no letter, or is unspaced
_LEADS = (*range(0xC3, 0xE0), 0xE0, 0xEA, 0xEB, 0xEC, 0xED)
# a full stop before a letter or a digit, as in 3.14, ends no sentence; what closes stands with it
_SENTENCE_END = re.compile("(?:[.!?](?![0-9A-Za-z])|\n|。|！|？|…)(?:[.!?\"')\\] ]|”|’|」|』|）|】)*".encode())


class Words:
    """numbers(ids) tells which word each token of a run belongs to.

    ordinary (N,): the ids that text can give, which no control token and no unused row is; control (V,): whether an id
    is a control token.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        table = tokenizer.visible_bytes(range(tokenizer.vocab_size), skip_special=False)
        controls = list(tokenizer.specials.values())
        self.control = np.zeros(len(table), bool)
        self.control[controls] = True
        self.heads, self.tails = (np.array([side(raw) for raw in table], np.int8) for side in (_head, _tail))
        self.heads[controls] = self.tails[controls] = CONTROL
        self._table = table
        self.ordinary = np.flatnonzero(np.array([len(raw) > 0 for raw in table]) & ~self.control)

    def numbers(self, ids: np.ndarray, fresh: np.ndarray | None = None) -> np.ndarray:
        """ids (T,) -> the number of each token's word, from 0. fresh (T,): where a word begins whatever stands before,
        as where a document does."""
        heads, tails = self.heads[ids], self.tails[ids]
        # a token inside a character ends as that character does
        known = np.maximum.accumulate(np.where(tails == INSIDE, -1, np.arange(len(ids))))
        before = np.where(known < 0, OTHER, tails[known])[:-1]
        heads = heads[1:]
        goes_on = ((heads == INSIDE) & (before != CONTROL)) | (
            (heads == before) & ((heads == LETTER) | (heads == DIGIT))
        )
        begins = np.ones(len(ids), bool)
        begins[1:] = ~goes_on
        if fresh is not None:
            begins |= fresh
        return np.cumsum(begins) - 1

    def sentence_ends(self, ids: np.ndarray) -> np.ndarray:
        """ids (T,) -> which of them end a sentence, with a full stop, a question or exclamation mark, an ellipsis or a
        line's end, and what closes behind it. A full stop before a letter or a digit, as in 3.14, ends none."""
        parts = [self._table[id] for id in ids.tolist()]
        reach = np.cumsum([len(part) for part in parts])
        found = [match.end() for match in _SENTENCE_END.finditer(b"".join(parts))]
        ends = np.zeros(len(ids), bool)
        ends[np.searchsorted(reach, found)] = True
        return ends


def _head(raw: bytes) -> int:
    """What a token begins with."""
    if not raw:
        return OTHER
    if 0x80 <= raw[0] < 0xC0:
        return INSIDE
    return _kind_of(raw[: _length(raw[0])])


def _tail(raw: bytes) -> int:
    """What a token ends with; INSIDE where the character that ends here began in a token before."""
    start = len(raw) - 1
    while start >= 0 and 0x80 <= raw[start] < 0xC0:
        start -= 1
    if not raw:
        return OTHER
    return INSIDE if start < 0 else _kind_of(raw[start:])


def _length(lead: int) -> int:
    """The bytes of a character, by its first."""
    return 1 if lead < 0xC0 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4


def _kind_of(raw: bytes) -> int:
    """Of the bytes of one character, of which the last may be missing."""
    try:
        return _kind(raw.decode())
    except UnicodeDecodeError:
        return LETTER if raw[0] in _LEADS else OTHER


def unspaced(character: str) -> bool:
    """Whether a character is of a script that puts no blanks between words, or its punctuation."""
    return any(first <= ord(character) <= last for first, last in UNSPACED)


@lru_cache(maxsize=65536)
def _kind(character: str) -> int:
    if unspaced(character):
        return OTHER
    if unicodedata.category(character)[0] in "LM":
        return LETTER
    return DIGIT if character.isdigit() else OTHER
