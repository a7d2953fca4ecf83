"""The grid that quantised weights are rounded to, and how whole numbers of 4 bits lie in bytes.

Letters: N output channels, K input channels, G groups of a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import InputError

BITS = (8, 4)
GROUPS = (0, 32, 64, 128)


@dataclass(frozen=True)
class Grid:
    """A weight is (q - z) s: q of 8 or 4 bits, s the scale of its group, z its zero point, 0 where symmetric.

    group: weights of a row that share a scale, 0 for the whole row. Raises InputError for bits or a group that nothing
    here computes.
    """

    bits: int
    group: int
    symmetric: bool

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise InputError(f"bits={self.bits}, wanted {' or '.join(map(str, BITS))}")
        if self.group not in GROUPS:
            raise InputError(f"group={self.group}, wanted one of {', '.join(map(str, GROUPS))}; 0 is a whole row")

    @property
    def least(self) -> int:
        """The smallest q."""
        return -(1 << (self.bits - 1))

    @property
    def most(self) -> int:
        """The largest q."""
        return (1 << (self.bits - 1)) - 1

    def groups(self, columns: int) -> int:
        """How many groups a row of so many weights has."""
        return columns // self.group if self.group else 1

    def fits(self, columns: int) -> bool:
        """Whether rows of so many weights fill their groups, and words of 32 bits."""
        return columns % (self.group or columns) == 0 and columns * self.bits % 32 == 0


def halved(q: Tensor) -> Tensor:
    """q of 4 bits, int8 (N, K) -> uint8 (N, K/2), even channels in the low halves. Example: [-8, 7] -> [0xF0]"""
    unsigned = (q + 8).to(torch.uint8)
    return unsigned[:, ::2] | unsigned[:, 1::2] << 4


def whole(packed: Tensor) -> Tensor:
    """The inverse of halved."""
    return torch.stack((packed & 15, packed >> 4), dim=2).flatten(1).to(torch.int8) - 8
