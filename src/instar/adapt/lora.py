"""LoRA: small matrices beside the layers of a model that stays as it is (Hu et al. 2022), named, several on one model.

They hang below the layers, so that the names of the model's own weights do not change; a layer adds what those of its
adapters say that are active. Letters: K channels in, N channels out, R rank, n tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from itertools import combinations
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import InputError, unknown
from ..config.options import LoraOptions
from ..model.adapters import ADAPTERS, carriers
from ..model.layers import Dropout, Linear
from ..model.nf4 import NF4Linear
from ..model.quantized import QuantLinear
from ..model.quantized import replace as put
from ..model.transformer import Transformer
from .targets import ALL, chosen, tables

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


class Delta(nn.Module):
    """What an adapter adds to one linear layer: x (..., K) -> (..., N), x A^T B^T times a scale, in the dtype of x.

    a (R, K) and b (N, R) are kept in fp32.
    """

    def __init__(self, a: Tensor, b: Tensor, scale: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(a), nn.Parameter(b)
        self.scale, self.drop = scale, Dropout(dropout)

    @property
    def rank(self) -> int:
        return len(self.a)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(self.drop(x), self.a.to(x.dtype)), self.b.to(x.dtype)) * self.scale

    def whole(self, like: Tensor) -> Tensor:
        """What is added to the weight (N, K), in the dtype and on the device of another tensor."""
        return self.b.to(like) @ self.a.to(like) * self.scale

    def twin(self, known: dict[int, nn.Parameter]) -> Delta:
        """The same with weights of its own."""
        return Delta(self.a.detach().clone(), self.b.detach().clone(), self.scale, self.drop.p)


class Rows(nn.Module):
    """What an adapter puts in the place of a table's rows of some tokens: rows (n, D), kept in fp32. A tied head and
    the embedding have the same."""

    ids: Tensor

    def __init__(self, table: nn.Module, ids: Tensor, rows: nn.Parameter) -> None:
        super().__init__()
        self.register_buffer("ids", ids, persistent=False)
        self.rows = rows
        self.table = (table,)  # it is no part of this, but the other way round

    def change(self) -> Tensor:
        """By how much each row differs from the table's own (n, D)."""
        return self.rows - cast(Tensor, self.table[0].weight).detach().index_select(0, self.ids)

    def twin(self, known: dict[int, nn.Parameter]) -> Rows:
        """The same with weights of its own; known: those that were copied already."""
        rows = known.setdefault(id(self.rows), nn.Parameter(self.rows.detach().clone()))
        return type(self)(self.table[0], self.ids.clone(), rows)


class TokenRows(Rows):
    """Of an embedding: tokens (...) -> what is added to their rows (..., D)."""

    def forward(self, tokens: Tensor) -> Tensor:
        same = tokens[..., None] == self.ids
        return F.embedding(same.int().argmax(-1), self.change()) * same.any(-1, keepdim=True)


class HeadRows(Rows):
    """Of a head: x (..., D) -> what is added to the logits (..., V)."""

    def forward(self, x: Tensor) -> Tensor:
        said = F.linear(x, self.change().to(x.dtype))
        return x.new_zeros(*x.shape[:-1], cast(Linear, self.table[0]).out_features).index_copy(-1, self.ids, said)


@dataclass(frozen=True)
class Attached:
    """An adapter of a model. options: what it was made with, alpha filled in; layers: the linear layers that it adds
    to; tokens: ids whose rows it has."""

    name: str
    options: LoraOptions
    layers: tuple[str, ...]
    tokens: tuple[int, ...] = ()


def check(options: LoraOptions) -> LoraOptions:
    """The options with alpha filled in. Raises InputError for figures that no adapter can have."""
    rank = options.rank
    if rank < 1:
        usual, names = LoraOptions(), (field.name for field in fields(LoraOptions) if field.name != "rank")
        set_besides = [name for name in names if getattr(options, name) != getattr(usual, name)]
        named = f" and lora.{set_besides[0]} is set" if set_besides else ""
        raise InputError(f"lora.rank={rank}{named}; wanted a rank of at least 1, such as 16")
    if options.alpha < 0 or not 0.0 <= options.dropout < 1.0:
        raise InputError(
            f"lora.alpha={options.alpha:g} and lora.dropout={options.dropout:g}; wanted an alpha of 0, for twice the "
            "rank, or more, and a dropout from 0 to below 1"
        )
    if options.bits not in (0, 4):
        raise InputError(f"lora.bits={options.bits}; wanted 4, for NF4, or 0 for the weights as they are")
    if not options.targets:
        raise InputError(f"lora.targets is empty; wanted {ALL}, or ends of the names of layers")
    return options if options.alpha else replace(options, alpha=2.0 * rank)


def scale_of(options: LoraOptions, rank: int, alpha: float) -> float:
    """alpha / rank, or where it is said so alpha / sqrt(rank) (Kalajdzievski 2023)."""
    return alpha / (rank**0.5 if options.rslora else rank)


