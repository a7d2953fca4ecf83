"""Reading an adapter that we or peft wrote, and putting it on the model that it was made for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...config import InputError, from_dict, read_object
from ...config.options import LoraOptions
from ...hub.files import listed, refuse_pickle
from ...hub.headers import read_header
from ...hub.layout import rows_in, split
from ...model.transformer import Transformer
from ..lora import Attached, Delta, check_name, hang, scale_of
from ..targets import ALL, adaptable
from .names import CONFIG, KEY, PREFIX, ROWS, WEIGHTS, A, B, Stored, family_of, head_names, places, table_names

LIMIT = 1 << 20  # bytes of an adapter_config.json
# What changes what an adapter computes, and the values of it that we compute.
ABSENT: tuple[Any, ...] = (None, False, [], {})
FIXED: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none", None),
    "init_lora_weights": (True, None, False, "gaussian", "orthogonal", "eva"),  # others change the base
    "use_dora": ABSENT,
    "use_qalora": ABSENT,
    "use_bdlora": ABSENT,
    "lora_bias": ABSENT,
    "layer_replication": ABSENT,
    "target_parameters": ABSENT,
    "alora_invocation_tokens": ABSENT,
    "arrow_config": ABSENT,
    "kasa_config": ABSENT,
    "monteclora_config": ABSENT,
    "velora_config": ABSENT,
}
USUAL = {"r": 8, "lora_alpha": 8, "lora_dropout": 0.0}  # what peft takes where nothing is said


def read(folder: Path) -> Stored:
    """The adapter of a folder. Raises InputError where it is damaged, a pickle, or none that we compute."""
    said = read_object(folder / CONFIG, LIMIT)
    if said is None:
        raise InputError(f"{folder} holds no {CONFIG}; name a folder that an adapter was saved to")
    for key, allowed in FIXED.items():
        if said.get(key) not in allowed:
            raise InputError(
                f"{folder / CONFIG} says {key}={str(said.get(key))[:60]!r}; we compute plain LoRA, with "
                f"{key}={allowed[0]!r}; merge the adapter with peft and name the folder that it saves"
            )
    path = folder / WEIGHTS
    if not path.is_file():
        refuse_pickle(folder, sorted(found.name for found in folder.iterdir()))
        raise InputError(f"{folder} holds {CONFIG} and no {WEIGHTS}; save the adapter again")
    read_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            ours = json.loads((file.metadata() or {}).get(KEY, "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}; save the adapter again") from None
    if not isinstance(ours, dict):
        raise InputError(f"{path} says {KEY}={str(ours)[:60]!r}; wanted an object; save the adapter again")
    return Stored(folder, said, tensors, ours, _options(said, ours, folder))


def _options(said: Mapping[str, Any], ours: Mapping[str, Any], folder: Path) -> LoraOptions:
    found: dict[str, float] = {}
    for key, usual in USUAL.items():
        value = usual if said.get(key) is None else said[key]
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1e9:
            raise InputError(f"{folder / CONFIG} says {key}={str(value)[:40]!r}; wanted a number")
        found[key] = value
    own = ours.get("options")
    options = from_dict(LoraOptions, own if isinstance(own, dict) else {}, where=f"{folder / WEIGHTS} {KEY}")
    return replace(
        options, rank=int(found["r"]), alpha=float(found["lora_alpha"]), dropout=float(found["lora_dropout"]),
        rslora=bool(said.get("use_rslora")),
    )  # fmt: skip


@dataclass
class Sorted:
    """The tensors of an adapter by the weights of the family that they belong to."""

    pairs: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    rows: dict[str, Tensor] = field(default_factory=dict)
    heads: dict[str, Tensor] = field(default_factory=dict)
    spare: list[str] = field(default_factory=list)


def fit(model: Transformer, name: str, stored: Stored, *, needed: Sequence[str] = ()) -> Attached:
    """Put an adapter on the model that it was made for, and make it the active one; heads that travel with it take the
    place of the model's. needed: heads that must travel with it. Raises InputError that lists what does not fit."""
    check_name(model, name)
    held, heads = places(model), head_names(model)
    found = _sorted(model, stored, held, heads)
    wrong = [full for full, pair in found.pairs.items() if not _fits(model, held[full], pair)]
    state = model.state_dict()
    parts = {full: split(tensor, heads[full], full, family_of(model), model) for full, tensor in found.heads.items()}
    taken = {ours: part for split_up in parts.values() for ours, part in split_up.items()}
    wrong += [ours for ours, part in taken.items() if part.shape != state[ours].shape]
    lacking = [full for full, ours in heads.items() if ours[0].split(".")[1] in needed and full not in found.heads]
    if found.spare or wrong or lacking or not found.pairs:
        raise InputError(
            f"the adapter in {stored.folder} does not fit the model {stored.base.name or 'that it is put on'}; "
            f"unclaimed: {listed(found.spare)}; not whole, or of another shape: {listed(wrong)}; missing: "
            f"{listed(lacking)}; name the model that it was made for"
        )
    deltas: dict[str, Delta] = {}
    for full, pair in found.pairs.items():
        deltas |= _split(model, held[full], full, pair, stored)
    order = [path for path, _ in adaptable(model)]
    deltas = {path: deltas[path].to(model.device) for path in order if path in deltas}
    targets = (ALL,) if len(deltas) == len(order) else tuple(deltas)
    options = stored.options if stored.ours.get("options") else replace(stored.options, targets=targets)
    attached = hang(model, name, options, deltas, _tokens(model, stored, found.rows))
    with torch.no_grad():
        for ours, part in taken.items():
            state[ours].copy_(part)
    return attached


