"""Where to look, taught beside what to say.

To answer from a text a model must find the words that tell it, and that a head finds them earns nothing before what
follows can read what it finds: small models wait long for both. Where the data names these words, one head can be told
where to look, as translation has been told its alignments (Liu et al. 2016, "Neural machine translation with supervised
attention") and one head its syntax (Strubell et al. 2018). The model is what it would be without: nothing is added to
it, and nobody tells it anything when it answers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..batch import IGNORE, Batch, Loss
from ..config import ModelConfig
from ..model.attention import Seen
from ..model.stack import Block, rows_at
from .objectives import cross_entropy, teaching_places

LEAST = 1e-5  # of a head's attention, so that a logarithm stays one


def evident(model: Any, batch: Batch, *, weight: float, **options: Any) -> Loss:
    """Cross-entropy, and `weight` times minus the logarithm of what one head takes of the evidence of each target.

    The head is the last of the middle block, or of the nearest to it that sees the whole text; the metric on_evidence
    is the share of its attention that falls on the evidence, over all targets that have any.
    """
    block = model.blocks[middle(model.config)]
    inputs: list[Any] = []
    hook = block.register_forward_pre_hook(lambda module, given: inputs.extend(given))
    try:
        loss = cross_entropy(model, batch, **options)
    finally:
        hook.remove()
    if batch.evidence is None:
        missing = share = loss.terms["loss"][0].new_zeros(())
        count = 0
    else:
        found = on_evidence(block, inputs[0], inputs[1], batch)
        missing, share, count = -(found + LEAST).log().sum(), found.detach().sum(), len(found)
    terms = {**loss.terms, "evidence": (weight * missing, loss.terms["loss"][1])}
    return Loss(terms=terms, metrics={**loss.metrics, "on_evidence": (share, count)})


def middle(config: ModelConfig) -> int:
    """The number of the block whose head is told."""
    centre, windows = (config.layers - 1) // 2, config.windows or (0,) * config.layers
    return min(range(config.layers), key=lambda number: (windows[number] > 0, abs(number - centre)))


def on_evidence(block: Block, x: Tensor, seen: Seen, batch: Batch) -> Tensor:
    """What the block's last head, given the stream x (B, T, D), takes of the evidence of each target that has any
    (N,)."""
    assert batch.evidence is not None
    targets, evidence, given = batch.targets, batch.evidence, block.attended(x)
    asks = given
    if (places := teaching_places(targets)) is not None:
        targets, asks, seen = targets.gather(1, places), rows_at(given, places), seen.at(places, x.shape[1], x.dtype)
        evidence = rows_at(evidence, places)
    weights = block.attention.looks(asks, given, seen, block.attention.heads - 1)
    begin, end = evidence.unbind(-1)
    keys = torch.arange(weights.shape[-1], device=weights.device)
    inside = (keys >= begin[..., None]) & (keys < end[..., None])
    wide = torch.promote_types(weights.dtype, torch.float32)
    return (weights.to(wide) * inside).sum(-1)[(end > 0) & (targets != IGNORE)]
