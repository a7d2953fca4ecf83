"""The four ways to say what an answer may be, checked, bounded, and turned into grammars of llguidance."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from ..config import InputError
from ..text.vocabulary import library, require_text

KILO = 2**10
MOST_BYTES = {"json_schema": 64 * KILO, "regex": 2 * KILO, "choice": 64 * KILO, "grammar": 64 * KILO}
MOST_REGEX, MOST_CHOICES, DEEPEST = 512, 4096, 32
# nothing that the schema says of its own compiling counts: no blanks between parts, and nothing skipped
STRICT: Any = {
    "whitespace_flexible": False, "whitespace_pattern": None, "lenient": False, "coerce_one_of": False,
    "item_separator": ",", "key_separator": ":",
}  # fmt: skip


def grammar_of(name: str, said: Any) -> str:
    """A constraint as the library writes it; name: the option that says it. Raises InputError for what is malformed or
    too large."""
    from llguidance import LLMatcher

    texts = said if name == "choice" else (said,)
    for text in texts:
        require_text(text, f"sampling.{name}")
    size = sum(len(text.encode()) for text in texts)
    if size > MOST_BYTES[name]:
        raise InputError(f"sampling.{name} has {size:,} bytes, wanted at most {MOST_BYTES[name]:,}; write it smaller")
    if name == "json_schema":
        return _schema(said)
    if name == "choice":
        if len(said) > MOST_CHOICES or "" in said:
            raise InputError(
                f"sampling.choice has {len(said)} texts, wanted at most {MOST_CHOICES}, none of them empty"
            )
        return LLMatcher.grammar_from_regex("|".join(map(_literally, said)))
    if name == "regex":
        if len(said) > MOST_REGEX:
            raise InputError(
                f"sampling.regex has {len(said)} characters, wanted at most {MOST_REGEX}; write it shorter"
            )
        return LLMatcher.grammar_from_regex(said)
    return LLMatcher.grammar_from_lark(said)


def _literally(text: str) -> str:
    """A regular expression that only this text matches."""
    plain = (letter.isascii() and letter.isalnum() for letter in text)
    return "".join(letter if known else f"\\x{{{ord(letter):x}}}" for letter, known in zip(text, plain))


def _schema(text: str) -> str:
    from llguidance import LLMatcher

    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"sampling.json_schema is no JSON: {error}; wanted a schema as an object") from None
    if not isinstance(schema, dict):
        raise InputError(f'sampling.json_schema is {text[:40]}, wanted an object; any object is {{"type":"object"}}')
    depth = nesting(schema)
    if depth > DEEPEST:
        raise InputError(f"sampling.json_schema is nested {depth} deep, wanted at most {DEEPEST}; use $defs and $ref")
    for place in references(schema):
        if not place.startswith("#"):
            raise InputError(
                f"sampling.json_schema refers to {place[:60]!r}; nothing is fetched: put it into $defs and refer to "
                '"#/$defs/..."'
            )
    with library("sampling.json_schema"):
        return LLMatcher.grammar_from_json_schema(text, overrides=STRICT)


def nesting(value: Any) -> int:
    """How deep objects and lists are nested; the parser has ended what is deeper than its own stack."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, (dict, list))]:
        depth += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return depth


def references(schema: Any) -> Iterable[str]:
    """Where a schema refers to, but not what stands in values that it only compares with."""
    if isinstance(schema, list):
        for item in schema:
            yield from references(item)
    elif isinstance(schema, dict):
        for key, value in schema.items():
            if key in ("$ref", "$dynamicRef") and isinstance(value, str):
                yield value
            elif key not in ("const", "enum", "default", "examples"):
                yield from references(value)
