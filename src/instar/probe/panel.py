"""What a view of a model is made of: numbers, pictures of them, and the checks that prove them. Knows no torch model.

A panel is drawn as text, SVG, PNG and HTML and written as JSON and safetensors by the modules beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from ..config import InputError

Array = np.ndarray
# share: 0 to 1, zero is the ground; signed: both ways from zero; plain: from its lowest to its highest
Scale = Literal["share", "signed", "plain"]


class Words(NamedTuple):
    """A text for people, in both languages."""

    en: str
    zh: str

    def of(self, language: str) -> str:
        return self.zh if language == "zh" else self.en


UNSAID = Words("", "")
Label = str | Words  # a token or a name, which is the same in every language, or a word of ours, which is not
Series = Mapping[Any, Sequence[float]]  # keys are labels


class Unfit(InputError):
    """A view that does not apply to this model or text, and why, in both languages."""

    def __init__(self, why: Words) -> None:
        super().__init__(why.en)
        self.why = why


def why_not(error: InputError) -> Words:
    """What an error says, in both languages where it does."""
    return error.why if isinstance(error, Unfit) else Words(str(error), str(error))


@dataclass(frozen=True)
class Check:
    """A proof made on this very text: a gap and how wide it may be. NaN is red."""

    name: str
    gap: float
    limit: float
    about: Words

    @property
    def green(self) -> bool:
        return self.gap <= self.limit

    def record(self) -> dict[str, Any]:
        gap = self.gap if math.isfinite(self.gap) else None
        return {"name": self.name, "gap": gap, "limit": self.limit, "green": self.green, "about": self.about._asdict()}


@dataclass(frozen=True)
class Matrix:
    """values (R, C) with a label for each row and column, or none: attention of a head, a map of positions."""

    title: Words
    values: Array
    rows: Sequence[Label] = ()
    columns: Sequence[Label] = ()
    scale: Scale = "share"
    row_title: Words = UNSAID
    column_title: Words = UNSAID


@dataclass(frozen=True)
class Atlas:
    """values (L, H, R, C): a small picture of each head."""

    title: Words
    values: Array
    scale: Scale = "share"


@dataclass(frozen=True)
class Bars:
    """One bar for each label and series; `low` and `high` are the ends of its interval, where it has one."""

    title: Words
    labels: Sequence[Label]
    series: Series
    unit: Words = UNSAID
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True)
class Lines:
    """Curves over a common x; a value that is not finite leaves a gap."""

    title: Words
    x: Sequence[float]
    series: Series
    x_title: Words = UNSAID
    y_title: Words = UNSAID
    dots: bool = True


@dataclass(frozen=True)
class Cells:
    """A grid of short texts, shaded by values (R, C): what each layer would say at each place."""

    title: Words
    texts: Sequence[Sequence[Label]]
    values: Array
    rows: Sequence[Label] = ()
    columns: Sequence[Label] = ()
    scale: Scale = "share"


@dataclass(frozen=True)
class Arcs:
    """Lines between tokens: (from, to, weight), `above` a line of tokens or, with `sources`, between two lines."""

    title: Words
    tokens: Sequence[str]
    arcs: Sequence[tuple[int, int, float]]
    sources: Sequence[str] = ()


@dataclass(frozen=True)
class Strip:
    """Tokens in reading order, each shaded by its value; `notes` are said beside or on hovering."""

    title: Words
    tokens: Sequence[str]
    values: Sequence[float]
    scale: Scale = "share"
    notes: Sequence[Label] = ()


@dataclass(frozen=True)
class Table:
    """Rows of texts and numbers under named columns."""

    title: Words
    columns: Sequence[Words]
    rows: Sequence[Sequence[Any]]
    note: Words = UNSAID


@dataclass(frozen=True)
class Tree:
    """Nodes of a search: (parent or -1, label, value, state), a parent before its children; state is kept, pruned,
    done or best."""

    title: Words
    nodes: Sequence[tuple[int, str, float, str]]


@dataclass(frozen=True)
class Flow:
    """Steps in the order in which they happen, each with what goes on there: (name, what)."""

    title: Words
    steps: Sequence[tuple[Words, Label]]


@dataclass(frozen=True)
class Scatter:
    """Points (label, x, y)."""

    title: Words
    points: Sequence[tuple[Label, float, float]]
    x_title: Words = UNSAID
    y_title: Words = UNSAID


Figure = Matrix | Atlas | Bars | Lines | Cells | Arcs | Strip | Table | Tree | Flow | Scatter


@dataclass(frozen=True)
class About:
    """What an array is of, beside the tokens that a panel is about: two are subtracted only where that is equal.

    what: anything that can be compared, None where no two are of the same; rows: the same of each row, the first of
    which are subtracted as far as they are equal; why: said where something was not subtracted."""

    what: Any = ()
    rows: Sequence[Any] | None = None
    why: Words = UNSAID


@dataclass(frozen=True)
class Panel:
    """One view of one text. data: what there is to say, as JSON knows it; arrays: the numbers, by name, as they were
    computed; figures: how they are drawn; checks: what was proven of them; notes: what a reader must know; about: what
    arrays are of, by name, where that is not the text alone."""

    view: str
    title: Words
    data: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)
    figures: Sequence[Figure] = ()
    checks: Sequence[Check] = ()
    notes: Sequence[Words] = ()
    about: Mapping[str, About] = field(default_factory=dict)

    @property
    def green(self) -> bool:
        return all(check.green for check in self.checks)


@dataclass(frozen=True)
class Heading:
    """What panels are of. model, vs: their names; shape: the model in a line; tokens, source: (id, piece) of what was
    read; options: those that are not as they usually are; left_out: views that do not apply, and why."""

    model: str = ""
    vs: str = ""
    shape: Words = UNSAID
    text: str = ""
    source_text: str = ""
    tokens: Sequence[tuple[int, str]] = ()
    source: Sequence[tuple[int, str]] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    left_out: Mapping[str, Words] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """For the head of a drawing. Example: demo/sft · Anna has a ball. · layer=2"""
        models = f"{self.model} − {self.vs}" if self.vs else self.model
        text = self.source_text or self.text or " ".join(str(id) for id, _ in self.source or self.tokens)
        asked = ", ".join(f"{name}={value}" for name, value in self.options.items())
        return " · ".join(part for part in (models, text, asked) if part)

    def record(self) -> dict[str, Any]:
        return {
            "model": self.model, "vs": self.vs, "shape": self.shape.en, "text": self.text, "source": self.source_text,
            "token_ids": [id for id, _ in self.tokens], "source_ids": [id for id, _ in self.source],
            "options": dict(self.options), "left_out": {name: why._asdict() for name, why in self.left_out.items()},
        }  # fmt: skip


NOWHERE = Heading()
