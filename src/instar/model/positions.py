"""How a Transformer learns which token stands where, in a table that `positions` of a ModelConfig names.

A scheme may add vectors to the embeddings, turn queries and keys, or add a bias to the scores; what it does not do, it
inherits from NoPositions, which does nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import ModelConfig, RopeScaling
from .layers import entry


class Rotation(NamedTuple):
    """The angles of one forward pass: cos, sin (B or 1, 1, T, R/2), for the first R channels of a head."""

    cos: Tensor
    sin: Tensor

    def turn(self, x: Tensor) -> Tensor:
        """Turn channel pairs (i, i + R/2) of x (B, H, T, E) by their angle (Su et al. 2021, equation 34)."""
        size = 2 * self.cos.shape[-1]
        if size < x.shape[-1]:
            return torch.cat((self.turn(x[..., :size]), x[..., size:]), dim=-1)
        left, right = x.chunk(2, dim=-1)
        return torch.cat((left * self.cos - right * self.sin, right * self.cos + left * self.sin), dim=-1)


class NoPositions(nn.Module):
    """Order is not told. Also what the other schemes share: nothing added, nothing turned, no bias, no end."""

    limit: float = math.inf

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()

    def add(self, x: Tensor, positions: Tensor) -> Tensor:
        """Embeddings x (B, T, D) with what this scheme adds for positions (B or 1, T)."""
        return x

    def rotation(
        self, positions: Tensor, dtype: torch.dtype, *, window: bool = False, length: int = 0
    ) -> Rotation | None:
        """How queries and keys are turned at positions (B or 1, T), in layers with a window or in the others, in a
        text of at most `length` tokens."""
        return None

    def bias(self, queries: Tensor, keys: Tensor, dtype: torch.dtype) -> Tensor | None:
        """What is added to the scores (B or 1, H, T, S) of queries (B or 1, T) to keys (B or 1, S)."""
        return None


class Learned(NoPositions):
    """A trained vector for each position (Radford et al. 2018)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.limit, self.start = config.max_positions, config.position_start
        self.weight = nn.Parameter(torch.zeros(config.max_positions + config.position_start, config.d_model))

    def add(self, x: Tensor, positions: Tensor) -> Tensor:
        return x + F.embedding(positions + self.start, self.weight).to(x.dtype)


class Sinusoidal(NoPositions):
    """sin and cos of positions at wavelengths from 2 pi to 10000 * 2 pi, in turn (Vaswani et al. 2017, section 3.5)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.size = config.d_model

    def add(self, x: Tensor, positions: Tensor) -> Tensor:
        return x + self.waves(positions, x.device).to(x.dtype)

    def waves(self, positions: Tensor, device: torch.device) -> Tensor:
        """(B or 1, T) -> (B or 1, T, D)."""
        angles = positions[..., None].float() * frequencies_of(self.size, 10000.0).to(device)
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)[..., : self.size]


class SinusoidalHalves(Sinusoidal):
    """The same waves, all sines before all cosines, as Marian has them."""

    def waves(self, positions: Tensor, device: torch.device) -> Tensor:
        angles = positions[..., None].float() * self.frequencies().to(device)
        return torch.cat((angles.sin(), angles.cos()), dim=-1)[..., : self.size]

    def frequencies(self) -> Tensor:
        return frequencies_of(self.size, 10000.0)


class SinusoidalT2T(SinusoidalHalves):
    """As tensor2tensor, the program of the paper, had them, and OpenNMT after it: the longest wave is 10000 * 2 pi
    itself, and the first token stands at 1."""

    def waves(self, positions: Tensor, device: torch.device) -> Tensor:
        return super().waves(positions + 1, device)

    def frequencies(self) -> Tensor:
        half = self.size // 2
        return 10000.0 ** (-torch.arange(half, dtype=torch.float32) / max(1, half - 1))


class Rotary(NoPositions):
    """Queries and keys are turned by angles that grow with the position (Su et al. 2021)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.size, self.theta, self.scaling = config.rotary_size, config.rope_theta, config.rope_scaling
        self.scale = entry(ROPE_SCALINGS, "rope_scaling.kind", self.scaling.kind)
        self.window_theta = config.window_theta

    def rotation(self, positions: Tensor, dtype: torch.dtype, *, window: bool = False, length: int = 0) -> Rotation:
        wide = torch.promote_types(dtype, torch.float32)
        temper = 1.0
        if window and self.window_theta:
            frequencies = frequencies_of(self.size, self.window_theta)
        else:
            frequencies, temper = self.scale(self.size, self.theta, self.scaling, length)
        frequencies = frequencies.to(positions.device, wide)
        angles = (positions[..., None].to(wide) * frequencies)[:, None]
        return Rotation((angles.cos() * temper).to(dtype), (angles.sin() * temper).to(dtype))


