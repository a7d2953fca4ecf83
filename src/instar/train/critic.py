"""Who takes part in PPO: a policy that speaks, a critic that foresees its rewards, a reference that it may not leave.

The critic is a network of its own. Together with the policy it is one model to the loop, so that one optimizer moves
both and one checkpoint holds them.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..batch import Answers
from ..config import InputError, ModelConfig
from ..model.transformer import Transformer
from .adapting import still
from .logprobs import said_logprobs
from .policy import values_at

Figures = Callable[[Any], Tensor]  # of Answers: one number for each target of a batch (S,)


class ActorCritic(nn.Module):
    """A policy and its critic, trained as one model. What the loop asks of a model is answered by both or, where only
    one can answer, by the policy."""

    def __init__(self, policy: Transformer, critic: Transformer, pace: float = 1.0) -> None:
        """pace: the critic's learning rate in those of the policy."""
        super().__init__()
        self.policy, self.critic = policy, critic
        self.paces = {"critic.": pace}

    @property
    def config(self) -> ModelConfig:
        return self.policy.config

    @property
    def encoder(self) -> Any:
        return self.policy.encoder

    @property
    def device(self) -> torch.device:
        return self.policy.device

    @property
    def dtype(self) -> torch.dtype:
        return self.policy.dtype

    @property
    def compute(self) -> torch.dtype | None:
        """Of activations and products of both."""
        return self.policy.compute

    @compute.setter
    def compute(self, dtype: torch.dtype | None) -> None:
        self.policy.compute = self.critic.compute = dtype

    @property
    def recompute(self) -> bool:
        return self.policy.recompute

    @recompute.setter
    def recompute(self, on: bool) -> None:
        self.policy.recompute = self.critic.recompute = on

    def size(self) -> int:
        """Weights of both."""
        return self.policy.size() + self.critic.size()

    def settle(self, add: Callable[[list[Tensor]], None] = lambda tensors: None) -> None:
        self.policy.settle(add)
        self.critic.settle(add)

    def forget(self) -> None:
        self.policy.forget()
        self.critic.forget()


def policy_in(model: Any) -> Transformer:
    """What speaks: the policy of an ActorCritic, any other model itself."""
    return model.policy if isinstance(model, ActorCritic) else model


def own_values(model: ActorCritic, batch: Answers) -> Tensor:
    """What the critic says of each token that was said, before it was -> (S,)."""
    return values_at(model.critic, batch, model.critic.heads["value"])


def critic_of(model: Transformer) -> Transformer:
    """A copy of this model's body with a head that says one number of each state: at first 0 of every one, or what a
    reward model's head says."""
    config = replace(model.config, heads_of=("value",), labels=1, label_names=(), tied=False)
    critic = Transformer(config, seed=0).to(model.device)
    body = {name: weight for name, weight in model.state_dict().items() if not name.startswith("heads.")}
    found = critic.load_state_dict(body, strict=False)
    lacks = [name for name in found.missing_keys if not name.startswith("heads.")] + found.unexpected_keys
    assert not lacks, f"a critic of another shape: {lacks[:4]}"
    head: Any = critic.heads["value"]
    before: Any = model.heads["classify"] if "classify" in model.heads else None  # noqa: SIM401  it has no get
    with torch.no_grad():
        if before is None:
            head.weight.zero_()
        else:
            head.weight.copy_(before.out.weight)
    return still(critic)


def frozen(model: Transformer) -> Transformer:
    """A copy that nothing moves."""
    return deepcopy(model).requires_grad_(False)


def logprobs_of(model: Transformer, temperature: float, chunk: int) -> Figures:
    """log p of each target under softmax(logits / temperature)."""
    return lambda batch: said_logprobs(model, batch, temperature=temperature, chunk=chunk)[0]


def check_reward_body(model: Transformer, reward: Transformer) -> None:
    """Raises InputError where a critic that begins as this reward model could not read what the policy says."""
    if reward.config.vocab_size != model.config.vocab_size:
        raise InputError(
            f"critic.start=reward: the reward model has vocab_size={reward.config.vocab_size}, the policy "
            f"{model.config.vocab_size}; a critic reads the policy's tokens, so say critic.start=policy"
        )
