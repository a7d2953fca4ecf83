"""PNG of figures: with labels by matplotlib, the extra "plot"; without it heat maps alone, written by ourselves."""

from __future__ import annotations

import importlib.util
import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich.cells import cell_len

from ...config import InputError
from ..panel import (
    Arcs,
    Array,
    Atlas,
    Bars,
    Cells,
    Figure,
    Flow,
    Label,
    Lines,
    Matrix,
    Scale,
    Scatter,
    Strip,
    Table,
    Tree,
)  # fmt: skip
from .colour import CATEGORIES, INK, LEVELS
from .labels import cut, number, plain, said, shown, shown_all, spoken
from .png import encode, palette
from .shades import MOST, NOTHING, domain, levels, mosaic, pooled, thinned
from .text import figure_lines

ROOM = 24  # columns of a label
TALLEST = 400.0  # inches; matplotlib draws at most 65,536 points
FONTS = (
    "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "PingFang SC", "Hiragino Sans GB", "Microsoft YaHei",
    "WenQuanYi Micro Hei", "SimHei", "Arial Unicode MS",
)  # fmt: skip

FONT_FILES = ("cjk", "notosanssc", "sourcehansans", "pingfang", "hiragino", "msyh", "wqy", "simhei")


def plotting() -> bool:
    """Is matplotlib there?"""
    return importlib.util.find_spec("matplotlib") is not None


def drawable(figures: Sequence[Figure]) -> list[Figure]:
    """Those of the figures that a PNG can show here. Raises InputError where that is none of them."""
    if not figures:
        raise InputError("found no figure to draw; ask for json or text")
    found = [figure for figure in figures if plotting() or isinstance(figure, Matrix | Atlas)]
    if not found:
        names = ", ".join(sorted({type(figure).__name__ for figure in figures}))
        raise InputError(f'a PNG of {names} needs matplotlib: pip install "instar[plot]", or ask for svg or html')
    return found


def png(figures: Sequence[Figure], language: str = "en") -> bytes:
    """Figures that `drawable` let through, below each other."""
    return _charted(figures, language) if plotting() else _bare(figures)


