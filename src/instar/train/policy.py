"""What PPO, GRPO and RLOO learn from answers that were sampled: one clipped objective, which differs in what it is
given.

Everything is a sum over tokens with a weight each, and a count that is known before the forward pass, so that any
division of a step into micro-batches gives the gradient of one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..batch import Answers, Loss
from .advantages import k1, k3
from .logprobs import said_logprobs
from .objectives import balance

Parts = dict[str, tuple[Tensor, int]]


@dataclass(frozen=True, kw_only=True)
class Experience(Answers):
    """Answers that were sampled, and what was found out about them. `last`: the places that say their last tokens.

    One number for each of the S targets, in the order of all places: logprobs, of the policy that said them;
    advantages; weights, of each token in the losses; reference, log-probabilities under the reference; values and
    returns, what the critic said and what it should have said. divisor: what a step divides by, of this part of it;
    critic_only: the policy does not learn from it.
    """

    logprobs: Tensor
    advantages: Tensor
    weights: Tensor
    divisor: int
    reference: Tensor | None = None
    values: Tensor | None = None
    returns: Tensor | None = None
    critic_only: bool = False

    def count(self) -> int:
        return self.divisor


# How the losses of tokens become that of a step: the weight of a token, of the lengths (N,) of the answers and the
# longest there may be, and the divisor, of the same lengths.
Weighing = tuple[Callable[[Tensor, int], Tensor], Callable[[Tensor], int]]
WEIGHINGS: dict[str, Weighing] = {
    # every token of the step alike (DAPO, Yu et al. 2025, equation 12)
    "token": (lambda lengths, longest: torch.ones_like(lengths), lambda lengths: int(lengths.sum())),
    # the mean over answers of the mean over their tokens (GRPO, Shao et al. 2024, equation 3)
    "sequence": (lambda lengths, longest: 1 / lengths, lambda lengths: len(lengths)),
    # the sum over tokens by a constant, so that long answers are not favoured (Dr. GRPO, Liu et al. 2025)
    "constant": (lambda lengths, longest: torch.full_like(lengths, 1 / longest), lambda lengths: len(lengths)),
}


def policy_of(model: Any) -> Any:
    """The model itself."""
    return model


@dataclass(frozen=True)
class ClippedObjective:
    """Clipped policy loss, and where wanted clipped value loss, entropy bonus and KL to the reference.

    temperature: answers were drawn from softmax(logits / temperature), so that is the policy; clip_low, clip_high: the
    ratio counts only from 1 - clip_low to 1 + clip_high; entropy, kl: what a nat is worth or costs in the loss;
    value_weight, value_clip (0: not clipped); chunk: rows whose logits exist at once; policy: model -> what speaks;
    values: (model, batch) -> (S,), by the critic, None without one.
    """

    temperature: float = 1.0
    clip_low: float = 0.2
    clip_high: float = 0.2
    entropy: float = 0.0
    kl: float = 0.0
    value_weight: float = 0.1
    value_clip: float = 0.2
    chunk: int = 2048
    policy: Callable[[Any], Any] = policy_of
    values: Callable[[Any, Experience], Tensor] | None = None

    def __call__(self, model: Any, batch: Experience) -> Loss:
        terms: Parts = {}
        metrics: Parts = {}
        if not batch.critic_only:
            self._policy(self.policy(model), batch, terms, metrics)
        if self.values is not None:
            self._critic(self.values(model, batch), batch, terms, metrics)
        return Loss(terms, metrics)

    def _policy(self, model: Any, batch: Experience, terms: Parts, metrics: Parts) -> None:
        """The smaller of ratio * advantage and the same with the ratio clipped (Schulman et al. 2017, equation 7)."""
        said, spread, _ = said_logprobs(model, batch, temperature=self.temperature, chunk=self.chunk)
        ratio = (said - batch.logprobs).exp()
        clipped = ratio.clamp(1 - self.clip_low, 1 + self.clip_high)
        gain, safe = ratio * batch.advantages, clipped * batch.advantages
        terms["policy"] = -(torch.minimum(gain, safe) * batch.weights).sum(), batch.divisor
        if self.entropy:
            terms["entropy_bonus"] = -self.entropy * (spread * batch.weights).sum(), batch.divisor
        if self.kl and batch.reference is not None:
            terms["kl_loss"] = self.kl * (k3(said - batch.reference) * batch.weights).sum(), batch.divisor
        terms |= balance(model, batch.divisor)
        with torch.no_grad():
            means = {
                "entropy": spread, "ratio": ratio, "clip_fraction": (safe < gain).to(ratio.dtype),
                "old_kl": k3(batch.logprobs - said),
            }  # fmt: skip
            if batch.reference is not None:
                means |= {"kl_now": k1(said - batch.reference), "kl_now_k3": k3(said - batch.reference)}
            metrics.update({name: (each.detach().sum(), len(each)) for name, each in means.items()})

    def _critic(self, values: Tensor, batch: Experience, terms: Parts, metrics: Parts) -> None:
        """Half the larger of the squared error and that of the value kept near what it was (Schulman et al. 2016, as
        in their program)."""
        assert batch.values is not None
        assert batch.returns is not None
        error = (values - batch.returns).square()
        worst = error
        if self.value_clip:
            near = batch.values + (values - batch.values).clamp(-self.value_clip, self.value_clip)
            worst = torch.maximum(error, (near - batch.returns).square())
        terms["value"] = 0.5 * self.value_weight * (worst * batch.weights).sum(), batch.divisor
        metrics["value_error"] = error.detach().sum(), len(error)


def values_at(model: Any, batch: Answers, head: Any) -> Tensor:
    """What a head of numbers says at each place that has a target -> (S,), in fp32 at least, as rewards are read: in
    bf16 a value moves by hundredths, and what the critic is to learn is less."""
    hidden = model.hidden(batch.tokens, view=batch.view).flatten(0, 1)
    states = hidden.index_select(0, (batch.answer.flatten() >= 0).nonzero().squeeze(1))
    return head(states.to(torch.promote_types(states.dtype, torch.float32)))
