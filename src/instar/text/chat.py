"""Messages -> what stands between control tokens, and what of it teaches: the one road for every use of a chat.

A template writes structure and messages into one string, where a message that says <|im_end|> would become the token.
So messages are marked before rendering: each is framed, and characters that could begin a control token are replaced.
Afterwards a control token made of structure is an id, and everything else is plain text, encoded as one run up to the
next control token, which gives the ids that the stock libraries give for the rendered string. A template that reads
the text of messages could notice the marks, so its plain rendering must be the same string: an error, never a forgery.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from ..config import InputError, unknown
from .markup import MARKUPS
from .template import REST, TEACH, render
from .vocabulary import Control, require_text

Message = Mapping[str, Any]
Teach = Literal["assistant", "all"]
ROLES = ("system", "user", "assistant", "tool")

# More noncharacters: a message's text stands between OPEN + its number and CLOSE; ESCAPE + a number is one character.
_ESCAPE, _OPEN, _CLOSE = "\ufdd2", "\ufdd3", "\ufdd4"
_RESERVED = TEACH + REST + _ESCAPE + _OPEN + _CLOSE
_NUMBERS = 0xF0000
_EDGE = _ESCAPE + chr(_NUMBERS)
_FRAME = re.compile(f"{_OPEN}(.)|{_CLOSE}", re.DOTALL)
_TEACHING = re.compile(f"[{TEACH}{REST}]")
# These are known not to look at the text of messages, so they need not be rendered twice.
_OURS = frozenset(markup.template for markup in MARKUPS.values())
_PROBE = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


@dataclass(frozen=True)
class Chat:
    """A conversation as ids, and which of them teach: ids and teaches are equally long."""

    ids: list[int]
    teaches: list[bool]


@dataclass
class Run:
    """Plain text up to the next control token: `spans` of its characters teach. Then comes the token, if any."""

    text: str = ""
    spans: list[tuple[int, int]] = field(default_factory=list)
    control: int | None = None
    control_teaches: bool = False

    def end(self, parts: list[str], control: Control | None, teaches: bool) -> None:
        """Close the run with its text and the token after it, which may swallow the blanks before it."""
        self.text = "".join(parts)
        if control is not None:
            self.text = self.text.rstrip() if control.swallows_left else self.text
            self.control, self.control_teaches = control.id, teaches


class ChatFormat:
    """A chat template together with the control tokens of its tokenizer. Knows nothing of encoding.

    `strings` are what a template may name: bos_token, eos_token and the like. `ends` are ids that end any text.
    """

    def __init__(self, source: str, controls: Mapping[str, Control], strings: Mapping[str, str], ends: Iterable[int]):
        if any(character in source for character in _RESERVED):
            raise InputError("the chat template holds noncharacters from U+FDD0 to U+FDD4; wanted none")
        self.source = source
        self._controls = controls
        self._strings = dict(strings)
        self._ends = frozenset(ends)
        self._alphabet = ["", *_RESERVED, *sorted({text[0] for text in controls})]
        self._escapes = {ord(c): _ESCAPE + chr(_NUMBERS + n) for n, c in enumerate(self._alphabet) if c}
        self._risky = re.compile("[" + re.escape("".join(self._alphabet)) + "]")
        self._tails = tuple({text[start:] for text in controls for start in range(1, len(text))})
        self._scanner = _scanner(controls)

    def runs(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = False, tools: Sequence[Any] | None = None
    ) -> list[Run]:
        """Render messages and cut the result at its control tokens. Raises InputError naming the message at fault."""
        check(messages)
        try:
            text = self._marked(messages, add_generation_prompt, tools)
        except RecursionError:
            raise InputError("the messages or tools are nested too deeply") from None
        if TEACH not in text:
            text = self._teach_by_frames(text, messages)
        return list(self._cut(text))

    @cached_property
    def turn_end(self) -> int | None:
        """The control token that ends an answer, read off a rendered example; None where there is none."""
        try:
            after = self._marked(_PROBE, False, None).rpartition(_CLOSE)[2]
        except InputError:
            return None
        return next((run.control for run in self._cut(after)), None)

    @cached_property
    def _prompt(self) -> str:
        """What the template writes before an answer."""
        try:
            asked = self._render(_PROBE[:1], True, None)
            told = self._render(_PROBE[:1], False, None)
        except InputError:
            return ""
        return asked.removeprefix(told) if asked.startswith(told) else ""

    def _render(self, messages: Sequence[Message], prompt: bool, tools: Any) -> str:
        return render(
            self.source,
            {**self._strings, "messages": messages, "add_generation_prompt": prompt, "tools": tools, "documents": None},
        )

    def _marked(self, messages: Sequence[Message], prompt: bool, tools: Any) -> str:
        """The rendering with frames and escapes in it, which but for them is the plain rendering."""
        framed = [self._frame_message(index, message) for index, message in enumerate(messages)]
        text = self._render(framed, prompt, self._guard(list(tools)) if tools else None)
        if self.source not in _OURS:
            self._compare(text, self._render(messages, prompt, tools), messages)
        present = set(_FRAME.findall(text))
        for index, message in enumerate(messages):
            if message.get("content") and chr(_NUMBERS + index) not in present:
                raise InputError(f"the chat template leaves out messages[{index}], whose role is {message['role']}")
        return text

    def _compare(self, marked: str, plain: str, messages: Sequence[Message]) -> None:
        bare = re.sub(f"{_ESCAPE}(.)", self._unescape, _FRAME.sub("", marked), flags=re.DOTALL)
        if _TEACHING.sub("", bare) == _TEACHING.sub("", plain):
            return
        held = [
            f"messages[{index}] holds {control!r}; reasoning goes into its key reasoning_content"
            for index, message in enumerate(messages)
            for control in self._controls
            if control in str(message.get("content"))
        ]
        raise InputError(
            "the chat template decides by the text of the messages, so that text could pass for structure: "
            + (held[0] if held else "it cannot be used with these messages")
        )

    def _unescape(self, match: re.Match[str]) -> str:
        return self._alphabet[ord(match[1]) - _NUMBERS]

    def _frame_message(self, index: int, message: Message) -> dict[str, Any]:
        framed = {key: value if key == "role" else self._guard(value) for key, value in message.items()}
        for key in ("content", "reasoning_content"):
            text = message.get(key)
            # an empty answer is framed too, or there would be no place where its end teaches
            if text or (text == "" and key == "content" and message["role"] == "assistant" and not calls_of(message)):
                framed[key] = self._frame(index, text)
        if calls_of(message):
            framed["tool_calls"] = [self._frame_call(index, call) for call in message["tool_calls"]]
        return framed

    def _frame_call(self, index: int, call: Mapping[str, Any]) -> dict[str, Any]:
        framed = dict(self._guard(call))
        if isinstance(call.get("function"), Mapping):
            framed["function"] = self._frame_call(index, call["function"])
        elif isinstance(call.get("name"), str):
            framed["name"] = self._frame(index, call["name"])
        return framed

    def _frame(self, index: int, text: str) -> str:
        """Blanks at the ends stay outside, so that a template can trim them."""
        core = text.strip()
        start = text.find(core)
        return f"{text[:start]}{_OPEN}{chr(_NUMBERS + index)}{self._escape(core)}{_CLOSE}{text[start + len(core) :]}"

    def _escape(self, text: str) -> str:
        return text.translate(self._escapes) if self._risky.search(text) else text

    def _guard(self, value: Any) -> Any:
        """Text that is not a message's own: escaped, and kept from going on with what structure began."""
        if isinstance(value, str):
            begun = value and (value.startswith(self._tails) or any(value in text for text in self._controls))
            return (_EDGE if begun else "") + self._escape(value)
        if isinstance(value, Mapping):
            return {self._guard(key): self._guard(inner) for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._guard(inner) for inner in value]
        return value

    def _teach_by_frames(self, text: str, messages: Sequence[Message]) -> str:
        """For a template without {% generation %}: an answer teaches from the end of the prompt to its end marker."""
        spans = _message_spans(text)
        parts: list[str] = []
        done = 0
        for place, (index, first, last) in enumerate(spans):
            if messages[index]["role"] != "assistant":
                continue
            before = spans[place - 1][2] if place else 0
            following = spans[place + 1][1] if place + 1 < len(spans) else len(text)
            found = text.rfind(self._prompt, before, first) if self._prompt else -1
            start = first if found < 0 else found + len(self._prompt)
            end = self._end_of_turn(text, last, following)
            parts += [text[done:start], TEACH, text[start:end], REST]
            done = end
        return "".join(parts) + text[done:]

    def _end_of_turn(self, text: str, start: int, stop: int) -> int:
        ends = {self.turn_end, *self._ends}
        for match in self._scanner.finditer(text, start, stop):
            control = self._controls.get(match[0])
            if control is not None and control.id in ends:
                return match.end()
        return start

    def _cut(self, text: str) -> Iterator[Run]:
        """Marked text -> runs of plain text, each with the control token after it."""
        run, length = Run(), 0
        parts: list[str] = []
        teaching = swallowing = False
        for number, part in enumerate(self._scanner.split(text)):
            if number % 2:
                if control := self._controls.get(part):
                    run.end(parts, control, teaching)
                    yield run
                    run, parts, length, swallowing = Run(), [], 0, control.swallows_right
                    continue
                if part[0] != _ESCAPE:
                    teaching = part == TEACH or (teaching and part != REST)
                    continue
                part = self._alphabet[ord(part[1]) - _NUMBERS]
            if swallowing:
                part = part.lstrip()
            if part:
                if teaching:
                    run.spans.append((length, length + len(part)))
                parts.append(part)
                length += len(part)
                swallowing = False
        if parts:
            run.end(parts, None, False)
            yield run


