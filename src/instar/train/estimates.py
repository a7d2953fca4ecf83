"""From what answers of a phase are worth to the advantage of each of their tokens: with a critic, or within groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .advantages import gae, leave_one_out, relative, whiten


@dataclass(frozen=True)
class Phase:
    """What is known of N answers, G to each prompt in turn, of which some may have no reward (valid). scores (N,), what
    missing ends cost taken off; mask (N, L): their tokens; charge (N, L): what the drift of each costs, in rewards;
    values (N, L): what the critic foresaw, None without one."""

    scores: Tensor
    valid: Tensor
    mask: Tensor
    charge: Tensor
    size: int
    values: Tensor | None = None

    def token_rewards(self) -> Tensor:
        """(N, L): each token pays for its drift, and the last one is given the score."""
        rewards = -self.charge * self.mask
        last = (self.mask.sum(1) - 1).clamp(min=0)
        rewards[torch.arange(len(last)), last] += torch.where(self.valid, self.scores, 0.0).to(rewards.dtype)
        return torch.where(self.mask, rewards, 0.0)


# (N, L) advantages, and returns where there is a critic
Estimate = Callable[[Phase], tuple[Tensor, Tensor | None]]


def by_critic(gamma: float, lam: float, whitened: bool) -> Estimate:
    """PPO's: generalised advantage estimation, then advantages whitened over all tokens of the phase. Rewards never
    are, since their mean says how good an answer is."""

    def estimate(phase: Phase) -> tuple[Tensor, Tensor | None]:
        assert phase.values is not None
        advantages, returns = gae(phase.token_rewards(), phase.values, phase.mask, gamma=gamma, lam=lam)
        return whiten(advantages, phase.mask) if whitened else advantages, returns

    return estimate


GROUPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "grpo": relative,
    "dr-grpo": lambda rewards, valid: relative(rewards, valid, scaled=False),
    "rloo": leave_one_out,
}


def by_groups(algorithm: str) -> Estimate:
    """Every token of an answer has the advantage of the answer in its group, drift charged to the whole of it."""
    compare = GROUPS[algorithm]

    def estimate(phase: Phase) -> tuple[Tensor, Tensor | None]:
        rewards = phase.scores.to(phase.charge.dtype) - (phase.charge * phase.mask).sum(1)
        grouped = compare(rewards.view(-1, phase.size), phase.valid.view(-1, phase.size)).flatten()
        return torch.where(phase.mask, grouped[:, None], 0.0), None

    return estimate


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float | None:
    """1 - Var(returns - values) / Var(returns) over real tokens: 1 where the critic foresaw all, 0 where it was no
    better than the mean; None where there is no variance to explain."""
    wanted, missed = returns[mask].double(), (returns - values)[mask].double()
    spread = float(wanted.var(correction=0)) if len(wanted) else 0.0
    return 1 - float(missed.var(correction=0)) / spread if spread > 0 else None
