"""The shapes a record may have, and the two ways to read one: as plain text, and as messages.

Pretraining sees `text_of(record)`, fine-tuning `as_messages(record)`. Nothing here knows of files or tokens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..config import InputError, unknown

Record = Mapping[str, Any]
Message = dict[str, Any]

# How data sets call those who speak -> how chat templates call them.
ROLES = {
    "user": "user", "human": "user", "usr": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "model": "assistant", "chatgpt": "assistant",
    "function_call": "assistant",
    "system": "system", "sys": "system", "developer": "system",
    "tool": "tool", "function": "tool", "observation": "tool",
}  # fmt: skip
# The lists of turns: ours and OpenAI's, ShareGPT's, and task dialogues'.
THREADS = ("messages", "conversations", "turns")
# What tells of a reply whether it is learnt, as OpenAI and others have it.
MARKS = ("train", "weight")
# One question and one answer.
PAIRS = (
    ("prompt", "completion"), ("prompt", "response"), ("instruction", "output"), ("instruction", "response"),
    ("question", "answer"), ("question", "std_answer"),
)  # fmt: skip
# A text and questions about it, each of which stands by itself, as SQuAD has them.
READING = ("context", "qas")
WANTED = '{"text"}, {"messages"}, {"turns"}, {"conversations"}, {"context", "qas"}, ' + ", ".join(
    f'{{"{a}", "{b}"}}' for a, b in PAIRS
)


def is_dialogue(record: Record) -> bool:
    """Whether `as_messages` can read it; a record with a text of its own is a document."""
    return "text" not in record and (
        any(key in record for key in THREADS) or is_reading(record) or _pair(record) is not None
    )


def is_reading(record: Record) -> bool:
    """Whether it is a text with questions about it."""
    return all(key in record for key in READING) and not any(key in record for key in THREADS)


def text_of(record: Record) -> str:
    """What pretraining reads: the text, or what was said in a dialogue, one line after the other without names.

    Raises InputError for a record of another shape.
    """
    if "text" not in record:
        return told(as_messages(record))
    if not isinstance(record["text"], str):
        raise InputError(f'"text" is {_kind(record["text"])}, wanted a string')
    return _whole(record["text"])


def texts_of(record: Record, fields: Sequence[str] = ()) -> list[str]:
    """What a tokenizer learns from: the text, source and target of a pair, or each message of a dialogue by itself,
    since a template sets a mark of its own between them and never a line's end.

    fields: the keys that hold the texts, where they are others. Raises InputError for a record of another shape.
    """
    if not fields and "source" in record and "target" in record:
        fields = ("source", "target")
    for key in fields:
        if not isinstance(record.get(key), str):
            found = _kind(record[key]) if key in record else f"the keys {', '.join(map(str, record))}"
            raise InputError(f'found {found}, wanted a string under "{key}"')
    if fields:
        return [_whole(record[key]) for key in fields]
    if "text" in record:
        return [text_of(record)]
    return [_whole(said) for said in map(_said, as_messages(record)) if said]


def told(messages: Sequence[Message]) -> str:
    """What was said, one line after the other without names; a tool call is its JSON."""
    return _whole("\n".join(filter(None, map(_said, messages))))


def _whole(text: str) -> str:
    """The same text, if it is one. Raises InputError for half a character, which JSON can smuggle in."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"U+{ord(text[error.start]):04X}"
        raise InputError(f"character {error.start + 1} is {half}, half of a surrogate pair; remove it") from None
    return text


def as_messages(record: Record) -> list[Message]:
    """What fine-tuning reads: [{"role", "content"}, ...] with roles system, user, assistant and tool.

    Reads messages, turns, ShareGPT conversations, prompt and completion, Alpaca's instruction, input and output,
    self-instruct's instances. Raises InputError naming the keys found and wanted.
    """
    for key in THREADS:
        if key in record:
            return messages_of(record[key], key)
    if is_reading(record):
        return [
            message
            for number, (question, answer) in enumerate(_questions(record))
            for message in _asked(question if number else f"{record['context']}\n{question}", answer, {})
        ]
    pair = _pair(record)
    if pair is None:
        raise InputError(f"a record with the keys {', '.join(map(str, record)) or '(none)'}; wanted one of {WANTED}")
    asked, answered = pair
    return [*_half(asked, "user"), *_half(answered, "assistant")]


def apart(record: Record) -> list[Record]:
    """The dialogues of a record: of a text with questions one for each, which begins with the text; of another shape
    itself. Raises InputError for a question without an answer."""
    if not is_reading(record):
        return [record]
    tools = {"tools": record["tools"]} if "tools" in record else {}
    return [
        {"messages": _asked(f"{record['context']}\n{said}", reply, one)} | tools
        for one, (said, reply) in zip(record["qas"], _questions(record))
    ]


