"""The loop: how long, how large, how fast; looking at it, and saving it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TrainOptions:
    """The loop: how long, how large, how fast."""

    # optimizer steps; 0 derives them from epochs
    steps: int = 0
    # passes over the data, where steps is 0
    epochs: float = 1.0
    # take no more steps than fit so many minutes on this machine, as measured at the start; 0 takes them all
    minutes: float = 0.0
    # tokens in one row
    context: int = 256
    # tokens of one optimizer step, over all ranks
    batch_tokens: int = 8192
    # tokens of one forward pass on one rank; 0 takes the whole batch at once
    micro_tokens: int = 0
    # adamw, or muon (Muon on matrices, AdamW on everything else)
    optimizer: Literal["adamw", "muon"] = "adamw"
    # peak learning rate of AdamW
    lr: float = 1e-3
    # peak learning rate of Muon
    muon_lr: float = 0.02
    # decay of the first and second moment
    betas: tuple[float, ...] = (0.9, 0.95)
    # added to the root of the second moment
    eps: float = 1e-8
    # decay of matrices; never of embeddings, norms and biases
    weight_decay: float = 0.1
    # largest norm of the whole gradient; 0 does not clip
    clip: float = 1.0
    # constant, cosine, rsqrt (falls with the root of the steps) or wsd (warm up, stay, decay); wsd with decay 0 leaves
    # the decay to the next stage
    schedule: Literal["constant", "cosine", "wsd", "rsqrt"] = "wsd"
    # share of the steps spent warming up
    warmup: float = 0.02
    # wsd: share of the steps spent decaying
    decay: float = 0.2
    # the learning rate at the end, as a share of the peak
    final: float = 0.0
    # share of each target that is spread over all answers (label smoothing)
    smoothing: float = 0.0
    # try torch.compile on each block; falls back with one warning
    compile: bool = False
    # recompute activations in the backward pass to save memory
    recompute: bool = False
    # rows of the output whose logits exist at once; 0 makes them all
    loss_chunk: int = 2048
    # processes that collate batches; 0 collates in the loop
    workers: int = 0


@dataclass(frozen=True)
class LoraOptions:
    """Low-rank adapters: the model stays as it is, and small matrices beside its layers learn (LoRA). They want about
    ten times the learning rate."""

    # rank of what is added to each layer, such as 16; 0 trains the model itself, or where --model names an adapter
    # goes on with that
    rank: int = 0
    # what is added is scaled by alpha / rank; 0 takes twice the rank
    alpha: float = 0.0
    # share of its channels that an adapter is not shown in training
    dropout: float = 0.0
    # layers by the ends of their names, ours or the family's, * for anything: q v, q_proj v_proj; all-linear takes
    # every one of attention, feed-forward layers and experts, and never embeddings, heads and routers
    targets: tuple[str, ...] = ("all-linear",)
    # scale by alpha / sqrt(rank), so that large ranks learn as fast (rsLoRA)
    rslora: bool = False
    # 4 keeps the model's own layers in 4 bits of NF4 while the adapter learns (QLoRA); 0 keeps them as they are
    bits: int = 0
    # tokens that are added to the vocabulary, with rows that learn; text never becomes one unless it is put there by
    # the chat template
    tokens: tuple[str, ...] = ()


@dataclass(frozen=True)
class EvaluateOptions:
    """Looking at the model while it trains."""

    # steps between evaluations on held-out data; 0 only at the end
    every: int = 0
    # rows of held-out data; 0 takes all there are
    rows: int = 64
    # texts continued at each evaluation, so that one sees the model learn
    samples: int = 2
    # steps between looks inside, which inside.jsonl keeps and the page draws: what each head does, what each layer
    # would say, what the model says; 0 never looks
    inside: int = 0
    # rows of held-out data that are read layer by layer at each look
    inside_rows: int = 4


@dataclass(frozen=True)
class CheckpointOptions:
    """Saving the state of a run, and going on from it."""

    # steps between checkpoints; 0 only at the end of the run
    every: int = 0
    # newest checkpoints that are kept
    keep: int = 2
    # copy the state, which takes its size in memory, and write it while training goes on
    asynchronous: bool = False
