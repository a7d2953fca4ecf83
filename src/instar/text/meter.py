"""How much one rendering of a template may cost, counted where a template repeats, calls, cuts, joins or writes.

Counted are steps and characters, not seconds, so that the same template fails everywhere or nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context

MAX_OUTPUT = 1_000_000  # characters of a rendering, and of any text on the way to it
MAX_STEPS = 1_000_000
# of all texts made on the way, those in blocks and macros too
MAX_CHARACTERS = 64 * MAX_OUTPUT
# filters that look at how many there are and not into them
_SHALLOW = frozenset(
    "length count list first last map select reject selectattr rejectattr items sort unique reverse groupby batch "
    "slice sum min max default d attr random".split()
)
_SIZED = (str, bytes, list, tuple, dict, range)
_BODIES = (nodes.For, nodes.Macro, nodes.CallBlock, nodes.FilterBlock)


class Meter:
    """What one rendering has spent."""

    def __init__(self) -> None:
        self.steps = self.characters = 0


_METER: ContextVar[Meter] = ContextVar("_METER")


@contextmanager
def metered() -> Iterator[None]:
    """Inside, a rendering begins with nothing spent."""
    token = _METER.set(Meter())
    try:
        yield
    finally:
        _METER.reset(token)


def spend(characters: int = 0) -> None:
    """Count one step and the characters it makes. Raises SecurityError where a limit is passed."""
    meter = _METER.get()
    meter.steps += 1
    meter.characters += characters
    if meter.steps > MAX_STEPS:
        raise SecurityError(f"it takes more than {MAX_STEPS:,} steps")
    if meter.characters > MAX_CHARACTERS:
        raise SecurityError(f"it makes more than {MAX_CHARACTERS:,} characters on its way")


def written(value: Any) -> Any:
    """The value, once it is known that it is not too long to be written. A small list can hold itself many times
    over, and be long only when it becomes text."""
    size, waiting = 0, [value]
    while waiting:
        item = waiting.pop()
        size += len(item) if isinstance(item, _SIZED) else 1
        if size > MAX_OUTPUT:
            raise SecurityError(f"a text is longer than {MAX_OUTPUT:,} characters")
        if isinstance(item, Mapping):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, (list, tuple)):
            waiting += item
    spend(size)
    return value


def metered_filter(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that is counted, and whose arguments are not too long to become text where it makes them one."""

    @wraps(work)
    def counted(*arguments: Any, **named: Any) -> Any:
        for value in (*arguments, *named.values()):
            if isinstance(value, _SIZED):
                spend(len(value)) if name in _SHALLOW else written(value)
        return work(*arguments, **named)

    return counted


def check_replace(text: Any, old: Any = "", new: Any = "", *rest: Any) -> None:
    """Raise SecurityError where a replacement would make the text too long."""
    text, old, new = str(text), str(old), str(new)
    if len(text) + text.count(old) * max(0, len(new) - len(old)) > MAX_OUTPUT:
        raise SecurityError("a replacement is too long")


def check_join(separator: Any, values: list[Any]) -> None:
    """Raise SecurityError where a joined text would be too long."""
    written(values)
    if len(str(separator)) * len(values) > MAX_OUTPUT:
        raise SecurityError("a joined text is too long")


@pass_context  # so that it is not worked out once and for all when the template is compiled
def charge(context: Context, characters: int) -> str:
    """A filter that writes nothing: one round of a loop or macro that itself writes so many characters."""
    spend(characters)
    return ""


@pass_context
def weigh(context: Context, value: Any) -> Any:
    """A filter that changes nothing: what is to be joined or cut."""
    return written(value)


def count_rounds(template: nodes.Template) -> nodes.Template:
    """Put a charge at the head of all that may be repeated, and a scale round what is joined by ~ or cut."""
    for body in template.find_all(_BODIES):
        size = sum(len(data.data) for data in body.find_all(nodes.TemplateData))
        body.body.insert(0, nodes.Output([_filter(nodes.Const(size), "charge")], lineno=body.lineno))  # type: ignore[attr-defined]
    for joined in template.find_all(nodes.Concat):
        joined.nodes = [_filter(part, "weigh") for part in joined.nodes]
    for cut in template.find_all(nodes.Getitem):
        if isinstance(cut.arg, nodes.Slice):
            cut.node = _filter(cut.node, "weigh")
    return template


def _filter(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)