def _asked(question: str, answer: str, about: Mapping[str, Any]) -> list[Message]:
    """about: what else is said of the answer."""
    extra = {key: about[key] for key in ("evidence", *MARKS) if key in about}
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer} | extra]


def _turns(record: Record) -> tuple[list[Any], int]:
    """What a record says of each of its messages (`as_messages`), as it stands there; and how many of them are no
    completion."""
    if is_reading(record):
        asked = zip(record["qas"], _questions(record))
        return [turn for one, (said, reply) in asked for turn in _asked(said, reply, one)], 0
    threads = [record[key] for key in THREADS if key in record][:1] or list(_pair(record) or ())
    halves = [[half] if isinstance(half, str) else half for half in threads]
    turns = [turn for half in halves for turn in half]
    if turns and isinstance(turns[-1], str) and not any(key in record for key in THREADS) and "evidence" in record:
        turns[-1] = {"evidence": record["evidence"]}
    return turns, sum(map(len, halves[:-1]))


def evidence_of(record: Record) -> list[str]:
    """The words that each of its messages (`as_messages`) names as what it rests on, "" where it names none.

    Raises InputError for what is no string, and for evidence of what is no reply.
    """
    found = []
    for number, (turn, message) in enumerate(zip(_turns(record)[0], as_messages(record))):
        words = turn.get("evidence") if isinstance(turn, Mapping) else None
        if not isinstance(words, str | None):
            raise InputError(f'"evidence" of message {number} is {_kind(words)}, wanted the words of the text')
        if words and message["role"] != "assistant":
            raise InputError(f'"evidence" of message {number}, which {message["role"]} says; only replies have any')
        found.append(words or "")
    return found


def _questions(record: Record) -> list[tuple[str, str]]:
    """Each question of a reading with its answer, or the first of its answers."""
    qas, found = record["qas"], []
    if not isinstance(record["context"], str) or not isinstance(qas, list) or not qas:
        raise InputError(
            f'"context" is {_kind(record["context"])} and "qas" {_kind(qas)}; wanted a string and a list of '
            '{"question", "answer"}'
        )
    for number, one in enumerate(qas):
        where = f'"qas"[{number}]'
        if not isinstance(one, Mapping):
            raise InputError(f'{where} is {_kind(one)}, wanted {{"question", "answer"}}')
        answer = _first(one, ("answer", "answers"), where)
        while isinstance(answer, (list, Mapping)) and answer:  # the first of several, each with its place
            answer = answer[0] if isinstance(answer, list) else _first(answer, ("text",), f"{where}, its answer,")
        question = _first(one, ("question",), where)
        if not isinstance(question, str) or not isinstance(answer, str):
            raise InputError(f"{where} asks {_kind(question)} and answers {_kind(answer)}, wanted two strings")
        found.append((question, answer))
    return found


def taught_of(record: Record) -> list[bool]:
    """Which of its messages (`as_messages`) may teach: replies, unless marked with "train": false or "weight": 0; of a
    prompt and its completion those of the completion, and of the prompt what is marked with the opposite.

    Raises InputError for other marks, and for one that asks of somebody else's message to teach.
    """
    turns, asked = _turns(record)
    pairs = enumerate(zip(turns, as_messages(record)))
    return [_may_teach(turn, message, number, number >= asked) for number, (turn, message) in pairs]


def _may_teach(turn: Any, message: Message, number: int, unmarked: bool) -> bool:
    marks = [(key, turn[key]) for key in MARKS if isinstance(turn, Mapping) and turn.get(key) is not None]
    for key, mark in marks:
        if mark not in (0, 1) or isinstance(mark, str):
            raise InputError(f'"{key}" of message {number} is {_kind(mark)}, wanted true or false, 1 or 0')
        if mark and message["role"] != "assistant":
            raise InputError(
                f'"{key}": {json.dumps(mark)} marks message {number}, which {message["role"]} says; only replies '
                "teach, unless teach=all; remove it"
            )
    return message["role"] == "assistant" and (all(mark for _, mark in marks) if marks else unmarked)


def tools_of(record: Record) -> list[Any] | None:
    """The tools a dialogue may call, given as a list or as its JSON. Raises InputError for anything else."""
    tools = record.get("tools")
    if isinstance(tools, str):
        try:
            tools = json.loads(tools) if tools.strip() else None
        except (ValueError, RecursionError) as error:
            raise InputError(f'"tools" is not JSON: {error}') from None
    if tools is not None and not isinstance(tools, list):
        raise InputError(f'"tools" is {_kind(tools)}, wanted a list')
    return tools or None


