"""HTML of panels: one file that loads nothing and runs nothing, or a piece of a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from ...text.page import render
from ..panel import NOWHERE, Figure, Flow, Heading, Panel, Table, Words
from .canvas import NARROW, style
from .labels import chip, plain, said, shown, spoken, told
from .numbers import numbers_of
from .svg import draw, placed

SCOPE = ".instar"
MOST_TOKENS = 160  # in the head
SAID = {
    "title": Words("Inside the model", "模型内部"),
    "numbers": Words("numbers", "数值"), "green": Words("{} checks, all green", "{} 项检验，全部通过"),
    "red": Words("{} of {} checks are red", "{} 项检验未通过，共 {} 项"),
    "checks": Words("checks", "检验"), "data": Words("data", "数据"),
    "foot": Words(
        "Numbers and checks are of this very text, but for those of the model alone: position maps, nearest "
        "embeddings, copying, heads on random tokens, and probes, which are trained and tested on other texts; their "
        "titles and notes say so. The page loads nothing and runs no script.",
        "数值与检验均来自这段文本本身；只属于模型的除外：位置图、最近的嵌入、复制得分、随机词元上的注意力头，"
        "以及在其他文本上训练和测试的探针，其标题和注释会说明。本页不加载任何外部内容，也不运行脚本。",
    ),
    "read": Words("what was read", "读到的文本"), "source": Words("source", "源文本"),
    "said": Words("what is said of it", "目标文本"),
    "left_out": Words("Views that do not apply here", "此处不适用的视图"),
    "more": Words("and {} more tokens", "另有 {} 个词元"),
}  # fmt: skip


def page(panels: Sequence[Panel], language: str = "en", heading: Heading = NOWHERE) -> str:
    """A whole page; its head tells the model, the text in tokens, and what was asked."""
    title = (
        told(panels[0].title, language) if len(panels) == 1 else "Inside the model" if language == "en" else "模型内部"
    )
    return render(
        "probe/draw/inspect.html.jinja", title=title, spoken=language, style=Markup(style(SCOPE)), scope=SCOPE,
        panels=[_shown(panel, language) for panel in panels], say=_say(language), verdict=_verdict(panels, language),
        green=all(panel.green for panel in panels), of=_of(heading, language),
    )  # fmt: skip


def html_of(panels: Sequence[Panel], language: str = "en", heading: Heading = NOWHERE) -> str:
    """A piece of HTML for a notebook, with a style of its own that reaches nothing else."""
    return render(
        "probe/draw/notebook.html.jinja", spoken=language, style=Markup(style(SCOPE)), scope=SCOPE,
        panels=[_shown(panel, language) for panel in panels], say=_say(language), of=_of(heading, language),
    )  # fmt: skip


def _of(heading: Heading, language: str) -> dict[str, Any]:
    """What the head of a page says."""
    both = [("source", heading.source), ("said" if heading.source else "read", heading.tokens)]
    texts = [
        {
            "title": told(SAID[name], language),
            "tokens": [{"id": id, "piece": shown(piece)} for id, piece in tokens[:MOST_TOKENS]],
            "more": told(SAID["more"], language).format(f"{len(tokens) - MOST_TOKENS:,}")
            if len(tokens) > MOST_TOKENS
            else "",
        }
        for name, tokens in both
        if tokens
    ]
    return {
        "model": shown(heading.model), "vs": shown(heading.vs), "shape": told(heading.shape, language), "texts": texts,
        "options": [f"{name} = {shown(str(value))}" for name, value in heading.options.items()],
        "left_out": [(name, told(why, language)) for name, why in heading.left_out.items()],
    }  # fmt: skip


def drawing(figure: Figure, language: str = "en") -> dict[str, Any]:
    """A figure for the macro `figure_of` of parts.html.jinja: its title, its SVG, steps or table, and the numbers in
    it, where they are few enough for a page."""
    title, figure = told(figure.title, language), spoken(figure, language)
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
            for check in sorted(panel.checks, key=lambda check: check.green)
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
