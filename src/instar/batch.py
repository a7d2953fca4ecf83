"""What travels between data, model and loss: View, Batch and Loss."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

# A target that teaches nothing. Targets are masked by place, never by token id.
IGNORE = -100

D = TypeVar("D", bound="View | Batch")


def _to(value: D, device: torch.device | str) -> D:
    """The same dataclass with every tensor (and nested View) on `device`."""
    inside: dict[str, Any] = {f.name: getattr(value, f.name) for f in fields(value)}
    moved: Any = {name: x.to(device) for name, x in inside.items() if isinstance(x, (Tensor, View))}
    return replace(value, **moved)


@dataclass(frozen=True)
class View:
    """Where each token stands, which document it belongs to, whether it is real, which of several texts it is of. None
    means the plain answer: positions 0, 1, 2, ...; one document; every token real; one text.

    positions, segments, branches, types (B, T) int64; keep (B, T) bool. A token attends only inside its own segment,
    and there to the trunk, which is branch 0, and to its own branch: answers to one prompt share it in one row, each
    with positions that go on where the prompt ends.
    """

    positions: Tensor | None = None
    segments: Tensor | None = None
    keep: Tensor | None = None
    types: Tensor | None = None
    branches: Tensor | None = None

    def to(self, device: torch.device | str) -> View:
        return _to(self, device)


@dataclass(frozen=True)
class Batch:
    """tokens (B, T) int64; targets (B, T): what position t should say (next, already shifted, for a language model), or
    IGNORE; (B, 1) where one answer is wanted of a whole text. source (B, S): what an encoder-decoder reads. evidence
    (B, T, 2): where in its row the words that a target rests on begin and end, [begin, end); 0, 0: nobody says."""

    tokens: Tensor
    targets: Tensor
    view: View = field(default_factory=View)
    source: Tensor | None = None
    source_view: View | None = None
    evidence: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        return _to(self, device)

    def count(self) -> int:
        """How many targets teach. Known before the forward pass, so a step can divide by its exact total."""
        return int((self.targets != IGNORE).sum())


@dataclass(frozen=True, kw_only=True)
class Answers(Batch):
    """Answers to prompts, of which several may stand in a row, and share it with their prompt.

    targets: the tokens of the answers, their ends counted, each at the place that should say it, IGNORE elsewhere;
    answer (B, T) int64: the number of the answer that a target is of, -1 where there is none; last (N,) int64: where
    the last token of each of the N answers stands, in a row of all places.
    """

    answer: Tensor
    last: Tensor

    @property
    def answers(self) -> int:
        return len(self.last)


@dataclass(frozen=True, kw_only=True)
class PreferencePairs(Answers):
    """Answers 0, 2, 4 ... were each preferred to the one after it. margin (N/2,): by how much at least, in rewards;
    reference (N,): log-probabilities of the answers under the reference, where they were computed beforehand."""

    margin: Tensor | None = None
    reference: Tensor | None = None

    def count(self) -> int:
        """Pairs."""
        return self.answers // 2


@dataclass(frozen=True)
class Loss:
    """terms: name -> (sum over targets with gradient, how many targets): never means, so that micro-batches and
    ranks add up exactly. metrics: name -> (sum, count), without gradient."""

    terms: dict[str, tuple[Tensor, int]]
    metrics: dict[str, tuple[Tensor, int]] = field(default_factory=dict)
