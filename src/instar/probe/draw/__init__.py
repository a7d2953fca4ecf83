"""Panels as files: text, JSON, HTML, SVG, PNG and safetensors, each by the module of its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from ...config import InputError, unknown
from ...hub.files import write_whole
from ..panel import NOWHERE, Figure, Heading, Panel
from .charted import drawable, png
from .page import html_of, page
from .record import record, records, whole
from .svg import svg
from .tensors import tensors
from .text import text

__all__ = ["FORMATS", "html_of", "pictures", "record", "save", "svg", "text", "undrawn", "whole", "write"]

Format = Literal["text", "json", "html", "svg", "png", "safetensors"]
FORMATS: tuple[Format, ...] = ("text", "json", "html", "svg", "png", "safetensors")


def write(
    panels: Sequence[Panel],
    format: str,
    language: str = "en",
    output: str | Path | None = None,
    heading: Heading = NOWHERE,
) -> str | bytes:
    """These panels in a format, text or bytes, and, with an output, as that file too; heading: what they are of.

    SVG and PNG have the figures below each other; `pictures` gives them one by one. Raises InputError for an unknown
    format, a language other than en and zh, and for a PNG of what it cannot show.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    if language not in ("en", "zh"):
        raise unknown("language", language, ("en", "zh"))
    drawn = _WRITERS[format](panels, language, heading)
    if output is not None:
        save(Path(output), drawn)
    return drawn


def pictures(
    panels: Sequence[Panel], format: str, language: str = "en", heading: Heading = NOWHERE
) -> list[str | bytes]:
    """SVG or PNG of each figure by itself, in order. Raises InputError as `write` does."""
    figures = [figure for panel in panels for figure in panel.figures]
    if format == "svg":
        return [svg([figure], language, heading=heading) for figure in figures]
    if format == "png":
        return [png([figure], language) for figure in drawable(figures)]
    raise unknown("format of pictures", format, ("svg", "png"))


def undrawn(panels: Sequence[Panel], format: str) -> list[Figure]:
    """The figures that a format leaves out: of png, where matplotlib is missing, all but heat maps."""
    figures = [figure for panel in panels for figure in panel.figures]
    kept = {id(figure) for figure in drawable(figures)} if format == "png" and figures else set(map(id, figures))
    return [figure for figure in figures if id(figure) not in kept]


def save(path: Path, drawn: str | bytes) -> None:
    """Write a drawing, whole or not at all. Raises InputError where its folder is not there."""
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path.parent} is not a folder; make it, or write elsewhere")
    write_whole(path, lambda draft: draft.write_bytes(drawn if isinstance(drawn, bytes) else drawn.encode()))


def _svg(panels: Sequence[Panel], language: str, heading: Heading) -> str:
    figures = [figure for panel in panels for figure in panel.figures]
    return svg(figures, language, panels[0] if len(panels) == 1 else None, heading)


def _png(panels: Sequence[Panel], language: str, heading: Heading) -> bytes:
    return png(drawable([figure for panel in panels for figure in panel.figures]), language)


_WRITERS: dict[str, Callable[[Sequence[Panel], str, Heading], str | bytes]] = {
    "text": lambda panels, language, heading: text(panels, language).plain,
    "json": lambda panels, language, heading: records(panels, heading),
    "html": page,
    "svg": _svg,
    "png": _png,
    "safetensors": lambda panels, language, heading: tensors(panels, heading),
}
