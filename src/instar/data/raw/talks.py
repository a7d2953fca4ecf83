"""Dialogues as texts: who says what, a paragraph a turn. Reads what `data.records` reads, and the dumps of chats.

A model that is to talk later sees in pretraining who says what; `data.dialogues` renders the same records with a
chat template instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...config import InputError
from ..records import ROLES, THREADS, as_messages, is_dialogue, messages_of, told
from .piece import Refused

# keys of a list of turns, beside those of data.records: other corpora, and exports of messengers
LISTS = (*THREADS, "conversation", "dialogue", "dialog", "utterances", "chat_messages", "chat", "log", "content")
SPEAKERS = (
    "role", "from", "speaker", "user_profile", "author", "user", "sender", "username", "name", "nick", "agent", "by",
)  # fmt: skip
WORDS = ("content", "value", "text", "message", "utterance", "body", "msg", "said")
STAMPS = ("ts", "timestamp", "date", "time", "created_at", "speaker", "sender")
NAMES = ("real_name", "display_name", "global_name", "nickname", "name", "username", "role", "id")
LABELS = {
    "en": {"user": "User", "assistant": "Assistant", "system": "System", "tool": "Tool"},
    "zh": {"user": "用户", "assistant": "助手", "system": "系统", "tool": "工具"},
}
COLON = {"en": ": ", "zh": "："}
# Han among the letters above which a talk is Chinese; kana make it Japanese
HAN = 0.3
_HAN, _KANA, _LETTERS = re.compile(r"[㐀-䶿一-鿿]"), re.compile(r"[぀-ヿ]"), re.compile(r"[^\W\d_]")
_LONGEST = 10_000  # turns of one talk of a dump without end
_PART = 200  # characters of each turn that tell the language
_NAME = 60  # characters of a name

_DAY = r"\d{1,4}[./年-]\d{1,2}[./月-]\d{1,4}日?"
_TIME = r"\d{1,2}[:.]\d{2}(?:[:.]\d{2})?(?:[ \u202f]?[AaPp]\.?[ ]?[Mm]\.?)?"
_WHO = r"([^\s:：<>\[\]](?:[^:：<>\[\]\n]{0,58}[^\s:：<>\[\]])?)"
# 12/31/20, 10:15 - Ann: hi / [31.12.20, 10:15:02] Ann: hi / 2020-01-01 10:15 张三: 你好 / [10:15] ann: hi
_DATED = re.compile(
    rf"[\u200e\u200f]*\[?(?:{_DAY},?[ T]+)?{_TIME}\]?[ \u202f]*(?:[-–][ \u202f]+)?{_WHO}[ ]?[:：][ ]?(.*)$"
)
# 2020-01-01 10:15:20 张三(12345), and what was said on the lines below
_HEADED = re.compile(rf"(?:{_DAY}[ ]+{_TIME})[ ]+([^\n:：]{{1,40}}?)(?:[(<][\w@.-]{{3,40}}[)>])?$")
# <ann> hi / [10:15] <@ann> hi / 10:15 <ann> hi
_IRC = re.compile(rf"(?:\[?(?:{_DAY}[ T])?{_TIME}\]?[ ]*)?<[ @+%&~]?([^<>\s]{{1,40}})>[ ]?(.*)$")
_STAMPED = re.compile(rf"[\u200e\u200f]*\[?(?:{_DAY},?[ T]+{_TIME}|{_TIME})\]?(?:[ ]|$)")
_NOTICE = re.compile(r"(?:\[?\d{1,2}:\d{2}(?::\d{2})?\]?[ ]*)?(?:\*{1,3}|-!-|-->|<--|--|→|←)[ ]")
_MEDIA = re.compile(r"[\u200e<(\[]*(?:(?:media|image|video|audio|sticker|GIF) omitted|图片|表情)[>)\]]*$", re.I)
# share of the lines that begin a turn, at least; the others go on with one
_SURE = 0.5


@dataclass(frozen=True)
class Turn:
    """who: a role of chat templates, a speaker's own name, or nobody known."""

    who: str
    text: str


