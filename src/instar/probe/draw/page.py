"""HTML of panels: one file that loads nothing and runs nothing, or a piece of a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from ...text.page import render
from ..panel import Figure, Flow, Panel, Table, Words
from .canvas import NARROW, style
from .labels import chip, plain, said, told
from .numbers import numbers_of
from .svg import draw, placed

SCOPE = ".instar"
SAID = {
    "title": Words("Inside the model", "模型内部"),
    "numbers": Words("numbers", "数值"), "green": Words("{} checks, all green", "{} 项检验，全部通过"),
    "red": Words("{} of {} checks are red", "{} 项检验未通过，共 {} 项"),
    "checks": Words("checks", "检验"), "data": Words("data", "数据"),
    "foot": Words(
        "Every number is of this very text, and every check was made on it. The page loads nothing and runs no script.",
        "每个数值都来自这段文本本身，每项检验也都在它上面做过。本页不加载任何外部内容，也不运行脚本。",
    ),
}  # fmt: skip


def page(panels: Sequence[Panel], language: str = "en") -> str:
    """A whole page."""
    title = (
        told(panels[0].title, language) if len(panels) == 1 else "Inside the model" if language == "en" else "模型内部"
    )
    return render(
        "probe/draw/inspect.html.jinja", title=title, spoken=language, style=Markup(style(SCOPE)), scope=SCOPE,
        panels=[_shown(panel, language) for panel in panels], say=_say(language), verdict=_verdict(panels, language),
        green=all(panel.green for panel in panels),
    )  # fmt: skip


def html_of(panels: Sequence[Panel], language: str = "en") -> str:
    """A piece of HTML for a notebook, with a style of its own that reaches nothing else."""
    return render(
        "probe/draw/notebook.html.jinja", spoken=language, style=Markup(style(SCOPE)), scope=SCOPE,
        panels=[_shown(panel, language) for panel in panels], say=_say(language),
    )  # fmt: skip


def drawing(figure: Figure, language: str = "en") -> dict[str, Any]:
    """A figure for the macro `figure_of` of parts.html.jinja: its title, its SVG, steps or table, and the numbers in
    it, where they are few enough for a page."""
    title = told(figure.title, language)
    if isinstance(figure, Flow):
        return {"title": title, "steps": [(told(name, language), what) for name, what in figure.steps]}
    if isinstance(figure, Table):
        return {"title": title, "wide": draw(figure, language).width > NARROW, "table": _table(figure, language)}
    canvas, numbers = draw(figure, language), numbers_of(figure)
    return {
        "title": title, "wide": canvas.width > NARROW, "svg": Markup(placed(canvas, title)),
        "numbers": None if numbers is None else _table(numbers, language),
    }  # fmt: skip


def _shown(panel: Panel, language: str) -> dict[str, Any]:
    return {
        "view": panel.view, "title": told(panel.title, language),
        "figures": [drawing(figure, language) for figure in panel.figures],
        "checks": [
            {"green": check.green, "name": check.name, "about": told(check.about, language) or check.name,
             "chip": chip(check.gap, check.limit)}
            for check in panel.checks
        ],
        "notes": [told(note, language) for note in panel.notes],
    }  # fmt: skip


def _table(table: Table, language: str) -> dict[str, Any]:
    count = len(table.columns)
    right = [
        bool(table.rows) and all(isinstance(plain(row[place]), int | float | None) for row in table.rows)
        for place in range(count)
    ]
    rows = [[said(value, language) for value in row] for row in table.rows]
    heads = [told(column, language) for column in table.columns]
    return {"heads": heads, "rows": rows, "right": right, "note": told(table.note, language)}


def _say(language: str) -> dict[str, str]:
    return {name: told(words, language) for name, words in SAID.items()}


def _verdict(panels: Sequence[Panel], language: str) -> str:
    checks = [check for panel in panels for check in panel.checks]
    red = sum(not check.green for check in checks)
    return (
        told(SAID["red"], language).format(red, len(checks))
        if red
        else told(SAID["green"], language).format(len(checks))
    )
