"""A sandbox for chat templates: Jinja without files, without attributes that reach Python, with bounded output.

Templates come with models from strangers. This closes the ways out, and counts rounds, calls and characters, so that a
template can neither fill the memory nor go on for ever by any way that we know. Python has no hard limit inside one
process: whoever renders strangers' templates for others does it in a process with limits of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateError, nodes, pass_eval_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.filters import do_join, do_replace
from jinja2.nodes import EvalContext
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ..config import InputError
from .meter import (
    MAX_OUTPUT,
    charge,
    check_join,
    check_replace,
    count_rounds,
    metered,
    metered_filter,
    spend,
    weigh,
    written,
)

MAX_SOURCE = 200_000  # characters of a template
# Noncharacters, which Unicode keeps for use inside a program: around what {% generation %} encloses.
TEACH, REST = "\ufdd0", "\ufdd1"

_MAX_INDENT = 16
_MAX_BITS = 4096
_GROWING_METHODS = {"center", "ljust", "rjust", "zfill", "expandtabs", "format", "format_map", "translate"}
# the last two search by regular expressions
_GROWING_FILTERS = ("center", "format", "indent", "wordwrap", "pprint", "xmlattr", "urlize", "striptags")


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
        if operator == "*" and not any(sizes) and _bits(left) + _bits(right) > _MAX_BITS:
            raise SecurityError("a number is too long")
        spend(sum(sizes) * max(1, _count(left), _count(right)) if operator == "*" else sum(sizes))
        return super().call_binop(context, operator, left, right)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return attr not in _GROWING_METHODS and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Any:
        """Jinja asks here before is_safe_attribute."""
        if super().wrap_str_format(value) is not None:
            raise SecurityError("format is not allowed here")

    def call(self, context: Context, work: Any, *arguments: Any, **named: Any) -> Any:
        text, name = getattr(work, "__self__", None), getattr(work, "__name__", "")
        if not isinstance(text, str):
            spend()
        elif name == "join":
            arguments = (list(arguments[0]), *arguments[1:])
            check_join(text, arguments[0])
        else:
            spend(len(text))
            if name == "replace":
                check_replace(text, *arguments)
        return super().call(context, work, *arguments, **named)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return count_rounds(super()._parse(source, name, filename))


def _count(factor: Any) -> int:
    return int(factor) if isinstance(factor, (int, float)) else 0


def _bits(number: Any) -> int:
    return number.bit_length() if isinstance(number, int) else 0


@pass_eval_context
def _replace(context: EvalContext, text: Any, old: Any, new: Any, count: int | None = None) -> str:
    check_replace(text, old, new)
    return do_replace(context, text, old, new, count)


@pass_eval_context
def _join(context: EvalContext, values: Any, separator: str = "", attribute: Any = None) -> str:
    values = list(values)
    check_join(separator, values)
    return do_join(context, values, separator, attribute)


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
    if len(source) > MAX_SOURCE:
        raise InputError(f"the chat template has {len(source):,} characters, wanted at most {MAX_SOURCE:,}; shorten it")
    environment = _Sandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"], loader=None,
        finalize=written,
    )  # fmt: skip
    environment.globals.pop("lipsum")
    environment.globals.update(raise_exception=_refuse, strftime_now=_now)
    for name in _GROWING_FILTERS:
        del environment.filters[name]
    environment.filters.update(tojson=_to_json, replace=_replace, join=_join)
    environment.filters = {name: metered_filter(name, work) for name, work in environment.filters.items()}
    environment.filters.update(charge=charge, weigh=weigh)
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
    with metered():
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
