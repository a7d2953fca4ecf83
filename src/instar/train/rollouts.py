"""Where PPO, GRPO and RLOO get their batches: answers sampled under the present weights, scored, and served several
times.

A phase samples, scores, charges for drift and estimates advantages; its minibatches are then served epoch after epoch,
in another order each time. What stands in a minibatch stays together, so that the log-probabilities that were noted
down before the first step come from the same products as those they are compared with, and the ratio begins at 1.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..batch import Answers
from ..config import Diverged, InputError
from ..config.options.reinforcement import ReinforceOptions
from ..data.loader import Loader, shuffled
from ..data.prompts import Prompt, Prompts
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer
from .advantages import ESTIMATORS, k1, k3, kl_coefficient
from .critic import Figures
from .estimates import Estimate, Phase, explained_variance
from .experience import bundles_of, flat, lay, plain, restored, rows_of, table
from .policy import WEIGHINGS, Experience
from .rewards import Failures, Judged, Reward
from .sampled import Said, sample
from .sound import check
from .trainer import Record, Trainer

Minibatch = list[Experience]
STATE = ("phase", "place", "micro", "started_with", "told", "before")


@dataclass
class Cast:
    """Who takes part, bound when the model is born. policy: what speaks; logprobs: of what it said; reference, values:
    of those who are there. Each gives one number for each target of a batch."""

    policy: Transformer
    logprobs: Figures
    reference: Figures | None = None
    values: Figures | None = None


class Rollouts(Iterator[Experience]):
    """Endless micro-batches of Experience; a new phase begins where the last one was learnt from."""

    def __init__(
        self,
        prompts: Prompts,
        tokenizer: Tokenizer,
        reward: Reward,
        estimate: Estimate,
        options: ReinforceOptions,
        *,
        weighing: str = "token",
        warmup: int = 0,
        context: int,
        micro_tokens: int = 0,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """weighing: how tokens add up (`WEIGHINGS`); warmup: phases from which the critic alone learns; context: tokens
        of a row; micro_tokens: of a micro-batch, 0 for a whole minibatch. Raises InputError for options that no run can
        mean."""
        check(options, len(prompts))
        self.prompts, self.tokenizer, self.reward, self.estimate = prompts, tokenizer, reward, estimate
        self.options, self.how, self.weighing, self.warmup = options, options.rollouts, weighing, warmup
        self.context, self.micro_rows, self.say = context, micro_tokens // context or 0, say
        if micro_tokens and not self.micro_rows:
            self.micro_rows = 1
        self.batch_rows = -(-self.how.prompts * self.how.answers // self.how.minibatches)
        kl = options.kl
        self.coefficient = kl_coefficient(kl.coefficient, kl.target, kl.horizon)
        self.failures = Failures(self.how.bad_rewards)
        self.rows = range(len(prompts))
        # which prompts a phase takes; it collates nothing
        self._order = Loader(self.rows, _nothing, batch_rows=self.how.prompts, seed=options.seed)
        self.phase, self.place, self.micro = 0, 0, 0  # phases begun; minibatches and micro-batches served of the last
        self.minibatches: list[Minibatch] = []
        self.groups: list[list[int]] = []  # of each minibatch, the numbers of its prompts
        self.started_with = 0.0  # mean length of answers in the first phase
        self.told: dict[str, Any] = {}  # figures of this phase
        self.before: dict[str, Any] = {}  # what was measured before the first step
        self._handed: list[int] = []
        self.cast: Cast | None = None

    # -- what the loop asks

    @property
    def micro_batches(self) -> int:
        """Of the next step; samples where the last phase is used up."""
        self._ready()
        return len(self.minibatches[self._chosen()])

    @property
    def epoch(self) -> int:
        """Passes over the prompts."""
        return self.phase * self.how.prompts // len(self.prompts)

    def steps(self, epochs: float) -> int:
        """The steps of so many passes over the prompts, at least one phase."""
        phases = max(1, -(-round(epochs * len(self.prompts)) // self.how.prompts))
        return phases * self.how.epochs * self.how.minibatches

    def row_ids(self, step: int) -> list[int]:
        """The prompts of the minibatch that was served last."""
        return self._handed

    def __next__(self) -> Experience:
        self._ready()
        chosen = self._chosen()
        served = self.minibatches[chosen]
        self._handed = self.groups[chosen]
        batch = served[self.micro]
        self.micro += 1
        if self.micro == len(served):
            self.place, self.micro = self.place + 1, 0
        return batch

    def close(self) -> None:
        """Nothing is left open."""

    def watch(self, trainer: Trainer, record: Record) -> None:
        """After each step: put the figures of the phase into its record, and end the phase where the policy has gone
        far enough from the one that sampled."""
        record.update(self.told)
        limit = self.options.kl.stop
        if limit and (record.get("old_kl") or 0.0) > limit and self.place < self._served():
            self.place, self.micro = self._served(), 0
            record["ended_early"] = True

    def state_dict(self) -> dict[str, Any]:
        """Where the run stands, with all answers of the phase that are still to be learnt from, as plain data."""
        left = [] if self.place >= self._served() else self.minibatches
        return {name: getattr(self, name) for name in STATE} | {
            "seed": self.options.seed, "prompts": len(self.prompts), "coefficient": self.coefficient.value,
            "failed": self.failures.failed, "answers": self.failures.answers, "groups": self.groups,
            "minibatches": [[plain(batch) for batch in minibatch] for minibatch in left],
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly there. Raises InputError where it was made from other prompts."""
        for name, now in (("seed", self.options.seed), ("prompts", len(self.prompts))):
            if state[name] != now:
                raise InputError(
                    f"cannot resume: {name} was {state[name]} and is {now}; use the same data and options, or begin a "
                    "new run"
                )
        for name in STATE:
            setattr(self, name, state[name])
        self.coefficient.value = state["coefficient"]
        self.failures.failed, self.failures.answers = state["failed"], state["answers"]
        self.groups = state["groups"]
        self.minibatches = [[restored(Experience, batch) for batch in part] for part in state["minibatches"]]
        if not self.minibatches:
            self.place = self.micro = 0

    # -- a phase

    def _served(self) -> int:
        """How many minibatches a phase serves in all."""
        return self.how.epochs * len(self.minibatches)

    def _chosen(self) -> int:
        """Which minibatch comes next: in every epoch all of them, in an order of its own."""
        epoch, turn = divmod(self.place, len(self.minibatches))
        number = self.phase * self.how.epochs + epoch
        return int(shuffled(np.array([turn]), len(self.minibatches), self.options.seed, number)[0])

    def _ready(self) -> None:
        if self.place >= self._served():
            self._begin()

    def _begin(self) -> None:
        """Sample, score, estimate, lay out."""
        assert self.cast is not None
        started = time.perf_counter()
        numbers = self._order.row_ids(self.phase)
        asked = [self.prompts[number] for number in numbers]
        said = sample(
            self.cast.policy, self.tokenizer, asked, [self._seed(n) for n in range(len(asked) * self.how.answers)],
            temperature=self.how.temperature, max_new_tokens=self.how.max_new_tokens, slots=self.how.slots,
        )  # fmt: skip
        sampled = time.perf_counter()
        judged = self.judge(asked, said)
        self.failures.add(judged, [asked[one.group] for one in said], [one.text for one in said], self.say)
        critic_only = self.phase < self.warmup
        minibatches, groups, figures = self._learnt_from(asked, said, judged, critic_only)
        self.groups = [[numbers[group] for group in part] for part in groups]
        self.minibatches, self.place, self.micro = minibatches, 0, 0
        self.phase += 1
        self.told = {
            "phase": self.phase, **self._figures(said, judged), **figures,
            "sampling_seconds": round(sampled - started, 3),
        }  # fmt: skip
        self._check_bounds()

    def _seed(self, place: int) -> int:
        """Of the draws of one answer, of its phase and place alone."""
        digest = sha256(f"{self.options.seed} {self.phase} {place}".encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1

    def judge(self, asked: Sequence[Prompt], said: Sequence[Said]) -> Judged:
        """What the reward says of answers."""
        return self.reward([asked[one.group] for one in said], [one.text for one in said])

    def _learnt_from(
        self, asked: Sequence[Prompt], said: Sequence[Said], judged: Judged, critic_only: bool
    ) -> tuple[list[Minibatch], list[list[int]], dict[str, Any]]:
        """The minibatches of a phase, the groups in each, and figures."""
        valid = torch.tensor([number not in judged.failures for number in range(len(said))])
        laid = self._laid(asked, said, valid)
        parts = [part for minibatch in laid for part in minibatch]
        if not parts:
            raise InputError(f"phase {self.phase + 1}: none of {len(said)} answers has a reward, so nothing is learnt")
        orders = [order for _, order in parts]
        lengths = torch.tensor([len(one.ids) for one in said])
        read = {
            name: [self._read(figures, batch) for batch, _ in parts]
            for name in ("logprobs", "reference", "values")
            if (figures := getattr(self.cast, name)) is not None
        }
        tables = {name: table(found, len(said), orders, lengths) for name, found in read.items()}
        real = torch.arange(int(lengths.max())) < lengths[:, None]
        mask = real & valid[:, None]
        drift = torch.zeros_like(tables["logprobs"])
        if "reference" in tables:
            drift = (tables["logprobs"] - tables["reference"]) * mask
        charged = self.options.kl.where == "reward" and self.coefficient.value > 0
        ends = torch.tensor([one.ended for one in said])
        scores = torch.tensor(judged.scores, dtype=torch.float64) - self.how.missing_end * (~ends).double()
        phase = Phase(
            scores=scores, valid=valid, mask=mask, size=self.how.answers, values=tables.get("values"),
            charge=self.coefficient.value * ESTIMATORS[self.options.kl.estimator](drift) * charged,
        )  # fmt: skip
        advantages, returns = self.estimate(phase)
        columns = {name: filled for name, filled in tables.items() if name != "values" or returns is not None}
        columns |= {"advantages": advantages} | ({} if returns is None else {"returns": returns})
        taught = valid & (ends | torch.tensor(not self.how.mask_truncated))
        if not taught.any():
            self.say(
                f"warning: phase {self.phase + 1} teaches nothing: none of {len(said)} answers ended within "
                f"rollouts.max_new_tokens={self.how.max_new_tokens}, and rollouts.mask_truncated leaves such answers "
                "out; raise the one, or do without the other"
            )
        made = iter(self._experience(batch, order, columns, lengths, taught, critic_only) for batch, order in parts)
        minibatches = [[next(made) for _ in minibatch] for minibatch in laid]
        groups = [sorted({said[n].group for _, order in minibatch for n in order}) for minibatch in laid]
        figures = self._drift(drift, mask, valid) | _spread(advantages, mask)
        if returns is not None and phase.values is not None:
            figures["explained_variance"] = explained_variance(phase.values, returns, mask)
        return minibatches, groups, figures

    def _laid(
        self, asked: Sequence[Prompt], said: Sequence[Said], valid: Tensor
    ) -> list[list[tuple[Answers, list[int]]]]:
        """Of each minibatch its micro-batches, with the numbers of the answers in them. A group stays in one."""
        ids = [one.ids for one in said]
        groups: dict[int, dict[int, int]] = {}
        for number, one in enumerate(said):
            if valid[number]:
                groups.setdefault(one.group, {})[number] = len(one.ids)
        laid = []
        for turn in range(self.how.minibatches):
            own = [group for group in groups if group * self.how.minibatches // len(asked) == turn]
            bundles = [bundle for g in own for bundle in bundles_of(g, len(asked[g].ids), groups[g], self.context)]
            rows = rows_of(bundles, self.context) if bundles else []
            step = self.micro_rows or max(1, len(rows))
            prompts = {group: asked[group].ids for group in own}
            laid.append(
                [
                    lay(rows[start : start + step], prompts, ids, context=self.context, pad=self.tokenizer.pad or 0)
                    for start in range(0, len(rows), step)
                ]
            )
        return [minibatch for minibatch in laid if minibatch]

    def _read(self, figures: Figures, batch: Answers) -> Tensor:
        """One number for each target. With gradients on, though none is taken: without, some layers take other paths,
        whose last bits would move the ratio off 1."""
        assert self.cast is not None
        with torch.enable_grad():
            found = figures(batch.to(self.cast.policy.device)).detach().cpu()
        self.cast.policy.forget()
        return found

    def _experience(
        self, batch: Answers, order: list[int], columns: dict[str, Tensor], lengths: Tensor, taught: Tensor,
        critic_only: bool,
    ) -> Experience:  # fmt: skip
        weigh, divide = WEIGHINGS[self.weighing]
        kept = torch.tensor([bool(taught[number]) for number in order])
        own = lengths[order]
        weight = torch.where(kept, weigh(own.to(torch.float32), self.how.max_new_tokens), 0.0)
        found: dict[str, Any] = {name: flat(filled, order, lengths) for name, filled in columns.items()}
        return Experience(
            batch.tokens, batch.targets, batch.view, answer=batch.answer, last=batch.last,
            weights=weight.repeat_interleave(own), divisor=divide(own[kept]), critic_only=critic_only, **found,
        )  # fmt: skip

    # -- figures

    def _figures(self, said: Sequence[Said], judged: Judged) -> dict[str, Any]:
        good = [score for score in judged.scores if not math.isnan(score)]
        mean = sum(good) / len(good)
        parts = {f"reward of {name}": value for name, value in judged.parts.items()}
        return {
            "reward": mean, "reward_std": math.sqrt(sum((score - mean) ** 2 for score in good) / len(good)), **parts,
            "length": sum(len(one.ids) for one in said) / len(said),
            "ended": sum(one.ended for one in said) / len(said), "failed_rewards": self.failures.failed,
        }  # fmt: skip

    def _drift(self, drift: Tensor, mask: Tensor, valid: Tensor) -> dict[str, Any]:
        """What the answers drifted from the reference, and what that will cost from now on."""
        if self.cast is None or self.cast.reference is None:
            return {}
        answers, tokens = int(valid.sum()), int(mask.sum())
        whole = float(drift.double().sum()) / answers
        cost = self.coefficient.value
        self.coefficient.update(whole, answers)
        return {
            "kl": float(k1(drift)[mask].double().sum()) / tokens,
            "kl_k3": float(k3(drift)[mask].double().sum()) / tokens,
            "kl_answer": whole, "kl_coefficient": cost,
        }  # fmt: skip

    def _check_bounds(self) -> None:
        """Raises Diverged where answers grow without end or leave the reference too far: signs of a reward that is
        being deceived."""
        length, kl = self.told["length"], self.told.get("kl_answer", 0.0)
        self.started_with = self.started_with or length
        remedy = "look at what the reward pays for, lower train.lr or raise kl.coefficient; earlier checkpoints stand"
        if self.options.longer and length > self.options.longer * self.started_with:
            raise Diverged(
                f"phase {self.phase}: answers have {length:.1f} tokens on average, more than longer="
                f"{self.options.longer:g} times the {self.started_with:.1f} of the first phase; {remedy}"
            )
        if not math.isfinite(kl) or (self.options.kl.limit and kl > self.options.kl.limit):
            raise Diverged(
                f"phase {self.phase}: answers are {kl:.1f} nats from the reference on average, more than kl.limit="
                f"{self.options.kl.limit:g}; {remedy}"
            )


def _spread(advantages: Tensor, mask: Tensor) -> dict[str, float]:
    found = advantages[mask].double()
    return {"advantage": float(found.mean()), "advantage_std": float(found.std(correction=0))}


def _nothing(rows: Sequence[Any]) -> Any:
    raise AssertionError("the order of prompts makes no batches")