def _scanner(controls: Iterable[str]) -> re.Pattern[str]:
    """Finds marks and control tokens, the longest first."""
    tokens = "|".join(re.escape(text) for text in sorted(controls, key=len, reverse=True))
    return re.compile(f"([{TEACH}{REST}{_CLOSE}]|[{_ESCAPE}{_OPEN}].|{tokens or '(?!)'})", re.DOTALL)


def _message_spans(text: str) -> list[tuple[int, int, int]]:
    """(message, start of its first frame, end of its last) in the order of the text."""
    spans: list[tuple[int, int, int]] = []
    index = start = 0
    for match in _FRAME.finditer(text):
        if match[1]:
            index, start = ord(match[1]) - _NUMBERS, match.start()
        elif spans and spans[-1][0] == index:
            spans[-1] = (index, spans[-1][1], match.end())
        else:
            spans.append((index, start, match.end()))
    return spans


def calls_of(message: Message) -> Any:
    """The tools that an answer calls."""
    return message.get("tool_calls")


def check(messages: Sequence[Message]) -> None:
    """Raise InputError, naming the message, unless each has a known role and a string as content."""
    if not 0 < len(messages) < 0x10000:
        raise InputError(f"found {len(messages)} messages; wanted at least one and at most 65,535")
    for index, message in enumerate(messages):
        place = f"messages[{index}]"
        if not isinstance(message, Mapping):
            raise InputError(f"{place}: found {type(message).__name__}, wanted an object with role and content")
        if message.get("role") not in ROLES:
            raise unknown(f"role in {place}:", str(message.get("role")), ROLES)
        calls = calls_of(message) or []
        if not isinstance(calls, list) or not all(isinstance(call, Mapping) for call in calls):
            raise InputError(f"the tool_calls of {place}: found {str(calls)[:60]}, wanted a list of objects")
        if not (message.get("content") is None and calls):
            require_text(message.get("content"), f"the content of {place}")
        for key in ("name", "reasoning_content"):
            if message.get(key) is not None:
                require_text(message[key], f"the {key} of {place}")
