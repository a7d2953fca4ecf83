"""How a text becomes tokens: cut into words, their bytes, merge after merge, ids. Plain data, and as plain text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from ..config import InputError
from .tokenizer import Tokenizer
from .vocabulary import Vocabulary, display, library, require_text

MAX_WORD = 2_000
MAX_CHARACTERS = 100_000


@dataclass(frozen=True)
class Step:
    """One merge: `pieces` is the word after it, `rank` its place in the list of merges (0 was learnt first)."""

    rank: int
    left: str
    right: str
    pieces: tuple[str, ...]


@dataclass(frozen=True)
class Token:
    """`piece` is its text, or its bytes like <E4 B8> where it holds only part of a character; bytes in hexadecimal."""

    id: int
    piece: str
    bytes: str


@dataclass(frozen=True)
class Word:
    """What is merged by itself: its bytes in hexadecimal, the merges in order, the tokens that are left."""

    text: str
    bytes: str
    steps: tuple[Step, ...]
    tokens: tuple[Token, ...]


@dataclass(frozen=True)
class Shown:
    """A text with its words, its ids, and its size in bytes for each token."""

    text: str
    words: tuple[Word, ...]
    ids: tuple[int, ...]
    bytes_per_token: float

    def lines(self, *, merges: bool = False) -> Iterator[str]:
        """One line for each word: text, bytes, tokens with their ids; below it, if wanted, every merge."""
        for word in self.words:
            tokens = "  ".join(f"{visible(token.piece)}={token.id}" for token in word.tokens)
            yield f"{visible(word.text)}  [{word.bytes}]  {tokens}"
            for step in word.steps if merges else ():
                row = " · ".join(visible(piece) for piece in step.pieces)
                yield f"    merge {step.rank}: {visible(step.left)} + {visible(step.right)} -> {row}"
        yield f"{len(self.ids)} tokens, {self.bytes_per_token:.2f} bytes per token: {' '.join(map(str, self.ids))}"


def show(tokenizer: Tokenizer, text: str) -> Shown:
    """Take a text apart as the tokenizer does.

    Raises InputError for a text above 100,000 characters or without bytes (a lone surrogate).
    """
    require_text(text)
    if len(text) > MAX_CHARACTERS:
        raise InputError(f"the text has {len(text):,} characters; at most {MAX_CHARACTERS:,} can be shown")
    ranks = {pair: rank for rank, pair in enumerate(tokenizer.vocabulary.merges)}
    words = tuple(_word(tokenizer, ranks, piece) for piece in _cut(tokenizer, text))
    ids = tuple(tokenizer.encode(text))
    if ids != tuple(token.id for word in words for token in word.tokens):
        raise InputError("this tokenizer does more than cut and merge, so its steps cannot be shown")
    return Shown(text, words, ids, len(text.encode()) / len(ids) if ids else 0.0)


def visible(text: str) -> str:
    """A piece on one line: what does not print is escaped, a blank is shown as a dot.

    Example: " a\\n" -> "·a\\\\n"
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown if re.fullmatch(r"<[0-9A-F]{2}( [0-9A-F]{2})*>", shown) else shown.replace(" ", "·")


def _cut(tokenizer: Tokenizer, text: str) -> list[str]:
    """The words that are merged by themselves, in the letters of the vocabulary (byte-level: one for each byte)."""
    encoder = tokenizer.vocabulary.encoder
    with library("the tokenizer failed"):
        if encoder.normalizer is not None:
            text = encoder.normalizer.normalize_str(text)
        if encoder.pre_tokenizer is None:
            return [text] if text else []
        return [piece for piece, _ in encoder.pre_tokenizer.pre_tokenize_str(text)]


def _word(tokenizer: Tokenizer, ranks: dict[tuple[str, str], int], word: str) -> Word:
    if len(word) > MAX_WORD:
        raise InputError(f"a word of {len(word):,} letters; at most {MAX_WORD:,} can be shown merge by merge")
    vocabulary = tokenizer.vocabulary
    pieces = [piece for letter in word for piece in _letters(vocabulary, letter)]
    if vocabulary.spec["model"].get("fuse_unk"):
        unknown = vocabulary.spec["model"].get("unk_token")
        pieces = [piece for piece, before in zip(pieces, [None, *pieces]) if not piece == before == unknown]
    raw = b"".join(vocabulary.bytes_of(letter) for letter in word)
    steps: list[Step] = []
    if vocabulary.spec["model"].get("ignore_merges") and word in vocabulary.ids:
        pieces = [word]
    while (found := _next_merge(ranks, pieces)) is not None:
        rank, place = found
        left, right = pieces[place : place + 2]
        pieces[place : place + 2] = [left + right]
        shown = tuple(display(vocabulary.bytes_of(piece)) for piece in pieces)
        steps.append(Step(rank, display(vocabulary.bytes_of(left)), display(vocabulary.bytes_of(right)), shown))
    tokens = tuple(_token(tokenizer, vocabulary.ids[piece]) for piece in pieces)
    return Word(display(raw), _hexadecimal(raw), tuple(steps), tokens)


def _next_merge(ranks: dict[tuple[str, str], int], pieces: list[str]) -> tuple[int, int] | None:
    """Rank and place of the pair that was learnt first; of equals the leftmost. None when nothing merges."""
    candidates = [(ranks[pair], place) for place, pair in enumerate(pairwise(pieces)) if pair in ranks]
    return min(candidates, default=None)


def _letters(vocabulary: Vocabulary, letter: str) -> list[str]:
    """What merging starts from: a letter, or its bytes where the vocabulary does not have it."""
    model = vocabulary.spec["model"]
    if letter in vocabulary.ids:
        return [letter]
    spelt = [f"<0x{byte:02X}>" for byte in letter.encode()]
    if model.get("byte_fallback") and all(piece in vocabulary.ids for piece in spelt):
        return spelt
    return [model["unk_token"]] if model.get("unk_token") else []


def _token(tokenizer: Tokenizer, id: int) -> Token:
    return Token(id, tokenizer.piece(id), _hexadecimal(tokenizer.token_bytes(id)))


def _hexadecimal(raw: bytes) -> str:
    return raw.hex(" ").upper()
