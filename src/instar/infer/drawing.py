"""Temperature, top-k, top-p, min-p and the draw, for rows that each have their own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..config.options import SamplingOptions
from .weights import ahead, ends, first_beyond, floor_of_k, floor_of_p, likeliest, pick, trim, weigh, weigh_sorted, wide

NEAR = 256  # likeliest tokens that a CPU looks at before it looks at all of a row


class Drawing:
    """The rules of drawing of each row, as columns (B, 1); None where no row wants the rule."""

    def __init__(self, options: Sequence[SamplingOptions], like: Tensor) -> None:
        """like: any tensor of the dtype and on the device of the logits to come."""

        def column(name: str, dtype: torch.dtype) -> Tensor | None:
            values = [getattr(row, name) for row in options]
            neutral = getattr(SamplingOptions(), name)
            if all(value == neutral for value in values):
                return None
            return torch.tensor(values, dtype=dtype, device=like.device)[:, None]

        self.heat, self.k = column("temperature", like.dtype), column("top_k", torch.long)
        self.p, self.share = column("top_p", wide(like)), column("min_p", like.dtype)
        self.most = max((row.top_k for row in options), default=0)
        # rows whose nucleus is a share of the whole vocabulary
        open = [n for n, row in enumerate(options) if row.top_p < 1 and not row.top_k]
        self.open = torch.tensor(open, dtype=torch.long, device=like.device)

    def weigh(self, logits: Tensor) -> Tensor:
        """logits (B, V) -> what a draw falls into: weights (B, V), the likeliest token's 1 and that of what is dropped
        0, with zeros up to whole blocks."""
        return _weigh(
            logits, self.heat, self.k, self.p, self.share, max(self.most, ahead(logits) * bool(len(self.open)))
        )

    def draw(self, logits: Tensor, luck: Tensor) -> Tensor:
        """logits (B, V), luck (B,) uniform in [0, 1) -> ids (B,)."""
        drops = any(rule is not None for rule in (self.k, self.p, self.share))
        if drops and logits.device.type == "cpu" and logits.shape[-1] > NEAR:
            return self._draw_near(logits, luck)
        return pick(self.weigh(logits), luck, logits.shape[-1])

    def _draw_near(self, logits: Tensor, luck: Tensor) -> Tensor:
        """As `draw`, but first among the likeliest tokens: where all that is kept is one of them, and that depends on
        nothing but the row, a CPU is done in a fraction of the time. In the order of ids, as `pick` has them."""
        values, ids = logits.topk(NEAR)
        weights = weigh_sorted(values, self.heat)
        floor = torch.full_like(values[:, :1], -torch.inf)
        if self.k is not None:
            floor = floor_of_k(values, self.k)
        if self.p is not None:
            left = weights * (values >= floor)
            whole = left.sum(-1, keepdim=True, dtype=wide(logits))
            if len(self.open):
                whole[self.open] = self._whole(logits, self.open)
            floor = torch.maximum(floor, floor_of_p(values, values, self.p, whole, self.heat))
        kept = values >= floor
        if self.share is not None:
            kept &= weights >= self.share
        order = ids.sort(-1)
        line = (weights * kept).gather(-1, order.indices).to(wide(logits)).cumsum(-1)
        place = first_beyond(line, luck.to(line)[:, None] * line[:, -1:])
        drawn = order.values.gather(-1, place).squeeze(-1)
        far = kept[:, -1].nonzero().squeeze(-1)
        if len(far):
            drawn[far] = self._draw_far(logits, luck, far)
        return drawn

    def _draw_far(self, logits: Tensor, luck: Tensor, far: Tensor) -> Tensor:
        """As `draw` for these rows, which keep more than the likeliest."""

        def own(rule: Tensor | None) -> Tensor | None:
            return None if rule is None else rule[far]

        most = max(self.most, ahead(logits))
        weights = _weigh(logits[far], own(self.heat), own(self.k), own(self.p), own(self.share), most)
        return pick(weights, luck[far], logits.shape[-1])

    def _whole(self, logits: Tensor, rows: Tensor) -> Tensor:
        """The weight of all tokens of these rows -> (rows, 1)."""
        logits = logits if len(rows) == len(logits) else logits[rows]
        return ends(weigh(logits, None if self.heat is None else self.heat[rows]))[:, -1:]


def _weigh(
    logits: Tensor, heat: Tensor | None, k: Tensor | None, p: Tensor | None, share: Tensor | None, most: int
) -> Tensor:
    """`Drawing.weigh`, with the likeliest looked at for top-k and top-p."""
    weights = weigh(logits, heat)
    if k is not None or p is not None:
        values = likeliest(logits, most)
        if k is not None:
            trim(weights, logits, floor_of_k(values, k))
        if p is not None:
            trim(weights, logits, floor_of_p(logits, values, p, ends(weights)[:, -1:], heat))
    if share is not None:
        trim(weights, weights, share)
    return weights
