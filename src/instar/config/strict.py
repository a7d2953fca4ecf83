"""Frozen dataclasses <-> YAML, strictly: an unknown key, a wrong type or a repeated key is an error with its path."""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml

from .errors import InputError, unknown

T = TypeVar("T")


class _Loader(yaml.SafeLoader):
    """YAML as people mean it: 3e-4 is a float, `no` is a word, a repeated key is an error (YAML 1.2 core)."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+(_[0-9]+)*", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(_[0-9]+)*(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node).replace("_", ""))


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[Any, int] = {}
    for key, _ in node.value:
        name = loader.construct_object(key)
        if name in seen:
            raise InputError(f"key {name} stands twice, in lines {seen[name]} and {key.start_mark.line + 1}; keep one")
        seen[name] = key.start_mark.line + 1
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:int", _int)
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read one YAML file whose top level is a mapping. Raises InputError with the file's name and line."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no such file: {path}")
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError, InputError, ValueError) as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: found {type(data).__name__}, wanted a mapping of options")
    return data


def dump_yaml(data: Mapping[str, Any]) -> str:
    """Write plain data as YAML that `load_yaml` reads back equal."""
    return yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True, width=100)


def to_dict(instance: Any) -> dict[str, Any]:
    """A dataclass as plain data: tuples become lists, nested dataclasses become mappings."""
    return {field.name: _plain(getattr(instance, field.name)) for field in dataclasses.fields(instance)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


@cache
def field_types(cls: Any) -> dict[str, Any]:
    """The resolved type of each field of a dataclass."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def option_names(cls: type, prefix: str = "") -> list[str]:
    """Every dotted option of a dataclass. Example: ["out", "train.steps", "train.lr"]"""
    names: list[str] = []
    for name, kind in field_types(cls).items():
        if dataclasses.is_dataclass(kind):
            names += option_names(typing.cast(type, kind), f"{prefix}{name}.")
        else:
            names.append(prefix + name)
    return names


def from_dict(cls: type[T], data: Any, *, base: T | None = None, where: str = "") -> T:
    """Build a dataclass from plain data, on top of `base` when given. Raises InputError naming the full path."""
    if not isinstance(data, Mapping):
        raise InputError(f"{where or cls.__name__}: found {_show(data)}, wanted a mapping of options")
    kinds = field_types(typing.cast(typing.Hashable, cls))
    values: dict[str, Any] = {}
    for key, value in data.items():
        path = f"{where}.{key}" if where else str(key)
        if key not in kinds:
            raise unknown("option", path, [f"{where}.{name}" if where else name for name in kinds])
        inner = getattr(base, key) if base is not None else None
        values[key] = _build(kinds[key], value, path, inner)
    if base is not None:
        return dataclasses.replace(typing.cast(Any, base), **values)
    return cls(**values)


def _build(kind: Any, value: Any, path: str, base: Any = None) -> Any:
    if dataclasses.is_dataclass(kind):
        return from_dict(typing.cast(type, kind), value, base=base, where=path)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (kind,) = [argument for argument in arguments if argument is not type(None)]
        return _build(kind, value, path)
    if origin is typing.Literal:
        if value not in arguments:
            raise unknown(f"value for {path}:", str(value), [str(argument) for argument in arguments])
        return value
    if origin is tuple and arguments[-1] is not Ellipsis:
        return _build_fixed(arguments, value, path)
    if origin is tuple and isinstance(value, Mapping) and get_origin(arguments[0]) is tuple:
        value = list(value.items())  # pairs may be said as a mapping
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_build(arguments[0], item, f"{path}[{index}]") for index, item in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        return {str(key): _build(arguments[1], item, f"{path}.{key}") for key, item in value.items()}
    if kind is float and type(value) in (int, float) and _finite(value):
        return float(value)
    if kind is Any or (kind is not float and type(value) is kind):
        return value
    name = getattr(kind, "__name__", str(kind)) if origin is None else str(kind)
    raise InputError(f"{path}: found {_show(value)}, wanted {name}")


def _build_fixed(kinds: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    """As many values as there are kinds."""
    if not isinstance(value, (list, tuple)) or len(value) != len(kinds):
        wanted = ", ".join(kind.__name__ for kind in kinds)
        raise InputError(f"{path}: found {_show(value)}, wanted {len(kinds)} values: {wanted}")
    return tuple(_build(kind, item, f"{path}[{index}]") for index, (kind, item) in enumerate(zip(kinds, value)))


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False


def _show(value: Any) -> str:
    shown = repr(value)
    return f"{shown if len(shown) <= 120 else shown[:120] + '...'} ({type(value).__name__})"
