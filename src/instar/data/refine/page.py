"""report.html of a data preparation: in a minute, what went in, what came out, and why a document went.

It is made of the numbers and samples of report.json and of nothing else, so the same report gives the same bytes. Texts
are strangers' words: they are escaped, and what a browser would not show of them is spelt out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ...config import dump_yaml
from ...text.figures import number
from ...text.page import PAGE, render
from ..disk import put
from .drawings import Drawer, ends, flow_of, gathered, lost, ratio, reasons_of
from .phrases import LANGUAGES, Phrases
from .specimens import Group, groups_of

Report = Mapping[str, Any]
ROWS = 500  # of the table of shards
SHARES = 8  # languages of a source that are named
TOP = 6  # reasons that are named at the top
RECIPE = 60_000  # characters of a recipe that are shown


def write_report(out: Path, report: Report, say: Callable[[str], None] = print) -> None:
    """Write OUT/report.html, and report.zh.html in Chinese. Raises nothing: `say` hears what is wrong."""
    for language in LANGUAGES:
        put(out / name_of(language), partial(render_report, report, language), say)


def name_of(language: str) -> str:
    """Example: "en" -> report.html and "zh" -> report.zh.html"""
    return PAGE if language == "en" else PAGE.replace(".", f".{language}.")


def render_report(report: Report, language: str = "en") -> str:
    """The page as text. report: what report.json holds. language: of the page's own words, one of LANGUAGES."""
    t = Phrases(language)
    sources, steps = report["sources"], list(report["steps"])
    groups, hidden = groups_of(report, t)
    drawer = Drawer(t, steps, {group.key: group.anchor for group in groups})
    flows = {name: source.get("flow", {}) for name, source in sources.items()}
    whole = report.get("total", {}).get("flow") or gathered(flows.values(), steps)
    return render(
        "data/refine/report.html.jinja",
        t=t, spoken=language, report=report,
        pages=[(name_of(other), said) for other, said in LANGUAGES.items() if other != language],
        cards=cards(report, t),
        sums=sums(report, t),
        top=tops(whole, drawer, groups),
        total=flow_of(whole, drawer, ""),
        overview=overview(sources),
        flows={name: flow_of(flow, drawer, name) for name, flow in flows.items()},
        estimated=any(guessed(flow) for flow in flows.values()),
        reasons=reasons_of(whole, flows, drawer),
        groups=by_source(groups),
        hidden=hidden,
        unread=unread(sources, t),
        languages=languages(sources),
        mixture=[(name, *mixed(source)) for name, source in sources.items()],
        speed=speed(report, t),
        shards=report["shards"][:ROWS],
        more_shards=max(0, len(report["shards"]) - ROWS),
        recipe=dump_yaml(dict(report["recipe"]))[:RECIPE],
    )  # fmt: skip


def cards(report: Report, t: Phrases) -> list[tuple[str, Any, str]]:
    """What the run was: (name, value, filter of the template)."""
    sources = report["sources"].values()
    found = [
        (t("sources"), len(report["sources"]), "count"),
        (t("files"), sum(source.get("files", 0) for source in sources), "count"),
        (t("stored"), report.get("total", {}).get("bytes", 0), "size"),
    ]
    spent = sum(number(each) or 0 for each in report.get("seconds", {}).values())
    return [*found, *([("", spent, "seconds")] if spent else [])]


def sums(report: Report, t: Phrases) -> list[dict[str, Any]]:
    """Documents, bytes and tokens at both ends of all sources, and the share that is left."""
    found = []
    for name, shown in (("documents", "count"), ("bytes", "size"), ("tokens", "short")):
        each = [ends(source.get("flow", {}), name) for source in report["sources"].values()]
        known = [pair for pair in each if pair]
        if not known or len(known) < len([source for source in report["sources"].values() if source.get("flow")]):
            continue
        start, stop = sum(pair.start for pair in known), sum(pair.stop for pair in known)
        marks = [any(pair.guessed[side] for pair in known) for side in (0, 1)]
        row = {"label": t(name), "start": start, "stop": stop, "share": ratio(stop, start)}
        found.append(row | {"show": shown, "guessed": marks})
    return found