def _bare(figures: Sequence[Figure]) -> bytes:
    """Heat maps without a word, each cell a square of 1 to 16 points."""
    maps: list[tuple[Array, Scale]] = []
    for figure in figures:
        if isinstance(figure, Atlas):
            maps.append((mosaic(figure.values, figure.scale)[0], figure.scale))
        elif isinstance(figure, Matrix):
            maps.append((pooled(np.atleast_2d(figure.values), figure.scale)[0], figure.scale))
    colours = [*palette("share", "light"), *palette("signed", "light"), "#ffffff"]
    bands = []
    for values, scale in maps:
        steps = levels(values, scale)
        steps = np.where(steps == NOTHING, LEVELS + 1, steps) + (LEVELS + 2 if scale == "signed" else 0)
        size = max(1, min(16, MOST // steps.shape[1]))
        band = np.kron(steps, np.ones((size, size), dtype=np.int64))
        bands.append(np.pad(band, ((0, 8), (0, 0)), constant_values=len(colours) - 1))
    widest = max(band.shape[1] for band in bands)
    bands = [np.pad(b, ((0, 0), (0, widest - b.shape[1])), constant_values=len(colours) - 1) for b in bands]
    return encode(np.concatenate(bands)[:-8], colours)


def _charted(figures: Sequence[Figure], language: str) -> bytes:
    figures = [spoken(figure, language) for figure in figures]
    heights = [_height(figure) for figure in figures]
    if sum(heights) > TALLEST:
        raise InputError(f"a PNG of {sum(heights):.0f} inches is too tall; write fewer views, or svg or html")
    import matplotlib
    from matplotlib.figure import Figure as Paper

    fonts = _fonts()
    # a token may hold a dollar sign, which begins a formula elsewhere
    settings: Any = {
        "font.family": ["DejaVu Sans", *fonts], "font.size": 9, "text.parse_math": False,
        "axes.unicode_minus": False, "axes.edgecolor": INK["light"], "axes.spines.top": False,
        "axes.spines.right": False,
    }  # fmt: skip
    with matplotlib.rc_context(settings):
        paper = Paper(figsize=(7.2, sum(heights)), dpi=150, layout="constrained")
        grid = paper.add_gridspec(len(figures), 1, height_ratios=heights)
        for place, figure in enumerate(figures):
            axes = paper.add_subplot(grid[place])
            axes.set_title(figure.title.of(language), loc="left", fontsize=10.5)
            CHARTS[type(figure)](axes, figure, language)
        file = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # it is drawn as a box, which says the same
            paper.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _fonts() -> list[str]:
    """Those that are here and have Chinese signs; matplotlib's own list of fonts may be older than they are."""
    from matplotlib import font_manager

    def known() -> list[str]:
        have = {font.name for font in font_manager.fontManager.ttflist}
        return [name for name in FONTS if name in have]

    if not known():
        for path in font_manager.findSystemFonts():
            if any(part in path.lower() for part in FONT_FILES):
                font_manager.fontManager.addfont(path)
    return known()


def _height(figure: Figure) -> float:
    """In inches."""
    if isinstance(figure, Matrix | Atlas):
        rows, columns = (
            mosaic(figure.values, figure.scale)[0].shape
            if isinstance(figure, Atlas)
            else np.atleast_2d(figure.values).shape
        )
        return min(8.0, max(1.6, 6.0 * rows / max(1, columns))) + 0.9
    if isinstance(figure, Cells):
        return 0.28 * len(figure.texts) + 1.2
    if isinstance(figure, Bars):
        return 0.2 * len(figure.labels) * max(1, len(figure.series)) + 1.0
    if isinstance(figure, Table | Tree | Flow):
        return 0.19 * len(figure_lines(figure)) + 0.5
    return 1.1 if isinstance(figure, Strip) else 3.2


def _names(labels: Sequence[Label], count: int) -> list[str]:
    return [cut(name, ROOM) for name in shown_all(labels, count)]


def _heat(axes: Any, values: Array, scale: Scale, ends: tuple[float, float]) -> None:
    from matplotlib.colors import ListedColormap

    colours = ListedColormap(list(palette(scale, "light")))
    steps = levels(values, scale, ends)
    axes.imshow(np.where(steps == NOTHING, LEVELS + 1, steps), cmap=colours, vmin=0, vmax=LEVELS + 1, aspect="auto",
                interpolation="nearest")  # fmt: skip
    axes.set_title(f"{number(ends[0])} … {number(ends[1])}", loc="right", fontsize=8)


def _ticks(axes: Any, rows: Sequence[str], columns: Sequence[str]) -> None:
    """Labels of rows and columns, of many every so many."""
    down, across = max(1, len(rows) // 48), max(1, len(columns) // 48)
    axes.set_yticks(range(0, len(rows), down), list(rows[::down]))
    axes.set_xticks(range(0, len(columns), across), list(columns[::across]), rotation=90)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=8)


def _matrix(axes: Any, figure: Matrix, language: str) -> None:
    full = np.atleast_2d(figure.values)
    values, down, across = pooled(full, figure.scale)
    _heat(axes, values, figure.scale, domain(full, figure.scale))
    rows, columns = _names(figure.rows, full.shape[0]), _names(figure.columns, full.shape[1])
    _ticks(axes, thinned(rows, down), thinned(columns, across))
    axes.set_ylabel(figure.row_title.of(language))
    note = (
        f"   ({full.shape[0]} × {full.shape[1]} → {values.shape[0]} × {values.shape[1]})" if down * across > 1 else ""
    )
    axes.set_xlabel(figure.column_title.of(language) + note)


def _atlas(axes: Any, figure: Atlas, language: str) -> None:
    layers, heads = figure.values.shape[:2]
    whole, _ = mosaic(figure.values, figure.scale)
    _heat(axes, whole, figure.scale, domain(figure.values, figure.scale))
    tall, wide = (whole.shape[0] - 1) / layers, (whole.shape[1] - 1) / heads
    axes.set_yticks([(layer + 0.5) * tall for layer in range(layers)], [str(layer) for layer in range(layers)])
    axes.set_xticks([(head + 0.5) * wide for head in range(heads)], [str(head) for head in range(heads)])
    axes.set_ylabel("layer" if language == "en" else "层")
    axes.set_xlabel("head" if language == "en" else "头")


def _cells(axes: Any, figure: Cells, language: str) -> None:
    values = np.atleast_2d(figure.values)
    _heat(axes, values, figure.scale, domain(values, figure.scale))
    _ticks(axes, _names(figure.rows, values.shape[0]), _names(figure.columns, values.shape[1]))
    dark = levels(values, figure.scale) > LEVELS * 0.6
    for row, column in np.ndindex(values.shape):
        ink = "#ffffff" if dark[row, column] and figure.scale != "signed" else "#000000"
        axes.text(
            column, row, cut(shown(str(figure.texts[row][column])), 10), ha="center", va="center", color=ink, fontsize=7
        )


def _strip(axes: Any, figure: Strip, language: str) -> None:
    values = np.array([[float(plain(value)) for value in figure.values]])
    _heat(axes, values, figure.scale, domain(values, figure.scale))
    _ticks(axes, [""], _names(figure.tokens, values.shape[1]))


def _bars(axes: Any, figure: Bars, language: str) -> None:
    count = len(figure.series)
    for place, (name, values) in enumerate(figure.series.items()):
        places = [row + (place - (count - 1) / 2) * 0.8 / count for row in range(len(figure.labels))]
        drawn = [float(plain(value)) for value in values]
        colour = CATEGORIES[place % len(CATEGORIES)]
        axes.barh(places, drawn, height=0.72 / count, color=colour, label=shown(name))
        if place == 0 and len(figure.low) == len(drawn) == len(figure.high):
            gaps = [
                [max(0.0, v - low) for v, low in zip(drawn, figure.low)],
                [max(0.0, high - v) for v, high in zip(drawn, figure.high)],
            ]
            axes.errorbar(drawn, places, xerr=gaps, fmt="none", ecolor=INK["light"], elinewidth=1, capsize=2)
    axes.set_yticks(range(len(figure.labels)), _names(figure.labels, len(figure.labels)))
    axes.invert_yaxis()
    axes.set_xlabel(figure.unit.of(language))
    if count > 1:
        axes.legend(frameon=False, fontsize=8)


def _lines(axes: Any, figure: Lines, language: str) -> None:
    for place, (name, values) in enumerate(figure.series.items()):
        look = {"color": CATEGORIES[place % len(CATEGORIES)], "marker": "os^D"[place % 4] if figure.dots else ""}
        axes.plot([plain(x) for x in figure.x], [plain(y) for y in values], label=shown(name), markersize=4, **look)
    axes.set(xlabel=figure.x_title.of(language), ylabel=figure.y_title.of(language))
    axes.grid(alpha=0.25)
    if len(figure.series) > 1:
        axes.legend(frameon=False, fontsize=8)


def _scatter(axes: Any, figure: Scatter, language: str) -> None:
    axes.scatter(
        [float(x) for _, x, _ in figure.points], [float(y) for *_, y in figure.points], s=18, color=CATEGORIES[0]
    )
    for name, x, y in sorted(figure.points, key=lambda point: -max(float(point[1]), float(point[2])))[:12]:
        axes.annotate(
            cut(shown(str(name)), ROOM), (float(x), float(y)), xytext=(4, 3), textcoords="offset points", fontsize=7
        )
    axes.set(xlabel=figure.x_title.of(language), ylabel=figure.y_title.of(language))
    axes.grid(alpha=0.25)


def _arcs(axes: Any, figure: Arcs, language: str) -> None:
    tokens = _names(figure.tokens, len(figure.tokens))
    most = max((abs(float(weight)) for *_, weight in figure.arcs), default=1.0) or 1.0
    across = np.linspace(0, np.pi, 33)
    ends = _names(figure.sources, len(figure.sources)) if figure.sources else []
    for start, end, weight in figure.arcs:
        share = abs(float(weight)) / most
        look = {
            "linewidth": 0.5 + 3.5 * share,
            "alpha": 0.2 + 0.8 * share**0.5,
            "color": CATEGORIES[int(end > start and not ends)],
        }
        if ends:
            axes.plot([start, end], [0, 1], **look)
        else:
            middle, half = (start + end) / 2, max(0.2, abs(start - end) / 2)
            axes.plot(middle + half * np.cos(across), (1 if end <= start else -1) * half * np.sin(across), **look)
    axes.set_xticks(range(len(tokens)), tokens, rotation=90)
    axes.set_yticks([])
    if ends:
        above = axes.secondary_xaxis("top")
        above.set_xticks(range(len(ends)), ends, rotation=90)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)


def _table(axes: Any, figure: Table, language: str) -> None:
    heads = [column.of(language) for column in figure.columns]
    rows = [[cut(said(value, language), 40) for value in row] for row in figure.rows]
    sizes = [max(cell_len(row[place]) for row in [heads, *rows]) + 2 for place in range(len(heads))]
    _written(axes, len(rows) + 1)
    for line, row in enumerate([heads, *rows]):
        for place, text in enumerate(row):
            at = sum(sizes[:place]) / max(1, sum(sizes))
            axes.text(at, line, text, va="center", fontsize=8, color=INK["light"] if line else "#5c6877")


def _texts(axes: Any, figure: Tree | Flow, language: str) -> None:
    lines = figure_lines(figure, language)
    _written(axes, len(lines))
    for line, text in enumerate(lines):
        axes.text(0, line, text.plain, va="center", fontsize=8)


def _written(axes: Any, lines: int) -> None:
    axes.set(xlim=(0, 1), ylim=(lines - 0.5, -0.5))
    axes.axis("off")


CHARTS: dict[type, Callable[[Any, Any, str], None]] = {
    Matrix: _matrix, Atlas: _atlas, Cells: _cells, Strip: _strip, Bars: _bars, Lines: _lines, Scatter: _scatter,
    Arcs: _arcs, Table: _table, Tree: _texts, Flow: _texts,
}  # fmt: skip
