"""How often the better of two answers is found better: by a reward model, or by a language model, whose rewards are
implicit in what it finds likely (Rafailov et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..config import InputError
from ..data.comparisons import Comparison, comparison_of
from ..data.preferences import answered
from ..data.records import Message
from ..infer.scoring import Scorer, is_reward
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer
from . import fields
from .likelihood import Window, reach, score

WANTED = '{"prompt", "chosen", "rejected"}'
GROUPS = ("lang", "kind", "aspect")  # what a record may say it should be counted under
PART = 512  # pairs scored between two looks at the clock
Report = dict[str, Any]


@dataclass(frozen=True)
class Compared:
    """A pair with the reward of each answer. groups: what the pair is counted under."""

    comparison: Comparison
    chosen: float
    rejected: float
    groups: dict[str, str]

    @property
    def right(self) -> float:
        """1 where the better answer has the higher reward; equal ones count half, since a coin would do as well."""
        return float(self.chosen > self.rejected) + (self.chosen == self.rejected) / 2


def pair_of(record: Mapping[str, Any]) -> tuple[Comparison, dict[str, str]]:
    """A record {"prompt", "chosen", "rejected"} and its groups. Raises InputError for another shape."""
    return comparison_of(record), fields.groups(record, GROUPS)


def compare(
    model: Transformer,
    tokenizer: Tokenizer,
    pairs: Sequence[tuple[Comparison, dict[str, str]]],
    *,
    reference: Transformer | None = None,
    batch: int = 64,
    each: Callable[[int], None] = lambda done: None,
) -> list[Compared]:
    """The rewards of both answers of each pair: those that a reward model says, or a language model's `Implicit` ones.
    each: called with how many more pairs were compared. Raises InputError for a model that has neither, a reference of
    a reward model, and an answer that cannot be read."""
    scorer: Scorer | Implicit
    if is_reward(model.config):
        if reference is not None:
            raise InputError("a reward model says its rewards and is held against no reference; leave it out")
        scorer = Scorer(model, tokenizer, batch=batch)
    else:
        scorer = Implicit(model, tokenizer, reference, batch)
    compared: list[Compared] = []
    for start in range(0, len(pairs), PART):
        part = pairs[start : start + PART]
        rewards: list[list[float]] = []
        for side in ("chosen", "rejected"):
            said = [[*pair.prompt, getattr(pair, side)] for pair, _ in part]
            rewards.append(_scored(scorer, said, [pair.tools for pair, _ in part]))
        compared += [Compared(pair, one, other, groups) for (pair, groups), one, other in zip(part, *rewards)]
        each(len(part))
    return compared


@dataclass(frozen=True)
class Implicit:
    """Rewards of answers as what their log-probability gained over that under a reference, in nats; without a reference
    log-probabilities themselves."""

    model: Transformer
    tokenizer: Tokenizer
    reference: Transformer | None = None
    batch: int = 64

    def messages(
        self, conversations: Sequence[Sequence[Message]], *, tools: Sequence[Any] | None = None
    ) -> list[float]:
        """Of the answers that end conversations. Raises InputError for one longer than the model reads."""
        found = answered(conversations, self.tokenizer, tools=tools)
        windows = [Window([*prompt, *answer], len(prompt)) for prompt, answer in found]
        longest = reach(self.model)
        for number, window in enumerate(windows):
            if len(window.ids) > longest + 1:
                raise InputError(
                    f"conversation {number} has {len(window.ids)} tokens, and the model reads {longest}, behind which "
                    "one more is said; leave it out"
                )
        own = [one.logprob for one in score(self.model, windows, batch=self.batch)]
        if self.reference is None:
            return own
        before = score(self.reference, windows, batch=self.batch)
        return [after - one.logprob for after, one in zip(own, before)]


def _scored(scorer: Scorer | Implicit, said: Sequence[Any], tools: Sequence[Any]) -> list[float]:
    """Conversations without tools together, each of the others by itself."""
    plain = iter(scorer.messages([one for one, used in zip(said, tools) if not used]) if not all(tools) else [])
    return [scorer.messages([one], tools=used)[0] if used else next(plain) for one, used in zip(said, tools)]


def report(compared: Sequence[Compared]) -> Report:
    """Pairs, accuracy, margin (how far the better answer is ahead on average), chosen and rejected (mean rewards); the
    same for each value of each group."""
    return fields.by_groups(compared, [one.groups for one in compared], GROUPS, _figures)


def _figures(compared: list[Compared]) -> Report:
    return fields.means(
        [
            {
                "accuracy": one.right, "margin": one.chosen - one.rejected, "chosen": one.chosen,
                "rejected": one.rejected,
            }
            for one in compared
        ]
    )  # fmt: skip
