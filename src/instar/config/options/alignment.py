"""Learning from preferences: what a reward model and DPO can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .screen import REQUIRED, Machine
from .training import CheckpointOptions, EvaluateOptions, LoraOptions, TrainOptions


@dataclass(frozen=True)
class PairOptions(Machine):
    """What every stage that learns from pairs of answers can be told."""

    # run folder, Hugging Face folder or hf:org/name
    model: str = field(default="", metadata=REQUIRED)
    # files, folders, globs, world:NAME or hf:org/name, of {"prompt", "chosen", "rejected"}
    data: tuple[str, ...] = field(default=(), metadata=REQUIRED)
    # folder that is written
    out: str = field(default="", metadata=REQUIRED)
    # two answers stand in one row behind their prompt, which is computed once; no-share computes it twice
    share: bool = True
    # share of the records that may be at fault: they are left out, counted and told; more of them end the run
    bad_records: float = 0.01
    # keep the model's own dropout on; what answers are compared by is usually learnt without
    dropout: bool = False
    # share of the prompts that is kept for evaluation, chosen by hash
    held_out: float = 0.05
    # go on from the newest checkpoint of --out
    resume: bool = False

    lora: LoraOptions = field(default_factory=LoraOptions)
    train: TrainOptions = field(default_factory=TrainOptions)
    evaluate: EvaluateOptions = field(default_factory=EvaluateOptions)
    checkpoint: CheckpointOptions = field(default_factory=CheckpointOptions)


@dataclass(frozen=True)
class RewardOptions(PairOptions):
    """Teach a model to say how good an answer is: one number, higher for the one of two that was preferred."""

    # weight of the square of what a pair's rewards add up to, which keeps rewards near 0; 0 leaves it out
    centering: float = 0.01

    train: TrainOptions = field(
        default_factory=lambda: TrainOptions(context=512, lr=1e-5, weight_decay=0.0, warmup=0.03, decay=0.97)
    )
    evaluate: EvaluateOptions = field(default_factory=lambda: EvaluateOptions(rows=0, samples=0))


@dataclass(frozen=True)
class DpoOptions(PairOptions):
    """Make preferred answers likelier than others, without a reward model (DPO)."""

    # sigmoid (the paper's), conservative (some pairs are the wrong way round), ipo (towards a fixed margin), normalised
    # (log-probabilities per token, whose beta is larger, about 5)
    loss: Literal["sigmoid", "conservative", "ipo", "normalised"] = "sigmoid"
    # how dear it is to leave the reference; above 0
    beta: float = 0.1
    # conservative: the share of pairs that are taken to be the wrong way round, above 0 and below 0.5
    smoothing: float = 0.1
    # weight of the cross-entropy of chosen answers, per token of each; 0 leaves it out
    nll: float = 0.0
    # what the model is held against: precomputed (log-probabilities of all answers, computed once before training),
    # copy (a second model in memory), base (its adapter off), previous (the adapter that it came with), or a folder;
    # auto takes precomputed, or with an adapter previous, or base where there was none
    reference: str = "auto"

    train: TrainOptions = field(
        default_factory=lambda: TrainOptions(context=512, lr=1e-6, weight_decay=0.0, warmup=0.1, decay=0.9)
    )
    evaluate: EvaluateOptions = field(default_factory=lambda: EvaluateOptions(rows=0))
