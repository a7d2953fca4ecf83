"""What --reward names: folders of reward models and Python functions, with weights. Nothing is loaded here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .errors import InputError

HUB = "hf:"
OURS = "instar."
_WEIGHTED = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)\*(.+)", re.DOTALL)
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


@dataclass(frozen=True)
class RewardTerm:
    """One part of a reward: weight times what a model or a function says."""

    weight: float
    kind: Literal["model", "function"]
    name: str


def reward_terms(said: Sequence[str]) -> list[RewardTerm]:
    """Example: ("0.5*runs/reward 1*mymod:score",) -> half a model's reward and a function's. Raises InputError for what
    is neither a folder nor module:function, and for a weight that is no number or 0."""
    words = [word for part in said for word in ([part] if _known(part) else part.split())]
    if not words:
        raise InputError("no reward: name the folder of a reward model, or module:function")
    return [_term(word) for word in words]


def refuse_python(said: Sequence[str], where: str) -> None:
    """Raises InputError where a file names Python of its own, which would let whoever wrote the file run it; what the
    package itself holds may be named anywhere."""
    for term in reward_terms(said):
        if term.kind == "function" and not term.name.startswith(OURS):
            raise InputError(
                f"{where} names the function {term.name}; Python is run from the flag alone: say --reward {term.name}"
            )


def _known(word: str) -> bool:
    return Path(_split(word)[1]).is_dir()


def _split(word: str) -> tuple[str, str]:
    """The weight as it is written, and what is weighed. A folder may have a star in its name."""
    found = _WEIGHTED.fullmatch(word)
    return ("1", word) if found is None or Path(word).is_dir() else (found[1], found[2])


def _term(word: str) -> RewardTerm:
    spelt, name = _split(word)
    try:
        weight = float(spelt)
    except ValueError:
        raise InputError(f"--reward {word}: the weight {spelt!r} is no number") from None
    if not weight or abs(weight) == float("inf"):
        raise InputError(f"--reward {word}: a weight of {spelt} is none; leave that part out, or weigh it")
    if Path(name).is_dir() or name.startswith(HUB):
        return RewardTerm(weight, "model", name)
    if _FUNCTION.fullmatch(name):
        return RewardTerm(weight, "function", name)
    raise InputError(
        f"--reward {word}: found neither a folder nor module:function in {name!r}; example: --reward 0.5*runs/reward "
        "1*mymodule:score"
    )
