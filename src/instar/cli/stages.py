"""`instar pretrain`, `sft` and `classify`: options -> stage -> table; `instar plan` tells what any will take."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from ..config import InputError, unknown
from ..config.flags import parse
from ..config.options import ClassifyOptions, PretrainOptions, SftOptions
from ..config.recipe import pretrain_start
from .screen import Screen, table


def pretrain_options(arguments: list[str], program: str = "instar pretrain") -> PretrainOptions:
    return parse(PretrainOptions, arguments, program=program, start=pretrain_start)


def sft_options(arguments: list[str], program: str = "instar sft") -> SftOptions:
    return parse(SftOptions, arguments, program=program)


def classify_options(arguments: list[str], program: str = "instar classify") -> ClassifyOptions:
    return parse(ClassifyOptions, arguments, program=program)


def pretrain(arguments: list[str]) -> None:
    """Train a new model on texts, or on pairs of them."""
    train("pretrain", pretrain_options(arguments))


def sft(arguments: list[str]) -> None:
    """Teach a model to answer."""
    train("sft", sft_options(arguments))


def classify(arguments: list[str]) -> None:
    """Teach a model labels."""
    train("classify", classify_options(arguments))


def train(name: str, options: Any) -> None:
    """Run a stage of `train.stages` and show its report."""
    from ..train import stages

    screen = Screen(options)
    finish(screen, getattr(stages, name)(options, say=screen.say), options.out)


def plan(arguments: list[str]) -> None:
    """What a stage will take on this machine; takes the command line of that stage and writes nothing."""
    from . import alignment

    readers: dict[str, Callable[..., Any]] = {
        "pretrain": pretrain_options, "sft": sft_options, "classify": classify_options,
        "reward": alignment.reward_options, "dpo": alignment.dpo_options,
    }  # fmt: skip
    name = arguments[0] if arguments else ""
    if name in ("", "-h", "--help"):
        sys.stdout.write(USAGE + "\n")
        raise SystemExit(0 if name else 2)
    if name in ("ppo", "grpo"):
        raise InputError(
            f"instar plan cannot foresee {name}, whose batches are answers that no one has given yet; measure it: run "
            f"instar {name} with --train.steps 2 and another --out, whose report.json has seconds, and memory by model"
        )
    if name not in readers:
        raise unknown("command to plan", name, readers)
    options = readers[name](arguments[1:], f"instar plan {name}")
    from ..train import alignment as aligned
    from ..train import plan as plans
    from ..train.forecast import forecast
    from ..train.stages import stage_of

    screen = Screen(options)
    home = plans if hasattr(plans, f"plan_{name}") else aligned
    report = forecast(stage_of(options, getattr(home, f"plan_{name}"), say=screen.say))
    for drawing in _forecast_tables(report):
        screen.show(drawing)
    screen.finish(report)


USAGE = """usage: instar plan pretrain|sft|classify|reward|dpo OPTIONS of that command

What it will take before it starts: weights, bytes by part, optimizer steps, tokens, and the time as a short measurement
on this machine gives it. Nothing is written."""


def _forecast_tables(report: dict[str, Any]) -> list[Any]:
    size = report["bytes"]
    names = ["weights", "gradients", "moments", "activations", "logits", "work", "needed", "peak", "free"]
    if size["reference"]:
        names.insert(1, "reference")
    seconds = report["seconds"]
    time = "not measured: it does not fit" if seconds is None else f"{seconds / 60:.1f} minutes"
    figures: list[list[Any]] = [
        ["weights of the model", report["parameters"]],
        *([["of them learn", report["trained"]]] if report["frozen"] else []),
        ["optimizer steps", report["steps"]],
        ["of them warm-up", report["warmup_steps"]],
        ["tokens a step", report["tokens_per_step"]],
        ["tokens in all", report["tokens"]],
        ["passes over the data", report["epochs"]],
        ["tokens a second", report["tokens_per_second"]],
        ["time of the steps", time],
    ]
    return [
        table(f"\n{report['stage']} on {report['device']} in {report['compute']}", ["", "planned"], figures),
        table(
            "\nmemory at its peak",
            ["", "MiB"],
            [[name, "" if size[name] is None else f"{size[name] / 2**20:,.1f}"] for name in names],
            note="needed: the most alive at once; peak: of the whole process, measured"
            if size["fits"]
            else "DOES NOT FIT: lower train.micro_tokens, or set train.recompute",
        ),
    ]


def finish(screen: Screen, report: dict[str, Any], out: str) -> None:
    figures = [
        [name.replace("_", " "), value] for name, value in report.items() if isinstance(value, (int, float, str))
    ]
    screen.show(table(out, ["", "value"], figures))
    screen.finish(report)
