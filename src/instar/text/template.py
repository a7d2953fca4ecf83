"""A sandbox for chat templates: Jinja without files, without attributes that reach Python, with bounded output.

Templates come with models from strangers. This closes the ways out and the cheap ways to fill the memory. It cannot
stop a template that merely computes for long: whoever renders strangers' templates for others does it in a process
with limits of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ..config import InputError

MAX_OUTPUT = 1_000_000
# Noncharacters, which Unicode keeps for use inside a program: around what {% generation %} encloses.
TEACH, REST = "\ufdd0", "\ufdd1"

_MAX_INDENT = 16
_GROWING_METHODS = {"center", "ljust", "rjust", "zfill", "expandtabs", "format", "format_map"}
_GROWING_FILTERS = ("center", "format", "indent", "wordwrap", "pprint", "xmlattr")


class _Generation(Extension):
    """{% generation %} ... {% endgeneration %} encloses what the model itself is to say."""

    tags = frozenset({"generation"})  # type: ignore[assignment]

    def parse(self, parser: Parser) -> list[nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        before, after = (nodes.Output([nodes.TemplateData(mark)], lineno=line) for mark in (TEACH, REST))
        return [before, nodes.Scope(body, lineno=line), after]


class _Sandbox(ImmutableSandboxedEnvironment):
    """Refuses what would make a huge string or number in one step."""

    intercepted_binops = frozenset({"*", "**", "%", "+"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" or (operator == "%" and isinstance(left, (str, bytes))):
            raise SecurityError(f"{operator} is not allowed here")
        sizes = [len(side) if isinstance(side, (str, bytes, list, tuple)) else 0 for side in (left, right)]
        if operator == "+" and sum(sizes) > MAX_OUTPUT:
            raise SecurityError("a sum is too long")
        if operator == "*" and any(sizes) and sum(sizes) * max(_count(left), _count(right)) > MAX_OUTPUT:
            raise SecurityError("a repetition is too long")
        return super().call_binop(context, operator, left, right)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return attr not in _GROWING_METHODS and super().is_safe_attribute(obj, attr, value)


def _count(factor: Any) -> int:
    return int(factor) if isinstance(factor, (int, float)) else 0


def _refuse(message: str) -> str:
    raise TemplateError(message)


def _now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as it is, not as it stands in HTML: a quote stays a quote."""
    if indent is not None and not 0 <= int(indent) <= _MAX_INDENT:
        raise SecurityError(f"indent={indent} is not allowed here; at most {_MAX_INDENT}")
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


@lru_cache(maxsize=32)
def _compile(source: str) -> Template:
    environment = _Sandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"], loader=None
    )
    environment.globals.pop("lipsum")
    environment.globals.update(raise_exception=_refuse, strftime_now=_now)
    for name in _GROWING_FILTERS:
        del environment.filters[name]
    environment.filters["tojson"] = _to_json
    return environment.from_string(source)


def _guarded(work: Callable[[], Any]) -> Any:
    """Whatever goes wrong inside a template is the template's or the messages' fault, and said so."""
    try:
        return work()
    except InputError:
        raise
    except (Exception, RecursionError, MemoryError) as error:
        raise InputError(f"the chat template failed: {str(error) or type(error).__name__}") from None


def render(source: str, variables: Mapping[str, Any]) -> str:
    """Render a template. Raises InputError where it fails, refuses the messages or says more than a million characters.

    What {% generation %} encloses stands between TEACH and REST.
    """
    return str(_guarded(lambda: _collect(_compile(source), variables)))


def _collect(template: Template, variables: Mapping[str, Any]) -> str:
    parts: list[str] = []
    room = MAX_OUTPUT
    for part in template.generate(variables):
        room -= len(part)
        if room < 0:
            raise InputError(f"the chat template says more than {MAX_OUTPUT:,} characters; shorten the conversation")
        parts.append(part)
    return "".join(parts)
