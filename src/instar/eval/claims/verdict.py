"""What is said of language models, held against one model: a claim, what a verdict of it is, and how sure it is.

The rule of each claim is written down beside it, and is the same for every model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any, Literal, Protocol

import numpy as np

from ...config import InputError, ModelConfig
from ...data.world import records
from ...data.world.ontology import LANGUAGES
from ...model.transformer import Transformer
from ...probe.panel import UNSAID, Figure, Label, Words, why_not
from ...text.tokenizer import Tokenizer
from ..metrics import Watch

Array = np.ndarray
Outcome = Literal["holds", "fails", "unclear"]
Interval = tuple[float, float]

RESAMPLES = 2000
SURE = 0.95
USUAL = 64  # texts of a figure, at the usual size
SPOKEN = 1.1  # bytes a token stands for at least in a language that its tokenizer has learnt
# the world tells everything by number; training begins at seed 0, and these are another's
STORIES_SEED = 90_017


class Fit(Protocol):
    """Trains a new model of a shape on texts as ids: the loss of each step, of fewer where it diverged."""

    def __call__(
        self, config: ModelConfig, texts: Sequence[Sequence[int]], steps: int, *, lr: float = ..., seed: int = ...
    ) -> list[float]: ...


class Silent:
    """Nobody looks on."""

    def say(self, text: str) -> None:
        pass

    def counting(self, what: str, total: int | None = None) -> AbstractContextManager[Callable[[int], None]]:
        return nullcontext(lambda done: None)


@dataclass(frozen=True)
class Case:
    """The model that claims are held against, and how much work that may be.

    limit: texts of a figure, to which all else is in proportion; 0 is the usual number. data: files of people's own
    texts, for the claims that look at such too. fit: trains a small model for the claims that need one.
    """

    model: Transformer
    tokenizer: Tokenizer
    seed: int = 0
    limit: int = 0
    data: Sequence[str] = ()
    fit: Fit | None = None
    watch: Watch = field(default_factory=Silent)

    def scaled(self, usual: int, least: int = 2) -> int:
        """As many as `usual` at the usual size, in proportion at another, and at least so many."""
        return max(least, round(usual * (self.limit or USUAL) / USUAL))

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """Of the world's languages those whose words the tokenizer knows: elsewhere it spells bytes, or has one token
        for all that it does not know. Raises InputError where there is none."""
        found = []
        for code in LANGUAGES:
            texts = [record["text"] for record in records(f"world:stories?lang={code}&count=8&seed={STORIES_SEED}")]
            encoded = self.tokenizer.encode_batch(texts)
            few = sum(len(text.encode()) for text in texts) >= SPOKEN * sum(map(len, encoded))
            if few and all(_letters(text) == _letters(self.tokenizer.decode(ids)) for text, ids in zip(texts, encoded)):
                found.append(code)
        if not found:
            raise InputError("the tokenizer knows the words of neither English nor Chinese, in which the texts are")
        return tuple(found)

    def records(self, task: str, count: int, **keys: Any) -> list[Mapping[str, Any]]:
        """So many records of the world, its languages in turn where the tokenizer speaks both.

        Example: case.records("stories", 8, annotate=1) reads world:stories?lang=en,zh&count=8&seed=90017&annotate=1
        """
        asked = {"lang": ",".join(self.languages), "count": count, "seed": STORIES_SEED + self.seed} | keys
        query = "&".join(f"{name}={value}" for name, value in asked.items())
        return list(islice(records(f"world:{task}?{query}"), count))

    def stories(self, count: int) -> list[str]:
        """So many stories that training has hardly told: by another seed than any recipe's."""
        return [record["text"] for record in self.records("stories", count, facts=0)]


def _letters(text: str) -> str:
    """What is left of a text where a tokenizer knows no capitals and blanks of its own."""
    return "".join(sign for sign in text.casefold() if sign.isalnum())


