"""Texts of strangers on a drawing: on one line, every sign visible, cut to the room there is."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from rich.cells import cell_len

from ..panel import UNSAID, Flow, Label, Table, Words

Drawn = TypeVar("Drawn")
# fields of figures that hold labels; titles and tables know their language themselves
_LABELS = {"labels", "series", "rows", "columns", "texts", "tokens", "sources", "notes", "points", "nodes"}

_SIGNS = {" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍", "\u00a0": "⍽", "\u3000": "□"}
NONE = "–"
# a word with the blank behind it, or a Chinese sign with the stop behind it, which begins no line
_PIECES = re.compile(r"[\u2e80-\uffef][，。；：、！？）”》]*|[^\s\u2e80-\uffef]+\s*|\s+")


def worded(label: Label) -> str:
    """The text of a label, of one that nobody has put into a language the English."""
    return label if isinstance(label, str) else label.en


def shown(label: Label) -> str:
    """A label or token: blanks at its ends, line breaks and control signs as pictures, marks that turn the direction
    of a text as their numbers.

    Example: " the\\n" -> "␣the⏎" and "layer 3" -> "layer 3"
    """
    text = worded(label)
    ends = len(text) - len(text.lstrip(" ")), len(text.rstrip(" "))
    parts = []
    for place, sign in enumerate(text):
        inside = sign == " " and ends[0] <= place < ends[1]
        parts.append(sign if inside else _SIGNS.get(sign) or _visible(sign))
    return "".join(parts)


def inert(text: str) -> str:
    """A text whose signs all show, line breaks left alone: none turns its direction or commands a terminal, and half a
    character, which no file can hold, is spelt out. Example: "a\x1b[31m" -> "a␛[31m" """
    if text.isprintable():
        return text
    return "".join(sign if sign == "\n" or sign.isprintable() else _visible(sign) for sign in text)


def told(words: Words, language: str) -> str:
    """A text in a language, inert."""
    return inert(words.of(language))


def spoken(figure: Drawn, language: str) -> Drawn:
    """A figure whose labels are all of one language."""
    if isinstance(figure, Table):
        return figure
    changed: dict[str, Any]
    if isinstance(figure, Flow):
        changed = {"steps": [(name, _spoken(what, language)) for name, what in figure.steps]}
    else:
        named: Any = figure
        changed = {
            each.name: _spoken(getattr(named, each.name), language) for each in fields(named) if each.name in _LABELS
        }
    return replace(figure, **changed)  # type: ignore[type-var]


def _spoken(value: Any, language: str) -> Any:
    if isinstance(value, Words):
        return value.of(language)
    if isinstance(value, Mapping):
        return {_spoken(name, language): inner for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_spoken(inner, language) for inner in value]
    return value


def shown_all(labels: Sequence[Label], count: int) -> list[str]:
    """Of each of `count` things its label, or its number where there are no labels."""
    return [shown(label) for label in labels] if len(labels) else [str(number) for number in range(count)]


def cut(text: str, room: int) -> str:
    """At most `room` columns of a terminal, a Chinese sign taking two."""
    if cell_len(text) <= room:
        return text
    while text and cell_len(text) > room - 1:
        text = text[:-1]
    return f"{text}…"


def wrapped_to(text: str, room: int) -> list[str]:
    """A text in lines of so many columns, broken at blanks and between Chinese signs, and anywhere in a word that is
    longer than a line."""
    lines, line = [], ""
    for piece in _PIECES.findall(text):
        if line and cell_len((line + piece).rstrip()) > room:
            lines.append(line.rstrip())
            line = ""
        line = (line + piece).lstrip(" ") if not line else line + piece
        while cell_len(line.rstrip()) > room and len(line) > 1:
            taken = next(end for end in range(len(line) - 1, 0, -1) if cell_len(line[:end]) <= room or end == 1)
            lines.append(line[:taken])
            line = line[taken:]
    return [*lines, line.rstrip()] if line.strip() else lines


def number(value: Any) -> str:
    """A number as a person reads it; what is no number as it is. Example: 0.1234 -> 0.123 and 2.4e-07 -> 2.4e-7"""
    if value is None or value is UNSAID:
        return NONE
    if isinstance(value, bool):
        return "✓" if value else NONE
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return shown(str(value))
    if not math.isfinite(value):
        return NONE
    size = abs(value)
    if size and (size < 0.001 or size >= 1e9):
        mantissa, power = f"{value:.1e}".split("e")
        return f"{'−' if value < 0 else ''}{mantissa.lstrip('-')}e{int(power)}"
    if size == 0:
        return "0"
    form = ".3f" if size < 10 else ".2f" if size < 100 else ",.0f" if size >= 1000 else ".1f"
    return f"{value:{form}}".replace("-", "−")


def plain(value: Any) -> Any:
    """A number of numpy as one of Python."""
    return value.item() if hasattr(value, "item") else value


def chip(gap: float, limit: float) -> str:
    """Example: 2.4e-7 ≤ 1.0e-5"""
    if gap <= limit:
        return f"{number(float(gap))} ≤ {number(float(limit))}"
    found = "NaN" if math.isnan(gap) else number(float(gap))
    return f"{found} > {number(float(limit))}"


def said(value: Any, language: str) -> str:
    """A cell of a table."""
    return told(value, language) if isinstance(value, Words) else number(plain(value))


def _visible(sign: str) -> str:
    if sign < " ":
        return chr(0x2400 + ord(sign))
    return sign if sign.isprintable() else f"<{ord(sign):04X}>"
