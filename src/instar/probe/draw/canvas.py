"""Paper for SVG: shapes with classes, whose colours a style gives for a light and a dark ground. Every text that comes
in is escaped here and nowhere else."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len

from ...text.axes import short
from ..panel import Array, Scale
from .colour import (
    CATEGORIES,
    GREEN,
    GROUND,
    INK,
    LEVELS,
    PANEL,
    RED,
    SERIES,
    THEMES,
    Theme,
    diverging,
    ink_on,
    sequential,
)
from .labels import cut, inert, number
from .png import GAP, heat
from .shades import ticks

NARROW, WIDE = 420, 760  # units; a chart, and what needs more room
SIZE = 12  # of texts
FAINT = {"light": "#5c6877", "dark": "#9aa6b5"}  # what is beside the matter
SANS = (
    'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "PingFang SC", "Hiragino Sans GB", "Microsoft YaHei", '
    '"Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Micro Hei", sans-serif'
)
MONO = (
    'ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", "Noto Sans Mono CJK SC", "PingFang SC", '
    '"Microsoft YaHei", "Noto Sans CJK SC", "WenQuanYi Micro Hei Mono", monospace'
)


@dataclass
class Canvas:
    """A drawing that grows; `width` and `height` are set by who draws."""

    width: float = NARROW
    height: float = 0.0
    parts: list[str] = field(default_factory=list)

    def rect(
        self, x: float, y: float, width: float, height: float, look: str, title: str = "", *, round: float = 0
    ) -> None:
        corner = f' rx="{short(round)}"' if round else ""
        size = f'width="{short(width)}" height="{short(height)}"{corner}'
        self._shape(f'rect class="{look}" x="{short(x)}" y="{short(y)}" {size}', title)

    def circle(self, x: float, y: float, radius: float, look: str, title: str = "") -> None:
        self._shape(f'circle class="{look}" cx="{short(x)}" cy="{short(y)}" r="{short(radius)}"', title)

    def path(self, d: str, look: str, title: str = "", *, wide: float = 0, clear: float = 1) -> None:
        more = f' stroke-width="{short(wide)}"' if wide else ""
        more += f' opacity="{clear:.2f}"' if clear < 1 else ""
        self._shape(f'path class="{look}" d="{d}"{more}', title)

    def text(self, x: float, y: float, text: str, look: str = "", *, turned: int = 0, title: str = "") -> None:
        """y is the line that letters stand on."""
        turn = f' transform="rotate({turned} {short(x)} {short(y)})"' if turned else ""
        look = f' class="{look}"' if look else ""
        about = f"<title>{escape(title)}</title>" if title else ""
        self.parts.append(f'<text{look} x="{short(x)}" y="{short(y)}"{turn}>{about}{escape(text)}</text>')

    def picture(self, x: float, y: float, width: float, height: float, values: Array, scale: Scale) -> None:
        """A heat map of too many points for shapes, once for each ground."""
        for theme in THEMES:
            code = base64.b64encode(heat(values, scale, theme)).decode("ascii")
            self.parts.append(
                f'<image class="{theme}" x="{short(x)}" y="{short(y)}" width="{short(width)}" height="{short(height)}" '
                f'preserveAspectRatio="none" href="data:image/png;base64,{code}"/>'
            )

    def legend(self, x: float, y: float, scale: Scale, ends: tuple[float, float]) -> None:
        """The colours of a map with the values at its ends, 26 units high."""
        step = 132 / (LEVELS + 1)
        for level in range(LEVELS + 1):
            self.rect(x + level * step, y, step + 0.3, 8, f"{map_of(scale)}{level}")
        self.rect(x, y, 132, 8, "edge")
        for place, value in ticks(scale, ends):
            look = "small up" if place == 1 else "small across" if place else "small"
            sign = "+" if scale == "signed" and value > 0 else ""
            self.text(x + 132 * place, y + 20, sign + number(value), look)

    def svg(self, label: str, attributes: str = "") -> str:
        """One SVG element, to stand in a page that has the style."""
        box = f"0 0 {short(self.width)} {short(self.height)}"
        body = "\n".join(self.parts)
        return f'<svg viewBox="{box}" role="img" aria-label="{escape(label)}"{attributes}>\n{body}\n</svg>'

    def _shape(self, shape: str, title: str) -> None:
        about = f"><title>{escape(title)}</title></{shape.split(' ', 1)[0]}>" if title else "/>"
        self.parts.append(f"<{shape}{about}")


def escape(text: str) -> str:
    """For the inside of an element or an attribute; a sign that no XML can hold, or that would turn the text, is spelt
    out."""
    return html.escape(inert(text), quote=True)


def map_of(scale: Scale) -> str:
    """The letter of the classes of a map's colours."""
    return "d" if scale == "signed" else "s"


def wide(text: str, size: float = SIZE) -> float:
    """About how many units a label takes: letters of one width, Chinese signs of two."""
    return cell_len(text) * size * 0.6


def widest(texts: Sequence[str], most: float, size: float = SIZE) -> float:
    return min(most, max((wide(text, size) for text in texts), default=0.0))


def fit(text: str, room: float, size: float = SIZE) -> str:
    """A label cut to the units that it has."""
    return cut(text, max(1, int(room / (size * 0.6))))


