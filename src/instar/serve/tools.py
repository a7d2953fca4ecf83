"""Calls of tools as chat templates teach models to write them: read while they are said, and as grammars of llguidance.

Three ways of writing cover most open models: Hermes, Qwen and our own put each call between tags, Llama 3 answers with
a bare JSON object, Mistral with a list of them behind a mark. This module knows neither HTTP nor tokens.
"""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .calls import Arguments, Called, Piece, Said, ToolParser

__all__ = ["Arguments", "Called", "Piece", "Said", "ToolFormat", "ToolParser", "bare", "tool_format"]

MOST_CALLS = 32  # in one answer, where a grammar counts them
# what a schema tells people, and what an answer does not depend on
_NOTES = {"title", "description", "examples", "default", "deprecated", "readOnly", "writeOnly", "$comment", "$schema",
          "$id", "x-guidance"}  # fmt: skip
# under these stand names that somebody chose, and not keywords
_NAMED = {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
_VALUES = {"enum", "const"}
_ALNUM = string.ascii_letters + string.digits


@dataclass(frozen=True)
class ToolFormat:
    """How a model writes that it calls tools.

    opener: what begins a call, or, where calls may also be bare, what the model may say before them; closer: what ends
    a call;
    separator: what stands between bare ones; key: under which the arguments stand; gap: what stands between a tag and
    the object; listed: calls are items of a list; bare: they may begin an answer without the opener; several: there may
    be more than one.
    """

    name: str
    opener: str
    closer: str = ""
    separator: str = ""
    key: str = "arguments"
    gap: str = ""
    listed: bool = False
    bare: bool = False
    several: bool = True

    def parser(self, names: Collection[str] = (), *, one: bool = False) -> ToolParser:
        """Reads one answer. names: of those that may be called, where they are known; an object that names none of
        them is text and no call; one: nothing counts that is said behind the first call."""
        short = self.name == "mistral"
        return ToolParser(
            self.opener, self.closer, self.separator, listed=self.listed, bare=self.bare, names=names,
            new_id=_short_id if short else _long_id, one=one,
        )  # fmt: skip

    def grammar(
        self,
        tools: Sequence[Mapping[str, Any]],
        names: Collection[str],
        *,
        many: bool,
        required: bool = True,
        answer: Mapping[str, Any] | None = None,
    ) -> str:
        """What an answer may be, in Lark's notation as llguidance reads it.

        tools: as OpenAI writes them; names: those that may be called; many: more than once. Unless calls are required,
        the answer may instead be what the schema `answer` allows, or without it any text, with calls or none. The
        arguments of a tool that is `strict` keep to all of its schema, those of others to what llguidance knows of it.
        """
        functions = [tool["function"] for tool in tools if tool["function"]["name"] in names]
        call, rules = self._call, []
        most = MOST_CALLS if many and self.several else 1
        more = f"({_text(', ' if self.listed else chr(10))} call){{0,{most - 1}}}" if most > 1 else ""
        calls = f'"[" call {more} "]"' if self.listed else f"call {more}"
        if required:
            rules.append(f"start: {calls}")
        elif answer is not None:
            rules += [f"start: {calls} | answer", f"answer: {_json(answer, strict=True)}"]
        elif self.bare:
            first = r"\[\s*\{" if self.listed else r"\{"
            rules += [f"start: {calls} | TEXT", rf"TEXT: /(?s:.*)/ & ~/\s*{first}(?s:.*)/"]
        else:
            # the text before a tag ends as soon as the tag has been said, and what follows it is a call
            tail = call.removeprefix(_text(self.opener)).strip()
            rules += [
                f"start: (head {tail}){{0,{most}}} TEXT",
                f"head[lazy]: /(?s:.*){_regex(self.opener)}/",
                f"TEXT: /(?s:.*)/ & ~/(?s:.*{_regex(self.opener)}.*)/",
            ]
        rules += [f"call: {call}", "body: " + " | ".join(f"f{n}" for n in range(len(functions)))]
        for n, function in enumerate(functions):
            strict = function.get("strict") is True
            # in the pieces of which JSON is made, or an answer that is JSON too could not go another way
            pieces = ("{", '"name"', ": ", json.dumps(function["name"]), ", ", f'"{self.key}"', ": ")
            rules.append(f'f{n}: {" ".join(map(_text, pieces))} a{n} "}}"')
            rules.append(f"a{n}: {_json(_object(function.get('parameters')), strict=strict)}")
        return "\n".join(rules)

    @property
    def _call(self) -> str:
        if self.bare:
            return "body"
        before = [_text(tag) for tag in (self.opener, self.gap) if tag]
        return f"{' '.join(before)} body {_text(self.gap + self.closer)}"


LLAMA = ToolFormat("llama", "<|python_tag|>", separator=";", key="parameters", bare=True, several=False)
MISTRAL = ToolFormat("mistral", "[TOOL_CALLS]", separator=",", listed=True, bare=True)


def tool_format(template: str | None) -> ToolFormat | None:
    """How the models of a chat template call tools; None where it has no place for tools, or a way of writing calls
    that is not known here."""
    if template is None or "tools" not in template:
        return None
    # Qwen3-Coder and others write arguments as tags, one by one
    if "<function=" in template or "<arg_key>" in template:
        return None
    if "<tool_call>" in template:
        return ToolFormat("hermes", "<tool_call>", "</tool_call>", gap="\n" if "<tool_call>\\n" in template else "")
    if "[TOOL_CALLS]" in template:
        return MISTRAL if "[ARGS]" not in template else None
    if "<|python_tag|>" in template or ('"parameters"' in template and "<|eot_id|>" in template):
        return LLAMA
    return None


def bare(schema: Any) -> Any:
    """A schema without what it only tells people."""
    if isinstance(schema, list):
        return [bare(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {key: _inner(key, value) for key, value in schema.items() if key not in _NOTES}


def _inner(key: str, value: Any) -> Any:
    if key in _VALUES:
        return value
    if key in _NAMED and isinstance(value, Mapping):
        return {name: bare(inner) for name, inner in value.items()}
    return bare(value)


def _object(schema: Any) -> dict[str, Any]:
    """Arguments are an object, also where a tool does not say what is in it."""
    schema = bare(schema) if schema else {}
    return schema if {"type", "$ref", "anyOf", "allOf", "oneOf"} & schema.keys() else {"type": "object", **schema}


def _json(schema: Mapping[str, Any], *, strict: bool) -> str:
    """A part of a grammar: JSON with blanks where templates write them, which is how models have read it."""
    how = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False, "lenient": not strict}
    return "%json " + json.dumps({**bare(schema), "x-guidance": how}, ensure_ascii=False)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _regex(text: str) -> str:
    """The text as a part of a regular expression between slashes."""
    return "".join(letter if letter.isalnum() or letter in "<>_" else f"\\x{{{ord(letter):x}}}" for letter in text)


def _long_id() -> str:
    return f"call_{secrets.token_hex(12)}"


def _short_id() -> str:
    """Mistral's templates refuse any other length."""
    return "".join(secrets.choice(_ALNUM) for _ in range(9))
