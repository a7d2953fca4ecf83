"""`ppo` and `grpo`: a policy, who takes part besides, and where its batches come from. The loop is that of every
stage."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from ..config import InputError
from ..config.options.reinforcement import GrpoOptions, PpoOptions
from ..config.rewards import reward_terms
from ..data.corpus import fingerprint, read
from ..data.prompts import Prompts, load_prompts
from ..hub.folders import folder_digest
from ..hub.places import resolve
from ..infer.scoring import Scorer
from ..infer.text import generate
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer
from .adapting import Adaptation, begin, still
from .callbacks import Evaluate, Samples, Say
from .checkpoint import Checkpoints
from .critic import ActorCritic, check_reward_body, critic_of, frozen, logprobs_of, own_values, policy_in
from .dist import Ranks
from .estimates import by_critic, by_groups
from .objectives import Objective
from .plan import Plan, check_context
from .policy import ClippedObjective
from .rewards import Reward
from .rollouts import Cast, Rollouts
from .run import SAMPLES
from .sampled import Said, likeliest
from .sound import check_train
from .stages import Report, Stage, run
from .task import Task
from .trainer import Trainer
from .trunk import adapter_values, put_reward, put_value, reference_on, shared_bytes, shares_base

Options = PpoOptions | GrpoOptions


def ppo(options: PpoOptions, *, say: Say | None = None) -> Report:
    """Make answers better by a reward, with a critic; returns what it achieved. Raises InputError, Diverged where the
    reward is being deceived, and Interrupted after a signal."""
    return run(options, plan_ppo, say, ReinforceStage)


def grpo(options: GrpoOptions, *, say: Say | None = None) -> Report:
    """Make answers better by a reward, each compared with others to its prompt; returns what it achieved. Raises
    InputError, Diverged where the reward is being deceived, and Interrupted after a signal."""
    return run(options, plan_grpo, say, ReinforceStage)


@dataclass(frozen=True)
class ReinforcePlan(Plan):
    """A plan that has a reward. weighing: how tokens add up."""

    options: Options  # type: ignore[assignment]
    reward: Reward = field(default_factory=lambda: Reward([], []))
    weighing: str = "token"


def plan_ppo(options: PpoOptions) -> ReinforcePlan:
    """What PPO is made of; reads the parent, the prompts and the reward. Raises InputError."""
    plan = _plan("ppo", options)
    for name in ("gamma", "lam"):
        if not 0.0 <= getattr(options, name) <= 1.0:
            raise InputError(f"{name}={getattr(options, name)}; wanted a number from 0 to 1")
    if options.kl.where == "loss" and options.kl.target:
        raise InputError("kl.target adapts what is charged in rewards; with kl.where=loss leave it at 0")
    critic = options.critic
    if critic.warmup < 0 or critic.clip < 0 or not (critic.pace > 0 and critic.weight > 0):
        raise InputError(
            f"critic.warmup={critic.warmup}, critic.clip={critic.clip}, critic.pace={critic.pace}, critic.weight="
            f"{critic.weight}; wanted the first two at least 0 and the others above it"
        )
    if critic.start == "reward":
        if len(plan.reward.models) != 1:
            raise InputError(
                f"critic.start=reward, and --reward names {len(plan.reward.models)} reward models; name one, or say "
                "critic.start=policy"
            )
        check_reward_body(plan.model(), plan.reward.models[0])
    return plan


def plan_grpo(options: GrpoOptions) -> ReinforcePlan:
    """What GRPO is made of; reads the parent, the prompts and the reward. Raises InputError."""
    if options.rollouts.answers < 2:
        raise InputError(
            f"rollouts.answers={options.rollouts.answers}: an answer is compared with others to the same prompt; "
            "wanted at least 2"
        )
    if options.kl.target and options.kl.where == "loss":
        raise InputError("kl.target adapts what is charged in rewards; say kl.where=reward, or leave it at 0")
    usual = {"dr-grpo": "constant"}.get(options.algorithm, "token")
    return replace(_plan("grpo", options), weighing=usual if options.loss == "auto" else options.loss)


def _plan(stage: str, options: Options) -> ReinforcePlan:
    check_train(options.train)
    if options.lora.dropout:
        raise InputError(
            f"lora.dropout={options.lora.dropout}: answers are drawn without dropout, and learnt from without; leave "
            "it out"
        )
    begun = begin(options.model, options.lora, seed=options.seed)
    model, tokenizer = begun.model, begun.tokenizer
    if model.encoder is not None or not model.config.causal or "lm" not in model.config.heads_of:
        raise InputError(f"{options.model} is no decoder that says the next token; {stage} samples answers of one")
    if not tokenizer.stops:
        raise InputError(f"{options.model}: its tokenizer has no token that ends an answer; teach it to answer first")
    check_context(replace(options.train, batch_tokens=options.train.context), model.config)
    longest = options.train.context + 1 - options.rollouts.max_new_tokens
    if longest < 1:
        raise InputError(
            f"rollouts.max_new_tokens={options.rollouts.max_new_tokens} leaves no room for a prompt in train.context="
            f"{options.train.context}; raise the one or lower the other"
        )
    notes: list[str] = []
    prompts, counts = load_prompts(
        read(options.prompts), tokenizer, longest=longest, bad_records=options.bad_records, say=notes.append
    )
    task = Task(
        prompts, counts, _one_each, _no_collator, notes=notes, tell=_in_words, before=True,
    )  # fmt: skip
    return ReinforcePlan(
        stage, options, tokenizer, model.config, lambda: model, task, stops=tokenizer.stops,
        fingerprint=fingerprint(options.prompts), parent=begun.told, adaptation=begun.adaptation,
        reward=Reward.load(options.reward, partial(_scorer, model, begun.adaptation)),
    )  # fmt: skip


def _scorer(model: Transformer, adaptation: Adaptation | None, name: str) -> Scorer:
    """A reward model by itself, or on the trunk of the policy where it is an adapter for the same base."""
    if not shares_base(name, adaptation):
        return Scorer.load(name)
    return put_reward(model, name, sum(other.startswith("reward") for other in model.attached))


def _one_each(part: Prompts) -> Any:
    return range(len(part))


def _no_collator(part: Any, whole: bool) -> Any:
    raise AssertionError("prompts become batches only with their answers")


def _in_words(means: Any) -> str:
    if "reward" not in means:
        return "no held-out reward"
    return (
        f"held-out reward {means['reward']:.4f}, answers of {means['length']:.1f} tokens, {means['ended']:.0%} of them "
        "ended"
    )


class ReinforceStage(Stage):
    """A stage whose batches are answers that its own model gave."""

    plan: ReinforcePlan
    options: Options  # type: ignore[assignment]
    loader: Rollouts  # type: ignore[assignment]
    learnt: Prompts
    kept: Prompts

    def __init__(self, plan: Any, folder: Any, device: torch.device, ranks: Ranks, say: Say) -> None:
        """Raises InputError under torchrun."""
        if ranks.world > 1:
            raise InputError(
                f"{plan.stage} runs in one process, and torchrun started {ranks.world}; start it without torchrun"
            )
        super().__init__(plan, folder, device, ranks, say)

    def _loader(self) -> Any:
        options, critic = self.options, getattr(self.options, "critic", None)
        self.width = self.train.context
        estimate = (
            by_groups(options.algorithm)
            if isinstance(options, GrpoOptions)
            else by_critic(options.gamma, options.lam, options.whiten)
        )
        return Rollouts(
            self.learnt, self.plan.tokenizer, self.plan.reward, estimate, options, weighing=self.plan.weighing,
            warmup=critic.warmup if critic else 0, context=self.train.context, micro_tokens=self.train.micro_tokens,
            say=self.say,
        )  # fmt: skip

    def _objective(self) -> Objective:
        options, critic = self.options, getattr(self.options, "critic", None)
        figures: dict[str, Any] = {
            "temperature": options.rollouts.temperature, "clip_low": options.clip_low, "clip_high": options.clip_high,
            "entropy": options.entropy, "chunk": self.train.loss_chunk, "policy": policy_in,
            "kl": options.kl.coefficient if options.kl.where == "loss" else 0.0,
        }  # fmt: skip
        if critic is not None:
            figures |= {"value_weight": critic.weight, "value_clip": critic.clip}
            figures["values"] = own_values if self.plan.adaptation is None else adapter_values
        return ClippedObjective(**figures)

    def born(self) -> Any:
        """The policy, with PPO its critic, and who takes part besides."""
        policy = still(super().born())
        temperature, chunk = self.options.rollouts.temperature, self.train.loss_chunk
        self.loader.cast = cast = Cast(policy, logprobs_of(policy, temperature, chunk))
        for reward in self.plan.reward.models:
            reward.to(self.device)
            reward.compute = self.dtype
        if self.plan.adaptation is None:
            return self._apart(policy, cast)
        self.plan.adaptation.freeze(policy)  # a reward model that was put on the trunk learns nothing
        cast.reference = reference_on(policy, temperature, chunk)
        if (critic := getattr(self.options, "critic", None)) is not None:
            put_value(policy, self.plan.adaptation, critic.start, critic.pace)
            cast.values = partial(adapter_values, policy)
        return policy

    def _apart(self, policy: Transformer, cast: Cast) -> Any:
        """With networks of their own for the others."""
        self.reference = frozen(policy)
        cast.reference = logprobs_of(self.reference, self.options.rollouts.temperature, self.train.loss_chunk)
        if (critic := getattr(self.options, "critic", None)) is None:
            return policy
        model = ActorCritic(
            policy, critic_of(self.plan.reward.models[0] if critic.start == "reward" else policy), critic.pace
        )
        model.compute = self.dtype
        cast.values = partial(own_values, model)
        return model

    def _watchers(self) -> list[Any]:
        return [self.loader.watch]

    def _spoken(self, model: Any) -> Transformer:
        return policy_in(model)

    def _step(self) -> str:
        return f"about {self.loader.batch_rows} answers of at most {self.options.rollouts.max_new_tokens} tokens"

    def _begin(self, trainer: Trainer, checkpoints: Checkpoints) -> int:
        start = super()._begin(trainer, checkpoints)
        if not self.loader.before:
            held = self._held_out()
            self.loader.before = held.measure(trainer.model, trainer.objective, self.ranks) | {"said": held.said}
            if self.loader.before["targets"]:
                self.say(f"before: {_in_words(self.loader.before)}")
        return start

    def _held_out(self) -> Any:
        count = min(len(self.kept), self.options.evaluate.rows or len(self.kept))
        chosen = [self.kept[number * len(self.kept) // count] for number in range(count)]
        shown = [self.learnt[n] for n in range(min(self.options.evaluate.samples, len(self.learnt)))]
        samples = min(self.options.evaluate.samples, count or len(shown))
        return HeldOutPrompts(chosen or shown, bool(chosen), self.plan, self.options.rollouts, samples, self.say)

    def _samples(self, say: Say) -> Samples:
        prompts = self._held_out()
        shown = [(self.plan.tokenizer.decode(one.ids), one.ids) for one in prompts.prompts[: prompts.samples]]
        longest = self.options.rollouts.max_new_tokens
        speak = partial(_speak, tokenizer=self.plan.tokenizer, longest=longest)
        return Samples(shown, speak, self.folder / SAMPLES, self.options.evaluate.every, say)

    def _tell(self, row: int) -> dict[str, Any]:
        prompt = self.learnt[row]
        return {"row": row, "where": prompt.where, "texts": [self.plan.tokenizer.decode(prompt.ids)]}

    def _seconds_a_step(self, trainer: Trainer) -> float:
        """With its share of the sampling."""
        here = self.loader.state_dict()
        trainer.prepare()
        started = time.perf_counter()
        count = self.loader.micro_batches
        phase = time.perf_counter() - started
        how = self.options.rollouts
        seconds = trainer.seconds_a_step()
        assert count
        self.loader.load_state_dict(here)
        return seconds + phase / (how.epochs * how.minibatches)

    def inputs(self) -> dict[str, Any]:
        models = [term.name for term in reward_terms(self.options.reward) if term.kind == "model"]
        return super().inputs() | {"reward": [folder_digest(resolve(name)) for name in models]}

    def _measured(self, trainer: Trainer, evaluate: Evaluate) -> Report:
        """What held-out prompts got before and after, and who took how much memory."""
        after, before = evaluate.measure(trainer) or {}, self.loader.before
        said = evaluate.held_out.said if evaluate.held_out else []  # type: ignore[attr-defined]
        if not len(self.kept):
            self.say("nothing is held out, so there is no held-out reward; raise held_out or give more prompts")
        figures = {
            f"held_out_{name}_{when}": means.get(name)
            for name in ("reward", "length", "ended")
            for when, means in (("before", before), ("after", after))
        }
        names = ("phase", "reward", "kl", "kl_answer", "kl_coefficient", "length", "failed_rewards")
        last = {f"last_{name}" if name != "phase" else "phases": self.loader.told.get(name) for name in names}
        samples = [
            {
                "prompt": first["prompt"], "before": first["answer"], "after": second["answer"],
                "reward_before": first["reward"], "reward_after": second["reward"],
            }
            for first, second in zip(before.get("said", []), said)
        ]  # fmt: skip
        return {**figures, **last, "memory": self._memory(trainer.model), "samples": samples}

    def _memory(self, model: Any) -> dict[str, int]:
        """Bytes of the weights of all who take part."""
        apart = [reward for reward in self.plan.reward.models if reward is not policy_in(model)]
        rewards = {"reward": sum(map(bytes_of, apart))} if apart else {}
        if self.plan.adaptation is not None:
            parts = shared_bytes(model)
            return parts | rewards | {"all": parts["all"] + sum(rewards.values())}
        parts = {"policy": bytes_of(policy_in(model)), "reference": bytes_of(self.reference)} | rewards
        if isinstance(model, ActorCritic):
            parts["critic"] = bytes_of(model.critic)
        return parts | {"all": sum(parts.values())}


def bytes_of(model: torch.nn.Module) -> int:
    """Of its weights, shared ones once."""
    return sum(weight.nbytes for weight in model.parameters())


@dataclass
class HeldOutPrompts:
    """Prompts that are answered greedily and scored, never learnt from. counted: whether the figures mean anything, or
    these are only shown; samples: how many are kept in `said` with their answers."""

    prompts: Sequence[Any]
    counted: bool
    plan: ReinforcePlan
    how: Any
    samples: int
    say: Say
    said: list[dict[str, Any]] = field(default_factory=list)

    def measure(self, model: Any, objective: Any, ranks: Any) -> dict[str, Any]:
        """Mean reward of the answers that have one, mean length in tokens, the share that ended, and targets, how many
        answers there were."""
        if not self.prompts:
            return {"targets": 0}
        found: list[Said] = likeliest(
            policy_in(model), self.plan.tokenizer, self.prompts, max_new_tokens=self.how.max_new_tokens,
            slots=self.how.slots,
        )  # fmt: skip
        judged = self.plan.reward(self.prompts, [one.text for one in found])
        scores = judged.scores
        if judged.failures:
            number, why = next(iter(judged.failures.items()))
            self.say(
                f"warning: {len(judged.failures)} of {len(found)} held-out answers have no reward, and count in no "
                f"mean; the first: {why}; it was given {self.prompts[number].where}"
            )
        self.said = [
            {
                "prompt": self.plan.tokenizer.decode(prompt.ids), "answer": one.text,
                "reward": score if math.isfinite(score) else None,
            }
            for prompt, one, score in list(zip(self.prompts, found, scores))[: self.samples]
        ]  # fmt: skip
        good = [score for score in scores if math.isfinite(score)]
        if not self.counted or not good:
            return {"targets": 0}
        return {
            "reward": sum(good) / len(good),
            "length": sum(len(one.ids) for one in found) / len(found),
            "ended": sum(one.ended for one in found) / len(found), "targets": len(found),
        }  # fmt: skip


def _speak(model: Any, prompts: Sequence[Sequence[int]], *, tokenizer: Tokenizer, longest: int) -> list[str]:
    return generate(policy_in(model), tokenizer, prompts, max_new_tokens=longest, strategy="greedy")


Plans = dict[str, Callable[[Any], ReinforcePlan]]
PLANS: Plans = {"ppo": plan_ppo, "grpo": plan_grpo}