def attach(
    model: Transformer, name: str, options: LoraOptions, *, seed: int = 0, tokens: Sequence[int] = ()
) -> Attached:
    """Put a new adapter on a model, which says what it said before, and make it the active one.

    tokens: ids whose rows of the embedding, and of a head that says them, are its own. A is drawn as peft draws it, B
    is 0. lora.bits is not looked at: what the layers are kept in was decided before (`nf4.to_nf4`). Raises InputError
    for a name that is taken or no name, options that mean nothing, and targets that no layer has.
    """
    options = check(options)
    check_name(model, name)
    generator = torch.Generator().manual_seed(seed)
    found = chosen(model, options.targets)
    deltas = {path: drawn(layer, options, generator, model.device) for path, layer in found}
    ids = torch.tensor(tokens, dtype=torch.long, device=model.device)
    _check_tokens(model, tokens)
    rows = {
        path: (tuple(tokens), cast(Tensor, table.weight).detach().index_select(0, ids).float())
        for path, table in tables(model)
        if tokens and not (path != "embed" and table.weight is model.embed.weight)
    }
    return hang(model, name, options, deltas, rows)


def check_name(model: Transformer, name: str) -> None:
    """Raises InputError where a model has such an adapter, or nothing can be called so."""
    if not NAME.fullmatch(name) or hasattr(nn.ModuleDict, name):
        raise InputError(f"an adapter cannot be called {name!r}; wanted letters, digits, - and _, such as sft")
    if name in model.attached:
        raise InputError(f"the model has an adapter {name} already; give the new one another name")


def drawn(layer: Linear, options: LoraOptions, generator: torch.Generator, device: torch.device) -> Delta:
    """What a new adapter adds to a layer: nothing yet."""
    edge = layer.in_features**-0.5
    a = torch.empty(options.rank, layer.in_features).uniform_(-edge, edge, generator=generator)
    b = torch.zeros(layer.out_features, options.rank)
    scale = scale_of(options, options.rank, options.alpha)
    return Delta(a.to(device), b.to(device), scale, options.dropout)


def hang(
    model: Transformer, name: str, options: LoraOptions, deltas: Mapping[str, Delta],
    rows: Mapping[str, tuple[tuple[int, ...], Tensor]],
) -> Attached:  # fmt: skip
    """Put what an adapter is made of on a model and make it the active one. rows: table -> ids and their rows; a head
    that is the embedding takes those of the embedding."""
    for path, delta in deltas.items():
        # without dropout where the model is at rest
        _below(model.get_submodule(path))[name] = delta.train(model.training)
    learnt = {path: nn.Parameter(own.to(model.device)) for path, (_, own) in rows.items()}
    for path, table in tables(model):
        source = "embed" if table.weight is model.embed.weight else path
        if source in rows:
            _check_tokens(model, rows[source][0])
            ids = torch.tensor(rows[source][0], device=model.device)
            _below(table)[name] = (TokenRows if path == "embed" else HeadRows)(table, ids, learnt[source])
    tokens = tuple(dict.fromkeys(id for ids, _ in rows.values() for id in ids))
    model.attached[name] = Attached(name, options, tuple(deltas), tokens)
    activate(model, name)
    return model.attached[name]


def _check_tokens(model: Transformer, tokens: Sequence[int]) -> None:
    size = model.config.vocab_size
    if len(set(tokens)) < len(tokens) or not all(0 <= id < size for id in tokens):
        raise InputError(
            f"rows of the tokens {list(tokens)[:8]} are to learn; wanted different ids from 0 to {size - 1}"
        )


def _below(layer: nn.Module) -> nn.ModuleDict:
    """What holds the adapters of a layer."""
    if ADAPTERS not in layer._modules:
        layer.add_module(ADAPTERS, nn.ModuleDict())
    return cast(nn.ModuleDict, getattr(layer, ADAPTERS))


# --- which adapters -------------------------------------------------------------------------------------------------


def adapters(model: Transformer) -> dict[str, Attached]:
    """The adapters of a model by name, in the order in which they came."""
    return dict(model.attached)


def activate(model: Transformer, *names: str) -> None:
    """Let the layers heed these adapters and no others; none: the bare model. Raises InputError for a name that the
    model does not have, and where two of them have rows for one token."""
    for name in names:
        _known(model, name)
    for one, other in combinations(dict.fromkeys(names), 2):
        if both := set(model.attached[one].tokens) & set(model.attached[other].tokens):
            raise InputError(f"adapters {one} and {other} both have a row for token {min(both)}; activate one of them")
    for _, layer in carriers(model):
        own = cast(nn.ModuleDict, layer.adapters)
        layer.deltas = tuple(own[name] for name in dict.fromkeys(names) if name in own)
    model.active = tuple(dict.fromkeys(names))


