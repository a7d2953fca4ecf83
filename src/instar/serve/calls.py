"""Calls of tools, found in an answer while it is said: its text, and each call's name and arguments, piece by piece.

Nothing that a model says is lost: what began like a call and is none is told as text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Said:
    """Text of the answer."""

    text: str


@dataclass(frozen=True)
class Called:
    """A call began; index: which one of the answer."""

    index: int
    id: str
    name: str


@dataclass(frozen=True)
class Arguments:
    """More of a call's arguments. All of them, joined, are the JSON of an object, as far as the model said one."""

    index: int
    text: str


Piece = Said | Called | Arguments
# behind this the arguments can be told as they come
_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)')


class ToolParser:
    """Give it the text of an answer as it comes. All that it says and calls is that text, but for tags, and blanks
    beside calls."""

    def __init__(
        self, opener: str, closer: str, separator: str, *, listed: bool, bare: bool, names: Collection[str],
        new_id: Callable[[], str], one: bool = False,
    ) -> None:  # fmt: skip
        """opener, closer: what stands before and behind a call; separator: what stands between bare ones; listed: they
        are items of a list; bare: an answer may begin with them, without an opener; names: of those that may be called,
        where they are known; one: nothing counts that is said behind the first call."""
        self.opener, self.closer, self.separator, self.listed, self.bare = opener, closer, separator, listed, bare
        self.names, self.new_id, self.one = names, new_id, one
        self.calls = 0
        self._state: Literal["start", "text", "list", "object", "after", "over"] = "start" if bare else "text"
        self._held = ""  # what does not decide yet what it is
        self._raw = ""  # what led to an object, should that turn out to be text
        self._object = _Object()
        self._steps = {
            "start": self._start, "text": self._text, "list": self._list, "object": self._read, "after": self._after,
            "over": self._over,
        }  # fmt: skip

    def push(self, text: str) -> list[Piece]:
        """What this text completes."""
        pieces: list[Piece] = []
        self._held += text
        while self._steps[self._state](pieces):
            pass
        return pieces

    def end(self) -> list[Piece]:
        """What is left where an answer ends, also in the middle of a call."""
        if self.over:
            return []
        left = self._held
        if self._state == "list" or (self._state == "object" and not self._object.begun):
            left = self._raw + self._object.raw + left
        self._held, self._state = "", "text"
        return [Said(left)] if left.strip() or (left and not self.calls) else []

    def _start(self, pieces: list[Piece]) -> bool:
        """An answer may be a call from its first letter on."""
        begun = self._held.lstrip()
        if not begun or (begun != self.opener and self.opener.startswith(begun)):
            return False
        if begun[0] == ("[" if self.listed else "{") and not begun.startswith(self.opener):
            self._begin("", self._held)
        else:
            self._state = "text"
        return True

    def _text(self, pieces: list[Piece]) -> bool:
        before, found, behind = self._held.partition(self.opener)
        if found:
            said = before.rstrip()
            if said:
                pieces.append(Said(said))
            self._begin(before[len(said) :] + found, behind)
            return True
        # the opener may be half said, and blanks before it are none of the answer's
        sizes = range(min(len(self.opener) - 1, len(before)), 0, -1)
        half = next((size for size in sizes if before.endswith(self.opener[:size])), 0)
        ready = before[: len(before) - half].rstrip()
        if ready:
            pieces.append(Said(ready))
            self._held = before[len(ready) :]
        return False

    def _begin(self, raw: str, behind: str) -> None:
        self._raw, self._held, self._state = raw, behind, "list" if self.listed else "object"
        self._object = _Object()

    def _list(self, pieces: list[Piece]) -> bool:
        begun = self._held.lstrip()
        if not begun:
            return False
        if begun[0] != "[":
            return self._no_call(pieces, "")
        cut = len(self._held) - len(begun) + 1
        self._raw, self._held, self._state = self._raw + self._held[:cut], self._held[cut:], "object"
        return True

    def _read(self, pieces: list[Piece]) -> bool:
        reader, text = self._object, self._held
        self._held = ""
        rest = reader.push(text)
        if reader.name is not None and not reader.begun:
            if self.names and reader.name not in self.names:
                return self._no_call(pieces, rest or "")
            reader.begun = True
            pieces.append(Called(self.calls, self.new_id(), reader.name))
            self.calls += 1
        if reader.begun and (told := reader.told()):
            pieces.append(Arguments(self.calls - 1, told))
        if rest is None:
            return False
        if not reader.begun:
            return self._no_call(pieces, rest)
        self._held, self._state = rest, "over" if self.one else "after"
        return True

    def _no_call(self, pieces: list[Piece], rest: str) -> bool:
        said = self._raw + self._object.raw
        if said:
            pieces.append(Said(said))
        self._raw, self._held, self._state = "", self._held + rest, "text"
        return True

    def _over(self, pieces: list[Piece]) -> bool:
        self._held = ""
        return False

    @property
    def over(self) -> bool:
        """Whether nothing counts that is still to be said."""
        return self._state == "over"

    def _after(self, pieces: list[Piece]) -> bool:
        begun = self._held.lstrip()
        if not begun or (self.closer.startswith(begun) and begun != self.closer):
            return False
        if self.closer and begun.startswith(self.closer):
            self._held, self._state = begun.removeprefix(self.closer), "text"
        elif self.separator and begun.startswith(self.separator):
            self._raw, self._held, self._state = self.separator, begun.removeprefix(self.separator), "object"
            self._object = _Object()
        else:
            self._held, self._state = begun.removeprefix("]") if self.listed else self._held, "text"
        return True


