"""`instar reward`, `dpo`, `ppo` and `grpo`: options -> stage -> table."""

from __future__ import annotations

from typing import Any

from ..config.flags import parse
from ..config.options import DpoOptions, RewardOptions
from ..config.options.reinforcement import GrpoOptions, PpoOptions
from ..config.rewards import refuse_python
from .screen import Screen, table
from .stages import finish, train


def reward_options(arguments: list[str], program: str = "instar reward") -> RewardOptions:
    return parse(RewardOptions, arguments, program=program)


def dpo_options(arguments: list[str], program: str = "instar dpo") -> DpoOptions:
    return parse(DpoOptions, arguments, program=program)


def reward(arguments: list[str]) -> None:
    """Teach a model to say how good an answer is."""
    train("reward", reward_options(arguments))


def dpo(arguments: list[str]) -> None:
    """Make preferred answers likelier than others."""
    train("dpo", dpo_options(arguments))


def ppo_options(arguments: list[str], program: str = "instar ppo") -> PpoOptions:
    return _python_by_flag(parse(PpoOptions, arguments, program=program), arguments)


def grpo_options(arguments: list[str], program: str = "instar grpo") -> GrpoOptions:
    return _python_by_flag(parse(GrpoOptions, arguments, program=program), arguments)


def _python_by_flag(options: Any, arguments: list[str]) -> Any:
    """The same options. Raises InputError where a file names Python that is not ours."""
    if not any(word.partition("=")[0] == "--reward" for word in arguments):
        refuse_python(options.reward, "the file of --config")
    return options


def ppo(arguments: list[str]) -> None:
    """Make answers better by a reward, with a critic."""
    _reinforce("ppo", ppo_options(arguments))


def grpo(arguments: list[str]) -> None:
    """Make answers better by a reward, compared with others to the same prompt."""
    _reinforce("grpo", grpo_options(arguments))


def _reinforce(name: str, options: Any) -> None:
    """Run a stage of `train.reinforce` and show what was said before and after it, then its report."""
    from ..train import reinforce

    screen = Screen(options)
    report = getattr(reinforce, name)(options, say=screen.say)
    names = ("prompt", "before", "reward_before", "after", "reward_after")
    rows = [[_one_line(sample[name]) for name in names] for sample in report.get("samples", [])]
    if rows:
        screen.show(table("\nbefore and after", [name.replace("_", " ") for name in names], rows))
    finish(screen, report, options.out)


def _one_line(value: Any, size: int = 120) -> Any:
    """The end of a long text, where the question stands."""
    if not isinstance(value, str):
        return value
    line = " ".join(value.split())
    return line if len(line) <= size else f"…{line[1 - size :]}"