def tops(whole: Mapping[str, Any], drawer: Drawer, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """What took most of the text, by step and reason, with the way to its first sample."""
    sides = ends(whole, "bytes")
    start = sides.start if sides else 0
    anchors: dict[tuple[str, str], str] = {}
    for group in groups:
        anchors.setdefault((group.step, group.reason), group.anchor)
    found: list[dict[str, Any]] = [
        {
            "step": drawer.t.step(step), "label": drawer.t.reason(step, reason), "bytes": size, "documents": documents,
            "share": ratio(size, start), "anchor": anchors.get((step, reason), ""),
        }
        for step, flow in whole.items()
        for reason, documents, size in lost(step, flow)
    ]  # fmt: skip
    return sorted(found, key=lambda each: -each["bytes"])[:TOP]


def overview(sources: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Both ends of each source, its text drawn to the scale of the largest."""
    rows: list[dict[str, Any]] = []
    for name, source in sources.items():
        flow = source.get("flow", {})
        sides = {unit: ends(flow, unit) for unit in ("documents", "bytes", "tokens")}
        rows.append({"name": name, "kind": source.get("kind", ""), **sides})
    most = max((row["bytes"].start for row in rows if row["bytes"]), default=0)
    for row in rows:
        start, stop = (row["bytes"].start, row["bytes"].stop) if row["bytes"] else (0, 0)
        row["share"] = ratio(stop, start)
        row["kept"] = ratio(min(stop, start), most) or 0
        row["taken"] = ratio(max(0, start - stop), most) or 0
    return rows


def guessed(flow: Mapping[str, Any]) -> bool:
    return any(each.get("tokens") and each.get("tokens_estimated") for each in flow.values())


def by_source(groups: Iterable[Group]) -> dict[str, list[Group]]:
    found: dict[str, list[Group]] = {}
    for group in groups:
        found.setdefault(group.source, []).append(group)
    return found


def unread(sources: Mapping[str, Any], t: Phrases) -> dict[str, list[Any]]:
    """Rows of what could not be read, and of files that no reader was asked for: suffix and how many."""
    rows = [
        {**broken, "source": name, "label": t.unread(broken["reason"])}
        for name, source in sources.items()
        for broken in source.get("broken", [])
    ]
    skipped = []
    for name, source in sources.items():
        found = source.get("skipped", {})
        pairs = found.items() if isinstance(found, Mapping) else ((each, "") for each in found)
        skipped += [(name, suffix, count) for suffix, count in pairs]
    return {"rows": rows, "skipped": skipped}


def languages(sources: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, int, float]]]]:
    """For each source its commonest languages with documents and share; "" stands for the others."""
    rows = []
    for name, source in sources.items():
        ordered = sorted(source.get("languages", {}).items(), key=lambda pair: (-pair[1], pair[0]))
        whole = sum(count for _, count in ordered)
        shown = ordered[:SHARES] + ([("", rest)] if (rest := sum(count for _, count in ordered[SHARES:])) else [])
        if whole:
            rows.append((name, [(language, count, count / whole) for language, count in shown]))
    return rows


def mixed(source: Mapping[str, Any]) -> tuple[int | None, float | None, float | None]:
    """Tokens that a source has, its epochs and its share of one pass."""
    tokens = ends(source.get("flow", {}), "tokens")
    return tokens.stop if tokens else None, number(source.get("epochs")), number(source.get("share"))


def speed(report: Report, t: Phrases) -> list[tuple[str, float, float | None]]:
    """Each phase with its seconds and the bytes of all text that it passed in one."""
    sides = [ends(source.get("flow", {}), "bytes") for source in report["sources"].values()]
    start = sum(pair.start for pair in sides if pair)
    known = [(t.phase(name), spent) for name, value in report.get("seconds", {}).items() if (spent := number(value))]
    whole = [(t("whole"), sum(spent for _, spent in known))] if len(known) > 1 else []
    return [(name, spent, ratio(start, spent)) for name, spent in [*known, *whole]]