def text_of_talk(record: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """A dialogue as text, "User: ..." and "Assistant: ..." (用户： and 助手： where it is Chinese) or the speakers' own
    names, an empty line between turns; and the numbers of its turns, speakers and empty turns, and its title.

    None for a record that is no dialogue. Raises Refused: "shape" for one whose turns cannot be read, "empty".

    Example: {"turns": ["Hi", "Hello!"]} -> "User: Hi\\n\\nAssistant: Hello!".
    """
    try:
        turns = _turns(record)
    except InputError as error:
        raise Refused("shape", str(error)[:300]) from None
    if turns is None:
        return None
    said = [turn for turn in turns if turn.text]
    if not said:
        raise Refused("empty", f"a dialogue of {len(turns)} turns without words")
    language = language_of("".join(turn.text[:_PART] for turn in said))
    labels = LABELS[language]
    lines = [f"{labels.get(turn.who, turn.who)}{COLON[language]}{turn.text}" for turn in said]
    meta: dict[str, Any] = {"turns": len(said), "speakers": len({turn.who for turn in said})}
    if len(said) < len(turns):
        meta["empty_turns"] = len(turns) - len(said)
    if isinstance(record.get("title"), str) and record["title"].strip():
        meta["title"] = record["title"].strip()[:300]
    return "\n\n".join(lines), meta


def is_turn(record: Any) -> bool:
    """Whether it is one message of a dump, {"user", "text", "ts"} or {"author": {"name"}, "content"}: rows of a file
    that are all of this kind are one talk, `text_of_talk({"messages": rows})`."""
    return (
        isinstance(record, Mapping)
        and not any(isinstance(record.get(key), list) for key in THREADS)
        and any(key in record for key in SPEAKERS)
        and any(isinstance(record.get(key), (str, list)) for key in WORDS)
        and any(key in record for key in STAMPS)
    )


def gathered(rows: Iterable[Any]) -> Iterator[Any]:
    """The rows of a list, of which neighbours that are messages of a dump (`is_turn`) are one talk, or several where
    they are very many."""
    turns: list[Any] = []
    for row in rows:
        if is_turn(row):
            turns.append(row)
        if turns and (len(turns) >= _LONGEST or not is_turn(row)):
            yield {"messages": turns}
            turns = []
        if not is_turn(row):
            yield row
    if turns:
        yield {"messages": turns}


def text_of_log(text: str) -> tuple[str, dict[str, Any]]:
    """A text file of the kind dialogues: the talk that it logs, or the text as it is, where it is no log."""
    turns = talk_of_log(text)
    talk = text_of_talk({"turns": turns}) if turns and any(turn["text"] for turn in turns) else None
    return talk or (text, {})


def talk_of_log(text: str) -> list[dict[str, str]] | None:
    """The turns of a plain log, {"speaker", "text"} each, for `text_of_talk({"turns": ...})`; None where most lines are
    of no form that is known: WhatsApp's, IRC's, [10:15] ann: hi, with Chinese colons, with names on lines of their own.

    Lines that follow belong to the turn before; notices (joined, left, encrypted) have no speaker and no text.
    """
    turns: list[tuple[str, list[str]]] = []
    begun = below = lines = 0
    irc = False
    for line in filter(None, (line.strip("\ufeff \t") for line in text.splitlines())):
        lines += 1
        named = _IRC.match(line)
        irc = irc or named is not None
        if found := named or _DATED.match(line) or _HEADED.match(line):
            said = next((part for part in found.groups()[1:] if part), "").strip()
            turns.append((found[1].strip(), [said] if said and not _MEDIA.match(said) else []))
            begun += 1
        elif _NOTICE.match(line) or _STAMPED.match(line):
            turns.append(("", []))
            begun += 1
        elif turns and turns[-1][0] and not irc:
            below += not turns[-1][1]  # a head without words of its own has its first below
            turns[-1][1].append(line)
    if sum(1 for speaker, _ in turns if speaker) < 2 or begun + below < _SURE * lines:
        return None
    return [{"speaker": speaker, "text": "\n".join(said)} for speaker, said in turns]


def language_of(text: str) -> str:
    """Which labels suit: zh, or en for every other language."""
    letters = len(_LETTERS.findall(text))
    han = len(_HAN.findall(text))
    return "zh" if letters and han > HAN * letters and not _KANA.search(text) else "en"


def _turns(record: Mapping[str, Any]) -> list[Turn] | None:
    if isinstance(record.get("mapping"), Mapping):
        return _spoken(_branch(record))
    thread = next((record[key] for key in LISTS if isinstance(record.get(key), list)), None)
    if thread is None:
        # a pair of question and answer, or a list that is written as something else: data.records says what is wrong
        if "text" in record or not is_dialogue(record):
            return None
        return _rendered(as_messages(record))
    if not thread or not all(isinstance(turn, (str, Mapping)) for turn in thread):
        return None if not any(key in record for key in THREADS) else _refuse(thread)
    try:
        return _rendered(messages_of(thread, "turns"))
    except InputError:
        return _spoken(thread)


def _refuse(thread: Sequence[Any]) -> list[Turn]:
    if not thread:
        return []
    wrong = next(turn for turn in thread if not isinstance(turn, (str, Mapping)))
    raise Refused("shape", f"a turn is {type(wrong).__name__}, wanted a string or an object")


def _rendered(messages: Iterable[Mapping[str, Any]]) -> list[Turn]:
    """Messages of data.records: calls of tools are their JSON, a name is said instead of the role of user."""
    turns = []
    for message in messages:
        name = message.get("name")
        known = isinstance(name, str) and 0 < len(name) <= _NAME and message["role"] in ("user", "assistant")
        turns.append(Turn(str(name) if known else message["role"], told([dict(message)]).strip()))
    return turns


def _spoken(thread: Iterable[Any]) -> list[Turn]:
    """Turns of a dump, each with a speaker under one of many names, or none, where two take turns."""
    found = [(_speaker(turn), _words(turn)) for turn in thread]
    roles = {ROLES.get(who.lower()) for who, _ in found}
    # Task dialogues call the one who answers "system".
    begins = ROLES.get(found[0][0].lower()) if found else None
    answers = "system" in roles and "assistant" not in roles and begins != "system"
    turns = []
    for number, (who, words) in enumerate(found):
        role = ROLES.get(who.lower()) if who else ("user", "assistant")[number % 2]
        role = "assistant" if role == "system" and answers else role
        turns.append(Turn(role or who, words))
    return turns


def _speaker(turn: Any) -> str:
    if not isinstance(turn, Mapping):
        return ""
    for key in SPEAKERS:
        value = turn.get(key)
        if isinstance(value, Mapping):
            value = next((value[name] for name in NAMES if isinstance(value.get(name), str) and value[name]), None)
        if isinstance(value, bool) or value is None:
            continue
        if isinstance(value, int):
            return f"Speaker {value}"
        if isinstance(value, str) and value.strip():
            return " ".join(value.split())[:_NAME]
    return ""


def _words(turn: Any) -> str:
    """What is said: a string, or a list of strings and of parts that have a text; other parts are no words."""
    value = turn if isinstance(turn, str) else next((turn[key] for key in WORDS if turn.get(key) is not None), "")
    if isinstance(value, Mapping):
        value = value.get("parts", value.get("text", ""))
    if isinstance(value, list):
        parts = (part.get("text") if isinstance(part, Mapping) else part for part in value)
        value = "".join(part for part in parts if isinstance(part, str))
    return value.strip() if isinstance(value, str) else ""


def _branch(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """OpenAI's export is a tree of all answers that were asked for; the talk is the way to its current node, or to the
    last that is written where none is named. A way that goes in circles ends where it meets itself."""
    nodes = record["mapping"]
    name = record.get("current_node")
    if not isinstance(name, str) or name not in nodes:
        parents = {str(node.get("parent")) for node in nodes.values() if isinstance(node, Mapping)}
        name = next((key for key in reversed(list(nodes)) if key not in parents), None)
    way: list[Mapping[str, Any]] = []
    seen: set[str] = set()
    while isinstance(name, str) and name in nodes and name not in seen:
        seen.add(name)
        node = nodes[name]
        if not isinstance(node, Mapping):
            break
        message = node.get("message")
        if isinstance(message, Mapping) and _speaker(message):
            way.append(message)
        name = node.get("parent")
    return way[::-1]
