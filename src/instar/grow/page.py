"""report.html of a life: its stages as a lineage with the way to the page of each, exams beside controls, exchanges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import to_dict
from ..config.recipe import Recipe
from ..data.disk import put
from ..text.figures import count, figure, number, seconds, short
from ..text.page import PAGE, render
from ..train.curves import Chart, Curve, chart
from ..train.history import History, mean_of_last, read_history, read_json
from ..train.page import RECENT, SMALL, Card, loss_chart
from ..train.run import RECIPE
from ..train.tables import LANGUAGES, exam_tables, settings, stage_defaults

RECORD = "grow.json"
WAITING = "not begun"


@dataclass(frozen=True)
class Step:
    """A stage as the lineage shows it: facts and hashes are (name, value)."""

    name: str
    state: str
    page: str
    facts: Sequence[tuple[str, str]]
    hashes: Sequence[tuple[str, str]]
    run: History | None = None


def write_life(out: Path, report: Mapping[str, Any], states: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Write the page of a life, whole or stopped. Raises nothing: `say` hears what is wrong."""
    put(out / PAGE, lambda: render_life(out, report, states), say)


def render_life(out: Path, report: Mapping[str, Any], states: Mapping[str, str]) -> str:
    """The page as text. report: as far as it came; states: stage -> finished, stopped or not begun, in order.

    Raises InputError or ValueError where a file of a stage is damaged.
    """
    recipe = read_json(out / RECORD)["recipe"]
    steps = [_step(out, name, state, report["stages"].get(name, {})) for name, state in states.items()]
    runs = [step.run for step in steps if step.run]
    exam = report.get("exam", {})
    after = exam.get("after", {})
    last: Mapping[str, Any] = next((found for name, found in reversed(exam.items()) if name != "before"), {})
    return render(
        "grow/life.html.jinja",
        name=report["recipe"],
        finished="seconds" in report,
        begun=min((run.recipe["started"] for run in runs if "started" in run.recipe), default=""),
        ended=max((run.report["finished"] for run in runs if run.report and "finished" in run.report), default=""),
        cards=_cards(runs, last),
        steps=steps,
        charts=_charts(steps),
        exams=exam_tables(exam),
        exam=after,
        harder=_harder(after.get("beside", {})),
        exchanges=report.get("exchanges", []),
        tests=report.get("tests", []),
        settings=settings(recipe, _defaults(recipe)),
    )


def _step(out: Path, name: str, state: str, report: Mapping[str, Any]) -> Step:
    folder = out / name
    page = f"{name}/{PAGE}" if state != WAITING and (folder / PAGE).is_file() else ""
    if state == WAITING or not (folder / RECIPE).is_file():
        facts = [
            (fact, count(report[fact])) for fact in ("vocab_size", "documents", "bytes", "tokens") if fact in report
        ]
        return Step(name, state, page, _named(facts), [("fingerprint", report.get("fingerprint", ""))])
    run = read_history(folder)
    rows = run.rows[-1] if run.rows else {}
    facts = [
        ("steps", count(run.step)),
        ("tokens", count(rows.get("tokens"))),
        ("training loss", figure(mean_of_last(run.points("loss"), RECENT))),
        ("held-out loss", figure((run.report or rows).get("held_out_loss"))),
        ("time in steps", seconds(rows.get("seconds"))),
    ]
    hashes = [
        ("data", run.recipe.get("data", {}).get("fingerprint", "")),
        ("parent", run.recipe.get("parent", {}).get("sha256", "")),
    ]
    return Step(name, state, page, facts, hashes, run)


def _named(facts: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), value) for name, value in facts]


def _cards(runs: Sequence[History], exam: Mapping[str, Any]) -> list[Card]:
    """The figures one looks for first; steps, tokens and time are sums over the stages."""

    def total(name: str) -> float:
        return sum(number(run.rows[-1].get(name)) or 0 for run in runs if run.rows)

    weights = [(run.report or run.recipe).get("parameters") for run in runs]
    cards = [
        ("weights", short(weights[-1] if weights else None), count(weights[-1] if weights else None)),
        ("steps", count(sum(run.step for run in runs)), "of all stages"),
        ("tokens read", short(total("tokens")), count(total("tokens"))),
        ("time in steps", seconds(total("seconds")), ""),
    ]
    for language, kinds in exam.get("scores", {}).items():
        if "all" in kinds:
            note = f"of {count(kinds['all']['questions'])} exactly right"
            cards.append((f"exam, {LANGUAGES.get(language, language)}", f"{kinds['all']['exact']:.3f}", note))
    return cards


def _charts(steps: Sequence[Step]) -> list[Chart]:
    """The loss of each stage; where answers are paid, the mean reward."""
    drawn = [_chart(step.name, step.run) for step in steps if step.run]
    return [one for one in drawn if one]


def _chart(name: str, run: History) -> Chart | None:
    points = run.points("reward", sparse=True)
    if not points:
        return loss_chart(run, run.skipped(), f"Loss of {name}", SMALL)
    curves = [
        Curve("of what was sampled", "smooth", points),
        Curve("held out", "held-out", run.points("held_out_reward", sparse=True), dots=True),
    ]
    return chart(f"Reward of {name}", "mean of the answers", curves, size=SMALL)


def _harder(beside: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(kind, questions, share right) of the questions that no floor is set for."""
    return [
        (f"{LANGUAGES.get(language, language)}, {kind}", count(row["questions"]), f"{row['exact']:.3f}")
        for language, kinds in beside.items()
        for kind, row in kinds.items()
    ]


def _defaults(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return to_dict(Recipe()) | {"pretrain": stage_defaults("pretrain", recipe.get("pretrain", {}))}
