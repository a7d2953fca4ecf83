"""The tables of a page: options beside their defaults, an exam beside its controls."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..config import ModelConfig, to_dict
from ..config.options import ClassifyOptions, DpoOptions, PretrainOptions, RewardOptions, SftOptions
from ..config.options.reinforcement import GrpoOptions, PpoOptions
from ..config.presets import PRESETS, preset
from ..text.figures import NONE

DEFAULTS = {
    "pretrain": PretrainOptions, "sft": SftOptions, "classify": ClassifyOptions, "reward": RewardOptions,
    "dpo": DpoOptions, "ppo": PpoOptions, "grpo": GrpoOptions,
}  # fmt: skip
LANGUAGES = {"en": "English", "zh": "Chinese"}


@dataclass(frozen=True)
class Setting:
    """One option: its dotted name, its value and what it would have been, as words."""

    name: str
    value: str
    default: str

    @property
    def changed(self) -> bool:
        return self.value != self.default


def settings(options: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[Setting]:
    """Every option beside its default, in the order of the options."""
    flat, usual = flatten(options), flatten(defaults)
    return [Setting(name, words(value), words(usual[name]) if name in usual else NONE) for name, value in flat.items()]


def stage_defaults(stage: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What the options of a stage are where nobody says anything; a preset brings its own shape."""
    defaults = to_dict(DEFAULTS[stage]()) if stage in DEFAULTS else {}
    if options.get("preset") in PRESETS and isinstance(defaults.get("model"), dict):
        defaults["model"] = to_dict(preset(options["preset"]))
    return defaults


def shape_settings(shape: Mapping[str, Any]) -> list[Setting]:
    """A model's shape beside that of ModelConfig()."""
    return settings(shape, to_dict(ModelConfig()))


def flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Example: {"train": {"lr": 0.1}} -> {"train.lr": 0.1}"""
    flat: dict[str, Any] = {}
    for name, value in data.items():
        inner = isinstance(value, Mapping) and value
        flat |= flatten(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return flat


def words(value: Any) -> str:
    """A value as YAML would have it, a list with one item a line."""
    if isinstance(value, str):
        return value or "none"
    if isinstance(value, list | tuple):
        short = all(isinstance(item, int | float) for item in value)
        return (", " if short else "\n").join(map(words, value)) or "none"
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


@dataclass(frozen=True)
class Score:
    """A row of an exam: a kind of question, how many, the share right in each column, and what guessing reaches."""

    kind: str
    questions: int
    right: Sequence[float | None]
    guesses: Sequence[float | None]


@dataclass(frozen=True)
class ExamTable:
    """The scores of one language."""

    language: str
    columns: Sequence[str]
    guesses: Sequence[str]
    rows: Sequence[Score]


def exam_tables(exams: Mapping[str, Mapping[str, Any]]) -> list[ExamTable]:
    """A table a language, the sum last.

    exams: column -> what an exam reported; the controls of the last one that has any stand beside.
    """
    last = list(exams.values())[-1] if exams else {}
    guessed = [exam["controls"] for exam in exams.values() if exam.get("controls")]
    tables = []
    for language, kinds in last.get("scores", {}).items():
        controls = guessed[-1].get(language, {}) if guessed else {}
        guesses = list(controls.get("all", {}))
        rows = [
            Score(
                kind,
                int(kinds[kind]["questions"]),
                [exam.get("scores", {}).get(language, {}).get(kind, {}).get("exact") for exam in exams.values()],
                [controls.get(kind, {}).get(guess) for guess in guesses],
            )
            for kind in sorted(kinds, key=lambda kind: kind == "all")
        ]
        tables.append(ExamTable(LANGUAGES.get(language, language), list(exams), guesses, rows))
    return tables
