"""What the front and the process of the glass box tell each other: a line of JSON, then as many bytes as it says.

To the process: {"id", "op", "args"}, or {"id", "op": "cancel"}. From it: {"id", "kind", "size", ...}, of the kinds
json, bytes, event, end and error. An answer is one json or bytes, a stream several events and an end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

LINE = 2**26  # bytes of the longest line: a body of a request, spelt as JSON
FINAL = ("json", "bytes", "end", "error")  # after which nothing more of a job is said
START, CANCEL = "start", "cancel"


def encoded(value: Any) -> bytes:
    """JSON in one line. Raises ValueError for NaN, which JSON does not have."""
    said = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    # half of a surrogate pair is no text of UTF-8, and stays an escape
    return said.encode() if said.isascii() else said.encode("utf-8", "backslashreplace")


def frame(header: Mapping[str, Any], body: bytes = b"") -> bytes:
    """A header with its size, ready to be sent; the body follows it."""
    return encoded({**header, "size": len(body)}) + b"\n"
