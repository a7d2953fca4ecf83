"""Logits as weights: how likely, the least that top-k and top-p keep, and the token on which a draw falls.

Written for many rows at a time without waiting for the device, and so that no row's answer depends on how many others
there are. On a CPU to sort a vocabulary, or to fill by a mask, takes longer than all the rest; neither is done here
where it can be helped.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import InputError

BLOCK = 256  # tokens whose weights are summed together: a draw finds the block, then the token in it
AHEAD = 4096  # likeliest tokens among which a CPU looks for top-p, before it sorts them all


def weigh(logits: Tensor, heat: Tensor | None = None) -> Tensor:
    """Shares of the probability, the likeliest token's being 1 -> (B, V), with zeros up to whole blocks. heat (B, 1):
    temperatures."""
    logits = logits.detach().to(torch.promote_types(logits.dtype, torch.float32))
    size = logits.shape[-1]
    weights = logits.new_full((len(logits), -(-size // BLOCK) * BLOCK), -torch.inf)
    torch.sub(logits, logits.amax(-1, keepdim=True), out=weights[:, :size])
    return (weights if heat is None else weights.div_(heat)).exp_()


def trim(weights: Tensor, values: Tensor, floor: Tensor) -> None:
    """Take their weight from tokens whose value lies below the floor (B, 1)."""
    # a product with 0 and 1, since to fill by a mask takes a CPU thirty times as long
    weights[:, : values.shape[-1]].mul_(torch.ge(values, floor, out=torch.empty_like(values)))


def ends(weights: Tensor) -> Tensor:
    """Where each block ends on the line of all weights -> (B, blocks); the last end is the whole. Summed by blocks, so
    that neither the count of rows nor that of threads changes the order of the sum."""
    return weights.unflatten(-1, (-1, BLOCK)).sum(-1).to(wide(weights)).cumsum(-1)  # to widen first would copy all


def wide(like: Tensor) -> torch.dtype:
    """In what to add up the sums of many blocks."""
    return torch.float32 if like.device.type == "mps" else torch.float64  # MPS has no doubles


def normaliser(logits: Tensor) -> Tensor:
    """What to subtract from logits (B, V) for log-probabilities in nats -> (B, 1)."""
    return logits.amax(-1, keepdim=True) + ends(weigh(logits))[:, -1:].log().to(logits.dtype)


def logprob(logits: Tensor, ids: Tensor) -> Tensor:
    """How likely ids (B,) are under logits (B, V), in nats -> (B,)."""
    return (logits.gather(-1, ids[:, None]) - normaliser(logits)).squeeze(-1)


def no_numbers() -> InputError:
    """What to raise where logits are not numbers."""
    return InputError(
        "the model's logits are not numbers: its weights are damaged, or too large for half precision; "
        "check the folder, or load it with dtype fp32"
    )


def pick(weights: Tensor, luck: Tensor, size: int) -> Tensor:
    """The one of `size` tokens in whose share luck (B,), uniform in [0, 1), falls -> (B,) ids."""
    line = ends(weights)
    aim = luck.to(line)[:, None] * line[:, -1:]
    block = first_beyond(line, aim)
    inside = weights.unflatten(-1, (-1, BLOCK)).gather(1, block[..., None].expand(-1, -1, BLOCK)).squeeze(1)
    before = F.pad(line, (1, 0)).gather(-1, block)
    place = first_beyond(inside.to(line).cumsum(-1), aim - before)
    # weights that are no numbers lead anywhere; the engine tells of them
    return (block * BLOCK + place).squeeze(-1).clamp(max=size - 1)


def first_beyond(line: Tensor, aim: Tensor) -> Tensor:
    """The first place that ends beyond aim (B, 1), and has a share -> (B, 1)."""
    last = torch.searchsorted(line, line[:, -1:].contiguous())  # a product may round up to the whole
    return torch.minimum(torch.searchsorted(line, aim, right=True), last).clamp(max=line.shape[-1] - 1)


def ahead(logits: Tensor) -> int:
    """How many of the likeliest tokens top-p looks at first. To ask whether they are enough is to wait for the device,
    so all but CPUs sort everything."""
    return AHEAD if logits.device.type == "cpu" else logits.shape[-1]


def likeliest(logits: Tensor, count: int) -> Tensor:
    """The largest logits of each row, in order -> (B, count, or V where that is less)."""
    if count < logits.shape[-1]:
        return logits.topk(count).values
    return logits.sort(dim=-1, descending=True).values


def floor_of_k(values: Tensor, k: Tensor) -> Tensor:
    """The least logit that top-k keeps, k (B, 1), of the sorted likeliest (B, C); 0 keeps all -> (B, 1)."""
    return values.gather(-1, k.clamp(1, values.shape[-1]) - 1).masked_fill(k == 0, -torch.inf)


def floor_of_p(logits: Tensor, values: Tensor, p: Tensor, whole: Tensor, heat: Tensor | None = None) -> Tensor:
    """The least logit that top-p keeps, p (B, 1), of the sorted likeliest (B, C); 1 keeps all -> (B, 1). whole (B, 1):
    the weight of all that earlier rules left. A CPU looks further where the likeliest do not reach p."""
    weights = weigh_sorted(values, heat).to(whole)
    line, goal = weights.cumsum(-1), p * whole
    count = (line - weights < goal).sum(-1, keepdim=True)
    floor = values.gather(-1, count.clamp(min=1) - 1)
    if values.shape[-1] < logits.shape[-1] and logits.device.type == "cpu":
        short = ((line[:, -1:] < goal) & (p < 1)).squeeze(-1).nonzero().squeeze(-1)
        if len(short):
            rows, own = logits[short], None if heat is None else heat[short]
            floor[short] = floor_of_p(rows, likeliest(rows, logits.shape[-1]), p[short], whole[short], own)
    return floor.masked_fill(p >= 1, -torch.inf)


def weigh_sorted(values: Tensor, heat: Tensor | None) -> Tensor:
    """`weigh` for the sorted likeliest (B, C) -> (B, C)."""
    behind = values - values[:, :1]
    return (behind if heat is None else behind / heat).exp()
