"""JSON of strangers, read strictly: one text has one meaning, and a mistake is one sentence that names the file."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from .errors import InputError

_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(text: str, where: str) -> Any:
    """JSON whose keys are unique, whose numbers are finite and whose strings are Unicode. Raises InputError that begins
    with `where`."""
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_finite)
        if _HALF.search(text):  # JSON can spell half a character, which no file can hold
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except RecursionError:
        raise InputError(f"{where} is not JSON that we read: it is nested too deeply; write it flatter") from None
    except UnicodeEncodeError as error:
        half = f"U+{ord(error.object[error.start]):04X}"
        raise InputError(f"{where} holds {half}, half of a surrogate pair; remove it") from None
    except ValueError as error:  # a number of thousands of digits is one too
        raise InputError(f"{where} is not JSON: {error}; fetch or write it again") from None


def read_object(path: Path, limit: int) -> dict[str, Any] | None:
    """The JSON object in a file of at most `limit` bytes, or None where there is no file. Raises InputError."""
    if not path.is_file():
        return None
    value = parse_json(read_text(path, limit), str(path))
    if not isinstance(value, dict):
        raise InputError(f"{path}: found {type(value).__name__}, wanted a JSON object")
    return value


def read_text(path: Path, limit: int) -> str:
    """The text of a file of at most `limit` bytes. Raises InputError where it is larger or no UTF-8."""
    if path.stat().st_size > limit:
        raise InputError(f"{path} has {path.stat().st_size:,} bytes, wanted at most {limit:,}; is it the right file?")
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error}; fetch or write it again") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Which of two values of one key was meant, nobody can know, and programs differ."""
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise InputError(f"the key {twice!r} stands twice in one object; keep one")
    return found


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise InputError(f"found the number {number[:40]}, wanted a finite one")
    return value
