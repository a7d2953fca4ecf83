"""With LoRA the policy, its reference, its critic and a reward model are adapters on one trunk: one copy of the weights
in memory for four models.

The policy is the adapter that learns, the reference the one it came with or the bare base, the critic an adapter
`value` with a head of its own, and a reward model that was trained as an adapter on the same base is put beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..adapt import peft
from ..adapt.folders import load_adapted
from ..adapt.lora import activate, adapter_of, copied, freeze, hang, using, weights_of
from ..batch import Answers
from ..config import InputError
from ..hub.places import holds_adapter, resolve
from ..infer.reader import resting
from ..infer.scoring import Scorer, is_reward, rewards_at
from ..model.heads import NumberHead
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer
from .adapting import PREVIOUS, Adaptation
from .critic import Figures
from .logprobs import said_logprobs
from .policy import values_at

VALUE, REWARD = "value", "reward"


class SharedScorer(Scorer):
    """Rewards by an adapter of the model that is trained, and a head of its own."""

    def __init__(self, model: Transformer, tokenizer: Tokenizer, name: str, *, batch: int = 32) -> None:
        self.model, self.tokenizer, self.name, self.batch = model, tokenizer, name, batch

    def ids(self, rows: Sequence[Sequence[int]]) -> list[float]:
        with using(self.model, self.name), resting(self.model):
            return super().ids(rows)

    def said(self, hidden: Tensor, places: Tensor) -> Tensor:
        return rewards_at(_Headed(self.model.heads[self.name]), hidden, places)


class _Headed:
    """What answers by this head where a reward model is asked for its own."""

    def __init__(self, head: nn.Module) -> None:
        self.heads = {"classify": head}


def shares_base(name: str, adaptation: Adaptation | None) -> bool:
    """Whether a folder holds an adapter for the very base that a stage adapts."""
    if adaptation is None or not holds_adapter(folder := resolve(name)):
        return False
    base = peft.read(folder).base
    return base.sha256 is not None and base.sha256 == adaptation.base.sha256


def put_reward(model: Transformer, name: str, number: int = 0) -> SharedScorer:
    """Put the adapter of a reward model, with its head, on the trunk that it was made for; what is active stays. Raises
    InputError for a folder with no reward model, and for one with rows for tokens of its own."""
    other, tokenizer = load_adapted(name)
    if not is_reward(other.config):
        raise InputError(f"--reward {name}: it holds an adapter that says no reward; train one with instar reward")
    (old,) = other.active
    attached, own = other.attached[old], f"{REWARD}{number or ''}"
    if attached.tokens:
        raise InputError(f"--reward {name}: its adapter has rows for tokens of its own; merge it, and name the result")
    before = model.active
    deltas = {path: adapter_of(other, path, old).to(model.device) for path in attached.layers}
    hang(model, own, attached.options, deltas, {})
    model.attached[own] = replace(attached, name=own)
    model.heads[own] = other.heads["classify"]
    activate(model, *before)
    return SharedScorer(model, tokenizer, own)


def put_value(model: Transformer, adaptation: Adaptation, start: str, pace: float) -> None:
    """Put a critic on the trunk, beginning as the policy with a head that says 0, or as the reward model with its, and
    let gradients reach it and the policy alone. Raises InputError where no reward model is on the trunk to begin as."""
    if start == REWARD and REWARD not in model.attached:
        raise InputError(
            "critic.start=reward with an adapter: the reward model is no adapter on the same base; say "
            "critic.start=policy, or train the reward model with --lora.rank on that base"
        )
    copied(model, REWARD if start == REWARD else adaptation.name, VALUE)
    head = NumberHead(model.config).to(model.device)
    with torch.no_grad():
        if start == REWARD:
            head.weight.copy_(model.heads[REWARD].out.weight)  # type: ignore[union-attr, arg-type]
        else:
            head.weight.zero_()
    model.heads[VALUE] = head
    model.paces = {f"adapters.{VALUE}.": pace, f"heads.{VALUE}.": pace}
    freeze(model, train=(adaptation.name, VALUE), heads=(VALUE,))


def adapter_values(model: Any, batch: Answers) -> Tensor:
    """What the critic on the trunk says of each token that was said, before it was -> (S,)."""
    with using(model, VALUE):
        return values_at(model, batch, model.heads[VALUE])


def reference_on(model: Transformer, temperature: float, chunk: int) -> Figures:
    """log p of each target under what the policy was before: the adapter it came with, or the bare base."""
    names = (PREVIOUS,) if PREVIOUS in model.attached else ()

    def figures(batch: Answers) -> Tensor:
        with using(model, *names):
            return said_logprobs(model, batch, temperature=temperature, chunk=chunk)[0]

    return figures


def shared_bytes(model: Transformer) -> dict[str, int]:
    """Bytes of the base, of each adapter with its head, of all, and how much was saved: what as many models of their
    own would take more."""
    every = sum(weight.nbytes for weight in model.parameters())
    every += sum(buffer.nbytes for buffer in model.buffers())
    own = {name: sum(weight.nbytes for weight in weights_of(model, name).values()) for name in model.attached}
    for name in own:
        if name in model.heads:
            own[name] += sum(weight.nbytes for weight in model.heads[name].parameters())
    base = every - sum(own.values())
    models = len(own) + (PREVIOUS not in own)  # the bare base is the reference then
    return {"base": base, **{f"adapter_{name}": size for name, size in own.items()}, "all": every,
            "saved_by_sharing": (models - 1) * base}  # fmt: skip
