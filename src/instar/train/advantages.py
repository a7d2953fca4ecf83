"""How much better than expected each token of an answer was: advantages, and what drift from a reference costs.

Tables are (N, L): N answers, padded to L tokens, with a mask (N, L) of those that are real. What stands elsewhere
changes nothing. Groups are (P, G): G answers to each of P prompts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..config import InputError

TINY = 1e-8  # added to a variance
SPREAD = 1e-4  # added to the standard deviation of a group, so that rounding among equal rewards stays nothing
STEEPEST = 0.2  # change of the adaptive coefficient over one horizon


def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float = 1.0, lam: float = 0.95
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (Schulman et al. 2016, equation 16), all (N, L) -> advantages and returns, 0 at
    padding.

    A(t) = d(t) + gamma lam A(t+1) with d(t) = r(t) + gamma V(t+1) - V(t); behind the last token nothing follows, so
    that its V(t+1) and A(t+1) are 0. returns = advantages + values, what the values are to become.
    """
    advantages = torch.zeros_like(rewards)
    ahead = next_value = rewards.new_zeros(len(rewards))
    for place in reversed(range(rewards.shape[1])):
        real = mask[:, place]
        delta = rewards[:, place] + gamma * next_value - values[:, place]
        ahead = torch.where(real, delta + gamma * lam * ahead, ahead)
        next_value = torch.where(real, values[:, place], next_value)
        advantages[:, place] = torch.where(real, ahead, 0.0)
    return advantages, torch.where(mask, advantages + values, 0.0)


def whiten(values: Tensor, mask: Tensor) -> Tensor:
    """The real ones with mean 0 and variance 1, as of a whole population; 0 at padding. Of fewer than two, as they
    are."""
    count = int(mask.sum())
    kept = torch.where(mask, values, 0.0)
    if count < 2:
        return kept
    mean = kept.sum() / count
    off = torch.where(mask, values - mean, 0.0)
    return off / (off.square().sum() / count + TINY).sqrt()


def relative(rewards: Tensor, valid: Tensor, *, scaled: bool = True) -> Tensor:
    """(P, G) -> (P, G): (r - mean) / std of its group (GRPO, Shao et al. 2024, section 4.1.2), std with G - 1 below the
    line; without the division where it is not `scaled` (Dr. GRPO, Liu et al. 2025). valid (P, G): those that have a
    reward; others have no part in the mean and get 0."""
    count = valid.sum(1, keepdim=True)
    mean = torch.where(valid, rewards, 0.0).sum(1, keepdim=True) / count.clamp(min=1)
    off = torch.where(valid, rewards - mean, 0.0)
    if not scaled:
        return off
    return off / ((off.square().sum(1, keepdim=True) / (count - 1).clamp(min=1)).sqrt() + SPREAD)


def leave_one_out(rewards: Tensor, valid: Tensor) -> Tensor:
    """(P, G) -> (P, G): each reward less the mean of the others of its group (RLOO, Kool et al. 2019; Ahmadian et al.
    2024, equation 8). valid: as in `relative`; an answer without valid others gets 0."""
    total = torch.where(valid, rewards, 0.0).sum(1, keepdim=True)
    others = valid.sum(1, keepdim=True) - 1
    return torch.where(valid & (others > 0), rewards - (total - rewards) / others.clamp(min=1), 0.0)


def k1(log_ratio: Tensor) -> Tensor:
    """log p/q of a sample of p: KL(p, q) without bias, of any sign (Schulman 2020, http://joschu.net/blog/kl-approx)"""
    return log_ratio


def k3(log_ratio: Tensor) -> Tensor:
    """q/p - 1 - log q/p of a sample of p, whose log p/q is given: KL(p, q) without bias, never below 0, and of less
    variance (Schulman 2020)."""
    return (torch.expm1(-log_ratio) + log_ratio).clamp(min=0.0)


ESTIMATORS: dict[str, Callable[[Tensor], Tensor]] = {"k1": k1, "k3": k3}


class KlCoefficient(Protocol):
    """What a nat of KL costs, in rewards."""

    value: float

    def update(self, kl: float, answers: int) -> None:
        """kl: of an answer, the sum over its tokens, as the mean over so many answers that were just sampled."""


@dataclass
class FixedKl:
    """Always the same."""

    value: float

    def update(self, kl: float, answers: int) -> None:
        pass


@dataclass
class AdaptiveKl:
    """Rises while the KL is above its target and falls while it is below (Ziegler et al. 2019, section 2.2):
    value *= 1 + clip(kl / target - 1, -0.2, 0.2) answers / horizon."""

    value: float
    target: float
    horizon: float

    def __post_init__(self) -> None:
        if not (self.target > 0 and self.horizon > 0 and self.value > 0):
            raise InputError(
                f"kl.target={self.target} and kl.horizon={self.horizon} with kl.coefficient={self.value}; an adaptive "
                "coefficient wants all three above 0; kl.target=0 keeps it fixed"
            )

    def update(self, kl: float, answers: int) -> None:
        if math.isfinite(kl):
            error = max(-STEEPEST, min(STEEPEST, kl / self.target - 1))
            self.value *= 1 + error * answers / self.horizon


def kl_coefficient(value: float, target: float, horizon: float) -> KlCoefficient:
    """Fixed where there is no target. Raises InputError for figures that mean nothing."""
    if not 0.0 <= value < math.inf:
        raise InputError(f"kl.coefficient={value}; wanted 0 or more")
    return AdaptiveKl(value, target, horizon) if target else FixedKl(value)