@contextmanager
def using(model: Transformer, *names: str) -> Iterator[None]:
    """Inside, these adapters are active and no others; none: the bare model."""
    before = model.active
    activate(model, *names)
    try:
        yield
    finally:
        activate(model, *before)


def copied(model: Transformer, old: str, new: str) -> Attached:
    """Put a copy of an adapter on the model under another name; which ones are active stays as it is."""
    _known(model, old)
    check_name(model, new)
    known: dict[int, nn.Parameter] = {}
    for _, layer in list(carriers(model)):
        own = cast(nn.ModuleDict, layer.adapters)
        if old in own:
            own[new] = cast(Any, own[old]).twin(known)
    model.attached[new] = replace(model.attached[old], name=new)
    return model.attached[new]


def remove(model: Transformer, *names: str) -> None:
    """Take adapters off a model."""
    activate(model, *(name for name in model.active if name not in names))
    for name in names:
        _known(model, name)
        for _, layer in list(carriers(model)):
            own = cast(nn.ModuleDict, layer.adapters)
            if name in own:
                del own[name]
            if not len(own):
                delattr(layer, ADAPTERS)
        del model.attached[name]


@torch.no_grad()
def merge(model: Transformer, *names: str) -> None:
    """Add what these adapters (none: the active ones) say to the weights, and take them off; others that are active
    stay so. A layer of whole numbers, or of NF4, becomes a dense one."""
    before = model.active
    names = names or before
    activate(model, *names)  # all are known, and no two have rows for one token
    for path, layer in list(carriers(model)):
        own = cast(nn.ModuleDict, layer.adapters)
        found = [own[name] for name in names if name in own]
        if not found:
            continue
        if isinstance(found[0], Delta):
            _add(model, path, layer, cast("list[Delta]", found))
        for rows in found:
            if isinstance(rows, Rows):
                layer.weight.index_copy_(0, rows.ids, rows.rows.to(layer.weight.dtype))
    remove(model, *names)
    activate(model, *(name for name in before if name not in names))


def _add(model: Transformer, path: str, layer: Linear, deltas: Sequence[Delta]) -> None:
    """Put the weight of a layer and what is added to it in the place of both."""
    weight = layer.weight.detach()
    weight = weight.to(torch.promote_types(weight.dtype, torch.float32))
    total = sum((delta.whole(weight) for delta in deltas), weight)
    if not isinstance(layer, (QuantLinear, NF4Linear)):
        layer.weight.copy_(total)
        return
    dense = Linear(layer.in_features, layer.out_features, bias=False, device="meta")
    dense.weight = nn.Parameter(total.to(model.embed.weight.dtype))
    dense.bias = layer.bias
    if ADAPTERS in layer._modules:
        dense.add_module(ADAPTERS, cast(nn.Module, layer.adapters))
        dense.deltas = layer.deltas
    put(model, path, dense.train(layer.training))


def _known(model: Transformer, name: str) -> None:
    if name not in model.attached:
        raise unknown("adapter", name, model.attached)


# --- what is trained ------------------------------------------------------------------------------------------------


def freeze(model: Transformer, *, train: str | Sequence[str], heads: Iterable[str] = ()) -> None:
    """Let gradients reach these adapters, and these heads, and nothing else. Raises InputError for a name that the
    model does not have, and for a head that is the embedding."""
    names = (train,) if isinstance(train, str) else tuple(train)
    for name in names:
        _known(model, name)
    model.requires_grad_(False)
    for full, weight in model.named_parameters(remove_duplicate=False):
        if any(f".{ADAPTERS}.{name}." in full for name in names):
            weight.requires_grad_(True)
    for head in heads:
        if head not in model.heads:
            raise unknown("head", head, model.heads)
        if any(full.split(".")[1] == head for full in model.tied()):
            raise InputError(f"the head {head} is the embedding, which stays as it is; name the tokens to be trained")
        for full, weight in model.heads[head].named_parameters():
            if f"{ADAPTERS}." not in full:
                weight.requires_grad_(True)


def adapter_of(model: Transformer, path: str, name: str) -> Any:
    """What an adapter has below a layer, or None."""
    layer: Any = model.get_submodule(path)
    return layer.adapters[name] if ADAPTERS in layer._modules and name in layer.adapters else None


def weights_of(model: Transformer, name: str) -> dict[str, nn.Parameter]:
    """The weights of one adapter by name; those that two layers share stand there once."""
    _known(model, name)
    return {full: weight for full, weight in model.named_parameters() if f".{ADAPTERS}.{name}." in full}


def counts(model: nn.Module) -> tuple[int, int]:
    """How many weights are trained, and how many are frozen, those in few bits too."""
    sizes = [(weight.numel(), weight.requires_grad) for weight in model.parameters()]
    few = sum(
        layer.out_features * layer.in_features
        for layer in model.modules()
        if isinstance(layer, (QuantLinear, NF4Linear))
    )
    return sum(size for size, learns in sizes if learns), few + sum(size for size, learns in sizes if not learns)