def _pair(record: Record) -> tuple[Any, Any] | None:
    """The question and the answer of a record that has one of each."""
    if isinstance(record.get("instances"), list) and record["instances"]:  # self-instruct: the first example
        first = record["instances"][0]
        record = {"instruction": record.get("instruction")} | (dict(first) if isinstance(first, Mapping) else {})
    for question, answer in PAIRS:
        if question in record and answer in record:
            return _with_input(record[question], record.get("input")), record[answer]
    return None


def _with_input(question: Any, given: Any) -> Any:
    """Alpaca keeps what a task is about apart from the task."""
    return f"{question}\n\n{given}" if isinstance(given, str) and given.strip() else question


def _half(value: Any, role: str) -> list[Message]:
    """One side of a pair: a string is said by `role`, a list of messages speaks for itself."""
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    return messages_of(value, "prompt" if role == "user" else "completion")


def messages_of(turns: Any, key: str) -> list[Message]:
    """A list of turns as messages. key: where it stood, for errors. Raises InputError naming it."""
    if isinstance(turns, str) or not isinstance(turns, Sequence):
        raise InputError(f'"{key}" is {_kind(turns)}, wanted a list of messages')
    messages = [_message(turn, number, key) for number, turn in enumerate(turns)]
    roles = {message["role"] for message in messages}
    # Task dialogues call the one who answers "system".
    if key == "turns" and "assistant" not in roles and messages and messages[0]["role"] != "system":
        return [{**m, "role": "assistant"} if m["role"] == "system" else m for m in messages]
    return messages


def _message(turn: Any, number: int, key: str) -> Message:
    """One turn, written as a string, {"role", "content"}, {"from", "value"} or {"role", "text"}."""
    if isinstance(turn, str):
        return {"role": ("user", "assistant")[number % 2], "content": turn}
    if not isinstance(turn, Mapping):
        raise InputError(f'"{key}"[{number}] is {_kind(turn)}, wanted {{"role", "content"}}')
    said_by = _first(turn, ("role", "from"), f'"{key}"[{number}]')
    role = ROLES.get(said_by.lower()) if isinstance(said_by, str) else None
    if role is None:
        raise unknown(f'role in "{key}"[{number}]:', said_by if isinstance(said_by, str) else _kind(said_by), ROLES)
    content = _first(turn, ("content", "value", "text"), f'"{key}"[{number}]')
    if said_by == "function_call":
        return {"role": role, "content": "", "tool_calls": _calls(content)}
    extra = {name: turn[name] for name in ("tool_calls", "name", "tool_call_id") if turn.get(name)}
    calls = extra.get("tool_calls", [])
    if not isinstance(calls, list) or not all(isinstance(call, Mapping) for call in calls):
        raise InputError(f'"{key}"[{number}] has tool_calls of {_kind(calls)}, wanted a list of objects')
    return {"role": role, "content": _content(content, f'"{key}"[{number}]')} | extra


def _first(turn: Mapping[str, Any], names: tuple[str, ...], where: str) -> Any:
    for name in names:
        if name in turn:
            return turn[name]
    raise InputError(f"{where} has the keys {', '.join(map(str, turn))}; wanted {' or '.join(names)}")


def _content(content: Any, where: str) -> str:
    """A string; OpenAI's list of text parts; None beside a tool call."""
    if isinstance(content, list) and all(isinstance(p, Mapping) and isinstance(p.get("text"), str) for p in content):
        return "".join(part["text"] for part in content)
    if content is not None and not isinstance(content, str):
        raise InputError(f"{where} says {_kind(content)}, wanted a string")
    return content or ""


def _calls(content: Any) -> list[dict[str, Any]]:
    """ShareGPT's function_call, a JSON object or a list of them, in the shape chat templates know."""
    try:
        calls = json.loads(content)
    except (TypeError, ValueError, RecursionError):
        raise InputError(f"a function_call is not JSON: {_kind(content)}") from None
    return [{"type": "function", "function": call} for call in (calls if isinstance(calls, list) else [calls])]


def _said(message: Message) -> str:
    calls = message.get("tool_calls")
    if not calls:
        return message["content"]
    try:
        spelt = [json.dumps(call.get("function", call), ensure_ascii=False) for call in calls]
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"a tool call cannot be written as JSON: {error}") from None
    return "\n".join(filter(None, [message["content"], *spelt]))


def _kind(value: Any) -> str:
    if isinstance(value, (Mapping, list)):  # YAML can make one that is short to write and endless to spell out
        return f"{type(value).__name__} of {len(value)}"
    return "null" if value is None else f"{type(value).__name__} ({str(value)[:40]!r})"
