"""How weights of ours lie in the tensors of a family's file: joined, turned, woven or paired, both ways."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..config import ModelConfig
from ..model.transformer import Transformer
from .families import Family


def shape_of(ours: list[str], theirs: str, family: Family, model: Transformer) -> list[int]:
    """The shape of one tensor of a file that holds these weights of ours."""
    shapes = [weight.shape for weight in _weights(ours, model)]
    whole = [sum(shape[0] for shape in shapes), *shapes[0][1:]]
    if _raised(theirs, family):
        return [1, *whole]
    return whole[::-1] if _turned(theirs, family) else whole


def _weights(ours: list[str], model: Transformer) -> list[Tensor]:
    """Parameters, or buffers that are kept."""
    owners = [(model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in ours]
    return [getattr(owner, name) for owner, name in owners]


def _turned(theirs: str, family: Family) -> bool:
    return theirs.endswith(tuple(family.transposed))


def _woven(theirs: str, family: Family) -> bool:
    return theirs.endswith(tuple(family.interleaved))


def _raised(theirs: str, family: Family) -> bool:
    return theirs.endswith(tuple(family.rows))


def _paired(tensor: Tensor, theirs: str, family: Family, axes: tuple[int, int]) -> Tensor:
    """The channels of every head in the other order: (E/2, 2) is how theirs lie, (2, E/2) how ours do."""
    if not theirs.endswith(tuple(family.paired)):
        return tensor
    return tensor.unflatten(0, (-1, *axes)).transpose(1, 2).flatten(0, 2)


def split(tensor: Tensor, ours: list[str], theirs: str, family: Family, model: Transformer) -> dict[str, Tensor]:
    """One tensor of a file -> the weights of ours that lie in it."""
    if _raised(theirs, family):
        tensor = tensor.squeeze(0)
    tensor = _paired(tensor, theirs, family, (model.config.head_size // 2, 2))
    if _woven(theirs, family):
        heads = tensor.unflatten(0, (model.config.heads, len(ours), -1))
        return {name: heads[:, number].flatten(0, 1).contiguous() for number, name in enumerate(ours)}
    rows = [weight.shape[0] for weight in _weights(ours, model)]
    parts = (tensor.t() if _turned(theirs, family) else tensor).split(rows)
    return {name: part.contiguous() for name, part in zip(ours, parts)}


def join(ours: Mapping[str, Tensor], parts: list[str], theirs: str, family: Family, config: ModelConfig) -> Tensor:
    """The weights of ours that one tensor of a file holds -> that tensor."""
    if _woven(theirs, family):
        heads = [ours[name].unflatten(0, (config.heads, -1)) for name in parts]
        return torch.stack(heads, dim=1).flatten(0, 2).contiguous()
    tensor = torch.cat([ours[name] for name in parts]) if len(parts) > 1 else ours[parts[0]]
    tensor = _paired(tensor, theirs, family, (2, config.head_size // 2))
    if _raised(theirs, family):
        tensor = tensor.unsqueeze(0)
    return (tensor.t() if _turned(theirs, family) else tensor).contiguous()


def rows_in(tensor: Tensor, ours: list[str], theirs: str, family: Family, model: Transformer) -> dict[str, Tensor]:
    """`split` of what has a row for each channel that a weight gives (N, R), whichever way the weight itself lies."""
    return split(tensor.t() if _turned(theirs, family) else tensor, ours, theirs, family, model)


def rows_out(ours: Mapping[str, Tensor], parts: list[str], theirs: str, family: Family, config: ModelConfig) -> Tensor:
    """The inverse of rows_in."""
    tensor = join(ours, parts, theirs, family, config)
    return tensor.t() if _turned(theirs, family) else tensor
