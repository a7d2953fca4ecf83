"""Multiple choice: the likeliest of several continuations, or the context that makes one likeliest.

The figures are those of lm-evaluation-harness (Gao et al.): acc takes the choice of the largest log-probability,
acc_norm that of the largest per character of the choice, so that a short choice is not preferred for being short.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..config import InputError
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer
from . import fields
from .likelihood import Likelihood, after, score

WANTED = '{"query", "choices", "gold"} or {"context_options", "continuation", "gold"}'
GROUPS = ("subject",)  # what a record may say it should be counted under
BLANK = " "


@dataclass(frozen=True)
class Question:
    """pairs: context and continuation of each choice, joined they are one text; sizes: characters of each choice;
    gold: the place of the right one."""

    pairs: list[tuple[str, str]]
    sizes: list[int]
    gold: int
    groups: dict[str, str]


@dataclass(frozen=True)
class Chosen:
    """A question with the likelihood of each choice."""

    question: Question
    found: list[Likelihood]

    @property
    def plain(self) -> int:
        """The likeliest choice; the first of equals."""
        return max(range(len(self.found)), key=lambda n: self.found[n].logprob)

    @property
    def normed(self) -> int:
        """The likeliest per character."""
        return max(range(len(self.found)), key=lambda n: self.found[n].logprob / self.question.sizes[n])


def question_of(record: Mapping[str, Any], between: str = BLANK) -> Question:
    """A record {"query", "choices", "gold"}, or {"context_options", "continuation", "gold"} as in WinoGrande, where the
    contexts are chosen from. between: see `join`. Raises InputError for another shape."""
    if "context_options" in record:
        contexts = fields.texts(record, "context_options", WANTED, least=2)
        choices = [fields.text(record, "continuation", WANTED)] * len(contexts)
    else:
        choices = fields.texts(record, "choices", WANTED, least=2)
        contexts = [fields.text(record, "query", WANTED)] * len(choices)
    for number, choice in enumerate(choices):
        if not choice.strip():
            raise InputError(f"choice {number} is {choice!r}, wanted a text")
    gold = fields.place(record, "gold", WANTED, choices)
    pairs = [join(context, choice, between) for context, choice in zip(contexts, choices)]
    return Question(pairs, [len(choice) for choice in choices], gold, fields.groups(record, GROUPS))


def join(context: str, continuation: str, between: str = BLANK) -> tuple[str, str]:
    """The two with what stands between them, which is the context's; blanks at its end are the continuation's when the
    likelihood is taken. A single blank is left out where one stands already, before nothing, and beside a Chinese
    character, whose script has none."""
    if between == BLANK:
        edges = context[-1:], continuation[:1]
        if not context or any(edge.isspace() or is_wide(edge) for edge in edges):
            return context, continuation
    return context + between, continuation


def is_wide(character: str) -> bool:
    """Whether it belongs to a script written without blanks: Chinese characters, kana, and their full-width signs."""
    return "\u2e80" <= character <= "\u9fff" or "\uf900" <= character <= "\ufaff" or "\uff00" <= character <= "\uffef"


def choose(
    model: Transformer,
    tokenizer: Tokenizer,
    questions: Sequence[Question],
    *,
    batch: int = 64,
    each: Callable[[int], None] = lambda done: None,
) -> tuple[list[Chosen], int]:
    """Every choice of every question, and how many contexts lost their beginning because the model reads no more.

    each: called with how many more choices were read. Raises InputError for a choice longer than the model reads.
    """
    windows = after(model, tokenizer, [pair for question in questions for pair in question.pairs])
    found = iter(score(model, windows, batch=batch, each=each))
    chosen = [Chosen(question, [next(found) for _ in question.pairs]) for question in questions]
    return chosen, sum(window.cut > 0 for window in windows)


def report(chosen: Sequence[Chosen]) -> dict[str, Any]:
    """records, acc, acc_norm, guessing (what a blind guess gets), and these for each value of the groups."""
    rows = [
        {
            "acc": float(one.plain == one.question.gold),
            "acc_norm": float(one.normed == one.question.gold),
            "guessing": 1 / len(one.found),
        }
        for one in chosen
    ]
    return fields.by_groups(rows, [one.question.groups for one in chosen], GROUPS, fields.means)
