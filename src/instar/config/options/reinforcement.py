"""Learning from rewards: what PPO and GRPO can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .screen import REQUIRED, Machine
from .training import CheckpointOptions, EvaluateOptions, LoraOptions, TrainOptions


@dataclass(frozen=True)
class RolloutOptions:
    """A phase: what is sampled under the present weights, and how often it is learnt from."""

    # prompts of a phase
    prompts: int = 64
    # answers to each prompt
    answers: int = 1
    # longest answer, its end counted
    max_new_tokens: int = 64
    # divides the logits when answers are drawn, and so defines the policy; nothing else shapes the draw
    temperature: float = 1.0
    # passes over the answers of a phase
    epochs: int = 2
    # optimizer steps of one pass
    minibatches: int = 2
    # taken off the reward of an answer that did not end
    missing_end: float = 1.0
    # answers without an end teach nothing; their rewards count in the mean of their group
    mask_truncated: bool = False
    # share of the answers that the reward may fail on: they are left out, counted and told; more of them end the run
    bad_rewards: float = 0.05
    # answers that are sampled at a time
    slots: int = 64


@dataclass(frozen=True)
class KlOptions:
    """How far the policy may leave the reference, the model that it began as."""

    # what a nat costs, in rewards or in the loss; 0 costs nothing, and is still measured
    coefficient: float = 0.05
    # reward charges every token for its drift when it was said; loss adds it to the objective
    where: Literal["reward", "loss"] = "reward"
    # how the drift of a token is estimated where rewards are charged: k1 is log p/q, k3 is never below 0; the loss
    # takes k3
    estimator: Literal["k1", "k3"] = "k1"
    # nats of an answer that the coefficient is adapted to; 0 keeps it fixed
    target: float = 0.0
    # answers over which it adapts
    horizon: float = 10000.0
    # go on to the next phase where a step finds the policy so many nats a token from the one that sampled; 0 never
    stop: float = 0.0
    # end the run where an answer is so many nats from the reference, on average; 0 never
    limit: float = 200.0


@dataclass(frozen=True)
class CriticOptions:
    """Who foresees rewards: a network of its own, or with LoRA an adapter of its own."""

    # what it begins as: the policy, with a head that says 0; or the reward model and its head
    start: Literal["policy", "reward"] = "policy"
    # phases at the beginning from which it alone learns
    warmup: int = 0
    # its learning rate in those of the policy
    pace: float = 5.0
    # weight of its loss
    weight: float = 0.1
    # its values count only this far from what they were when the answers were sampled; 0 is no limit
    clip: float = 0.2


@dataclass(frozen=True)
class ReinforceOptions(Machine):
    """What every stage that learns from rewards can be told."""

    # run folder, Hugging Face folder or hf:org/name
    model: str = field(default="", metadata=REQUIRED)
    # files, folders, globs, world:NAME or hf:org/name, of {"prompt", ...}; rewards see the whole record
    prompts: tuple[str, ...] = field(default=(), metadata=REQUIRED)
    # folder of a reward model, or module:function of (record, answer); several with weights: 0.5*runs/reward 1*my:score
    reward: tuple[str, ...] = field(default=(), metadata=REQUIRED)
    # folder that is written
    out: str = field(default="", metadata=REQUIRED)
    # share of the prompts that is kept for evaluation, chosen by hash
    held_out: float = 0.05
    # share of the records that may be at fault: they are left out, counted and told; more of them end the run
    bad_records: float = 0.01
    # the ratio counts only from 1 - clip_low ...
    clip_low: float = 0.2
    # ... to 1 + clip_high
    clip_high: float = 0.2
    # what a nat of entropy is worth in the loss
    entropy: float = 0.0
    # end the run where answers are on average so many times as long as in the first phase; 0 never
    longer: float = 5.0
    # go on from the newest checkpoint of --out
    resume: bool = False

    rollouts: RolloutOptions = field(default_factory=RolloutOptions)
    kl: KlOptions = field(default_factory=KlOptions)
    train: TrainOptions = field(
        default_factory=lambda: TrainOptions(
            context=512, lr=1e-6, weight_decay=0.0, betas=(0.9, 0.999), schedule="constant", warmup=0.0
        )
    )
    lora: LoraOptions = field(default_factory=LoraOptions)
    evaluate: EvaluateOptions = field(default_factory=lambda: EvaluateOptions(samples=3))
    checkpoint: CheckpointOptions = field(default_factory=CheckpointOptions)


@dataclass(frozen=True)
class PpoOptions(ReinforceOptions):
    """Make answers better by a reward, with a critic that foresees it (PPO)."""

    # what a reward is worth one token later
    gamma: float = 1.0
    # how much later rewards count beside the critic's word: 0 trusts it wholly, 1 not at all
    lam: float = 0.95
    # advantages of a phase have mean 0 and variance 1
    whiten: bool = True

    critic: CriticOptions = field(default_factory=CriticOptions)


@dataclass(frozen=True)
class GrpoOptions(ReinforceOptions):
    """Make answers better by a reward, each compared with others to the same prompt (GRPO and its relatives)."""

    # grpo (less the mean of its group, by its standard deviation), dr-grpo (less the mean), rloo (less the mean of the
    # others)
    algorithm: Literal["grpo", "dr-grpo", "rloo"] = "grpo"
    # how tokens add up: token (all of a step alike), sequence (each answer its mean), constant (by the longest answer);
    # auto takes constant with dr-grpo, else token
    loss: Literal["auto", "token", "sequence", "constant"] = "auto"
    clip_high: float = 0.28

    rollouts: RolloutOptions = field(
        default_factory=lambda: RolloutOptions(prompts=16, answers=8, epochs=1, missing_end=0.0)
    )
    kl: KlOptions = field(default_factory=lambda: KlOptions(coefficient=0.0, where="loss"))
