"""Regular expressions of strangers: whether one could search for longer than anybody waits.

The tokenizers library searches by backtracking (Oniguruma). There a repetition inside a repetition, such as (a+)+$, has
two to the power of n ways to divide n letters, and tries them all where it does not match. The patterns that
tokenizers really use repeat single characters and classes, and groups only where nothing inside repeats without end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..config import InputError

MAX_PATTERN = 4096  # characters
_MANY = 16  # a repetition that may go on for longer counts as endless
_QUANTIFIER = re.compile(r"(?:[*+?]|\{(\d*)(,?)(\d*)\})[?+]?")
# what stands after an opening bracket; only of these are the meaning and the cost known
_GROUP = re.compile(r"\((?:\?(?:[a-zA-Z-]*[:)]|[=!>]|<[=!]))?")
_CLASS = re.compile(r"\\.|\[:\^?[a-z]+:\]|[\[\]]", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:[pPxu]\{[^}]*\}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)", re.DOTALL)
_FORBIDDEN = re.compile(r"\\[1-9kgKX]")


def vet(pattern: str) -> None:
    """Raise InputError for a pattern that is too long, calls itself or what it found, or repeats a repetition."""
    if len(pattern) > MAX_PATTERN:
        raise InputError(f"a pattern has {len(pattern):,} characters, wanted at most {MAX_PATTERN:,}")
    # for each open group: whether it holds an endless repetition, alternatives, something that must stand there
    endless = [False]
    branches = [False]
    solid = [False]
    for piece, (least, most) in _pieces(pattern):
        many = most is None or most > _MANY
        if piece.startswith("("):
            for stack in (endless, branches, solid):
                stack.append(False)
        elif piece == "|":
            branches[-1] = True
        elif piece == ")":
            if len(endless) == 1:
                raise _refuse(pattern, "closes a group that is not open")
            inside, divided, must = endless.pop(), branches.pop(), solid.pop()
            if many and (inside or divided or not must):
                what = "a repetition" if inside else "alternatives" if divided else "what may be nothing"
                raise _refuse(pattern, f"repeats {what}, which can take for ever")
            endless[-1] |= many or inside
            solid[-1] |= must and least > 0
        else:
            endless[-1] |= many and most != least
            solid[-1] |= least > 0
    if len(endless) > 1:
        raise _refuse(pattern, "leaves a group open")


def _pieces(pattern: str) -> Iterator[tuple[str, tuple[int, int | None]]]:
    """Each character, escape, class, bracket and bar of a pattern, with how often it may stand."""
    place = 0
    while place < len(pattern):
        piece = _piece(pattern, place)
        place += len(piece)
        found = None if piece.startswith("(") or piece == "|" else _QUANTIFIER.match(pattern, place)
        yield piece, _times(found) if found else (1, 1)
        if found:
            place = found.end()
            if _QUANTIFIER.match(pattern, place):
                raise _refuse(pattern, "repeats a repetition, which can take for ever")


def _piece(pattern: str, place: int) -> str:
    sign = pattern[place]
    if sign == "\\":
        found = _ESCAPE.match(pattern, place)
        if found is None or _FORBIDDEN.match(pattern, place):
            raise _refuse(pattern, f"has {pattern[place : place + 2]}, which is not allowed here")
        return found[0]
    if sign == "[":
        return pattern[place : _end_of_class(pattern, place)]
    if sign == "(":
        found = _GROUP.match(pattern, place)
        if found is None or (found[0] == "(" and pattern[place : place + 2] == "(?"):
            raise _refuse(pattern, f"has {pattern[place : place + 4]}, which is not allowed here")
        # (?i) alone is no group
        return found[0] if not found[0].endswith(")") else found[0].replace("(", "?", 1)
    return sign


def _end_of_class(pattern: str, place: int) -> int:
    """Where a class in square brackets ends; classes may hold classes."""
    depth = 0
    first = place
    while found := _CLASS.search(pattern, place):
        place = found.end()
        # a bracket that comes first is a character
        if found[0] == "]" and pattern[first + 1 : found.start()] in ("", "^"):
            continue
        depth += {"[": 1, "]": -1}.get(found[0], 0)
        if not depth:
            return place
    raise _refuse(pattern, "leaves a class open")


def _times(found: re.Match[str]) -> tuple[int, int | None]:
    if found[2] is None:
        return {"*": (0, None), "+": (1, None), "?": (0, 1)}[found[0][0]]
    if not found[1] and not found[3]:
        return 1, 1  # braces without figures are characters
    least = int(found[1] or 0)
    if not found[2]:
        return least, least
    return least, int(found[3]) if found[3] else None


def _refuse(pattern: str, what: str) -> InputError:
    return InputError(f"the pattern {pattern[:80]!r} {what}; write it without")
