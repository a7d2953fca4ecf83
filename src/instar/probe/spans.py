"""Entities of a text without a parser: what a reader marks, what is in a list, and what shows in the writing itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..config import InputError
from ..text.words import unspaced
from .routing import words
from .subject import Token, covering

RAREST = 0.1  # of a text's words
# of its words: where more begin with a capital, capitals tell nothing
SHOUTED = 0.8


class Span(NamedTuple):
    """Characters [start, end) of a text, and what makes them an entity: user, listed, digits, latin, capitals, rare."""

    start: int
    end: int
    kind: str


def spans(
    text: str,
    tokens: Sequence[Token] = (),
    *,
    user: Iterable[tuple[int, int]] = (),
    listed: Iterable[str] = (),
    frequencies: Tensor | None = None,
) -> list[Span]:
    """The entities of a text in order, none over another: what stands first here wins.

    user: characters [start, end) that a reader marked. listed: words of a gazetteer, the longest first, whole words
    where blanks part them. Numbers. Latin words inside Chinese. Names: capitals inside a sentence, at its start where
    the word has them elsewhere too, and words with two of them, such as OpenAI. With the frequencies (V,) of tokens in
    a corpus also the rarest tenth of the words. Raises InputError for a marked place that the text does not have.
    """
    for start, end in user:
        if not 0 <= start < end <= len(text):
            raise InputError(f"span {start}:{end}, and the text has {len(text)} characters; wanted start < end in it")
    kinds = {
        "user": user, "listed": _listed(text, listed), "digits": _found(_DIGITS, text), "latin": _latin(text),
        "capitals": _capitals(text), "rare": () if frequencies is None else _rare(text, tokens, frequencies),
    }  # fmt: skip
    taken = [False] * len(text)
    found = []
    for kind, places in kinds.items():
        for start, end in places:
            if not any(taken[start:end]):
                taken[start:end] = [True] * (end - start)
                found.append(Span(start, end, kind))
    return sorted(found)


def held(tokens: Sequence[Token], places: Iterable[tuple[int, ...]]) -> Tensor:
    """Which tokens hold any character of these places (start, end, ...): (T,) bool."""
    mask = torch.zeros(len(tokens), dtype=torch.bool)
    for place in places:
        mask[covering(tokens, place[0], place[1])] = True
    return mask


_DIGITS = re.compile(r"\d+(?:[.,:/-]\d+)*%?")
_LATIN = re.compile(r"[A-Za-z][A-Za-z0-9.+#&_-]*(?: [A-Za-z][A-Za-z0-9.+#&_-]*)*(?<![.-])")
_LETTERS = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_ENDS = '.!?:;"“\n'


def _found(pattern: re.Pattern[str], text: str) -> list[tuple[int, int]]:
    return [match.span() for match in pattern.finditer(text)]


def _listed(text: str, listed: Iterable[str]) -> list[tuple[int, int]]:
    """The places of listed words, longer words first."""

    def alone(start: int, end: int) -> bool:
        """No letter of a script with blanks goes on with it."""
        sides = ((start - 1, start), (end - 1, end))
        return not any(
            left >= 0 and right < len(text) and all(c.isalnum() and not unspaced(c) for c in (text[left], text[right]))
            for left, right in sides
        )

    places = []
    for word in sorted(set(filter(None, listed)), key=lambda word: (-len(word), word)):
        places += [match.span() for match in re.finditer(re.escape(word), text) if alone(*match.span())]
    return places


def _latin(text: str) -> list[tuple[int, int]]:
    """Latin words with a character of a script without blanks beside them."""

    def beside(start: int, end: int) -> bool:
        before, after = text[:start].rstrip(" ")[-1:], text[end:].lstrip(" ")[:1]
        return any(character and unspaced(character) for character in (before, after))

    return [place for place in _found(_LATIN, text) if beside(*place)]


def _capitals(text: str) -> list[tuple[int, int]]:
    """Names by their capitals, neighbours with a blank between them as one."""
    parts = [match for match in _LETTERS.finditer(text) if not unspaced(match[0][0])]
    large = [match for match in parts if match[0][0].isupper() and match[0] not in ("I", "I'm", "I’m")]
    if len(large) > SHOUTED * len(parts):
        return []
    begins = {match.start() for match in parts if _begins(text, match.start())}
    small = {match[0] for match in parts if match[0].islower()}
    # a sentence's first word is a name where it is one inside another, and no common word as well
    names = {match[0] for match in large if match.start() not in begins}
    common = {match.start() for match in parts if match.start() in begins and match[0].lower() in small}
    found: list[tuple[int, int]] = []
    for match in parts:
        several = sum(letter.isupper() for letter in match[0]) > 1 and match[0] not in ("I'M", "I’M")
        if not several and (match[0] not in names or match.start() in common):
            continue
        if found and text[found[-1][1] : match.start()] == " " and match.start() not in begins:
            found[-1] = found[-1][0], match.end()
        else:
            found.append(match.span())
    return found


def _begins(text: str, start: int) -> bool:
    """Whether a sentence begins here."""
    before = text[:start].rstrip(" '‘(")
    return not before or before[-1] in _ENDS or unspaced(before[-1])


def _rare(text: str, tokens: Sequence[Token], frequencies: Tensor) -> Iterator[tuple[int, int]]:
    """The rarest tenth of the words by the rarest of their tokens, never half of them, as where all are alike."""
    ranges = [(start, end) for start, end in words(tokens, text) if not tokens[start].control]
    places = [(tokens[start].start, tokens[end - 1].end) for start, end in ranges]
    often = [min(int(frequencies[token.id]) for token in tokens[start:end]) for start, end in ranges]
    spoken = [
        (count, place)
        for count, place in zip(often, places)
        if any(character.isalpha() for character in text[slice(*place)])
    ]
    if not spoken:
        return
    counts = sorted(count for count, _ in spoken)
    most, middle = counts[int(RAREST * (len(counts) - 1))], counts[len(counts) // 2]
    for count, (start, end) in spoken:
        if count <= most and count < middle:
            blank = len(text[start:end]) - len(text[start:end].lstrip())
            yield start + blank, end
