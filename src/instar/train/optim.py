"""Which optimizer moves which weight, and how fast at each step.

Schedules are closed forms of the number of the update: nothing is stepped, so nothing can be stepped twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from ..config import InputError
from ..config.options import TrainOptions
from .muon import Muon

Schedule = Callable[[int, int, int, TrainOptions], float]


def scale(update: int, steps: int, options: TrainOptions) -> float:
    """What the peak learning rates are multiplied by in update 0, 1, ... of a run of `steps`.

    It rises linearly over the warm-up, whose last update runs at the peak, then follows the schedule.
    """
    warmup = round(options.warmup * steps)
    if update < warmup:
        return (update + 1) / warmup
    return SCHEDULES[options.schedule](update, warmup, steps, options)


def constant(update: int, warmup: int, steps: int, options: TrainOptions) -> float:
    return 1.0


def cosine(update: int, warmup: int, steps: int, options: TrainOptions) -> float:
    """Half a wave from the peak down to `final` (https://arxiv.org/abs/1608.03983)."""
    share = (update - warmup) / max(1, steps - warmup)
    return options.final + (1 - options.final) * (1 + math.cos(math.pi * min(1.0, share))) / 2


def wsd(update: int, warmup: int, steps: int, options: TrainOptions) -> float:
    """Stay at the peak, then fall linearly to `final` over the last `decay` of the steps
    (https://arxiv.org/abs/2404.06395)."""
    falling = options.decay * steps
    left = (steps - update) / falling if falling else 1.0
    return options.final + (1 - options.final) * min(1.0, max(0.0, left))


def rsqrt(update: int, warmup: int, steps: int, options: TrainOptions) -> float:
    """Fall with the root of the updates since the beginning (Vaswani et al. 2017, section 5.3), not below `final`."""
    return max(options.final, math.sqrt(max(1, warmup) / (update + 1)))


SCHEDULES: dict[str, Schedule] = {"constant": constant, "cosine": cosine, "wsd": wsd, "rsqrt": rsqrt}


class Optimizer:
    """AdamW, or Muon (https://kellerjordan.github.io/posts/muon) on the hidden matrices and AdamW on the rest.

    Weight decay acts on matrices alone, never on embeddings, heads, norms and biases. State is known by the names of
    the weights, so it can be stored without pickle and found again whatever the order of the groups.
    """

    def __init__(self, model: nn.Module, options: TrainOptions) -> None:
        _check(options)
        self.weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        places = {weight.data_ptr() for weight in self.weights.values()}
        assert len(places) == len(self.weights), "two weights share memory without being tied; both would move it"
        outside = _outside(model)
        hidden = {name for name, weight in self.weights.items() if weight.ndim >= 2 and id(weight) not in outside}
        orthogonal = {name for name in hidden if self.weights[name].ndim == 2} if options.optimizer == "muon" else set()
        products: torch.dtype = getattr(model, "compute", None) or torch.float32
        # weights with this in their name learn at another pace: a critic beside its policy
        self.paces: Mapping[str, float] = getattr(model, "paces", {})
        self.parts = [
            (optimizer, [group["lr"] for group in optimizer.param_groups])
            for optimizer in (
                _adamw(self._paced(hidden - orthogonal), self._paced(self.weights.keys() - hidden), options),
                _muon(self._paced(orthogonal), options, products),
            )
            if optimizer is not None
        ]

    def _pick(self, names: Iterable[str]) -> list[nn.Parameter]:
        chosen = set(names)
        return [weight for name, weight in self.weights.items() if name in chosen]

    def _paced(self, names: Iterable[str]) -> list[tuple[list[nn.Parameter], float]]:
        """These weights, those of one pace together."""
        of = {name: next((p for part, p in self.paces.items() if f".{part}" in f".{name}"), 1.0) for name in names}
        return [(self._pick(n for n in of if of[n] == pace), pace) for pace in sorted(set(of.values()))]

    def step(self, scale: float) -> None:
        """Move the weights by their gradients, at `scale` times the peak learning rates."""
        for optimizer, peaks in self.parts:
            for group, peak in zip(optimizer.param_groups, peaks):
                group["lr"] = peak * scale
            optimizer.step()

    def zero(self) -> None:
        """Forget the gradients."""
        for weight in self.weights.values():
            weight.grad = None

    def gradients(self, *, everywhere: bool = False) -> list[Tensor]:
        """The gradients in the order of the weights; everywhere makes a zero of one that does not exist, so that the
        lists of all ranks are alike."""
        if everywhere:
            for weight in self.weights.values():
                if weight.grad is None:
                    weight.grad = torch.zeros_like(weight)
        return [weight.grad for weight in self.weights.values() if weight.grad is not None]

    def state(self) -> dict[str, Tensor]:
        """The moments as they are, each under `WEIGHT:MOMENT`."""
        return {f"{name}:{key}": value for name, state in self._states() for key, value in state.items()}

    def bytes(self) -> int:
        """What the moments take once there are any: two of each weight for AdamW, one for Muon."""
        return sum(
            weight.nbytes * (1 if isinstance(optimizer, Muon) else 2)
            for optimizer, _ in self.parts
            for group in optimizer.param_groups
            for weight in group["params"]
        )

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave. Raises InputError for a weight this model lacks or of another shape."""
        states = dict(self._states())
        for full, value in tensors.items():
            name, _, key = full.rpartition(":")
            if name not in states:
                raise InputError(f"the checkpoint holds {full}, and this model trains no weight {name}")
            weight = self.weights[name]
            if value.ndim and value.shape != weight.shape:
                raise InputError(f"the checkpoint holds {full} of {list(value.shape)}, wanted {list(weight.shape)}")
            states[name][key] = value.to(weight.device, copy=True)

    def _states(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        names = {weight: name for name, weight in self.weights.items()}
        for optimizer, _ in self.parts:
            for group in optimizer.param_groups:
                for weight in group["params"]:
                    yield names[weight], optimizer.state[weight]


def _outside(model: nn.Module) -> set[int]:
    """The weights that are looked up by a token or a place, and those that make the logits."""
    tables = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) or name.split(".")[-1] in ("positions", "heads")
    ]
    return {id(weight) for module in tables for weight in module.parameters()}


Paced = list[tuple[list[nn.Parameter], float]]  # weights, and how fast they learn


def _adamw(matrices: Paced, others: Paced, options: TrainOptions) -> torch.optim.Optimizer | None:
    groups = [
        {"params": weights, "weight_decay": decay, "lr": options.lr * pace}
        for paced, decay in ((matrices, options.weight_decay), (others, 0.0))
        for weights, pace in paced
    ]
    if not groups:
        return None
    first, second = options.betas
    return torch.optim.AdamW(groups, lr=options.lr, betas=(first, second), eps=options.eps, fused=True)


def _muon(matrices: Paced, options: TrainOptions, products: torch.dtype) -> torch.optim.Optimizer | None:
    groups = [{"params": weights, "lr": options.muon_lr * pace} for weights, pace in matrices]
    if not groups:
        return None
    return Muon(groups, products=products, lr=options.muon_lr, weight_decay=options.weight_decay)


def _check(options: TrainOptions) -> None:
    """Raises InputError for figures that no run can mean."""
    if len(options.betas) != 2:
        raise InputError(f"train.betas={options.betas} has {len(options.betas)} values, wanted two")
    for name in ("warmup", "decay", "final"):
        if not 0.0 <= getattr(options, name) <= 1.0:
            raise InputError(f"train.{name}={getattr(options, name)} is a share; wanted a number from 0 to 1")
    if not 0.0 <= options.smoothing < 1.0:
        raise InputError(f"train.smoothing={options.smoothing} is a share of each target; wanted 0 to below 1")
    if options.schedule == "wsd" and options.warmup + options.decay > 1:
        raise InputError(
            f"train.warmup={options.warmup} and train.decay={options.decay} overlap; together they are at most 1"
        )
