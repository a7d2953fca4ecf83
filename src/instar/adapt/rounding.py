"""From weights to whole numbers on a grid, so that the products change as little as can be.

Letters: N output channels, K input channels, G groups of a row.
Plain rounding takes the scale from the largest weight of a group and every weight to its nearest number. Better in two
ways: scales are searched for, since a large weight may be cut short where that makes the rest finer; and weights are
rounded one column after the other, where the columns still to come make up for the error that was made on what the
layer is really given (GPTQ, Frantar et al. 2023).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..model.grid import Grid

SHARES = torch.linspace(1.0, 0.75, 16).tolist()  # of a group's largest weight, at which the grid may end
DAMPING = 0.05  # of the mean of the diagonal, added to it: an input never seen must not make weights explode
BLOCK = 128  # columns after which an error reaches all others


def search(weight: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """weight (N, K) -> scales (N, G) that bf16 can hold and zero points int8 (N, G), of the smallest squared error."""
    groups = weight.float().unflatten(1, (grid.groups(weight.shape[1]), -1))
    # 1 stays where all weights are 0: any other scale would be 0, and the error of that no number
    least = groups.new_full((*groups.shape[:2], 1), torch.inf)
    best, zeros = torch.ones_like(least), torch.zeros_like(least)
    for share in SHARES:
        for scale, zero in _candidates(groups, grid, share):
            error = (_nearest(groups, scale, zero, grid).sub_(zero).mul_(scale) - groups).square_().sum(2, keepdim=True)
            better = error < least
            least, best, zeros = (
                torch.where(better, new, old) for new, old in ((error, least), (scale, best), (zero, zeros))
            )
    return best.squeeze(2), zeros.squeeze(2).to(torch.int8)


def _candidates(groups: Tensor, grid: Grid, share: float) -> list[tuple[Tensor, Tensor]]:
    """Scales and zero points (N, G, 1) of grids that end at this share of the largest weights."""
    low, high = groups.amin(2, keepdim=True).clamp(max=0) * share, groups.amax(2, keepdim=True).clamp(min=0) * share
    if not grid.symmetric:
        scale = _scale((high - low) / (grid.most - grid.least))
        return [(scale, (grid.least - low / scale).round().clamp(grid.least, grid.most))]
    # there is one number more below zero than above: it may go to the larger side by turning all signs
    widest = torch.where(high > -low, high, low)
    none = torch.zeros_like(low)
    return [(_scale(widest.abs() / (grid.most + 0.5)), none), (_scale(widest / grid.least), none)]


def _scale(scale: Tensor) -> Tensor:
    """The nearest number of bf16, in which kernels want it."""
    return scale.to(torch.bfloat16).float()


def _nearest(weight: Tensor, scale: Tensor, zero: Tensor, grid: Grid) -> Tensor:
    return (weight / scale + zero).round_().clamp_(grid.least, grid.most)


def nearest(weight: Tensor, scale: Tensor, zero: Tensor, grid: Grid) -> Tensor:
    """Every weight (N, K) to its nearest number: q, int8 (N, K)."""
    groups = weight.float().unflatten(1, (scale.shape[1], -1))
    return _nearest(groups, scale[..., None], zero[..., None], grid).flatten(1).to(torch.int8)


def compensated(weight: Tensor, scale: Tensor, zero: Tensor, grid: Grid, second: Tensor) -> Tensor:
    """q, int8 (N, K), so that x q^T is near x weight^T for what x is like. second (K, K): the sum of x x^T.

    Columns whose inputs are large come first. Scales are those of the original weights, so that a group needs no order
    of its own.
    """
    columns = weight.shape[1]
    order = second.diagonal().argsort(descending=True)
    back = order.argsort()
    inverse = _inverse_root(second[order][:, order])
    left = weight.float()[:, order]
    spread = columns // scale.shape[1]
    scale, zero = (part.float().repeat_interleave(spread, 1)[:, order] for part in (scale, zero))
    q = torch.empty_like(left)
    for start in range(0, columns, BLOCK):
        stop = min(start + BLOCK, columns)
        errors = torch.empty_like(left[:, start:stop])
        for column in range(start, stop):
            q[:, column] = _nearest(left[:, column], scale[:, column], zero[:, column], grid)
            wrong = left[:, column] - (q[:, column] - zero[:, column]) * scale[:, column]
            errors[:, column - start] = wrong / inverse[column, column]
            left[:, column:stop] -= torch.outer(errors[:, column - start], inverse[column, column:stop])
        left[:, stop:] -= errors @ inverse[start:stop, stop:]
    return q[:, back].to(torch.int8)


def _inverse_root(second: Tensor) -> Tensor:
    """The upper triangle whose square is the inverse, the diagonal made larger until there is one."""
    matrix, damping = second.double(), DAMPING
    eye = torch.eye(len(matrix), dtype=torch.float64) * max(float(matrix.diagonal().mean()), 1e-12)
    while True:
        inverse, failed = torch.linalg.inv_ex(matrix + damping * eye)
        root, wrong = torch.linalg.cholesky_ex(inverse, upper=True)
        if not failed and not wrong:
            return root.float()
        damping *= 10
