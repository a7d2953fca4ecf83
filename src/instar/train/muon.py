"""Muon in a dtype that the machine multiplies fast, many matrices at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class Muon(torch.optim.Muon):
    """torch's Muon (https://kellerjordan.github.io/posts/muon), its arguments, state and steps but for two things.

    products: the dtype of the orthogonalisation. torch's is always bf16, which a CPU without such products computes
    30 times slower than fp32: on `nano` two seconds a step. And matrices of one shape are orthogonalised together.
    """

    def __init__(self, matrices: Iterable[Any], *, products: torch.dtype = torch.bfloat16, **options: Any) -> None:
        super().__init__(matrices, **options)
        self.products = products

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    alike.setdefault(weight.shape, []).append(weight)
            for weights in alike.values():
                self._move(weights, group)
        return loss

    def _move(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        """One step of matrices of one shape."""
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        moments = [self._moment(weight) for weight in weights]
        torch._foreach_lerp_(moments, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, moments, group["momentum"]) if group["nesterov"] else moments
        stack = torch.stack(ahead).to(self.products)
        updates = orthogonal(stack, group["ns_coefficients"], group["ns_steps"], group["eps"])
        rows, columns = weights[0].shape
        rates = {"match_rms_adamw": 0.2 * math.sqrt(max(rows, columns))}
        rate = group["lr"] * rates.get(group["adjust_lr_fn"], math.sqrt(max(1, rows / columns)))
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(weights, list(updates.to(weights[0].dtype).unbind()), alpha=-rate)

    def _moment(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        return state["momentum_buffer"]


def orthogonal(matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """matrices (N, rows, columns) -> those of the same singular vectors whose singular values are all near 1, by Newton
    and Schulz's iteration with a quintic a x + b x^3 + c x^5 (https://arxiv.org/abs/2502.16982, section 2.1)."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.flatten(1).norm(dim=1).clamp(min=eps)[:, None, None]
    a, b, c = coefficients
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
