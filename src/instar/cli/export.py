"""`instar export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..config import InputError, unknown
from ..config.flags import parse
from ..config.options import ExportOptions
from .screen import Screen, table

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def export(arguments: list[str]) -> None:
    """Write a model for other programs."""
    options = parse(ExportOptions, arguments, program="instar export")
    if options.format not in FORMATS:
        raise unknown("format", options.format, FORMATS)
    out = Path(options.out)
    if out.exists():
        raise InputError(f"--out {out} is there already; name another place, or remove it")
    import torch

    screen = Screen(options)
    dtype = None if options.dtype == "auto" else getattr(torch, DTYPES[options.dtype])
    from ..adapt.folders import whole

    with whole(options.model) as model:  # of an adapter with its base
        report = FORMATS[options.format](screen, model, out, dtype)
    for note in report["notes"]:
        screen.say(f"note: {note}")
    shown = [[name, value] for name, value in report.items() if name not in ("notes", "path")]
    screen.show(table(options.out, ["", "value"], shown))
    screen.finish({"model": options.model, "format": options.format, **report})


def _gguf(screen: Screen, model: str, out: Path, dtype: Any) -> dict[str, Any]:
    from ..hub.gguf import export as write

    with screen.counting("weights") as done:
        return write(model, out, dtype=dtype, done=done)


def _hf(screen: Screen, model: str, out: Path, dtype: Any) -> dict[str, Any]:
    from ..hub.folders import export as write

    return write(model, out, dtype=dtype)


FORMATS = {"hf": _hf, "gguf": _gguf}
