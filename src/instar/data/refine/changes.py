"""What a rule changed in a text, and what a browser would not show of it: a text in marked parts for the report.

A comparison costs little however strange the texts are: lines first, then the clauses of lines that differ, then the
words of those. What has too many parts to be compared is marked as a whole.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import groupby

SAME, OUT, IN, ODD = "", "out", "in", "odd"  # marks of a part
Part = tuple[str, str]  # mark, text
MOST = 100_000  # pairs of parts that are compared at a time
AROUND = 60  # characters that are shown around a change
SPELT = {"\n": "⏎\n", "\t": "→\t", " ": "·", "\u00a0": "⍽", "\u3000": "□"}  # in what was changed

JOINERS = "\u200c\u200d"  # they shape letters and emoji, so they are spelt out only where they were changed

LINES = re.compile(r"[^\n]*\n|[^\n]+")
CLAUSES = re.compile(r"[^,.;:!?，。；：！？、]*[,.;:!?，。；：！？、\s]+|[^,.;:!?，。；：！？、]+")
WORDS = re.compile(r"[a-zA-Z0-9]+|[^\S\n]+|.", re.DOTALL)
LEVELS = (LINES, CLAUSES, WORDS)


def changes(before: str, after: str, *, cut: bool = False) -> list[Part]:
    """The way from one text to the other as parts that are the same, go out or come in.

    cut: the texts end before their ends, so a difference there says nothing. Example:
    "call 555 now", "call 000 now" -> [("", "call "), ("out", "555"), ("in", "000"), ("", " now")]
    """
    parts = [part for part in _compare(before, after, 0) if part[1]]
    while cut and parts and parts[-1][0] != SAME:
        parts.pop()
    return _tidy(parts)


def _compare(before: str, after: str, level: int) -> Iterator[Part]:
    if before == after or not (before and after) or level == len(LEVELS):
        yield from _replaced(before, after)
        return
    a, b = LEVELS[level].findall(before), LEVELS[level].findall(after)
    head = _alike(a, b)
    tail = _alike(a[head:][::-1], b[head:][::-1])
    ends = len(a) - tail, len(b) - tail
    yield SAME, "".join(a[:head])
    middle = a[head : ends[0]], b[head : ends[1]]
    if len(middle[0]) * len(middle[1]) > MOST:
        yield from _replaced("".join(middle[0]), "".join(middle[1]))
    else:
        yield from _match(*middle, level)
    yield SAME, "".join(a[ends[0] :])


def _match(a: Sequence[str], b: Sequence[str], level: int) -> Iterator[Part]:
    for kind, start, stop, first, last in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        before, after = "".join(a[start:stop]), "".join(b[first:last])
        yield from [(SAME, before)] if kind == "equal" else _compare(before, after, level + 1)


def _replaced(before: str, after: str) -> list[Part]:
    return [(SAME, before)] if before == after else [(OUT, before), (IN, after)]


def _alike(a: Sequence[str], b: Sequence[str]) -> int:
    """How many they have in common from the start."""
    return next((place for place, (one, other) in enumerate(zip(a, b)) if one != other), min(len(a), len(b)))


def _tidy(parts: Sequence[Part]) -> list[Part]:
    """Neighbours of one mark joined; one character between two changes belongs to both, so that an address is
    one change."""
    spread: list[Part] = []
    for place, (mark, text) in enumerate(parts):
        between = 0 < place < len(parts) - 1 and SAME not in (parts[place - 1][0], parts[place + 1][0])
        joins = mark == SAME and between and len(text) == 1 and text != "\n"
        spread += [(OUT, text), (IN, text)] if joins else [(mark, text)]
    tidy: list[Part] = []
    for same, run in groupby(spread, key=lambda part: part[0] == SAME):
        group = list(run)
        for mark in (SAME,) if same else (OUT, IN):
            text = "".join(text for own, text in group if own == mark)
            tidy += [(mark, text)] if text else []
    return tidy


def shortened(parts: Sequence[Part], around: int = AROUND) -> list[Part | tuple[None, int]]:
    """Parts with what is long and the same left out: (None, how many characters) stands in its place."""
    short: list[Part | tuple[None, int]] = []
    for place, (mark, text) in enumerate(parts):
        head = 0 if place == 0 else around
        tail = 0 if place == len(parts) - 1 else around
        if mark != SAME or len(text) <= head + tail + around:
            short.append((mark, text))
            continue
        short += [(SAME, text[:head])] if head else []
        short.append((None, len(text) - head - tail))
        short += [(SAME, text[len(text) - tail :])] if tail else []
    return short


def odd(sign: str, mark: str = SAME) -> bool:
    """A character that is not seen, or that moves others: controls, directions, halves of characters."""
    if sign in "\n\t " or (mark == SAME and sign in JOINERS):
        return False
    return unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def spelt(sign: str) -> str:
    """Example: "\\x1b" -> "U+001B" """
    return f"U+{ord(sign):04X}"


def seen(text: str, mark: str = SAME) -> list[Part]:
    """A part of a text with all that is not seen spelt out; in what was changed blanks and line ends too."""
    parts: list[Part] = []
    for strange, run in groupby(text, key=lambda sign: odd(sign, mark)):
        signs = list(run)
        if strange:
            parts += [(ODD, spelt(sign)) for sign in signs]
        else:
            parts.append((mark, "".join(signs if mark == SAME else [SPELT.get(sign, sign) for sign in signs])))
    return parts
