"""Writing an adapter for peft."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ...config import InputError, to_dict
from ...hub.files import write_json, write_whole
from ...hub.layout import join, rows_out
from ...model.adapters import own
from ...model.transformer import Transformer
from ..growth import GROWN
from ..lora import Delta, adapter_of, scale_of
from .names import CONFIG, KEY, PREFIX, ROWS, WEIGHTS, A, B, Base, family_of, head_names, names, places, table_names

TASKS = {"lm": "CAUSAL_LM", "classify": "SEQ_CLS", "tokens": "TOKEN_CLS"}


@dataclass(frozen=True)
class Fused:
    """The adapter of one layer of the family. ranks: of each of ours that lies in it and has one, in order; whole:
    whether it is one of ours alone."""

    a: Tensor
    b: Tensor
    alpha: float
    ranks: Mapping[str, int]
    whole: bool

    @property
    def rank(self) -> int:
        return len(self.a)


def write(model: Transformer, name: str, folder: str | Path, base: Base, *, heads: Sequence[str] = ()) -> None:
    """Write an adapter of a model, and the heads that were trained with it, each file whole or not at all. Raises
    InputError for a head that no file has a name for."""
    folder, attached = Path(folder), model.attached[name]
    folder.mkdir(parents=True, exist_ok=True)
    parts = {
        theirs.removesuffix(".weight"): fused(model, name, theirs, held)
        for theirs, held in places(model).items()
        if any(adapter_of(model, ours.removesuffix(".weight"), name) is not None for ours in held)
    }
    rows = _rows(model, name)
    saved = _heads(model, heads)
    tensors = {f"{PREFIX}{module}{A}": part.a for module, part in parts.items()}
    tensors |= {f"{PREFIX}{module}{B}": part.b for module, part in parts.items()}
    tensors |= {f"{PREFIX}{module}{ROWS}": one for module, one in rows.items()}
    tensors |= {f"{PREFIX}{full}": one for full, one in saved.items()}
    ready = {full: tensor.detach().to("cpu", copy=True).contiguous() for full, tensor in tensors.items()}
    ours = {
        "base": base.sha256,
        "options": to_dict(attached.options),
        "ranks": {module: dict(part.ranks) for module, part in parts.items() if not part.whole},
        "shape": {name: to_dict(model.config)[name] for name in GROWN},
        "beside": os.path.relpath(base.name, folder) if Path(base.name).is_dir() else None,
    }
    write_whole(folder / WEIGHTS, lambda path: save_file(ready, path, metadata={"format": "pt", KEY: json.dumps(ours)}))
    write_json(folder / CONFIG, _said(model, name, base, parts, list(rows), list(saved)))


def fused(model: Transformer, name: str, theirs: str, held: Sequence[str]) -> Fused:
    """The adapters of these weights of ours as the one of the family's weight in which they lie."""
    options, family = model.attached[name].options, family_of(model)
    layers: dict[str, Any] = {ours: model.get_submodule(ours.removesuffix(".weight")) for ours in held}
    found: dict[str, Delta] = {
        ours: delta
        for ours in held
        if isinstance(delta := adapter_of(model, ours.removesuffix(".weight"), name), Delta)
    }
    rank, scale = sum(delta.rank for delta in found.values()), next(iter(found.values())).scale
    blocks: dict[str, Tensor] = {}
    start = 0
    for ours, layer in layers.items():
        blocks[ours] = torch.zeros(layer.out_features, rank)
        if (delta := found.get(ours)) is not None:
            share = delta.scale / scale  # 1 but for a stranger's adapter
            blocks[ours][:, start : start + delta.rank] = delta.b.detach().cpu() * share
            start += delta.rank
    b = rows_out(blocks, list(held), theirs, family, model.config)
    usual = all(
        delta.rank == options.rank and delta.scale == scale_of(options, options.rank, options.alpha)
        for delta in found.values()
    )
    if usual:  # no digits are lost where nothing is divided
        alpha = options.alpha * (len(found) ** 0.5 if options.rslora else len(found))
    else:
        alpha = scale * (rank**0.5 if options.rslora else rank)
    ranks = {ours.removesuffix(".weight"): delta.rank for ours, delta in found.items()}
    return Fused(torch.cat([delta.a.detach() for delta in found.values()]), b, alpha, ranks, len(held) == 1)


