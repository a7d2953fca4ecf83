"""The shapes a preference record may have -> one prompt and the two answers to it, as messages.

{"prompt", "chosen", "rejected"}, each a string or a list of messages; chosen and rejected may be whole conversations
that begin alike, also in the spelling of hh-rlhf, "\\n\\nHuman: ...\\n\\nAssistant: ...", and a prompt may stand under
the keys of other data sets ("conversations", "instruction", "question"). "margin" is a number, "tools" a list.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from .faults import Fault
from .records import THREADS, Message, Record, as_messages, messages_of, told, tools_of

WANTED = 'wanted {"prompt", "chosen", "rejected"}, or "chosen" and "rejected" as conversations that begin alike'
_SPOKEN = re.compile(r"\n\n(Human|Assistant): ?")
_ROLES = {"Human": "user", "Assistant": "assistant"}


@dataclass(frozen=True)
class Comparison:
    """prompt: messages of which the last is no answer; chosen, rejected: the two answers to it, of which the first was
    preferred, by at least `margin` in rewards where that is known; tools: those that an answer may call."""

    prompt: list[Message]
    chosen: Message
    rejected: Message
    tools: list[Any] | None = None
    margin: float = 0.0

    @property
    def text(self) -> str:
        """What was said before the answers, which tells prompts apart."""
        return told(self.prompt)

    def shortened(self) -> Iterator[Comparison]:
        """The same without its first turn, without its first two, and so on down to the last one. A turn is what a user
        says with all that follows; what a system says first stays."""
        roles = [message["role"] for message in self.prompt]
        kept = len(list(takewhile(lambda role: role == "system", roles)))
        turns = [place for place, role in enumerate(roles) if role == "user"]
        for start in turns:
            if start > kept:
                yield replace(self, prompt=[*self.prompt[:kept], *self.prompt[start:]])


def is_comparison(record: Record) -> bool:
    """Whether `comparison_of` would read it."""
    return "chosen" in record and "rejected" in record


def comparison_of(record: Record) -> Comparison:
    """What is compared. Raises Fault, saying which, for a record of another shape (malformed), two answers that are one
    (identical) and an answer without a word (empty)."""
    if not is_comparison(record):
        raise Fault("malformed", f"the keys are {', '.join(map(str, record)) or '(none)'}; {WANTED}")
    asked = _asked(record)
    chosen, rejected = (_thread(record[side], side, "assistant") for side in ("chosen", "rejected"))
    if asked is None:
        asked = [a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected))]
        if len(asked) == min(len(chosen), len(rejected)) and len(chosen) == len(rejected):
            asked = asked[:-1]  # one and the same conversation: its last message is the answer
        if not asked:
            raise Fault("malformed", f"no prompt: chosen and rejected do not begin alike; {WANTED}")
    answers = [_answer(said, asked, side) for said, side in ((chosen, "chosen"), (rejected, "rejected"))]
    if not asked or asked[-1]["role"] == "assistant":
        raise Fault("malformed", "the prompt ends with an answer; wanted a question last")
    if answers[0] == answers[1]:
        raise Fault("identical", "chosen and rejected are the same answer")
    return Comparison(asked, answers[0], answers[1], tools_of(record), _margin(record))


def _asked(record: Record) -> list[Message] | None:
    """The prompt, under whichever key; None where there is none."""
    for key in ("prompt", *THREADS):
        if key in record:
            return _thread(record[key], key, "user")
    for key in ("instruction", "question"):
        if key in record:
            return as_messages({key: record[key], "input": record.get("input"), "output": "", "answer": ""})[:-1]
    return None


def _thread(said: Any, key: str, role: str) -> list[Message]:
    """Messages: a list of them, one alone, or a string, said by `role` unless it tells itself who speaks."""
    if isinstance(said, Mapping):
        said = [said]
    if not isinstance(said, str):
        messages = messages_of(said, key)
        if not messages:
            raise Fault("malformed" if key in ("prompt", *THREADS) else "empty", f'"{key}" has no message')
        return messages
    if not _SPOKEN.match(said):
        return [{"role": role, "content": said}]
    parts = _SPOKEN.split(said)[1:]
    messages = [{"role": _ROLES[who], "content": what} for who, what in zip(parts[::2], parts[1::2])]
    if key == "prompt" and messages[-1] == {"role": "assistant", "content": ""}:
        messages.pop()  # "Assistant:" only says whose turn it is
    return messages


def _answer(said: Sequence[Message], asked: Sequence[Message], side: str) -> Message:
    """The one message that follows the prompt, which may be told once more before it."""
    after = said[len(asked) :] if len(said) > len(asked) and list(said[: len(asked)]) == list(asked) else said
    if len(after) != 1 or after[0]["role"] != "assistant":
        roles = ", ".join(message["role"] for message in after) or "nothing"
        raise Fault("malformed", f'after the prompt "{side}" holds {roles}; wanted one answer')
    if not after[0]["content"].strip() and not after[0].get("tool_calls"):
        raise Fault("empty", f'the answer "{side}" is empty')
    return after[0]


def _margin(record: Record) -> float:
    margin = record.get("margin")
    if margin is None:
        return 0.0
    if isinstance(margin, bool) or not isinstance(margin, (int, float)) or not 0 <= margin < math.inf:
        raise Fault("malformed", f"the margin is {margin!r}, wanted a number from 0 on")
    return float(margin)
