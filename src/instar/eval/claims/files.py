"""Texts of people's own, beside those of the world: sentences with tagged entities, and treebanks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TypeVar

from ...config import InputError
from ...data.labels import TAGS, spelt_words, words_and_labels
from ...data.readers import suffix_of
from ...data.sources import Document, read
from ...data.treebank import read_treebank
from ...probe.panel import Words
from ...text.tokenizer import Tokenizer
from ..entities import spans

Item = TypeVar("Item")

TREEBANK = ".conllu"
UNFIT = 0.2  # of the bytes of words: a tokenizer that spells more than these does not know the language


@dataclass(frozen=True)
class Tagged:
    """A text and its entities: (start, end, kind), characters [start, end)."""

    text: str
    places: tuple[tuple[int, int, str], ...]


def is_treebank(source: str) -> bool:
    """Whether a source is a CoNLL-U file, by its name."""
    return suffix_of(Path(source)) == TREEBANK


def looked_over(data: Sequence[str]) -> None:
    """Raises InputError for a file that is missing, or that no claim looks at: neither tagged words nor a treebank."""
    for source in data:
        first = next(iter(read_treebank(source) if is_treebank(source) else read([source])), None)
        if first is None:
            raise InputError(f"{source} is empty; claims look at tagged words and at treebanks")
        if isinstance(first, Document) and not ("tokens" in first.record and set(TAGS) & set(first.record)):
            raise InputError(
                f"{first.where}: the keys are {', '.join(map(str, first.record))}; claims look at records of "
                f'"tokens" and "tags" and at treebanks ({TREEBANK})'
            )


def tagged(source: str) -> Iterator[Tagged]:
    """The records of "tokens" and "tags" of a source that have an entity, as texts. Raises InputError for others."""
    for document in read([source]):
        words, tags = document.read(words_and_labels)
        spelling = spelt_words(words, " ")
        ends = [0]
        for word in spelling:
            ends.append(ends[-1] + len(word))
        starts = [end - len(word) for end, word in zip(ends[1:], words)]
        try:
            found = spans([str(tag) for tag in tags])
        except InputError as error:
            raise InputError(f"{document.where}: {error}") from None
        if found:
            places = tuple((starts[first], ends[last], kind) for kind, first, last in found)
            yield Tagged("".join(spelling), places)


def drawn(items: Iterable[Item], count: int, seed: int) -> list[Item]:
    """So many of them, whichever the seed says."""
    found = list(items)
    Random(seed).shuffle(found)
    return found[:count]


def spelt_out(tokenizer: Tokenizer, texts: Sequence[str]) -> float:
    """The share of the bytes of words that a tokenizer has no token for, and spells byte by byte, or does not know at
    all: 0 is a tokenizer of this language, 1 one of another. Blanks and punctuation do not count."""
    total = known = 0
    for text, (ids, places) in zip(texts, tokenizer.encode_places(list(texts))):
        total += sum(len(letter.encode()) for letter in text if letter.isalnum())
        for id, (start, end) in zip(ids, places):
            raw = tokenizer.token_bytes(id)
            said = raw.decode("utf-8", "ignore").casefold().strip()
            inside = "".join(letter for letter in text[start:end] if letter.isalnum())
            if len(raw.strip()) > 1 and said in text[start:end].casefold():
                # of a character in several tokens each has a part
                known += min(len(inside.encode()), len(raw.strip()))
    return max(0.0, 1 - known / total) if total else 0.0


def fitness(share: float) -> Words:
    """What a share of `spelt_out` means, to be said behind it."""
    if share <= UNFIT:
        return Words("", "")
    return Words(", unfit for these texts", "，不适合这些文本")
