"""`instar pretrain` and `instar sft`: options -> stage -> table."""

from __future__ import annotations

from typing import Any

from ..config.flags import parse
from ..config.options import PretrainOptions, SftOptions
from ..config.recipe import pretrain_start
from .screen import Screen, table


def pretrain(arguments: list[str]) -> None:
    """Train a new model to predict the next token."""
    options = parse(PretrainOptions, arguments, program="instar pretrain", start=pretrain_start)
    from ..train import stages

    screen = Screen(options)
    _finish(screen, stages.pretrain(options, say=screen.say), options.out)


def sft(arguments: list[str]) -> None:
    """Teach a model to answer."""
    options = parse(SftOptions, arguments, program="instar sft")
    from ..train import stages

    screen = Screen(options)
    _finish(screen, stages.sft(options, say=screen.say), options.out)


def _finish(screen: Screen, report: dict[str, Any], out: str) -> None:
    figures = [
        [name.replace("_", " "), value] for name, value in report.items() if isinstance(value, (int, float, str))
    ]
    screen.show(table(out, ["", "value"], figures))
    screen.finish(report)
