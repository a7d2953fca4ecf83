"""What an answer is worth: by a reward model, by a Python function, or by a weighted sum of several.

Functions are foreign code: what they raise or give that is no number is told with the record, costs that answer alone,
and ends the run only where it happens too often.
"""

from __future__ import annotations

import importlib
import inspect
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from ..config import InputError
from ..config.rewards import RewardTerm, reward_terms
from ..data.prompts import Prompt
from ..infer.scoring import Scorer

SHOWN = 3  # failures that are told, of each phase


class Failed(str):
    """Why there is no number."""

    __slots__ = ()


Said = float | Failed
Judge = Callable[[Sequence[Prompt], Sequence[str]], list[Said]]


@dataclass(frozen=True)
class Judged:
    """scores (N,), nan where there is none; failures: number of the answer -> why; parts: name of each part -> the mean
    of what it said."""

    scores: list[float]
    failures: dict[int, str] = field(default_factory=dict)
    parts: dict[str, float] = field(default_factory=dict)


class Reward:
    """A weighted sum of what several judges say of the same answers."""

    def __init__(self, terms: Sequence[RewardTerm], judges: Sequence[Judge]) -> None:
        self.terms, self.judges = list(terms), list(judges)

    @classmethod
    def load(cls, said: Sequence[str], scorer: Callable[[str], Scorer] = Scorer.load) -> Reward:
        """What --reward names. scorer: how a reward model is got from its folder. Raises InputError for a folder
        without a reward model, and for a function that is not there or takes other arguments."""
        judges: dict[str, Callable[[str], Judge]] = {"model": lambda name: Model(scorer(name)), "function": _function}
        terms = reward_terms(said)
        return cls(terms, [judges[term.kind](term.name) for term in terms])

    def __call__(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> Judged:
        """What each answer to the prompt beside it is worth."""
        if not answers:
            return Judged([])
        total = [0.0] * len(answers)
        failures: dict[int, str] = {}
        parts: dict[str, float] = {}
        for term, judge in zip(self.terms, self.judges):
            found = judge(prompts, answers)
            good = [said for said in found if not isinstance(said, Failed)]
            if good:
                parts[term.name] = sum(good) / len(good)
            for number, said in enumerate(found):
                if isinstance(said, Failed):
                    failures.setdefault(number, f"{term.name} {said}")
                else:
                    total[number] += term.weight * said
        scores = [math.nan if number in failures else value for number, value in enumerate(total)]
        return Judged(scores, failures, parts if len(self.terms) > 1 else {})

    @property
    def models(self) -> list[Any]:
        """The reward models in it."""
        return [judge.scorer.model for judge in self.judges if isinstance(judge, Model)]


@dataclass(frozen=True)
class Model:
    """A reward model, asked as it was trained: with its own tokenizer and template, the answer with its end."""

    scorer: Scorer

    def __call__(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[Said]:
        said = [[*prompt.messages, {"role": "assistant", "content": text}] for prompt, text in zip(prompts, answers)]
        try:
            if not any(prompt.tools for prompt in prompts):
                return [_number(score) for score in self.scorer.messages(said)]
        except InputError:
            pass  # one of them is at fault: one by one, so that it costs no other
        return [self._one(messages, prompt) for messages, prompt in zip(said, prompts)]

    def _one(self, messages: list[Any], prompt: Prompt) -> Said:
        try:
            return _number(self.scorer.messages([messages], tools=prompt.tools)[0])
        except InputError as error:
            return Failed(f"refused it: {error}")


@dataclass(frozen=True)
class Function:
    """f(record, answer) -> number; or f(records, answers) -> numbers, where its first parameter is called `records`."""

    function: Callable[..., Any]
    many: bool

    def __call__(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[Said]:
        if self.many:
            found = self._called([prompt.record for prompt in prompts], list(answers))
            if not isinstance(found, Failed) and _is_list(found, len(answers)):
                return [_number(value) for value in found]
            return [self._alone(prompt.record, text) for prompt, text in zip(prompts, answers)]
        return [_number(self._called(prompt.record, text)) for prompt, text in zip(prompts, answers)]

    def _alone(self, record: Mapping[str, Any], text: str) -> Said:
        """One answer of a function that takes lists."""
        found = self._called([record], [text])
        if isinstance(found, Failed):
            return found
        return (
            _number(found[0])
            if _is_list(found, 1)
            else Failed(f"gave {_shown(found)} for a list of 1, wanted 1 number")
        )

    def _called(self, *given: Any) -> Any:
        try:
            return self.function(*given)
        except Exception as error:
            return Failed(f"raised {type(error).__name__}: {error}")


def _is_list(found: Any, count: int) -> bool:
    """One value for each of so many answers, in their order. A tensor without axes has a length by name alone."""
    sized = hasattr(found, "__len__") and hasattr(found, "__getitem__") and getattr(found, "ndim", 1) > 0
    return sized and not isinstance(found, (str, bytes, Mapping)) and len(found) == count


def _number(value: Any) -> Said:
    if isinstance(value, Failed):
        return value
    if hasattr(value, "item") and getattr(value, "size", None) is not None and getattr(value, "ndim", 0) == 0:
        value = value.item()  # a number of numpy or torch
    if not isinstance(value, Real):
        return Failed(f"gave {_shown(value)}, wanted a number")
    try:
        number = float(value)
    except OverflowError:
        return Failed(f"gave a number of {type(value).__name__} too large for a float, wanted a finite number")
    return number if math.isfinite(number) else Failed(f"gave {number}, wanted a finite number")


def _shown(value: Any) -> str:
    return "None" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"


def _function(name: str) -> Judge:
    """Raises InputError where there is none of this name that takes a record and an answer."""
    module, _, path = name.partition(":")
    with _here():
        try:
            found: Any = importlib.import_module(module)
        except Exception as error:
            raise InputError(f"--reward {name}: {module} cannot be imported: {type(error).__name__}: {error}") from None
    for part in path.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise InputError(f"--reward {name}: {module} has no function {path}")
    try:
        names = list(inspect.signature(found).parameters)
        inspect.signature(found).bind({}, "")
    except (TypeError, ValueError):
        raise InputError(f"--reward {name}: wanted a function of two arguments, the record and the answer") from None
    return Function(found, many=names[:1] == ["records"])


@contextmanager
def _here() -> Iterator[None]:
    """Modules in the working directory are found, as `python -m` finds them."""
    sys.path.insert(0, os.getcwd())
    try:
        yield
    finally:
        sys.path.remove(os.getcwd())


@dataclass
class Failures:
    """How many answers had no reward, of all; too many end the run. One may have none, unless the limit is 0."""

    limit: float
    failed: int = 0
    answers: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.limit <= 1.0:
            raise InputError(f"rollouts.bad_rewards={self.limit}; wanted a share from 0 (none) to 1 (any number)")

    def add(
        self, judged: Judged, prompts: Sequence[Prompt], answers: Sequence[str], say: Callable[[str], None]
    ) -> None:
        """Count and tell those of a phase. Raises InputError where they are more than the share."""
        self.failed += len(judged.failures)
        self.answers += len(judged.scores)
        told = [
            f"{why}; it was given {prompts[number].where} and the answer {answers[number][:60]!r}"
            for number, why in list(judged.failures.items())[:SHOWN]
        ]
        for text in told:
            say(f"warning: no reward: {text}; this answer is left out")
        if self.failed > math.ceil(self.limit * self.answers):
            raise InputError(
                f"{self.failed} of {self.answers} answers have no reward, and rollouts.bad_rewards={self.limit:g} of "
                f"them may have none; the first of the last phase: {told[0]}"
                if told
                else f"{self.failed} of {self.answers} answers have no reward"
            )