@dataclass(frozen=True)
class Finding:
    """What was measured. figure: the number that the verdict is of, with its interval over texts and what chance would
    give, each None where there is no such; count: of how many texts; found: what that says, in numbers; how: how it
    was measured; figures: how it is drawn; data: all numbers."""

    verdict: Outcome
    figure: float | None
    found: Words
    interval: Interval | None = None
    chance: float | None = None
    count: int = 0
    how: Words = UNSAID
    figures: Sequence[Figure] = ()
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """A claim and what was found. said: what the textbook says; unit: what the figure is; rule: when it holds, of
    every model; the rest as in Finding."""

    claim: str
    verdict: Outcome
    figure: float | None
    interval: Interval | None
    chance: float | None
    count: int
    title: Words
    said: Words
    found: Words
    unit: Words = UNSAID
    rule: Words = UNSAID
    how: Words = UNSAID
    figures: Sequence[Figure] = ()
    data: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """As JSON knows it, without pictures."""
        words = {name: getattr(self, name)._asdict() for name in ("title", "unit", "said", "rule", "found", "how")}
        interval = None if self.interval is None else list(self.interval)
        return {
            "claim": self.claim, "verdict": self.verdict, "figure": self.figure, "interval": interval,
            "chance": self.chance, "count": self.count, **words, "data": dict(self.data),
        }  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """What is said, when that holds, and how it is measured: called with a case it gives a verdict.

    An InputError, where a model lacks what a claim is about, makes the verdict unclear, and says why.
    """

    name: str
    title: Words
    unit: Words
    said: Words
    rule: Words
    measure: Callable[[Case], Finding]

    def __call__(self, case: Case) -> Verdict:
        try:
            found = self.measure(case)
        except InputError as error:
            why = why_not(error)
            found = Finding("unclear", None, Words(f"Not measured: {why.en}.", f"未能测量：{why.zh}。"))
        return Verdict(
            self.name, found.verdict, found.figure, found.interval, found.chance, found.count, self.title, self.said,
            found.found, self.unit, self.rule, found.how, found.figures, found.data,
        )  # fmt: skip


def worded(names: Iterable[str], chinese: Mapping[str, str]) -> list[Label]:
    """Labels in both languages, where a Chinese one is known; others are the same in both."""
    return [Words(name, chinese[name]) if name in chinese else name for name in names]


def curves_of(series: Mapping[str, Sequence[float]], chinese: Mapping[str, str]) -> dict[Any, Sequence[float]]:
    """Series whose names are `worded`."""
    return dict(zip(worded(series, chinese), series.values()))


def resamples(count: int, seed: int = 0) -> Array:
    """Which of `count` texts each bootstrap sample holds: (2000, count) numbers of texts."""
    if count < 1:
        raise InputError("found no texts to measure; wanted at least one")
    return np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))


def interval(
    values: Sequence[float] | Array, seed: int = 0, statistic: Callable[[Array], Array] | None = None
) -> Interval:
    """The 95 % bootstrap interval (Efron 1979, percentiles) of the mean over texts, 2,000 resamples; values: one for
    each text, (N,) or (N, ...).

    statistic: (R, N, ...) resampled texts -> (R,), for what is no mean. Raises InputError where there is no text.
    """
    table = np.asarray(values, np.float64)
    found = (statistic or (lambda drawn: drawn.mean(1)))(table[resamples(len(table), seed)])
    low, high = np.quantile(found, [(1 - SURE) / 2, (1 + SURE) / 2])
    return float(low), float(high)


def against(found: Interval, bar: float) -> Outcome:
    """Whether all of an interval lies above the bar, none of it, or it is unclear."""
    low, high = found
    if math.isnan(low) or math.isnan(high):
        return "unclear"
    return "holds" if low > bar else "fails" if high <= bar else "unclear"


def together(outcomes: Sequence[Outcome]) -> Outcome:
    """Of a claim with several parts: it holds where all do, and fails where one does."""
    return "fails" if "fails" in outcomes else "unclear" if "unclear" in outcomes or not outcomes else "holds"


def mean(values: Sequence[float] | Array) -> float:
    """Of a figure of each text."""
    return float(np.mean(np.asarray(values, np.float64)))


def span(found: Interval, form: str = ".2f") -> str:
    """Example: 0.12 to 0.34 -> "[0.12, 0.34]"."""
    return f"[{found[0]:{form}}, {found[1]:{form}}]"


def parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """So many at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
