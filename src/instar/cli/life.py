"""`instar grow`: the whole life, then its closing tables and real exchanges."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from ..config import load_yaml
from ..config.flags import parse
from ..config.options import GrowOptions
from ..config.recipe import TUNED, read_recipe
from .measure import gaps_table
from .screen import Screen, table

# what guessing reaches -> its column; a screen has 80
GUESSES = {
    "majority": "majority",
    "first mentioned": "first",
    "last mentioned": "last",
    "random candidate": "random",
    "story removed": "no story",
    "model without story": "blind",
}
NOTE = "majority to no story: guesses; blind: this model without the story"
OTHERS = "beside: guesses, of which report.html has more; blind: the model after SFT without the story"


def grow(arguments: list[str]) -> int:
    """Raise a model through its whole life from one recipe; exit 1 where another program reads its folder otherwise."""
    options = parse(GrowOptions, arguments, program="instar grow")
    recipe = read_recipe(load_yaml(options.recipe))
    from ..grow.life import Life

    screen = Screen(options)
    life = Life(
        recipe, Path(options.out), device=options.device, quiet=options.quiet, say=screen.say,
        counting=screen.counting, measuring=screen.measuring,
    )  # fmt: skip
    report = life.grow()
    _show(screen, report, options.out)
    screen.finish(report)
    return int(report["verify"]["same"] is False)


def _show(screen: Screen, report: dict[str, Any], out: str) -> None:
    """The closing tables and exchanges, on the screen and as a picture beside the report."""
    after = report["exam"].get("after", {})
    drawings: list[Any] = [exam_table(report["exam"], lang) for lang in after.get("scores", {})]
    if after.get("beside"):
        drawings.append(beside_table(after["beside"]))
    drawings += [draw_exchange(exchange) for exchange in report.get("exchanges", [])]
    if report["tests"]:
        drawings.append(tests_table(report["tests"]))
    for drawing in drawings:
        screen.show(drawing)
    screen.show(gaps_table(report["verify"]["readers"]))
    screen.picture(drawings, Path(out) / "screen.svg", f"instar grow: {report['recipe']}")
    for line in closing_lines(report, out):
        screen.show(line)


def exam_table(exam: dict[str, Any], language: str) -> Table:
    """A row for each kind of question: before and after SFT, after each stage of preference tuning, and what guessing
    would reach; the sum last."""
    scores = {name: found["scores"][language] for name, found in exam.items()}
    after = scores["after"]
    controls = exam["after"].get("controls", {}).get(language, {})
    guesses = list(controls.get("all", {}))[len(scores) - 2 :]  # a screen has 80 columns
    rows = []
    for kind in sorted(after, key=lambda kind: kind == "all"):
        known = [controls.get(kind, {}).get(guess) for guess in guesses]
        rows.append([kind, int(after[kind]["questions"]), *(row[kind]["exact"] for row in scores.values()), *known])
    title = f"\n{language}: exactly right, before and after SFT, on facts never told in training"
    columns = ["kind", "asked", *scores, *[GUESSES.get(guess, guess) for guess in guesses]]
    note = NOTE if len(scores) == 2 else OTHERS
    return table(title, columns, rows, note=note if guesses else "", sums=True)


def beside_table(beside: dict[str, Any]) -> Table:
    """The harder questions, in all languages."""
    rows = [
        [language, name, int(score["questions"]), score["exact"]]
        for language, scores in beside.items()
        for name, score in scores.items()
    ]
    return table("\nharder questions, after SFT", ["language", "kind", "asked", "right"], rows)


def tests_table(tests: Sequence[dict[str, Any]]) -> Table:
    """A row for each measurement of the recipe."""
    rows = [[test["name"], test["of"], test["figure"].replace("_", " "), test["value"], test["goal"]] for test in tests]
    return table("\nmeasured", ["test", "stage", "figure", "value", "goal"], rows)


def draw_exchange(exchange: dict[str, Any]) -> Table:
    """What was said and what was answered, with a tick, or a cross and the wanted answer."""
    answer = Text(exchange["answer"] or "(nothing)", style="bold")
    if exchange.get("right") is not None:
        answer.append(" ✓" if exchange["right"] else " ✗", style="green" if exchange["right"] else "red")
        answer.append("" if exchange["right"] else f"  wanted: {exchange['wanted']}", style="not bold")
    drawing = Table.grid(padding=(0, 1, 0, 0))
    drawing.add_column(width=1)
    drawing.add_column(overflow="fold")
    drawing.add_row(Text(">", style="dim"), Text(exchange["user"]))
    drawing.add_row("", answer)
    if exchange.get("before", exchange["answer"]) != exchange["answer"]:
        drawing.add_row("", Text(f"after SFT alone: {exchange['before'] or '(nothing)'}", style="dim"))
    drawing.add_row("", "")
    return drawing


def stock(report: dict[str, Any]) -> bool:
    """Whether others read the finished folder: our own layout is ours alone."""
    return not report["architecture"].startswith("Instar")


def closing_lines(report: dict[str, Any], out: str) -> list[str]:
    """Where everything lies and how to go on."""
    seconds = report["seconds"]
    took = f"{seconds / 60:.1f} minutes" if seconds > 90 else f"{seconds:.0f} seconds"
    last, pretrain = f"{out}/{report['finished']}", shlex.quote(f"{out}/pretrain")
    talks, writes = report["finished"] in ("sft", *TUNED), report["architecture"].endswith("ForCausalLM")
    return [
        f"done in {took}",
        f"report:            {out}/report.json",
        f"to look at:        {out}/report.html",
        *([f"loss curve:        {report['picture']}"] if report.get("picture") else []),
        *([f"talk with it:      instar chat --model {shlex.quote(last)}"] if talks else []),
        *([f"continue a text:   instar generate --model {pretrain} --prompt 'Once upon a time'"] if writes else []),
        *([f"in transformers:   {report['architecture']}.from_pretrained({last!r})"] if stock(report) else []),
    ]
