"""A recipe: one YAML file that holds the options of every stage of a life."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from .errors import InputError
from .options import PretrainOptions, SftOptions, TokenizerTrainOptions
from .presets import preset
from .strict import from_dict


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
class Recipe:
    """A whole life. `out`, `model` and `tokenizer` of the stages are filled in by `grow`."""

    # the name the finished model goes by
    name: str = "instar"
    # seed of every stage
    seed: int = 0
    tokenizer: TokenizerTrainOptions = field(default_factory=TokenizerTrainOptions)
    pretrain: PretrainOptions = field(default_factory=PretrainOptions)
    # first lessons: SFT on what is easier, so that reading forms sooner; left out where it names no data
    lessons: SftOptions = field(default_factory=SftOptions)
    sft: SftOptions = field(default_factory=SftOptions)
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
    for name in ("tokenizer", "pretrain", "sft"):
        if not getattr(recipe, name).data:
            raise InputError(f"{name}.data is missing; name files, folders or world:...")
    return replace(
        recipe,
        pretrain=replace(recipe.pretrain, seed=recipe.seed),
        lessons=replace(recipe.lessons, seed=recipe.seed),
        sft=replace(recipe.sft, seed=recipe.seed),
    )