def _rows(model: Transformer, name: str) -> dict[str, Tensor]:
    """The rows of trained tokens by what the family calls their table."""
    if not model.attached[name].tokens:
        return {}
    held = {module: adapter_of(model, path, name) for path, module in table_names(model).items()}
    return {module: rows.rows for module, rows in held.items() if rows is not None}


def _heads(model: Transformer, heads: Sequence[str]) -> dict[str, Tensor]:
    """The weights of heads as the family has them."""
    if unknown := [head for head in heads if head not in model.config.heads_of]:
        raise InputError(
            f"the head {unknown[0]} is none of heads_of={', '.join(model.config.heads_of)}, and no file has it"
        )
    state, family = own(model.state_dict()), family_of(model)
    return {
        full: join(state, held, full, family, model.config)
        for full, held in head_names(model).items()
        if held[0].split(".")[1] in heads
    }


def _said(
    model: Transformer, name: str, base: Base, parts: Mapping[str, Fused], rows: Sequence[str], saved: Sequence[str]
) -> dict[str, Any]:
    """adapter_config.json."""
    attached, transposed = model.attached[name], tuple(family_of(model).transposed)
    options, ids = attached.options, list(attached.tokens)
    return {
        "peft_type": "LORA",
        "task_type": _task(model),
        "base_model_name_or_path": base.name,
        "revision": base.revision,
        "inference_mode": True,
        "r": options.rank,
        "lora_alpha": _plain(options.alpha),
        "lora_dropout": options.dropout,
        "use_rslora": options.rslora,
        "use_dora": False,
        "bias": "none",
        "init_lora_weights": True,
        "fan_in_fan_out": any(f"{module}.weight".endswith(transposed) for module in parts),
        "target_modules": _targets(model, list(parts)),
        "rank_pattern": patterns({module: part.rank for module, part in parts.items()}, options.rank),
        "alpha_pattern": patterns({module: _plain(part.alpha) for module, part in parts.items()}, options.alpha),
        "modules_to_save": sorted({full.rpartition(".")[0] for full in saved}) or None,
        "trainable_token_indices": (
            None if not rows else ids if len(rows) == 1 else {module.rpartition(".")[2]: ids for module in rows}
        ),
    }


def _task(model: Transformer) -> str | None:
    head = next(iter(model.config.heads_of), None)
    if model.encoder is not None and head == "lm":
        return "SEQ_2_SEQ_LM"
    return "FEATURE_EXTRACTION" if head is None else TASKS.get(head)


def _targets(model: Transformer, modules: Sequence[str]) -> list[str]:
    """Layers as peft wants them named: by their ends, where whatever ends so has an adapter."""
    everything = [full.removesuffix(".weight") for full in names(model) if full.endswith(".weight")]
    others = {module.rpartition(".")[2] for module in everything if module not in set(modules)}
    ends = {module: module.rpartition(".")[2] for module in modules}
    return sorted({module if end in others else end for module, end in ends.items()})


def patterns(values: Mapping[str, Any], usual: Any) -> dict[str, Any]:
    """What differs from the usual value, by regular expressions: the end of a name where all that end so are alike."""
    found: dict[str, Any] = {}
    for module, value in values.items():
        end = module.rpartition(".")[2]
        alike = all(other == value for name, other in values.items() if name.rpartition(".")[2] == end)
        if value != usual:
            found[end if alike else "^" + re.escape(module)] = value
    return found


def _plain(number: float) -> float | int:
    return int(number) if number == int(number) else number
