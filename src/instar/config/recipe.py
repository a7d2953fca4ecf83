"""A recipe: one YAML file that holds the options of every stage of a life."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from .errors import InputError, unknown
from .options import ClassifyOptions, EvalOptions, PretrainOptions, SftOptions, TokenizerTrainOptions
from .presets import preset
from .strict import from_dict

STAGES = ("pretrain", "lessons", "sft", "classify")


@dataclass(frozen=True)
class ExamOptions:
    """The questions that are asked before and after SFT."""

    # records with known answers, on facts that training never told; the scores that count
    data: tuple[str, ...] = ()
    # harder ones, printed beside without a floor
    beside: tuple[str, ...] = ()
    # questions answered at a time
    batch: int = 128


@dataclass(frozen=True)
class TalkOptions:
    """What is said to the finished model, so that its owner sees it answer."""

    # records whose questions are put to the model
    data: tuple[str, ...] = ()
    # plain messages
    say: tuple[str, ...] = ()


@dataclass(frozen=True)
class TestOptions:
    """A measurement of one stage, with the figure that counts."""

    # what it is called in tables
    name: str = ""
    # the stage that is measured: pretrain, sft, classify or fresh
    of: str = "pretrain"
    # the figure of the report that counts
    figure: str = "accuracy"
    # what is hoped for; 0 hopes for nothing
    goal: float = 0.0
    # what `instar eval` is told; the model is that of the stage
    eval: EvalOptions = field(default_factory=EvalOptions)


@dataclass(frozen=True)
class Recipe:
    """A whole life. `out`, `model` and `tokenizer` of the stages are filled in by `grow`; a stage that names no data is
    left out."""

    # the name the finished model goes by
    name: str = "instar"
    # seed of every stage
    seed: int = 0
    tokenizer: TokenizerTrainOptions = field(default_factory=TokenizerTrainOptions)
    pretrain: PretrainOptions = field(default_factory=PretrainOptions)
    # first lessons: SFT on what is easier, so that reading forms sooner
    lessons: SftOptions = field(default_factory=SftOptions)
    sft: SftOptions = field(default_factory=SftOptions)
    # labels, learnt from the last model of the stages before
    classify: ClassifyOptions = field(default_factory=ClassifyOptions)
    # learn the labels once more from fresh weights, to see what pretraining was worth
    fresh: bool = False
    # what is measured at the end
    tests: tuple[TestOptions, ...] = ()
    exam: ExamOptions = field(default_factory=ExamOptions)
    talk: TalkOptions = field(default_factory=TalkOptions)


def pretrain_start(said: dict[str, Any]) -> PretrainOptions:
    """The pretraining options to begin with once the preset is known."""
    name, changes = said.get("preset", "nano"), said.get("model", {})
    if not isinstance(changes, dict):
        raise InputError(f"model: found {changes!r}, wanted a mapping of options")
    return PretrainOptions(preset=name, model=preset(name, **changes))


def read_recipe(data: dict[str, Any]) -> Recipe:
    """Plain data, as load_yaml gives it -> a recipe. Raises InputError naming the full path."""
    stage = data.get("pretrain", {})
    start = Recipe(pretrain=pretrain_start(stage if isinstance(stage, dict) else {}))
    recipe = from_dict(Recipe, data, base=start)
    for name in ("tokenizer", "pretrain"):
        if not getattr(recipe, name).data:
            raise InputError(f"{name}.data is missing; name files, folders or world:...")
    if recipe.lessons.data and not recipe.sft.data:
        raise InputError("sft.data is missing, and lessons come before it; name files, folders or world:...")
    if recipe.exam.data and not recipe.sft.data:
        raise InputError("sft.data is missing, and the exam asks before and after it; name files, folders or world:...")
    if recipe.fresh and not recipe.classify.data:
        raise InputError("fresh=true learns the labels of classify once more, and classify.data is missing; name it")
    stages = {"pretrain", *(name for name in ("lessons", "sft", "classify") if getattr(recipe, name).data)}
    if recipe.fresh:
        stages.add("fresh")
    for number, test in enumerate(recipe.tests):
        if test.of not in stages:
            raise unknown(f"stage of tests[{number}]", test.of, stages)
        if not test.eval.data:
            raise InputError(f"tests[{number}].eval.data is missing; name files, folders or world:...")
    seeded = {name: replace(getattr(recipe, name), seed=recipe.seed) for name in STAGES}
    return replace(recipe, **seeded)
