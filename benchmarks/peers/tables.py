"""What was measured, as the Markdown of docs/results.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .figures import TASKS

TOLD = ("fp32", "bf16", "int8")  # of the limits of products


def markdown(report: dict[str, Any], setting: dict[str, Any]) -> str:
    """Figures of one model, what was asked for, and notes."""
    weights, read = (report[name] / 1e6 for name in ("weights", "read"))
    products = ", ".join(f"{name} {report['limits']['products'][name] / 1e9:,.0f}" for name in TOLD)
    lines = [
        f"### Model {report['model']}: {weights:,.0f}M weights, {read:,.0f}M of them read a token",
        "",
        f"{setting['cpu']} ({setting['flags']}), {setting['threads']} threads; {setting['versions']}. "
        f"Our int8 and int4 with {setting['flow']} between. "
        f"Medians of {setting['repeats']} rounds, {setting['prompt']} + {setting['new']} tokens. "
        f"Limits: {report['limits']['bandwidth'] / 1e9:.1f} GB/s; products in GFLOP/s: {products}.",
        "",
        f"| tokens/s (share of the limit) | prompt | one stream | {setting['streams']} streams | with their prompts "
        f"| beam {setting['beams']} | loading / weights (without mapped files) | rest of memory, MB |",
        "|---|---|---|---|---|---|---|---|",
        *map(_row, report["figures"]),
        "",
        "| asked for | ours | theirs | ratio | at least |",
        "|---|---|---|---|---|",
        *(f"| {' | '.join(goal)} |" for goal in report["goals"]),
    ]
    for title, said in _notes(report):
        lines += ["", f"{title}: {'; '.join(said)}."] if said else []
    return "\n".join(lines) + "\n"


def _row(figures: dict[str, Any]) -> str:
    name = f"{figures['system']} {figures['precision']}"
    if why := figures["notes"].get(""):
        return f"| {name} | {why} | | | | | | |"
    cells = [_cell(figures["rates"][task], figures["shares"].get(task)) for task in TASKS]
    memory = figures["memory"]
    own = f" ({memory['load_own']:.2f})" if memory["load_own"] else ""
    load = f"{memory['load']:.2f}{own}" if memory["load"] else ""
    rest = f"{memory['rest'] / 1e6:,.0f}" if memory["rest"] else ""
    return f"| {name} | {' | '.join(cells)} | {load} | {rest} |"


def _cell(rate: float | None, share: float | None) -> str:
    return "" if not rate else f"{rate:,.1f}" + (f" ({share:.0%})" if share else "")


def _notes(report: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Headings, and what is said under each."""
    named = {f"{figures['system']} {figures['precision']}": figures for figures in report["figures"]}
    yield (
        "Left out",
        [f"{name}, {TASKS[task]}: {why}" for name, row in named.items() for task, why in row["notes"].items() if task],
    )
    yield (
        "Fastest ways",
        [f"{name}, {TASKS[task]}: {way}" for name, row in named.items() for task, way in row["ways"].items()],
    )
    yield (
        "First tokens of one stream that are those of the first fp32",
        [f"{name} {count}" for name, count in report["same_tokens"].items()],
    )
