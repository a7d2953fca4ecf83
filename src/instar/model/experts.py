"""A feed-forward layer of many experts, of which each token takes a few (Shazeer et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from ..config import ModelConfig
from .layers import Gated, Linear

Among = Callable[[np.ndarray], AbstractContextManager[None]]


class Experts(nn.Module):
    """sum over the k likeliest experts e of p_e(x) * e(x), where p is a softmax of x Wr in fp32 (Mixtral, Jiang et al.
    2024, section 2.1).

    Training keeps two things for others to read: `imbalance`, the auxiliary loss of the last forward pass with its
    gradient, n * sum of f_e P_e over n experts, where f_e is the share of choices that fell on e and P_e its mean
    probability (Switch, Fedus et al. 2022, equation 4): 1 where all are equally busy; and `load`, how often each was
    chosen since `settle`.
    """

    # tells whoever routes a pass which of its tokens an expert is given
    among: Among | None = None

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.used, self.normed, self.by_bias = config.experts_used, config.expert_norm, config.balance_by == "bias"
        self.router = Linear(config.d_model, config.experts, bias=False)
        self.experts = nn.ModuleList(Gated(config, config.d_expert) for _ in range(config.experts))
        self.bias: Tensor
        if self.by_bias:
            self.register_buffer("bias", torch.zeros(config.experts))
        self.imbalance: Tensor | None = None
        self.load: Tensor | None = None

    @torch.compiler.disable  # how many tokens an expert gets is another number at every step
    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, D) -> (B, T, D)."""
        flat = x.flatten(0, -2)
        shares, chosen = self._route(flat)
        order = chosen.flatten().argsort(stable=True)
        tokens = order // self.used
        counts = self._given(self._counts(chosen), chosen.numel())
        weights = shares.flatten()[order].to(x.dtype)
        given = flat[tokens].split(counts)
        if self.among is None:
            parts = [expert(part) for expert, part in zip(self.experts, given) if len(part)]
        else:
            parts = self._routed(given, tokens.split(counts), self.among)
        said = torch.cat(parts)
        return torch.zeros_like(flat).index_add(0, tokens, said * weights[:, None]).view_as(x)

    def _routed(self, given: Sequence[Tensor], tokens: Sequence[Tensor], among: Among) -> list[Tensor]:
        """What each expert says of the tokens that it is given, whose numbers it tells."""
        said = []
        for expert, part, which in zip(self.experts, given, tokens):
            if len(part):
                with among(which.cpu().numpy()):
                    said.append(expert(part))
        return said

    def _counts(self, chosen: Tensor) -> Tensor:
        """How often each expert was chosen: (experts,)."""
        flat = chosen.flatten()
        return flat.new_zeros(len(self.experts)).scatter_add_(0, flat, torch.ones_like(flat))

    def _given(self, counts: Tensor, choices: int) -> list[int]:
        """The same as numbers; of a tensor without values, as a forecast has them, an even share each."""
        if isinstance(counts, FakeTensor):
            share, rest = divmod(choices, len(self.experts))
            return [share + (number < rest) for number in range(len(self.experts))]
        return [int(count) for count in counts.tolist()]

    def _route(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """(N, D) -> shares and numbers of the experts that each token takes, both (N, used)."""
        wide = torch.promote_types(flat.dtype, torch.float32)
        chances = self.router(flat).to(wide).softmax(-1)
        wanted = chances + self.bias if self.by_bias else chances
        chosen = wanted.topk(self.used, dim=-1).indices
        shares = chances.gather(-1, chosen)
        if self.normed:
            shares = shares / shares.sum(-1, keepdim=True)
        if self.training:
            self._note(chances, chosen)
        return shares, chosen

    def _note(self, chances: Tensor, chosen: Tensor) -> None:
        count = self._counts(chosen)
        share = count.to(chances.dtype) / chosen.numel()
        self.imbalance = len(self.experts) * (share * chances.mean(0)).sum()
        if self.by_bias:
            self.load = count if self.load is None else self.load + count

    @torch.no_grad()
    def settle(self, rate: float) -> None:
        """Make an expert that was chosen too often a little less likely to be chosen, and one too seldom more, by
        `rate`: no loss bends the gradient for it (Wang et al. 2024, algorithm 1). Called once an optimizer step. Not
        where the router is frozen."""
        if self.by_bias and self.load is not None and self.router.weight.requires_grad:
            load = self.load.to(self.bias.dtype)
            self.bias += rate * (load.mean() - load).sign()
        self.forget()

    def forget(self) -> None:
        """Drop what forward passes left behind that were no part of a step."""
        self.load = self.imbalance = None
