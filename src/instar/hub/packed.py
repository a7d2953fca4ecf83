"""Quantised weights in a folder: the layout `pack-quantized` of compressed-tensors, which transformers and vLLM read.

A weight X.weight of N rows and K columns becomes X.weight_packed, int32 (N, K bits/32), whole numbers from the lowest
bits up, moved so that the least is 0; X.weight_scale (N, G); X.weight_zero_point, int32 (N bits/32, G), packed down the
rows in the same way, where zero points are not all 0; and X.weight_shape, [N, K]. config.json says how many bits and
which group in `quantization_config`, and which layers are not quantised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import InputError, read_object
from ..model.grid import BITS, Grid
from ..model.layers import Linear
from ..model.quantized import QuantLinear, quantized, replace
from ..model.transformer import Transformer
from .families import Family, foreign_names
from .headers import Header
from .layout import join, split

KEY, METHOD, FORMAT = "quantization_config", "compressed-tensors", "pack-quantized"
PACKED, SCALE, ZERO, SHAPE = "_packed", "_scale", "_zero_point", "_shape"
FLOATS, WHOLES = ("F64", "F32", "F16", "BF16"), ("I32", "I64")
# how weights may be rounded, and what stands where nothing is said
FIXED = {
    "type": ("int",),
    "dynamic": (False,),
    "actorder": (None, False, "weight", "static"),
    "block_structure": (None,),
}
STRATEGIES = ("group", "channel")


def pack(q: Tensor, bits: int, axis: int = 1) -> Tensor:
    """q int8 (N, K) -> int32, packed along an axis, whose last word is filled up with the least. Example: of 4 bits,
    -8, -7, ... -1 -> 0x76543210"""
    per = 32 // bits
    rows = q if axis == 1 else q.t()
    words = F.pad(rows.to(torch.int64) + (1 << (bits - 1)), (0, -rows.shape[1] % per)).unflatten(1, (-1, per))
    packed = (words << torch.arange(per, device=q.device) * bits).sum(2)
    packed = (packed - ((packed >> 31) << 32)).to(torch.int32)  # the same 32 bits with a sign
    return (packed if axis == 1 else packed.t()).contiguous()


def unpack(packed: Tensor, bits: int, length: int, axis: int = 1) -> Tensor:
    """The inverse of pack: int32 -> int8, `length` along the axis."""
    rows = packed if axis == 1 else packed.t()
    octets = rows.contiguous().view(torch.uint8)
    if bits == 4:
        octets = torch.stack((octets & 15, octets >> 4), dim=2).flatten(1)
    q = (octets[:, :length].to(torch.int16) - (1 << (bits - 1))).to(torch.int8)
    return (q if axis == 1 else q.t()).contiguous()


def words(packed: Tensor, bits: int) -> Tensor:
    """Weights as they lie in memory, int8 (N, K) or uint8 (N, K/2) -> as they lie in a file, int32. Of 4 bits they are
    the same bytes."""
    held = packed.contiguous().view(torch.uint8)
    return (held if bits == 4 else held ^ 128).view(torch.int32)


def octets(found: Tensor, bits: int) -> Tensor:
    """The inverse of words."""
    held = found.contiguous().view(torch.uint8)
    return held if bits == 4 else (held ^ 128).view(torch.int8)


# --- reading --------------------------------------------------------------------------------------------------------


def read_grid(folder: Path, config: str, limit: int) -> Grid | None:
    """How a folder's weights are quantised, None where they are not. Raises InputError for a way we do not compute."""
    said = (read_object(folder / config, limit) or {}).get(KEY)
    if not said:
        return None
    where = f"{folder / config} {KEY}"
    if not isinstance(said, dict) or said.get("quant_method") != METHOD or said.get("format") != FORMAT:
        method = said.get("quant_method") if isinstance(said, dict) else said
        form = said.get("format") if isinstance(said, dict) else None
        raise InputError(
            f"{where} says quant_method={str(method)[:40]!r} and format={str(form)[:40]!r}; we read {METHOD} "
            f"{FORMAT}; quantise the original with `instar quantize`"
        )
    groups = said.get("config_groups")
    if not isinstance(groups, dict) or len(groups) != 1 or not isinstance(group := next(iter(groups.values())), dict):
        raise InputError(f"{where} has config_groups={str(groups)[:80]}; we read a folder with one group")
    besides = [key for key in ("input_activations", "output_activations") if group.get(key)]
    besides += [key for key in ("kv_cache_scheme", "sparsity_config") if said.get(key)]
    if besides:
        raise InputError(f"{where} quantises more than weights: {', '.join(besides)}; we read weights alone")
    return _grid(group.get("weights"), where)


