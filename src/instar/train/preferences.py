"""What is learnt from pairs of answers of which one was preferred: a reward model's objective, and DPO's.

Both compare two rewards. A reward model says them; a language model under DPO has them implicitly, as what its
log-probability of an answer gained over a reference's (Rafailov et al. 2023).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..batch import Loss, PreferencePairs
from ..config import InputError, unknown
from ..infer.scoring import rewards_at
from .logprobs import answer_logprobs
from .objectives import Objective, balance

# log p of each answer (N,) under what a model is held against; without gradient
Reference = Callable[[Any, PreferencePairs], Tensor]
Term = tuple[Tensor, int]


def bradley_terry(*, centering: float = 0.0) -> Objective:
    """-log sigmoid(r_chosen - r_rejected - margin) (Bradley and Terry 1952; margins as in Touvron et al. 2023), and
    centering * (r_chosen + r_rejected)^2 (Eisenstein et al. 2023). Raises InputError for a negative weight."""
    if not 0.0 <= centering < torch.inf:
        raise InputError(f"centering={centering}; wanted 0, which leaves it out, or more")

    def objective(model: Any, batch: PreferencePairs) -> Loss:
        hidden = model.hidden(batch.tokens, view=batch.view)
        rewards = rewards_at(model, hidden, batch.last)
        margin = 0.0 if batch.margin is None else batch.margin.to(rewards.dtype)
        more = {"centering": centering * rewards.unflatten(0, (-1, 2)).sum(1).square()} if centering else {}
        return pair_loss(rewards, lambda ahead: -F.logsigmoid(ahead - margin), more, balance(model, batch.count()))

    return objective


@dataclass(frozen=True)
class Kind:
    """One of DPO's relatives: its loss of how far the chosen answer is ahead in rewards (P,), beta and the share of
    pairs that are the wrong way round; per_token: log-probabilities are means over the tokens of an answer."""

    loss: Callable[[Tensor, float, float], Tensor]
    per_token: bool = False


def sigmoid(ahead: Tensor, beta: float, flipped: float) -> Tensor:
    """Rafailov et al. 2023, equation 7."""
    return -F.logsigmoid(ahead)


def conservative(ahead: Tensor, beta: float, flipped: float) -> Tensor:
    """What `sigmoid` expects where a share of the pairs is the wrong way round (Mitchell 2023)."""
    return -(1 - flipped) * F.logsigmoid(ahead) - flipped * F.logsigmoid(-ahead)


def ipo(ahead: Tensor, beta: float, flipped: float) -> Tensor:
    """Log-probabilities are to be ahead by 1/(2 beta) and no farther (Azar et al. 2023, equation 17)."""
    return (ahead / beta - 1 / (2 * beta)).square()


KINDS = {
    "sigmoid": Kind(sigmoid),
    "conservative": Kind(conservative),
    "ipo": Kind(ipo),
    "normalised": Kind(sigmoid, per_token=True),  # Lambert et al. 2024, section 5.1
}


def check_dpo(loss: str, beta: float, smoothing: float, nll: float, usual: float) -> None:
    """Raises InputError for figures that DPO cannot mean. usual: the smoothing where nobody said any."""
    if loss not in KINDS:
        raise unknown("value for loss:", loss, KINDS)
    if not 0.0 < beta < torch.inf:
        raise InputError(f"beta={beta}: without a price on leaving the reference nothing is learnt; wanted above 0")
    if loss == "conservative" and not 0.0 < smoothing < 0.5:
        raise InputError(f"smoothing={smoothing} with loss=conservative; wanted a share above 0 and below 0.5")
    if loss != "conservative" and smoothing != usual:
        raise InputError(f"smoothing={smoothing} with loss={loss}, which does not look at it; leave it out")
    if not 0.0 <= nll < torch.inf:
        raise InputError(f"nll={nll}; wanted 0, which leaves it out, or more")


def direct_preference(
    reference: Reference,
    *,
    loss: str = "sigmoid",
    beta: float = 0.1,
    smoothing: float = 0.1,
    nll: float = 0.0,
    chunk: int = 2048,
) -> Objective:
    """DPO: an answer's reward is beta * (log p - log p of the reference), of its tokens together, or of each on average
    where the loss is normalised.

    nll: weight of -log p of the chosen answer per token of it (Pang et al. 2024). Metrics besides those of `pair_loss`:
    logprob_chosen and logprob_rejected, of whole answers; drift, how much log p of the pairs' answers fell below the
    reference's, which grows as the model leaves the reference. A batch's own reference goes before `reference`. Raises
    InputError as `check_dpo`.
    """
    check_dpo(loss, beta, smoothing, nll, smoothing)
    kind = KINDS[loss]

    def objective(model: Any, batch: PreferencePairs) -> Loss:
        before = reference(model, batch) if batch.reference is None else batch.reference
        logprobs, lengths = answer_logprobs(model, batch, chunk=chunk)
        spread = balance(model, batch.count())
        gained = logprobs - before.to(logprobs.dtype)
        rewards = beta * (gained / lengths if kind.per_token else gained)
        more = {"nll": -nll * (logprobs / lengths)[0::2]} if nll else {}
        said = logprobs.detach().unflatten(0, (-1, 2)).sum(0)
        metrics = {
            "logprob_chosen": (said[0], batch.count()),
            "logprob_rejected": (said[1], batch.count()),
            "drift": (-gained.detach().sum(), batch.answers),
        }
        return pair_loss(rewards, lambda ahead: kind.loss(ahead, beta, smoothing), more, spread, metrics)

    return objective


def pair_loss(
    rewards: Tensor,
    loss: Callable[[Tensor], Tensor],
    more: dict[str, Tensor],
    besides: dict[str, Term],
    metrics: dict[str, Term] | None = None,
) -> Loss:
    """rewards (2P,): of each pair the chosen answer's, then the rejected one's -> sums over the P pairs.

    loss: of how far the chosen ones are ahead (P,) -> (P,); more: further parts of each pair's loss (P,), with which
    the first one is called preference; besides: other terms. Metrics: accuracy, the share of pairs whose chosen answer
    has the higher reward, where equal ones count half; margin, how far it is ahead; reward_chosen and reward_rejected.
    """
    chosen, rejected = rewards.unflatten(0, (-1, 2)).unbind(1)
    ahead, pairs = chosen - rejected, len(chosen)
    parts = {"preference" if more else "loss": loss(ahead)} | more
    right = (ahead > 0).to(rewards.dtype) + (ahead == 0).to(rewards.dtype) / 2
    told = {"accuracy": right, "margin": ahead, "reward_chosen": chosen, "reward_rejected": rejected}
    return Loss(
        terms={name: (part.sum(), pairs) for name, part in parts.items()} | besides,
        metrics={name: (value.detach().sum(), pairs) for name, value in told.items()} | (metrics or {}),
    )
