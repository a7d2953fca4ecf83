"""report.html of a run: one file that tells it all, offline, without a script and with nothing from elsewhere.

It is made of what lies in the run's folder and of nothing else, so the same folder gives the same bytes. Texts of
models and data are strangers' words: every one is escaped, and the page forbids scripts on top.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..data.disk import put
from ..text.figures import NONE, count, figure, number, seconds, short
from ..text.page import PAGE, render
from .births import birth_charts
from .curves import Chart, Curve, chart, smooth_points
from .history import History, mean_of_last, read_history
from .run import RECIPE
from .tables import exam_tables, settings, shape_settings, stage_defaults

SMALL = (376, 190)
EVALUATIONS = 12  # whose samples are shown
RECENT = 20  # steps whose mean is the final training loss
SIDES = {"chosen": "smooth", "rejected": "held-out"}  # the answers of a pair -> how their curves are drawn
PAIRED = ("reward", "dpo")  # stages that learn from pairs of answers
Card = tuple[str, str, str]  # label, value, note


def write_page(folder: Path, say: Callable[[str], None]) -> None:
    """Write the page of a run, whether it reached its end or was stopped. Raises nothing: `say` hears what is wrong."""
    if (folder / RECIPE).is_file():
        put(folder / PAGE, lambda: render_run(folder), say)


def render_run(folder: Path) -> str:
    """The page as text. Raises InputError or ValueError where the folder's files are damaged."""
    run = read_history(folder)
    options = run.recipe.get("options", {})
    return render(
        "train/run.html.jinja",
        run=run,
        name=_name(options.get("out") or folder.name),
        state=state(run),
        cards=cards(run),
        charts=charts(run),
        samples=samples(run.samples),
        left_out=max(0, len({row["step"] for row in run.samples}) - EVALUATIONS),
        settings=settings(options, stage_defaults(run.stage, options)),
        shape=shape_settings(run.recipe.get("model", {})),
        parent_page=link(folder, options.get("out", ""), run.recipe.get("parent", {}).get("folder", "")),
        baselines=baselines(run),
        exams=exam_tables({"right": run.exam}) if run.exam else [],
        exam=run.exam,
    )


def state(run: History) -> str:
    """How far it came."""
    if run.report:
        return "finished"
    return f"stopped at step {run.step:,} of {run.recipe.get('steps') or 0:,}"


def cards(run: History) -> list[Card]:
    """The figures one looks for first."""
    report, last = run.report or {}, run.rows[-1] if run.rows else {}
    held_out = [value for _, value in run.points("held_out_loss", sparse=True) if value is not None]
    loss = number(report.get("held_out_loss", held_out[-1] if held_out else None))
    skipped = len(run.skipped())
    found: list[Card | None] = [
        _large("weights", report.get("parameters", run.recipe.get("parameters"))),
        ("steps", count(run.step), "" if run.report else f"of {count(run.recipe.get('steps'))}"),
        _large("tokens read", report.get("tokens", last.get("tokens"))),
        _card("time in steps", report.get("seconds", last.get("seconds")), seconds),
        _card("tokens/s", report.get("tokens_per_second", last.get("tokens_per_second")), count),
        _card("training loss", mean_of_last(run.points("loss"), RECENT), figure, f"mean of the last {RECENT} steps"),
        _card("held-out loss", loss, figure, _unit(run)),
        _card("perplexity", None if _paired(run) else perplexity(loss), figure, "held out"),
        *([_card("pairs in order", report.get("held_out_accuracy"), figure, "held out")] if _paired(run) else []),
        _card("bits per byte", report.get("bits_per_byte"), figure, "held out"),
        ("skipped steps", count(skipped), "gradient not finite") if skipped else None,
    ]
    return [card for card in found if card]


def _paired(run: History) -> bool:
    return run.stage in PAIRED


def _unit(run: History) -> str:
    return "of a pair" if _paired(run) else "nats per token"


def _card(name: str, value: Any, show: Callable[[Any], str], note: str = "") -> Card | None:
    return None if number(value) is None else (name, show(value), note)


def _large(name: str, value: Any) -> Card | None:
    """A count that may be long: in short, and in full below."""
    return _card(name, value, short, count(value) if (number(value) or 0) >= 1e6 else "")