def style(scope: str = "") -> str:
    """The style of drawings, of those below `scope` alone where one is given; a viewer that asks for a dark ground
    gets one."""
    fixed = f"""
{scope} svg text {{ font: {SIZE}px {SANS}; }}
{scope} svg .label {{ font-family: {MONO}; unicode-bidi: isolate; white-space: pre; }}
{scope} svg .small {{ font-size: 10.5px; }}
{scope} svg .strong {{ font-weight: 600; }}
{scope} svg .heading {{ font-size: 14px; font-weight: 600; }}
{scope} svg .up {{ text-anchor: end; }}
{scope} svg .across {{ text-anchor: middle; }}
{scope} svg .grid, {scope} svg .axis, {scope} svg .edge, {scope} svg .curve, {scope} svg .arc, {scope} svg .branch,
{scope} svg .range {{ fill: none; }}
{scope} svg .edge, {scope} svg .frame {{ stroke-width: .75; }}
{scope} svg .curve {{ stroke-width: 1.9; stroke-linejoin: round; stroke-linecap: round; }}
{scope} svg .arc {{ stroke-linecap: round; }}
{scope} svg .arc:hover {{ opacity: 1; }}
{scope} svg .range {{ stroke-width: 1.4; }}
{scope} svg .c1.curve {{ stroke-dasharray: 7 3; }}
{scope} svg .c2.curve {{ stroke-dasharray: 2 3; }}
{scope} svg .c3.curve {{ stroke-dasharray: 9 3 2 3; }}
{scope} svg .c4.curve {{ stroke-dasharray: 4 2; }}
{scope} svg .c5.curve {{ stroke-dasharray: 12 4; }}
{scope} svg image {{ image-rendering: pixelated; }}
{scope} svg .branch {{ stroke-width: 1.2; }}
{scope} svg .branch.way {{ stroke-width: 2.2; }}
{scope} svg .branch.lost {{ stroke-dasharray: 2 3; }}
{scope} svg .node {{ stroke-width: 1; }}
{scope} svg .node.pruned {{ stroke-dasharray: 2 2; }}
{scope} svg rect.hit {{ fill: transparent; }}
{scope} svg rect.hit:hover {{ stroke-width: 1.2; }}
"""
    light, dark = _theme(scope, "light"), _theme(scope, "dark")
    return f"{fixed}{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n"


def _theme(scope: str, theme: Theme) -> str:
    faint, line = FAINT[theme], GAP[theme]
    ink, ground, panel = INK[theme], GROUND[theme], PANEL[theme]
    first = SERIES[theme][0]
    other = "dark" if theme == "light" else "light"
    lines = [
        f"{scope} svg text {{ fill: {faint}; }}",
        f"{scope} svg .label, {scope} svg .heading, {scope} svg .strong {{ fill: {ink}; }}",
        f"{scope} svg .ground {{ fill: {ground}; }}",
        f"{scope} svg .grid, {scope} svg .edge, {scope} svg .branch, {scope} svg .frame {{ stroke: {line}; }}",
        f"{scope} svg .axis, {scope} svg .range {{ stroke: {faint}; }}",
        f"{scope} svg .gap {{ fill: {line}; }}",
        f"{scope} svg text.green {{ fill: {GREEN[theme]}; }}",
        f"{scope} svg text.red {{ fill: {RED[theme]}; }}",
        f"{scope} svg .branch.way {{ stroke: {first}; }}",
        f"{scope} svg .node {{ fill: {panel}; stroke: {faint}; }}",
        f"{scope} svg .node.pruned {{ fill: none; }}",
        f"{scope} svg .node.best {{ fill: {first}; stroke: {first}; }}",
        f"{scope} svg .node.done {{ stroke: {CATEGORIES[2]}; stroke-width: 1.6; }}",
        f"{scope} svg text.label.pruned {{ fill: {faint}; }}",
        f"{scope} svg text.label.best, {scope} svg text.bead {{ fill: {ink_on(first)}; }}",
        f"{scope} svg circle.bead {{ fill: {first}; }}",
        f"{scope} svg .frame {{ fill: {panel}; }}",
        f"{scope} svg rect.hit:hover {{ stroke: {ink}; }}",
        f"{scope} svg image.{theme} {{ display: inline; }}",
        f"{scope} svg image.{other} {{ display: none; }}",
    ]
    for number_, colour in enumerate(SERIES[theme]):
        lines.append(f"{scope} svg .c{number_} {{ fill: {colour}; }}")
        lines.append(f"{scope} svg .c{number_}.curve, {scope} svg .c{number_}.arc {{ fill: none; stroke: {colour}; }}")
    for letter, colours in (("s", sequential(theme)), ("d", diverging(theme))):
        lines += [f"{scope} .{letter}{level} {{ fill: {colour}; }}" for level, colour in enumerate(colours)]
        for ink_ in ("#000000", "#ffffff"):
            on = [f"{scope} text.on-{letter}{level}" for level, colour in enumerate(colours) if ink_on(colour) == ink_]
            lines.append(f"{','.join(on)} {{ fill: {ink_}; }}")
    return "\n".join(lines)
