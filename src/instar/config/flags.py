"""Command-line flags -> options: defaults < --config FILE < flags, every mistake named with its full path.

Flags become the same nested mapping that a YAML file gives, and `from_dict` reads both, so a rule holds for both.
tyro draws the `--help` pages from the same dataclasses.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, Union, get_args, get_origin

from .errors import InputError, unknown
from .strict import field_types, from_dict, load_yaml, option_names

T = TypeVar("T")


def parse(
    cls: type[T], arguments: Sequence[str], *, program: str, start: Callable[[dict[str, Any]], T] | None = None
) -> T:
    """Read the options of one command.

    `start` makes the instance to begin with out of everything that was said, so that `--preset` can change what
    `--model.*` begins with. Raises InputError; on --help prints the page and raises SystemExit(0).
    """
    words = list(arguments)
    if "-h" in words or "--help" in words:
        _print_help(cls, program)
    config, words = _take_config(words)
    said = merge(config, read_flags(cls, words))
    base = start(said) if start else cls()
    return _complete(from_dict(cls, said, base=base))


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings, the second winning."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _print_help(cls: type, program: str) -> None:
    import tyro

    tyro.cli(cls, args=["--help"], prog=program, description=cls.__doc__)


def _take_config(words: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Split `--config FILE` off the words and read the file."""
    config: dict[str, Any] = {}
    rest: list[str] = []
    while words:
        word = words.pop(0)
        if word == "--config" and not words:
            raise InputError("--config wants a file: --config FILE.yaml")
        if word == "--config" or word.startswith("--config="):
            config = merge(config, load_yaml(word.partition("=")[2] or words.pop(0)))
        else:
            rest.append(word)
    return config, rest


def read_flags(cls: type, words: list[str]) -> dict[str, Any]:
    """Words -> the nested mapping they say. Raises InputError for an unknown flag or a value of another type."""
    kinds = {name: _kind(cls, name) for name in option_names(cls)}
    short = _short_names(cls, kinds)
    positional = [f.name for f in dataclasses.fields(cls) if f.metadata.get("positional")]
    said: dict[str, Any] = {}
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            if not positional:
                raise InputError(f"found {word!r} where a --flag was wanted; see --help")
            _put(said, positional.pop(0), word)
            continue
        spelt, equals, value = word[2:].partition("=")
        name = spelt.replace("-", "_")
        name = short.get(name, name)
        option, kind = _find(name, kinds | short)
        if kind is bool:
            _put(said, option, _switch(word, value) if equals else option == name)
            continue
        values = [value] if equals else _take_values(words, many=get_origin(kind) is tuple, known=_choices(kind))
        _put(said, option, _convert(f"--{spelt}", kind, values))
    return said


def _short_names(cls: type, kinds: Mapping[str, Any]) -> dict[str, str]:
    """What may be said without its group, where the group says so: "beams" -> "sampling.beams"."""
    open = {f.name for f in dataclasses.fields(cls) if f.metadata.get("short")}
    split = {option: option.partition(".") for option in kinds}
    return {leaf: option for option, (group, _, leaf) in split.items() if group in open and leaf not in kinds}


def _find(name: str, kinds: Mapping[str, Any]) -> tuple[str, Any]:
    """The option a flag means; `--no-x` means the switch x."""
    if name in kinds:
        return name, kinds[name]
    group, dot, leaf = name.rpartition(".")
    switch = group + dot + leaf.removeprefix("no_")
    if kinds.get(switch) is bool:
        return switch, bool
    raise unknown("option", _spell(name), [_spell(kind) for kind in kinds])


def _take_values(words: list[str], *, many: bool, known: Sequence[str] = ()) -> list[str]:
    """The values that follow a flag: one, or all up to the next flag, or of a few known ones up to another word."""
    taken: list[str] = []
    while words and not words[0].startswith("--") and (many or not taken):
        if taken and known and not set(words[0].split(",")) <= {*known, ""}:
            break
        taken.append(words.pop(0))
    return taken


def _choices(kind: Any) -> list[str]:
    """The words that a tuple of an option may hold, where they are few."""
    inner = get_args(kind)[0] if get_origin(kind) is tuple else None
    return [str(word) for word in get_args(inner)] if get_origin(inner) is typing.Literal else []


def _convert(flag: str, kind: Any, values: list[str]) -> Any:
    if get_origin(kind) is tuple:
        inner = get_args(kind)[0]
        if get_origin(inner) is tuple:
            return _pairs(flag, inner, values)
        if known := _choices(kind):
            return [_chosen(flag, word, known) for value in values for word in filter(None, value.split(","))]
        return [_scalar(flag, inner, value) for value in values]
    if not values:
        raise InputError(f"{flag} wants a value; see --help")
    return _scalar(flag, kind, values[0])


def _pairs(flag: str, kind: Any, values: list[str]) -> list[list[Any]]:
    """Pairs that are said as a=b c=d, or as the words a b c d."""
    words = [value.split("=") for value in values]
    if all(len(pair) == 1 for pair in words) and len(words) % 2 == 0:
        words = [first + second for first, second in zip(words[::2], words[1::2])]
    if any(len(pair) != 2 for pair in words):
        raise InputError(f"{flag}: found {' '.join(values)!r}, wanted pairs such as 17=-5 18=2.5")
    return [[_scalar(flag, inner, word) for inner, word in zip(get_args(kind), pair)] for pair in words]


def _scalar(flag: str, kind: Any, value: str) -> Any:
    choices = get_args(kind)
    if get_origin(kind) in (Union, types.UnionType):
        if value in ("none", "None"):
            return None
        kind = next(choice for choice in choices if choice is not type(None))
        choices = get_args(kind)
    if get_origin(kind) is typing.Literal:
        return _chosen(flag, value, [str(choice) for choice in choices])
    if kind not in (int, float):
        return value
    try:
        return kind(value)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise InputError(f"{flag}: found {value!r}, wanted {wanted}") from None


def _chosen(flag: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise unknown(f"value for {flag}:", value, known)
    return value


def _switch(word: str, value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise InputError(f"{word.partition('=')[0]}: found {value!r}, wanted true or false")
    return value.lower() == "true"


def _put(said: dict[str, Any], name: str, value: Any) -> None:
    *groups, leaf = name.split(".")
    for group in groups:
        said = said.setdefault(group, {})
    said[leaf] = value


def _kind(cls: type, name: str) -> Any:
    for part in name.split("."):
        kind = field_types(cls)[part]
        cls = typing.cast(type, kind)
    return kind


def _spell(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _complete(options: T) -> T:
    """Every required option was given; names all that are missing at once."""
    fields = dataclasses.fields(typing.cast(Any, options))
    missing = [f for f in fields if f.metadata.get("required") and not getattr(options, f.name)]
    if missing:
        spelt = ", ".join(f.name.upper() if f.metadata.get("positional") else _spell(f.name) for f in missing)
        raise InputError(f"missing {spelt}; see --help")
    return options