def charts(run: History) -> list[Chart]:
    """Loss in full width, then what goes with it; a figure without a finite value is left out."""
    skipped = run.skipped()
    drawn = [
        loss_chart(run, skipped),
        *birth_charts(run),
        chart(
            "Accuracy", "share of pairs in the right order" if _paired(run) else "share of tokens guessed right",
            [*_noisy(run, "accuracy"), _held_out(run, "held_out_accuracy")], zero=True, size=SMALL,
        ),
        *_pair_charts(run),
        chart("Learning rate", "of AdamW", [Curve("", "smooth", run.points("lr"))], zero=True, size=SMALL),
        chart("Gradient norm", "before clipping", _noisy(run, "grad_norm"), marks=skipped, size=SMALL),
        chart("Speed", "tokens a second", _noisy(run, "tokens_per_second"), zero=True, size=SMALL),
    ]  # fmt: skip
    return [one for one in drawn if one]


def _pair_charts(run: History) -> list[Chart | None]:
    """How far chosen answers are ahead of rejected ones, the rewards of both, and how far DPO has gone."""
    if not _paired(run):
        return []
    sides = [Curve(side, kind, smooth_points(run.points(f"reward_{side}"))) for side, kind in SIDES.items()]
    drift = run.points("drift")
    return [
        chart("Margin", "rewards of chosen over rejected", [*_noisy(run, "margin"), _held_out(run, "held_out_margin")],
              size=SMALL),
        chart("Rewards", "smoothed", sides, size=SMALL),
        chart("Drift", "nats an answer, below the reference", [Curve("", "smooth", smooth_points(drift))], size=SMALL),
    ]  # fmt: skip


def loss_chart(
    run: History, skipped: Sequence[int], title: str = "Loss", size: tuple[int, int] = (760, 300)
) -> Chart | None:
    """Every step faint, their mean, and what was measured on held-out data."""
    curves = [*_noisy(run, "loss"), _held_out(run, "held_out_loss")]
    return chart(title, _unit(run), curves, marks=skipped, size=size)


def _noisy(run: History, name: str) -> list[Curve]:
    points = run.points(name)
    return [Curve("each step", "raw", points), Curve("smoothed", "smooth", smooth_points(points))]


def _held_out(run: History, name: str) -> Curve:
    return Curve("held out", "held-out", run.points(name, sparse=True), dots=True)


def samples(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, str]]]:
    """prompt -> (step, continuation), in the order of the run; of very many evaluations an even choice, the last one
    among them."""
    steps = list(dict.fromkeys(row["step"] for row in rows))
    if len(steps) > EVALUATIONS:
        steps = [steps[number * (len(steps) - 1) // (EVALUATIONS - 1)] for number in range(EVALUATIONS)]
    groups: dict[str, list[tuple[int, str]]] = {}
    for row in rows:
        if row["step"] in steps:
            groups.setdefault(str(row["prompt"]), []).append((row["step"], str(row["text"])))
    return groups


def baselines(run: History) -> list[tuple[str, str, str, str]]:
    """(measure, the run, its first value, guessing evenly): what the figures are to be held against."""
    rows = 2 if _paired(run) else run.recipe.get("model", {}).get("vocab_size") or 0
    even = math.log(rows) if rows and run.recipe.get("options", {}).get("loss") != "ipo" else None
    found = [
        ("training loss", run.points("loss"), even),
        ("held-out loss", run.points("held_out_loss", sparse=True), even),
        ("training accuracy", run.points("accuracy"), 1 / rows if rows else None),
        ("held-out accuracy", run.points("held_out_accuracy", sparse=True), 1 / rows if rows else None),
    ]
    lines = []
    for name, points, guess in found:
        known = [(step, value) for step, value in points if value is not None]
        if known:
            now = mean_of_last(points, RECENT) if name.startswith("training") else known[-1][1]
            first = f"{figure(known[0][1])} (step {count(known[0][0])})" if len(known) > 1 else NONE
            lines.append((name, figure(now), first, figure(guess)))
    return lines


def link(folder: Path, out: str, target: str) -> str:
    """The way from the page of the run sent to `out` to that of the one in `target`, where it lies; relative, so that
    a life can be moved as a whole."""
    if not out or not target or Path(out).is_absolute() != Path(target).is_absolute():
        return ""
    way = Path(os.path.relpath(target, out)).as_posix()
    return quote(f"{way}/{PAGE}") if (folder / way / PAGE).is_file() else ""


def _name(out: str) -> str:
    """The last two parts of the path that the run was sent to. Example: runs/demo/sft -> demo/sft"""
    return "/".join(part for part in Path(out).parts[-2:] if part.strip("/.\\"))


def perplexity(loss: float | None) -> float | None:
    return math.exp(loss) if loss is not None and loss < 200 else None
