"""Which layers of a model an adapter may add to, and which of them are meant by a name."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from ..config import unknown
from ..hub.families import foreign_names, layout_of
from ..model.experts import Experts
from ..model.layers import Linear
from ..model.quantized import QuantLinear
from ..model.transformer import Transformer

ALL = "all-linear"
TABLES = ("embed", "heads.lm", "heads.masked.out")  # what has a row for each token


def adaptable(model: Transformer) -> list[tuple[str, Linear]]:
    """The linear layers of all blocks by name; what chooses experts is none of them."""
    routers = {id(module.router) for module in model.modules() if isinstance(module, Experts)}
    return [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, Linear) and "blocks" in name.split(".") and id(module) not in routers
    ]


def chosen(model: Transformer, targets: Sequence[str]) -> list[tuple[str, Linear]]:
    """The layers whose name, ours or the family's, ends like one of the targets. Raises InputError for a target that
    no layer has."""
    layers = adaptable(model)
    if ALL in targets:
        return layers
    family = layout_of(model.config, packed=any(isinstance(layer, QuantLinear) for _, layer in layers))
    theirs = foreign_names(family, [f"{name}.weight" for name, _ in layers])
    names = {
        ours.removesuffix(".weight"): [full.removesuffix(".weight")] for full, held in theirs.items() for ours in held
    }
    for name in names:
        names[name].append(name)
    taken: set[str] = set()
    for target in targets:
        found = {name for name, both in names.items() if any(_ends(full, target) for full in both)}
        if not found:
            ends = {full.rpartition(".")[2] for both in names.values() for full in both}
            raise unknown("lora.targets:", target, sorted({ALL, *ends}))
        taken |= found
    return [(name, layer) for name, layer in layers if name in taken]


def _ends(name: str, target: str) -> bool:
    return fnmatchcase(name, target) or fnmatchcase(name, f"*.{target}")


def tables(model: Transformer) -> list[tuple[str, nn.Module]]:
    """The embedding, and the heads that say tokens."""
    own = dict(model.named_modules())
    return [(path, own[path]) for path in TABLES if path in own]