class Relative(NoPositions):
    """A trained number for each head and distance, distances beyond half the buckets growing logarithmically, the
    same in all layers of a stack (T5, Raffel et al. 2020, section 2.1)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.both_ways, self.buckets, self.distance = (
            not config.causal, config.relative_buckets, config.relative_distance,
        )  # fmt: skip
        self.weight = nn.Parameter(torch.zeros(config.relative_buckets, config.heads))

    def bias(self, queries: Tensor, keys: Tensor, dtype: torch.dtype) -> Tensor:
        found = F.embedding(self.bucket(keys[:, None, :] - queries[:, :, None]), self.weight)
        return found.permute(0, 3, 1, 2).to(dtype)

    def bucket(self, ahead: Tensor) -> Tensor:
        """How far a key stands ahead of the query -> its bucket. Both ways, half of the buckets are for keys ahead."""
        buckets, first = self.buckets, torch.zeros_like(ahead)
        if self.both_ways:
            buckets //= 2
            first = (ahead > 0) * buckets
            ahead = ahead.abs()
        else:
            ahead = (-ahead).clamp(min=0)
        exact = buckets // 2
        grown = torch.log(ahead.clamp(min=1).float() / exact) / math.log(self.distance / exact) * (buckets - exact)
        return first + torch.where(ahead < exact, ahead, (exact + grown.long()).clamp(max=buckets - 1))


class Alibi(NoPositions):
    """Scores fall with the distance, in each head at a slope of its own; without a causal mask the same on both sides
    (Press et al. 2022)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.slopes = slopes(config.heads)

    def bias(self, queries: Tensor, keys: Tensor, dtype: torch.dtype) -> Tensor:
        distance = (keys[:, None, None, :] - queries[:, None, :, None]).abs()
        wide = torch.promote_types(dtype, torch.float32)
        return (distance * -self.slopes.to(distance.device, wide)[:, None, None]).to(dtype)


POSITIONS: dict[str, Callable[[ModelConfig], NoPositions]] = {
    "none": NoPositions,
    "learned": Learned,
    "sinusoidal": Sinusoidal,
    "sinusoidal_halves": SinusoidalHalves,
    "sinusoidal_t2t": SinusoidalT2T,
    "rotary": Rotary,
    "t5": Relative,
    "alibi": Alibi,
}


def slopes(heads: int) -> Tensor:
    """2^(-8/n), 2^(-16/n), ... for n heads; of a number that is no power of two the next lower power's, then every
    second of the next higher one's (Press et al. 2022, and their program)."""
    power = 2 ** (heads.bit_length() - 1)
    known = [2 ** (-8 * (n + 1) / power) for n in range(power)]
    between = [2 ** (-4 * (n + 1) / power) for n in range(0, 2 * power, 2)]
    return torch.tensor((known + between)[:heads], dtype=torch.float64)


def frequencies_of(size: int, theta: float) -> Tensor:
    """theta^(-2i/size) for i = 0 .. size/2 - 1, in radians a position."""
    return theta ** (-torch.arange(0, size, 2, dtype=torch.float32) / size)


Scaled = tuple[Tensor, float]  # frequencies, and what queries and keys are multiplied by


def _plain(size: int, theta: float, scaling: RopeScaling, length: int) -> Scaled:
    return frequencies_of(size, theta), 1.0


def _linear(size: int, theta: float, scaling: RopeScaling, length: int) -> Scaled:
    """All positions closer together (Chen et al. 2023)."""
    return frequencies_of(size, theta) / scaling.factor, 1.0


def _llama3(size: int, theta: float, scaling: RopeScaling, length: int) -> Scaled:
    """Long waves are stretched in full, short ones not, those between in part (Llama 3, Grattafiori et al. 2024)."""
    frequencies = frequencies_of(size, theta)
    turns = scaling.original_positions * frequencies / (2 * torch.pi)
    share = (turns - scaling.low_factor) / (scaling.high_factor - scaling.low_factor)
    share = share.clamp(0, 1)
    return (1 - share) * frequencies / scaling.factor + share * frequencies, 1.0


def _yarn(size: int, theta: float, scaling: RopeScaling, length: int) -> Scaled:
    """Waves between `fast` and `slow` turns within the original context are stretched in part, by their rank, and
    scores sharpened a little (Peng et al. 2023, sections 3.2 and 3.4)."""

    def rank(turns: float) -> float:
        """Which wave, counted in fractions, turns so often."""
        return size * math.log(scaling.original_positions / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = max(math.floor(rank(scaling.fast)), 0), min(math.ceil(rank(scaling.slow)), size - 1)
    frequencies = frequencies_of(size, theta)
    stretched = ((torch.arange(size // 2) - low) / max(high - low, 0.001)).clamp(0, 1)
    temper = scaling.temper or (0.1 * math.log(scaling.factor) + 1.0 if scaling.factor > 1 else 1.0)
    return stretched * frequencies / scaling.factor + (1 - stretched) * frequencies, temper


def _dynamic(size: int, theta: float, scaling: RopeScaling, length: int) -> Scaled:
    """The base grows with the text once it is longer than the original context (bloc97 2023, "dynamic NTK"). What was
    read with a shorter one in mind would no longer fit: with a cache the length is all that it has room for."""
    if length > scaling.original_positions:
        grown = scaling.factor * length / scaling.original_positions - (scaling.factor - 1)
        theta *= grown ** (size / (size - 2))
    return frequencies_of(size, theta), 1.0


ROPE_SCALINGS: dict[str, Callable[[int, float, RopeScaling, int], Scaled]] = {
    "none": _plain,
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
    "dynamic": _dynamic,
}