def _grid(weights: Any, where: str) -> Grid:
    if not isinstance(weights, dict):
        raise InputError(f"{where} says nothing of weights; fetch the folder again")
    for key, allowed in FIXED.items():
        if weights.get(key, allowed[0]) not in allowed:
            raise InputError(f"{where} says {key}={str(weights[key])[:40]!r}; we compute {allowed[0]!r}")
    bits, strategy, group = (weights.get(key) for key in ("num_bits", "strategy", "group_size"))
    if bits not in BITS or strategy not in STRATEGIES or not isinstance(group, int | None):
        raise InputError(
            f"{where} says num_bits={str(bits)[:40]}, strategy={str(strategy)[:40]} and group_size={str(group)[:40]}; "
            f"we compute {' or '.join(map(str, BITS))} bits by {' or '.join(STRATEGIES)}"
        )
    try:
        width = int(group or 0) if strategy == "group" else 0
        return Grid(int(bits or 0), width, bool(weights.get("symmetric", True)))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


class Packed:
    """The quantised layers of a folder: found by their names, put into a model without weights, and filled."""

    def __init__(
        self, model: Transformer, grid: Grid, headers: Mapping[str, Header], family: Family, folder: Path
    ) -> None:
        """Put a QuantLinear without weights in the place of every layer that the files hold packed. `rest`: what else
        they hold; `bytes`: of the packed ones. Raises InputError for layers that are misshapen, or not whole."""
        self.model, self.grid, self.family, self.folder = model, grid, family, folder
        wanted = foreign_names(family, [f"{name}.weight" for name, _ in linear(model)])
        self.layers: dict[str, list[str]] = {}
        taken: set[str] = set()
        if family.transposed:
            raise InputError(f"{folder}: {family.architecture} keeps its weights in columns, and packed ones are rows")
        for full, ours in wanted.items():
            theirs = full if full + PACKED in headers else full.removeprefix(family.prefix)
            if theirs + PACKED in headers:
                self._check(theirs, ours, headers)
                parts = (PACKED, SCALE, SHAPE) if grid.symmetric else (PACKED, SCALE, SHAPE, ZERO)
                taken |= {theirs + part for part in parts}
                self.layers[theirs] = ours
        if not self.layers:
            raise InputError(f"{folder} says that its weights are packed, and none is; fetch it again")
        self.rest = {name: header for name, header in headers.items() if name not in taken}
        self.bytes = sum(headers[name].stop - headers[name].start for name in taken)
        for ours in self.layers.values():
            for name in ours:
                old = model.get_submodule(name.removesuffix(".weight"))
                assert isinstance(old, nn.Linear)
                replace(
                    model, name.removesuffix(".weight"), QuantLinear(old.out_features, old.in_features, grid, old.bias)
                )

    def _check(self, theirs: str, ours: list[str], headers: Mapping[str, Header]) -> None:
        shapes = [self.model.get_parameter(name).shape for name in ours]
        rows, columns = sum(shape[0] for shape in shapes), shapes[0][1]
        if not self.grid.fits(columns):
            raise InputError(f"{self.folder}: {theirs} has rows of {columns}, which {self.grid} does not divide")
        bits, groups = self.grid.bits, self.grid.groups(columns)
        fits = {
            PACKED: (WHOLES[:1], [rows, columns * bits // 32]), SCALE: (FLOATS, [rows, groups]), SHAPE: (WHOLES, [2]),
        }  # fmt: skip
        if not self.grid.symmetric:
            fits[ZERO] = WHOLES[:1], [-(-rows * bits // 32), groups]
        for part, (kinds, shape) in fits.items():
            header = headers.get(theirs + part)
            if header is None or header.kind not in kinds or header.shape != shape:
                found = "nothing" if header is None else f"{header.kind} {header.shape}"
                raise InputError(f"{self.folder}: {theirs}{part} is {found}, wanted {kinds[0]} {shape}; fetch it again")

    def fill(self, read: Callable[[str], Tensor], dtype: torch.dtype) -> None:
        """Bring the weights, one of their tensors at a time. read: a tensor of the files by name; dtype: of scales."""
        bits = self.grid.bits
        for theirs, ours in self.layers.items():
            found = {"packed": octets(read(theirs + PACKED), bits), "scale": read(theirs + SCALE).to(dtype)}
            rows, columns = found["packed"].shape[0], found["packed"].shape[1] * 8 // bits
            if (shape := read(theirs + SHAPE).tolist()) != [rows, columns]:
                raise InputError(f"{self.folder}: {theirs}{SHAPE} says {shape}, and the weights are {[rows, columns]}")
            if not self.grid.symmetric:
                found["zero"] = unpack(read(theirs + ZERO), bits, rows, axis=0)
            parts = {part: split(tensor, ours, theirs, self.family, self.model) for part, tensor in found.items()}
            for name in ours:
                layer = self.model.get_submodule(name.removesuffix(".weight"))
                assert isinstance(layer, QuantLinear)
                layer.fill(**{part: tensors[name] for part, tensors in parts.items()})


def linear(model: nn.Module) -> list[tuple[str, Linear]]:
    """The plain linear layers of a model: no heads, which have classes of their own."""
    return [(name, module) for name, module in model.named_modules() if type(module) in (Linear, QuantLinear)]


# --- writing --------------------------------------------------------------------------------------------------------


def packed_tensors(model: Transformer, family: Family, dtype: torch.dtype) -> dict[str, Tensor]:
    """Name in the file -> tensor, of all quantised layers. dtype: of the scales."""
    layers = {f"{name}.weight": layer for name, layer in quantized(model)}
    found: dict[str, Tensor] = {}
    for theirs, ours in foreign_names(family, layers).items():
        grid = layers[ours[0]].grid
        parts = [layers[name].parts() for name in ours]
        packed, scale, *zero = (
            join(dict(zip(ours, tensors)), ours, theirs, family, model.config)
            for tensors in zip(*parts)
            if tensors[0] is not None
        )
        found[theirs + PACKED] = words(packed, grid.bits)
        found[theirs + SCALE] = scale.to(dtype)
        found[theirs + SHAPE] = torch.tensor([packed.shape[0], packed.shape[1] * 8 // grid.bits])
        if zero:
            found[theirs + ZERO] = pack(zero[0], grid.bits, axis=0)
    return {name: tensor.cpu().contiguous() for name, tensor in found.items()}


def packed_config(model: Transformer, family: Family) -> dict[str, Any]:
    """What config.json says of it; nothing for a model that is not quantised."""
    layers = dict(quantized(model))
    if not layers:
        return {}
    grid = next(iter(layers.values())).grid
    others = [
        f"{name}.weight" for name, module in model.named_modules() if isinstance(module, Linear) and name not in layers
    ]
    weights = {
        "num_bits": grid.bits, "type": "int", "symmetric": grid.symmetric, "dynamic": False,
        "strategy": "group" if grid.group else "channel", "group_size": grid.group or None,
    }  # fmt: skip
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None, "output_activations": None}
    ignored = [name.removesuffix(".weight") for name in foreign_names(family, others)]
    said = {"quant_method": METHOD, "format": FORMAT, "quantization_status": "compressed"}
    return {KEY: said | {"config_groups": {"group_0": group}, "ignore": ignored}}
