"""What a model learns from a batch: objectives, which return sums and counts, never means.

Pretraining, masked, span, seq2seq and SFT are one function here; they differ in how the collator fills `targets`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..batch import IGNORE, Batch, Loss

Objective = Callable[[Any, Any], Loss]  # of a model and a batch, which its collator has made for it


def mean(loss: Loss, targets: int) -> Tensor:
    """What is differentiated: every term's sum over the targets of a whole step, of which this may be a part."""
    return torch.stack([total / targets for total, _ in loss.terms.values()]).sum()


class Sums:
    """The losses of several batches added up where they were computed; nothing is read until `vector` is."""

    def __init__(self) -> None:
        self.terms: list[str] = []
        self.totals: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, loss: Loss) -> None:
        self.terms = list(loss.terms)
        for name, (total, count) in {**loss.terms, **loss.metrics}.items():
            self.totals[name] = total.detach() + self.totals.get(name, 0)
            self.counts[name] = count + self.counts.get(name, 0)

    def vector(self) -> Tensor:
        """Every total, then every count, in the dtype of the first term: what ranks add up."""
        first = next(iter(self.totals.values()))
        totals = [total.to(first.dtype) for total in self.totals.values()]
        return torch.cat([torch.stack(totals), first.new_tensor([float(count) for count in self.counts.values()])])

    def means(self, vector: list[float]) -> dict[str, float]:
        """The read vector -> the mean of each term and metric; where no term is called loss, `loss` is their sum."""
        half = len(self.totals)
        means = {name: vector[n] / max(1.0, vector[half + n]) for n, name in enumerate(self.totals)}
        return {"loss": sum(means[name] for name in self.terms)} | means


def cross_entropy(model: Any, batch: Batch, *, head: str = "lm", chunk: int = 2048, smoothing: float = 0.0) -> Loss:
    """Cross-entropy in nats over the places that teach; metrics: accuracy, the share whose likeliest answer is right.

    head: whose answer it is, the next token of a text or of a target, the masked one, a label of a text or of a token.
    Only teaching places reach the head, `chunk` of them at a time (0: all at once), so logits of the others never
    exist, and vocabulary-sized logits of all places never exist together. smoothing: in training, the share of each
    target that is spread evenly over all answers (Szegedy et al. 2016, section 7); the metric nll is without it. A
    model with experts adds the term balance.
    """
    targets = batch.targets
    if head in POOLED:
        hidden = model.pool(model.hidden(batch.tokens, view=batch.view, **_source(batch)), batch.view)
    else:
        places = teaching_places(targets)
        hidden = model.hidden(batch.tokens, view=batch.view, places=places, **_source(batch)).flatten(0, 1)
        targets = targets if places is None else targets.gather(1, places)
    targets = targets.flatten()
    teaching = (targets != IGNORE).nonzero().squeeze(1)
    if len(teaching) < len(targets):
        hidden, targets = hidden.index_select(0, teaching), targets.index_select(0, teaching)
    smoothing = smoothing if model.training else 0.0
    loss, correct, plain = cross_entropy_sum(hidden, targets, model.heads[head], chunk, smoothing)
    count = len(targets)
    metrics = {"accuracy": (correct, count)} | ({"nll": (plain, count)} if smoothing else {})
    return Loss(terms={"loss": (loss, count)} | balance(model, count), metrics=metrics)


def teaching_places(targets: Tensor) -> Tensor | None:
    """targets (B, T) -> places (B, R) that hold all that teach in each row, and others where a row has fewer than
    another; None where they are so many that it would not pay to leave the rest out."""
    teaches = targets != IGNORE
    most = int(teaches.sum(1).max())
    if not 0 < most <= FEW * targets.shape[1]:
        return None
    return teaches.byte().argsort(dim=1, descending=True, stable=True)[:, :most]


FEW = 0.6  # of the places of a row
POOLED = {"classify"}  # heads that are given one vector a text


def _source(batch: Batch) -> dict[str, Any]:
    """What an encoder-decoder reads besides."""
    return {} if batch.source is None else {"source": batch.source, "source_view": batch.source_view}


