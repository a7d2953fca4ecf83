"""What a larger vocabulary buys: bytes per token on text that was not trained on, for each script."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ..config import InputError
from . import bpe
from .bpe import Split
from .controls import rows_for, specials
from .tokenizer import Tokenizer

HAN_SHARE = 0.3


@dataclass(frozen=True)
class Row:
    """One tokenizer on the held-out texts of one script. `used` counts the ids that stand for something."""

    name: str
    vocab_size: int
    used: int
    script: str
    texts: int
    bytes: int
    tokens: int
    bytes_per_token: float


def compare(
    texts: Iterable[str],
    sizes: Sequence[int],
    *,
    held_out: float = 0.05,
    others: Mapping[str, Tokenizer] | None = None,
    max_token_bytes: int = 16,
    split: Split = "qwen2",
) -> list[Row]:
    """Train each size on the texts but for a held-out share, measure on that; `others` are measured beside them.

    Texts are held out by their hash, so that the same text is always on the same side. Raises InputError where one side
    is empty.
    """
    taught: list[str] = []
    kept: dict[str, list[str]] = {}
    for text in texts:
        (kept.setdefault(script(text), []) if is_held_out(text, held_out) else taught).append(text)
    if (sizes and not taught) or not kept:
        counts = f"{len(taught)} texts to train on and {sum(map(len, kept.values()))} held out"
        raise InputError(f"held_out={held_out} leaves {counts}; wanted some of both: more texts, or another share")
    trained = train_all(taught, sizes, max_token_bytes, split) if sizes else {}
    return [row for name, tokenizer in {**trained, **(others or {})}.items() for row in _measure(name, tokenizer, kept)]


def is_held_out(text: str, share: float) -> bool:
    """Whether a text belongs to the share that is measured and not trained on."""
    number = int.from_bytes(hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest())
    return number < share * 2**64


def script(text: str) -> str:
    """Han where at least three letters in ten are Chinese characters; else Latin, if most letters are; else other."""
    letters = [_script_of(character) for character in text if character.isalpha()]
    if letters.count("Han") >= HAN_SHARE * max(1, len(letters)):
        return "Han"
    return "Latin" if letters.count("Latin") * 2 > len(letters) else "other"


@lru_cache(maxsize=65536)
def _script_of(letter: str) -> str:
    name = unicodedata.name(letter, "")
    if name.startswith("CJK "):
        return "Han"
    return "Latin" if name.startswith("LATIN ") else "other"


def train_all(
    texts: Sequence[str], sizes: Sequence[int], max_token_bytes: int = 16, split: Split = "qwen2"
) -> dict[str, Tokenizer]:
    """A tokenizer of each size, by its rows. A smaller vocabulary is the beginning of a larger one, so the largest is
    learnt and the others cut from it."""
    rows = [rows_for(size) for size in sorted(set(sizes))]
    spec = bpe.train(texts, rows[-1] - len(specials()), max_token_bytes=max_token_bytes, split=split)
    return {str(n): Tokenizer.assemble(bpe.shorten(spec, n - len(specials())), n, split) for n in rows}


def _measure(name: str, tokenizer: Tokenizer, kept: Mapping[str, list[str]]) -> list[Row]:
    rows = []
    for language, texts in sorted(kept.items()):
        tokens = sum(map(len, tokenizer.encode_batch(texts)))
        size = sum(len(text.encode()) for text in texts)
        used = tokenizer.vocabulary.size
        ratio = size / tokens if tokens else 0.0
        rows.append(Row(name, tokenizer.vocab_size, used, language, len(texts), size, tokens, ratio))
    return rows
