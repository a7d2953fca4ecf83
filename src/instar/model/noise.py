"""Noise on embeddings, by which a model that is taught to answer keeps less to the wording of its examples."""

from __future__ import annotations

import torch
from torch import Tensor

from ..batch import View


def noise(x: Tensor, view: View | None, alpha: float) -> Tensor:
    """x (B, T, D) -> as many numbers, uniform in +-alpha / sqrt(L D), where L is the length of the text that a token is
    of (NEFTune, Jain et al. 2023): of its segment, of what is kept of its row, or of the row."""
    reach = alpha * (_lengths(x, view).double() * x.shape[-1]).rsqrt()
    return torch.empty_like(x).uniform_(-1, 1) * reach.to(x.dtype)


def _lengths(x: Tensor, view: View | None) -> Tensor:
    """The tokens of each token's text, (B or 1, T or 1, 1)."""
    if view is not None and view.segments is not None:
        rows = torch.arange(len(view.segments), device=x.device)[:, None]
        texts = view.segments + rows * (view.segments.max() + 1)
        return torch.bincount(texts.flatten())[texts][..., None]
    if view is not None and view.keep is not None:
        return view.keep.sum(1)[:, None, None].clamp(min=1)
    return torch.full((1, 1, 1), x.shape[1], device=x.device)