class _Object:
    """One object {"name": ..., "arguments": {...}}, read letter by letter. raw: all of it so far; name: once it is
    known and the arguments can be told; begun: whoever reads has taken it for a call."""

    def __init__(self) -> None:
        self.raw, self.name, self.begun = "", None, False
        self._whole, self._inner = _Brackets(), _Brackets()
        self._at = -1  # up to where arguments are told
        self._spelt = ""  # arguments that could be told only at the end

    name: str | None

    def push(self, text: str) -> str | None:
        """-> what stands behind the object once it has ended, or turned out to be none."""
        if not self.raw.strip() and text.strip() and text.lstrip()[0] != "{":
            return text
        end = self._whole.end(text)
        self.raw += text[:end]
        if self._at < 0 and (head := _HEAD.match(self.raw)) and (name := _name(_loaded(head[1]))):
            self.name, self._at = name, head.end()
        if end is None:
            return None
        if self._at < 0:
            self._spell()
        return text[end:]

    def told(self) -> str:
        """More of the arguments."""
        if self._at < 0:
            return self._spelt
        more = self.raw[self._at :]
        end = self._inner.end(more) if not self._inner.closed else 0
        self._at = len(self.raw)
        return more[:end]

    def _spell(self) -> None:
        """Of an object in another order, or whose arguments are none: a text that holds their JSON, or nothing."""
        call = _loaded(self.raw)
        if not isinstance(call, dict) or (name := _name(call.get("name"))) is None:
            return
        arguments = call.get("arguments", call.get("parameters"))
        if isinstance(arguments, str):
            spelt = arguments
        else:
            spelt = json.dumps({} if arguments is None else arguments, ensure_ascii=False)
        # half a surrogate pair stays the escape as which it was said: UTF-8 cannot say it
        self._spelt, self.name = spelt.encode(errors="backslashreplace").decode(), name


class _Brackets:
    """Finds where the first object or list of a text ends."""

    def __init__(self) -> None:
        self.depth, self.quoted, self.escaped, self.closed = 0, False, False, False

    def end(self, text: str) -> int | None:
        """The place behind it, in this piece of the text; None where it goes on."""
        for place, letter in enumerate(text):
            if self.quoted:
                self.quoted = self.escaped or letter != '"'
                self.escaped = letter == "\\" and not self.escaped
            elif letter == '"':
                self.quoted = True
            elif letter in "{[":
                self.depth += 1
            elif letter in "}]":
                self.depth -= 1
                if self.depth <= 0:
                    self.closed = True
                    return place + 1
        return None


def _name(said: Any) -> str | None:
    """The name of a function; None for what is none, half a surrogate pair among it, which no answer can tell."""
    if not isinstance(said, str):
        return None
    try:
        said.encode()
    except UnicodeEncodeError:
        return None
    return said


def _loaded(text: str) -> Any:
    """What JSON says; None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
