"""SVG of every figure: one for a page that has the style, or a whole file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...text.axes import short
from ..panel import (
    NOWHERE,
    Arcs,
    Atlas,
    Bars,
    Cells,
    Figure,
    Flow,
    Heading,
    Lines,
    Matrix,
    Panel,
    Scatter,
    Strip,
    Table,
    Tree,
)
from .canvas import NARROW, Canvas, escape, fit, style
from .chains import arcs, strip
from .charts import bars, lines, scatter
from .graphs import flow, table, tree, wrapped
from .grids import atlas, cells, matrix
from .labels import chip, shown, spoken

DRAWERS: dict[type, Callable[[Any, str], Canvas]] = {
    Matrix: matrix, Atlas: atlas, Cells: cells, Bars: bars, Lines: lines, Scatter: scatter, Arcs: arcs, Strip: strip,
    Tree: tree, Flow: flow, Table: table,
}  # fmt: skip
EDGE = 16.0
SMALLEST = 0.83  # of its size, for what need not be cut to a page


def draw(figure: Figure, language: str = "en") -> Canvas:
    """A figure without its title."""
    return DRAWERS[type(figure)](spoken(figure, language), language)


def inline(figure: Figure, language: str = "en") -> str:
    """An <svg> for a page that has `style()`."""
    return placed(draw(figure, language), figure.title.of(language))


def placed(canvas: Canvas, title: str) -> str:
    """A drawing as <svg> for a page that has `style()` and lets what is wide scroll: it is never drawn much smaller
    than it is, so that it can be read."""
    fits = canvas.width <= NARROW
    room = "" if fits else f"min-width:{SMALLEST * canvas.width:.0f}px;"
    return canvas.svg(title, f' style="{room}max-width:{(1.25 if fits else 1.1) * canvas.width:.0f}px"')


def svg(figures: Sequence[Figure], language: str = "en", panel: Panel | None = None, heading: Heading = NOWHERE) -> str:
    """A whole file: figures below each other with their titles and, of a panel, its title, checks and notes; what they
    are of stands above, and is the title that a viewer shows."""
    sheet = Canvas(NARROW, 10.0)
    drawn = [(figure, draw(figure, language)) for figure in figures]
    sheet.width = max([NARROW, *(canvas.width for _, canvas in drawn)])
    if heading.line:
        sheet.height += 12
        line = shown(heading.line)
        sheet.text(0, sheet.height, fit(line, sheet.width, 10.5), "small", title=line)
        sheet.height += 4
    if panel is not None:
        _head(sheet, panel, language)
    for figure, canvas in drawn:
        title = figure.title.of(language)
        for line in wrapped(title, sheet.width * 1.1) if title else ():
            sheet.height += 17
            sheet.text(0, sheet.height, line, "strong")
        sheet.height += 8
        body = "\n".join(canvas.parts)
        sheet.parts.append(f'<g transform="translate(0 {short(sheet.height)})">\n{body}\n</g>')
        sheet.height += canvas.height + 16
    titles = [panel.title] if panel else [figure.title for figure in figures]
    label = " · ".join(title.of(language) for title in titles)
    return _file(sheet, label, language, shown(heading.line))


def _head(sheet: Canvas, panel: Panel, language: str) -> None:
    for line in wrapped(panel.title.of(language), sheet.width):
        sheet.height += 18
        sheet.text(0, sheet.height, line, "heading")
    for check in panel.checks:
        sheet.height += 18
        sign = "✓" if check.green else "✗"
        said = f"{sign} {check.about.of(language) or check.name}  {chip(check.gap, check.limit)}"
        look = "small green" if check.green else "small red"
        sheet.text(0, sheet.height, fit(said, sheet.width, 10.5), look, title=said)
    for note in panel.notes:
        for line in wrapped(note.of(language), sheet.width):
            sheet.height += 15
            sheet.text(0, sheet.height, line, "small")
    sheet.height += 12


def _file(sheet: Canvas, label: str, language: str, of: str) -> str:
    width, height = sheet.width + 2 * EDGE, sheet.height + EDGE
    body, whole = "\n".join(sheet.parts), f"{label} · {of}" if of else label
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {short(width)} {short(height)}" '
        f'width="{short(width)}" height="{short(height)}" role="img" lang="{language}" '
        f'aria-label="{escape(label)}">\n<title>{escape(whole)}</title>\n<style>{style()}</style>\n'
        f'<rect class="ground" width="100%" height="100%"/>\n<g transform="translate({short(EDGE)} 0)">\n{body}\n</g>\n'
        "</svg>\n"
    )
