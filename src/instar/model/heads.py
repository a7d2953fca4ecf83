"""What stands on top of a Transformer and says something about its hidden states, in a table that `heads_of` names."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..batch import View
from ..config import ModelConfig
from .attention import capped
from .layers import ACTIVATIONS, NORMS, Dropout, Linear, entry


class LanguageHead(Linear):
    """hidden (..., D) -> logits (..., V) in fp32 at least, scaled and capped where the config says so."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config.d_model, config.vocab_size, bias=config.head_bias)
        self.cap, self.scale = config.logit_cap, config.head_scale

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x if self.scale == 1.0 else x * self.scale)
        return capped(logits.to(torch.promote_types(logits.dtype, torch.float32)), self.cap)


class Transform(nn.Module):
    """norm(act(x W)): what BERT does before it names a token (Devlin et al. 2019, and their program)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dense = Linear(config.d_model, config.d_model, bias=config.bias)
        self.act = entry(ACTIVATIONS, "act", config.act)
        self.norm = entry(NORMS, "norm", config.norm)(config.d_model, config.norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.act(self.dense(x)))


class Tanh(nn.Module):
    """tanh(x W + b): BERT's pooler."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dense = Linear(config.d_model, config.d_model, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(x).tanh()


POOLED: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "none": lambda config: nn.Identity(),
    "tanh": Tanh,
    "norm": Transform,
}


class MaskedHead(nn.Module):
    """hidden (..., D) -> logits (..., V) of the token that was hidden there."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.transform = Transform(config)
        self.out = LanguageHead(config)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.transform(x))


class NumberHead(Linear):
    """hidden (..., D) -> one number each (...), in fp32 at least: a reward, or the value of a state."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config.d_model, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        number = super().forward(x).squeeze(-1)
        return number.to(torch.promote_types(number.dtype, torch.float32))


class ClassHead(nn.Module):
    """states (..., D) -> logits (..., labels) in fp32 at least; of a whole text, or of each token."""

    def __init__(self, config: ModelConfig, kind: str, *, bias: bool) -> None:
        super().__init__()
        self.transform = entry(POOLED, "pooled", kind)(config)
        self.drop = Dropout(config.dropout)
        self.out = Linear(config.d_model, config.labels, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.out(self.drop(self.transform(x)))
        return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _classify(config: ModelConfig) -> nn.Module:
    """Decoders have no bias here, encoders do."""
    return ClassHead(config, config.pooled, bias=config.pooled != "none")


def _tokens(config: ModelConfig) -> nn.Module:
    """BERT's pooler is for whole texts alone."""
    return ClassHead(config, "norm" if config.pooled == "norm" else "none", bias=True)


HEADS: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "lm": LanguageHead,
    "masked": MaskedHead,
    "score": NumberHead,
    "value": NumberHead,
    "classify": _classify,
    "tokens": _tokens,
}
# Weights that are the embedding's where the config says tied.
TIED = ("heads.lm.weight", "heads.masked.out.weight")


def _first(hidden: Tensor, keep: Tensor | None) -> Tensor:
    return hidden[:, 0]


def _last(hidden: Tensor, keep: Tensor | None) -> Tensor:
    """The last real token, however many ends stand before it."""
    if keep is None:
        return hidden[:, -1]
    place = torch.arange(keep.shape[1], device=keep.device)
    last = torch.where(keep, place, -1).amax(1).clamp(min=0)
    return hidden[torch.arange(len(hidden), device=hidden.device), last]


def _mean(hidden: Tensor, keep: Tensor | None) -> Tensor:
    if keep is None:
        return hidden.mean(1)
    real = keep[..., None].to(hidden.dtype)
    return (hidden * real).sum(1) / real.sum(1).clamp(min=1)


POOLINGS: dict[str, Callable[[Tensor, Tensor | None], Tensor]] = {"first": _first, "last": _last, "mean": _mean}


def pool(hidden: Tensor, view: View | None, how: str) -> Tensor:
    """hidden (B, T, D) -> (B, D), one vector a text; padding has no part in it."""
    return entry(POOLINGS, "pooling", how)(hidden, None if view is None else view.keep)
