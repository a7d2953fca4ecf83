"""What a run will take before it starts: weights, bytes by part, optimizer steps, tokens, time on this machine.

Activations are counted, not guessed: the model runs once on tensors that have shapes and no memory, and what autograd
keeps for the backward pass is added up.
"""

from __future__ import annotations

import resource
import sys
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks

from ..adapt.lora import counts
from ..adapt.quantize import bytes_of
from ..batch import View
from ..config import ModelConfig
from ..config.options import TrainOptions
from ..hub.memory import free_bytes
from ..model.transformer import Transformer
from .adapting import Adaptation, lighten, sizes
from .budget import fitting
from .stages import FULL, Stage
from .trainer import Trainer


def memory(
    config: ModelConfig, train: TrainOptions, dtype: torch.dtype, *, rows: int, micro_batches: int = 1,
    adaptation: Adaptation | None = None,
) -> dict[str, int]:  # fmt: skip
    """Bytes by part at the peak of a step of so many micro-batches of `rows` rows.

    weights; gradients; moments (two for AdamW, one for Muon); activations: kept for the backward pass; logits: of one
    chunk, with their gradient; work: what a block's backward pass holds besides, its own activations where they are
    recomputed. needed: the most that is alive at once, which is no sum, since activations go as gradients come. What
    a process takes of the system is more: an allocator keeps some of what was freed. adaptation: the adapter that
    learns instead of the model, which then needs no gradients and no moments.
    """
    with FakeTensorMode():
        model = Transformer(config, seed=None)
        if adaptation is not None:
            lighten(adaptation.put_on(model), dtype)
        model.compute = dtype
        model.recompute = train.recompute
        kept, largest = _activations(model.train(), rows, train.context)
        model.recompute = False
        block = _activations(model, rows, train.context)[0] // config.layers if train.recompute else 0
        weights = bytes_of(model)
        learning = FULL * counts(model)[0]
        muon = FULL * sum(
            weight.numel()
            for block in model.all_blocks()
            for weight in block.parameters()
            if weight.ndim == 2 and weight.requires_grad
        )
    once = muon if train.optimizer == "muon" else 0
    chunk = min(train.loss_chunk or rows * train.context, rows * train.context)
    parts = {
        "weights": weights,
        "gradients": learning,
        "moments": 2 * learning - once,
        "activations": kept,
        "logits": 3 * FULL * chunk * config.vocab_size,
        "work": 3 * largest + block,
    }
    before = parts["gradients"] if micro_batches > 1 else 0
    passing = max(parts["activations"] + parts["logits"] + before, parts["gradients"]) + parts["work"]
    return parts | {"needed": parts["weights"] + parts["moments"] + passing}


def _activations(model: Transformer, rows: int, context: int) -> tuple[int, int]:
    """Bytes that one forward pass of packed rows keeps, and the largest single piece of them."""
    own = {weight.untyped_storage()._cdata for weight in model.parameters()}
    seen: dict[int, int] = {}
    alive: list[Tensor] = []  # a storage that is freed could be counted as the next one

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            seen[storage._cdata] = storage.nbytes()
            alive.append(tensor)
        return tensor

    tokens = torch.zeros(rows, context, dtype=torch.long)
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        view = View(torch.zeros_like(tokens), torch.zeros_like(tokens))
        model.hidden(tokens, view=view, source=None if model.encoder is None else tokens)
    return sum(seen.values()), max(seen.values(), default=0)


def forecast(stage: Stage) -> dict[str, Any]:
    """What this run will take, in a process that has done nothing else. Where the memory suffices, three steps are
    taken for the time of one and the peak of the process; else both are None. Nothing is written.

    "seconds" counts the steps alone; evaluations and saving come besides.
    """
    plan, loader, steps = stage.plan, stage.loader, stage.steps
    train = replace(stage.train, context=stage.width)
    parts: dict[str, Any] = dict(
        memory(
            plan.config, train, stage.dtype, rows=loader.micro_rows, micro_batches=loader.micro_batches,
            adaptation=plan.adaptation,
        )
    )  # fmt: skip
    parts["reference"] = plan.task.copies * parts["weights"]
    parts["needed"] += parts["reference"]
    free = free_bytes(stage.device)
    fits = free is None or parts["needed"] <= free
    seconds, peak = _measured(stage) if fits else (None, None)
    parts |= {"free": free, "peak": peak, "fits": fits}
    if seconds is not None:
        steps = fitting(train, steps, seconds)
    with FakeTensorMode():
        model = Transformer(plan.config, seed=None)
        size = sizes(model if plan.adaptation is None else plan.adaptation.put_on(model))
    tokens = steps * loader.batch_rows * train.context
    return {
        "stage": plan.stage, **size, "steps": steps, "tokens": tokens,
        "epochs": tokens / max(1, stage.learnt.total), "tokens_per_step": loader.batch_rows * train.context,
        "micro_batches": loader.micro_batches, "warmup_steps": round(train.warmup * steps), "bytes": parts,
        "seconds_per_step": seconds, "seconds": None if seconds is None else seconds * steps,
        "tokens_per_second": None if seconds is None else tokens / steps / seconds,
        "compute": str(stage.dtype).removeprefix("torch."), "device": str(stage.device), "data": dict(plan.task.counts),
    }  # fmt: skip


def _measured(stage: Stage) -> tuple[float, int]:
    """Seconds of a step, the faster of two after a first one; bytes of the process, or of the GPU, at its peak."""
    stage.model = stage.born()
    if stage.task.begin is not None:
        stage.task.begin(stage, trial=True)
    trainer = Trainer(stage.model, stage.objective, stage.loader, stage.train, steps=3, say=stage.say)
    trainer.prepare()
    marks = [0.0]
    for _ in range(3):
        trainer.advance()
        marks.append(trainer.seconds)
    seconds = min(after - before for before, after in pairwise(marks[1:]))
    if stage.device.type == "cuda":
        return seconds, torch.cuda.max_memory_allocated(stage.device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return seconds, peak if sys.platform == "darwin" else peak * 1024
