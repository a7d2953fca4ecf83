"""Log-probabilities of tokens that were said, one by one, without the logits of all places existing at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..batch import IGNORE, Answers


def token_logprobs(
    hidden: Tensor, targets: Tensor, head: nn.Module, *, temperature: float = 1.0, chunk: int = 2048
) -> tuple[Tensor, Tensor]:
    """hidden (N, D), targets (N,) without IGNORE -> log p of each target (N,) and the entropy of each distribution
    (N,), in nats, both with their gradients.

    p = softmax(logits / temperature). chunk: rows whose logits exist at once, 0 for all; they are made once more in the
    backward pass.
    """
    size = chunk or max(1, len(targets))
    logprobs, entropy = TokenLogprobs.apply(targets, head, size, temperature, hidden, *head.parameters())
    return logprobs, entropy


class TokenLogprobs(torch.autograd.Function):
    """As `token_logprobs`. With respect to the logits the gradient of log p is (1[target] - p) / temperature, that of
    the entropy H is -p (log p + H) / temperature."""

    @staticmethod
    def forward(
        ctx: Any, targets: Tensor, head: nn.Module, chunk: int, temperature: float, hidden: Tensor, *weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.head, ctx.chunk, ctx.temperature = head, chunk, temperature
        ctx.save_for_backward(targets, hidden)
        said, spread = [], []
        for rows, aims in zip(hidden.split(chunk), targets.split(chunk)):
            logits = head(rows) / temperature if temperature != 1.0 else head(rows)
            whole = logits.logsumexp(-1)
            said.append(logits.gather(1, aims[:, None]).squeeze(1) - whole)
            spread.append(whole - ((logits - whole[:, None]).exp() * logits).sum(-1))
        if not said:
            wide = torch.promote_types(hidden.dtype, torch.float32)
            said, spread = [hidden.new_zeros(0, dtype=wide)], [hidden.new_zeros(0, dtype=wide)]
        ctx.set_materialize_grads(False)  # nobody pays for the entropy's gradient who does not use it
        return torch.cat(said), torch.cat(spread)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor | None, spreading: Tensor | None) -> Any:
        targets, hidden = ctx.saved_tensors
        weights = list(ctx.head.parameters())
        needed = ctx.needs_input_grad[4:]
        sums = [torch.zeros_like(value) if need else None for value, need in zip((hidden, *weights), needed)]
        inside = [weight for weight, need in zip(weights, needed[1:]) if need]
        into = [total for total in sums[1:] if total is not None]
        for start in range(0, len(targets) if needed[0] or inside else 0, ctx.chunk):
            rows = slice(start, start + ctx.chunk)
            given = hidden[rows].detach().requires_grad_(needed[0])
            with torch.enable_grad():
                logits = ctx.head(given)
            slope = _slope(
                logits.detach() / ctx.temperature, targets[rows, None],
                *(None if each is None else each[rows, None].to(logits.dtype) / ctx.temperature
                  for each in (gradient, spreading)),
            )  # fmt: skip
            found = torch.autograd.grad(logits, [given, *inside] if needed[0] else inside, slope)
            if sums[0] is not None:
                sums[0][rows] = found[0]
            if into:
                torch._foreach_add_(into, list(found[len(found) - len(into) :]))
        return None, None, None, None, *sums


def _slope(scores: Tensor, targets: Tensor, share: Tensor | None, spreading: Tensor | None) -> Tensor:
    """scores (N, V) -> the gradient with respect to them of share (N, 1) times log p of the targets (N, 1) and
    spreading (N, 1) times the entropy."""
    if spreading is None and share is not None:
        return scores.softmax(-1).mul_(-share).scatter_add_(1, targets, share)
    logs = scores.log_softmax(-1)
    p = logs.exp()
    slope = torch.zeros_like(p)
    if share is not None:
        slope = (-share * p).scatter_add_(1, targets, share)
    if spreading is not None:
        slope = slope - spreading * p * (logs - (p * logs).sum(-1, keepdim=True))
    return slope


def said_logprobs(
    model: Any, batch: Answers, *, temperature: float = 1.0, chunk: int = 2048, hidden: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """log p of every target that is no IGNORE (N,), the entropy there (N,), and the number of its answer (N,), in the
    order of all places. hidden (B, T, D): of this batch, where it is known already."""
    if hidden is None:
        hidden = model.hidden(batch.tokens, view=batch.view)
    targets = batch.targets.flatten()
    places = (targets != IGNORE).nonzero().squeeze(1)
    logprobs, entropy = token_logprobs(
        hidden.flatten(0, 1).index_select(0, places), targets.index_select(0, places), model.heads["lm"],
        temperature=temperature, chunk=chunk,
    )  # fmt: skip
    return logprobs, entropy, batch.answer.flatten().index_select(0, places)


def answer_logprobs(model: Any, batch: Answers, *, chunk: int = 2048) -> tuple[Tensor, Tensor]:
    """log p of each answer (N,), the sum over its tokens and its end, and how many tokens that is (N,)."""
    logprobs, _, answer = said_logprobs(model, batch, chunk=chunk)
    sums = logprobs.new_zeros(batch.answers).index_add(0, answer, logprobs)
    return sums, torch.bincount(answer, minlength=batch.answers).to(sums.dtype)