def _sorted(model: Transformer, stored: Stored, held: Mapping[str, Any], heads: Mapping[str, Any]) -> Sorted:
    found, family = Sorted(), family_of(model)
    table = {f"{module}.weight" for module in table_names(model).values()}
    for full, tensor in stored.tensors.items():
        bare = full.removeprefix(PREFIX)
        kind = next((end for end in (A, B, ROWS) if bare.endswith(end)), "")
        wanted = held if kind in (A, B) else table if kind else heads
        weight = f"{bare.removesuffix(kind)}.weight" if kind else bare
        if weight not in wanted:  # of a model without its head, peft leaves the prefix off
            weight = f"{family.prefix}{weight}"
        if weight not in wanted:
            found.spare.append(full)
        elif kind in (A, B):
            found.pairs.setdefault(weight, {})[kind] = tensor
        else:
            (found.rows if kind else found.heads)[weight] = tensor
    return found


def _fits(model: Transformer, held: Sequence[str], pair: Mapping[str, Tensor]) -> bool:
    layers: list[Any] = [model.get_submodule(ours.removesuffix(".weight")) for ours in held]
    if set(pair) != {A, B} or not all(one.ndim == 2 and one.is_floating_point() for one in pair.values()):
        return False
    rank, rows = len(pair[A]), sum(layer.out_features for layer in layers)
    shapes = [rank, layers[0].in_features], [rows, rank]
    return rank > 0 and (list(pair[A].shape), list(pair[B].shape)) == shapes


def _split(
    model: Transformer, held: Sequence[str], theirs: str, pair: Mapping[str, Tensor], stored: Stored
) -> dict[str, Delta]:
    """The adapter of one layer of the family -> those of our layers that lie in it."""
    module, options = theirs.removesuffix(".weight"), stored.options
    a, parts = pair[A].float(), rows_in(pair[B].float(), list(held), theirs, family_of(model), model)
    rank = patterned(stored, "rank_pattern", module, options.rank)
    if rank != len(a):
        raise InputError(
            f"{stored.folder}: {module} has an adapter of rank {len(a)}, and {CONFIG} says {rank:g}; save it again"
        )
    scale = scale_of(options, len(a), patterned(stored, "alpha_pattern", module, options.alpha))
    ranks = _blocks(stored, module, held, parts, len(a))
    found: dict[str, Delta] = {}
    start = 0
    for ours in held:
        path = ours.removesuffix(".weight")
        columns = slice(0, len(a))
        if ranks is not None:
            if path not in ranks:
                continue
            columns = slice(start, start + ranks[path])
            start = columns.stop
        found[path] = Delta(a[columns].clone(), parts[ours][:, columns].clone(), scale, options.dropout)
    return found


def _blocks(
    stored: Stored, module: str, held: Sequence[str], parts: Mapping[str, Tensor], rank: int
) -> dict[str, int] | None:
    """The ranks of those of ours that were put into one adapter; None where nobody says so, or where others have
    trained what is outside their blocks since."""
    said = stored.ours.get("ranks")
    ranks = said.get(module) if isinstance(said, Mapping) else None
    if not isinstance(ranks, Mapping) or not all(type(one) is int and one > 0 for one in ranks.values()):
        return None
    paths = {ours.removesuffix(".weight"): ours for ours in held}
    if not ranks.keys() <= paths.keys() or sum(ranks.values()) != rank:
        return None
    start = 0
    for path, ours in paths.items():
        outside = parts[ours].clone()
        outside[:, start : start + ranks.get(path, 0)] = 0
        if outside.any():
            return None
        start += ranks.get(path, 0)
    return dict(ranks)


def patterned(stored: Stored, key: str, module: str, usual: float) -> float:
    """What a table of patterns says of a layer. We read names, ends of names, and .* for anything: a stranger's regular
    expression may take for ever. Raises InputError for any other."""
    patterns = stored.said.get(key) or {}
    if not isinstance(patterns, Mapping):
        raise InputError(f"{stored.folder / CONFIG} says {key}={str(patterns)[:60]!r}; wanted an object")
    for pattern, value in patterns.items():
        name = pattern.removeprefix("^").removesuffix("$").replace(r"\.", ".").replace(".*", "*")
        if not re.fullmatch(r"[\w.*-]*", name) or not isinstance(value, int | float):
            raise InputError(
                f"{stored.folder / CONFIG} says {key} of {pattern[:60]!r}; we read names of layers, their ends and .*"
            )
        if fnmatchcase(module, name) or (not pattern.startswith("^") and fnmatchcase(module, f"*.{name}")):
            return value
    return usual


def _tokens(
    model: Transformer, stored: Stored, rows: Mapping[str, Tensor]
) -> dict[str, tuple[tuple[int, ...], Tensor]]:
    """Table -> ids and rows. Raises InputError where the rows do not fit their ids."""
    said = stored.said.get("trainable_token_indices")
    found: dict[str, tuple[tuple[int, ...], Tensor]] = {}
    for path, module in table_names(model).items():
        if (tensor := rows.get(f"{module}.weight")) is None:
            continue
        ids = said
        if isinstance(said, Mapping):
            ids = next((ids for end, ids in said.items() if f".{module}".endswith(f".{end}")), None)
        wanted = [len(ids), model.config.d_model] if isinstance(ids, list) else None
        if list(tensor.shape) != wanted or not all(type(one) is int for one in ids or ()):
            raise InputError(
                f"{stored.folder}: {module} has trained rows of {list(tensor.shape)} and trainable_token_indices="
                f"{str(said)[:60]}; wanted one of {model.config.d_model} for each id; save the adapter again"
            )
        found[path] = tuple(ids or ()), tensor.float()
    return found
