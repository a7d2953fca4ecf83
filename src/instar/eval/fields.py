"""The fields of a test's records: what is there, what was wanted, and the groups that figures are counted under."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from ..config import InputError

Record = Mapping[str, Any]
Figures = dict[str, Any]
T = TypeVar("T")


def text(record: Record, name: str, wanted: str) -> str:
    """A field that is a string. wanted: the shape of a whole record, for the error. Raises InputError."""
    value = _field(record, name, wanted)
    if not isinstance(value, str):
        raise InputError(f'"{name}" is {_kind(value)}, wanted a string')
    return value


def texts(record: Record, name: str, wanted: str, *, least: int = 1) -> list[str]:
    """A field that is a list of at least so many strings. Raises InputError."""
    value = _field(record, name, wanted)
    if not isinstance(value, list) or len(value) < least or not all(isinstance(item, str) for item in value):
        raise InputError(f'"{name}" is {_kind(value)}, wanted a list of at least {least} strings')
    return value


def place(record: Record, name: str, wanted: str, among: Sequence[Any]) -> int:
    """A field that is a place in a list, from 0. Raises InputError."""
    value = _field(record, name, wanted)
    if type(value) is not int or not 0 <= value < len(among):
        raise InputError(f'"{name}" is {_kind(value)}, wanted a whole number from 0 to {len(among) - 1}')
    return value


def groups(record: Record, names: Sequence[str]) -> dict[str, str]:
    """Those of the names that a record has, to be counted under."""
    return {name: str(record[name]) for name in names if name in record}


def by_groups(
    items: Sequence[T],
    grouped: Sequence[Mapping[str, str]],
    names: Sequence[str],
    figures: Callable[[list[T]], Figures],
) -> Figures:
    """`figures` of all items, and under "groups" those of each value of every group that some item is in.

    Example: by_groups([1, 2], [{"lang": "en"}, {}], ["lang"], lambda part: {"sum": sum(part)}) ->
    {"sum": 3, "groups": {"lang": {"en": {"sum": 1}}}}
    """
    parts: dict[str, dict[str, list[T]]] = {name: {} for name in names}
    for item, own in zip(items, grouped):
        for name in names:
            if name in own:
                parts[name].setdefault(own[name], []).append(item)
    groups = {
        name: {value: figures(part) for value, part in values.items()} for name, values in parts.items() if values
    }
    return figures(list(items)) | {"groups": groups}


def means(rows: Sequence[Mapping[str, float]]) -> Figures:
    """How many records, and the mean of each of their figures."""
    return {"records": len(rows)} | {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def _field(record: Record, name: str, wanted: str) -> Any:
    if name not in record:
        raise InputError(f"a record with the keys {', '.join(map(str, record)) or '(none)'}; wanted {wanted}")
    return record[name]


def _kind(value: Any) -> str:
    if isinstance(value, (Mapping, list)):
        return f"{type(value).__name__} of {len(value)}"
    return "null" if value is None else f"{type(value).__name__} ({str(value)[:40]!r})"