def balance(model: Any, count: int) -> dict[str, tuple[Tensor, int]]:
    """The auxiliary loss of experts, weighed by the targets of this part of a step."""
    found = model.imbalance() if model.training else None
    return {} if found is None else {"balance": (model.config.balance * found * count, count)}


def cross_entropy_sum(
    hidden: Tensor, targets: Tensor, head: nn.Module, chunk: int = 0, smoothing: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """hidden (N, D), targets (N,) without IGNORE -> summed cross-entropy, number of right guesses, and the summed
    cross-entropy without smoothing, all 0-dim."""
    size = chunk or max(1, len(targets))
    learn = torch.is_grad_enabled()
    loss, correct, plain = ChunkedCrossEntropy.apply(targets, head, size, learn, smoothing, hidden, *head.parameters())
    return loss, correct, plain


class ChunkedCrossEntropy(torch.autograd.Function):
    """Cross-entropy over chunks of rows that finishes with a chunk's logits before it makes the next.

    The gradient of a chunk is taken while its logits exist, so the backward pass only scales what is there: three
    products in all, as without chunks, where recomputing the logits would make four.
    """

    @staticmethod
    def forward(
        ctx: Any, targets: Tensor, head: nn.Module, chunk: int, learn: bool, smoothing: float, hidden: Tensor,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        needed = [learn and need for need in ctx.needs_input_grad[5:]]
        ctx.sums = [torch.zeros_like(value) if need else None for value, need in zip((hidden, *weights), needed)]
        inside = [weight for weight, need in zip(weights, needed[1:]) if need]
        totals = [total for total in ctx.sums[1:] if total is not None]
        loss = hidden.new_zeros((), dtype=torch.promote_types(hidden.dtype, torch.float32))
        plain = torch.zeros_like(loss)
        correct = torch.zeros((), dtype=torch.int64, device=hidden.device)
        for start in range(0, len(targets), chunk):
            rows = slice(start, start + chunk)
            into = [*([ctx.sums[0][rows]] if needed[0] else []), *totals]
            one, right, nats = _chunk(hidden[rows].detach(), targets[rows], head, needed[0], inside, into, smoothing)
            loss += one
            correct += right
            plain += nats
        ctx.mark_non_differentiable(correct, plain)
        return loss, correct, plain

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor, *_: Tensor) -> Any:
        sums, ctx.sums = ctx.sums, None
        scaled = [total if total is None else total.mul_(scale.to(total.dtype)) for total in sums]
        return None, None, None, None, None, *scaled


def _chunk(
    hidden: Tensor,
    targets: Tensor,
    head: nn.Module,
    through: bool,
    weights: list[Tensor],
    into: list[Tensor],
    smoothing: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, right guesses and loss without smoothing of one chunk; adds the gradients of hidden (where `through`) and
    weights to `into`."""
    with torch.set_grad_enabled(bool(into)):
        logits = head(hidden.requires_grad_(through))
    loss, correct, plain, gradient = _softmax_loss(logits.detach(), targets, smoothing)
    if into:
        sources = [hidden, *weights] if through else weights
        torch._foreach_add_(into, list(torch.autograd.grad(logits, sources, gradient)))
    return loss, correct, plain


def _softmax_loss(logits: Tensor, targets: Tensor, smoothing: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """logits (N, V) -> summed loss, right guesses, summed loss without smoothing, gradient of the loss with respect to
    the logits (N, V)."""
    columns = targets.unsqueeze(1)
    highest = logits.amax(1, keepdim=True)
    chosen = logits.gather(1, columns)
    even = logits.mean(1, keepdim=True) if smoothing else chosen
    powers = (logits - highest).exp_()
    total = powers.sum(1, keepdim=True)
    whole = total.log() + highest
    plain = (whole - chosen).sum()
    loss = (whole - torch.lerp(chosen, even, smoothing)).sum() if smoothing else plain
    gradient = powers.div_(total)
    if smoothing:
        gradient -= smoothing / logits.shape[1]
    gradient.scatter_add_(1, columns, gradient.new_full(columns.shape, smoothing - 1.0))
    return loss, (chosen >= highest).sum(), plain, gradient
