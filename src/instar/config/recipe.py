"""A recipe: one YAML file that holds the options of every stage of a life."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from .data import DataRecipe, read_data_recipe
from .errors import InputError, unknown
from .options import ClassifyOptions, EvalOptions, PretrainOptions, SftOptions, TokenizerTrainOptions
from .options.alignment import DpoOptions, RewardOptions
from .options.reinforcement import GrpoOptions, PpoOptions
from .presets import preset
from .rewards import refuse_python
from .strict import from_dict, load_yaml

# learnt from what people prefer, each from the model of SFT or of the stage that it names
TUNED = ("reward", "dpo", "ppo", "grpo")
STAGES = ("pretrain", "lessons", "sft", *TUNED, "classify")


@dataclass(frozen=True)
class ExamOptions:
    """The questions that are asked before and after SFT, and after each stage of preference tuning."""

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
    # the stage that is measured, by its name here
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
    left out. Preference tuning alone may say in `model` which stage it goes on from, where that is not sft, and in
    `reward` that the reward model of this life pays, by its name there: reward, or with a weight 0.5*reward."""

    # the name the finished model goes by
    name: str = "instar"
    # seed of every stage
    seed: int = 0

    # raw files that are refined first, or the YAML file of such a recipe; the tokenizer is made of the refined texts,
    # and pretraining reads them, where they name no data of their own
    data: DataRecipe = field(default_factory=DataRecipe)
    tokenizer: TokenizerTrainOptions = field(default_factory=TokenizerTrainOptions)
    pretrain: PretrainOptions = field(default_factory=PretrainOptions)
    # first lessons: SFT on what is easier, so that reading forms sooner
    lessons: SftOptions = field(default_factory=SftOptions)
    sft: SftOptions = field(default_factory=SftOptions)
    # which of two answers is better, said as a number
    reward: RewardOptions = field(default_factory=RewardOptions)
    # preferred answers made likelier than others
    dpo: DpoOptions = field(default_factory=DpoOptions)
    # answers made better by a reward, with a critic
    ppo: PpoOptions = field(default_factory=PpoOptions)
    # and by comparing several answers to one prompt
    grpo: GrpoOptions = field(default_factory=GrpoOptions)
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
    raw = data.get("data")
    if isinstance(raw, str):
        raw = load_yaml(raw)
    recipe = from_dict(Recipe, data if raw is None else data | {"data": raw}, base=start)
    if raw is not None:
        recipe = replace(recipe, data=_refined(raw))
    for name in ("tokenizer", "pretrain"):
        if not getattr(recipe, name).data and not recipe.data.sources:
            raise InputError(
                f"{name}.data is missing; name files, folders or world:..., or raw files under data.sources"
            )
    if recipe.lessons.data and not recipe.sft.data:
        raise InputError("sft.data is missing, and lessons come before it; name files, folders or world:...")
    if recipe.exam.data and not recipe.sft.data:
        raise InputError("sft.data is missing, and the exam asks before and after it; name files, folders or world:...")
    if recipe.fresh and not recipe.classify.data:
        raise InputError("fresh=true learns the labels of classify once more, and classify.data is missing; name it")
    stages = {"pretrain", *(name for name in STAGES[1:] if sources_of(getattr(recipe, name)))}
    _check_tuned(recipe, stages)
    if recipe.fresh:
        stages.add("fresh")
    for number, test in enumerate(recipe.tests):
        if test.of not in stages:
            raise unknown(f"stage of tests[{number}]", test.of, stages)
        if not test.eval.data:
            raise InputError(f"tests[{number}].eval.data is missing; name files, folders or world:...")
    seeded = {name: replace(getattr(recipe, name), seed=recipe.seed) for name in STAGES}
    return replace(recipe, **seeded)


def _refined(raw: dict[str, Any]) -> DataRecipe:
    try:
        return read_data_recipe(raw)
    except InputError as error:
        raise InputError(f"data: {error}") from None


def sources_of(options: Any) -> tuple[str, ...]:
    """The data of a stage; without any it is left out."""
    return options.prompts if hasattr(options, "prompts") else options.data


def parent_of(recipe: Recipe, name: str) -> str:
    """The stage that a stage of preference tuning goes on from."""
    return getattr(recipe, name).model or "sft"


def paid_by_reward(said: str) -> str | None:
    """What stands before the name of this life's reward model where one part of a reward is that, else None.
    Example: "0.5*reward" -> "0.5*" """
    weight, star, name = said.rpartition("*")
    return weight + star if name == "reward" else None


def _check_tuned(recipe: Recipe, stages: set[str]) -> None:
    """Raises InputError where preference tuning has nothing to go on from or nobody to pay, and where a recipe would
    run Python of its own."""
    for name in TUNED:
        if name not in stages:
            continue
        before = {stage for stage in STAGES[: STAGES.index(name)] if stage in stages and stage != "reward"}
        if (parent := parent_of(recipe, name)) not in before:
            raise unknown(f"value of {name}.model, a stage before it that speaks:", parent, before)
        if name in ("reward", "dpo"):
            continue
        said = getattr(recipe, name).reward
        others = [part for part in said if paid_by_reward(part) is None]
        if len(others) < len(said) and "reward" not in stages:
            raise InputError(f"{name}.reward names the reward model of this life, and reward.data is missing; name it")
        if others or not said:
            refuse_python(others, f"{name}.reward")
