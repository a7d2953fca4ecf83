"""What DPO holds a model against: log-probabilities of the same answers under the model that the stage began with, or
under another one. Whichever way they are got, they are the same figures.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..adapt.lora import using
from ..batch import PreferencePairs
from ..config import InputError
from ..data.preferences import Preferences
from ..hub.files import write_whole
from ..infer.reader import resting
from .callbacks import counting
from .dist import Ranks
from .logprobs import answer_logprobs
from .run import REFERENCE
from .space import Unwritten, told

Said = Callable[[Any, PreferencePairs], Tensor]
PRECOMPUTED, COPY, BASE, PREVIOUS = "precomputed", "copy", "base", "previous"


@dataclass
class Reference:
    """The reference of one run; `begin` comes before it is asked. how: precomputed, copy, base, or the name of an
    adapter of the model; model: another one that takes the place of the copy."""

    how: str
    model: Any = None
    chunk: int = 2048
    _said: Said | None = None

    @property
    def copies(self) -> int:
        """Models that are held in memory besides the one that is trained."""
        return int(self.how == COPY)

    def begin(self, stage: Any, *, trial: bool = False) -> None:
        """Make it from the model as it was born, before a checkpoint changes that. trial: for a measurement of time,
        which needs no figures."""
        if self.how == PRECOMPUTED:
            self._said = _never
            if trial:
                for part in (stage.learnt, stage.kept):
                    part.references.fill(0.0)
            else:
                _fill(stage, self.chunk)
        elif self.how == COPY:
            other = deepcopy(stage.model) if self.model is None else self.model.to(stage.device)
            other.compute = stage.model.compute
            self._said = partial(_by, other.eval().requires_grad_(False), self.chunk)
        else:
            names = () if self.how == BASE else (self.how,)
            self._said = partial(_by_adapters, names, self.chunk)

    def __call__(self, model: Any, batch: PreferencePairs) -> Tensor:
        """log p of each answer (N,)."""
        assert self._said is not None, "a reference was asked before it began"
        return _as_learnt(partial(self._said, model, batch))


def _as_learnt(said: Callable[[], Tensor]) -> Tensor:
    """By the same kernels as the policy in training, which in bf16 are others than where no gradient is wanted, so that
    the first loss is ln 2 there too. What is frozen keeps no activations for it."""
    with torch.enable_grad():
        return said().detach()


def _never(model: Any, batch: PreferencePairs) -> Tensor:
    raise AssertionError("a batch came without the log-probabilities that were computed for it")


def _by(other: Any, chunk: int, model: Any, batch: PreferencePairs) -> Tensor:
    return answer_logprobs(other, batch, chunk=chunk)[0]


def _by_adapters(names: Sequence[str], chunk: int, model: Any, batch: PreferencePairs) -> Tensor:
    """By the model itself with these adapters, and without dropout."""
    with using(model, *names), resting(model):
        return answer_logprobs(model, batch, chunk=chunk)[0]


def unfilled(store: Preferences) -> Preferences:
    """The store with a place for the figures of each pair."""
    return replace(store, references=np.full((len(store), 2), np.nan, np.float32))


def precompute(
    model: Any,
    rows: Sequence[Any],
    collate: Callable[..., PreferencePairs],
    pairs: int,
    *,
    micro_rows: int,
    ranks: Ranks,
    chunk: int = 2048,
    each: Callable[[int], None] = lambda done: None,
) -> Tensor:
    """log p of both answers of all pairs (pairs, 2), of which every rank computes a share. rows: lists of pieces, of
    which the first part is the number of a pair; each: called with how many more rows are done."""
    found = torch.zeros(pairs, 2, device=model.device)
    own = range(ranks.rank, len(rows), ranks.world)
    with resting(model):
        for start in range(0, len(own), micro_rows):
            chosen = [rows[number] for number in own[start : start + micro_rows]]
            numbers = torch.tensor([piece[0] for row in chosen for piece in row], device=model.device)
            batch = cast(PreferencePairs, collate(chosen).to(model.device))
            said = _as_learnt(partial(_by, model, chunk, model, batch))
            found[numbers] = said.unflatten(0, (-1, 2)).to(found.dtype)
            each(len(chosen))
    ranks.add([found])
    return found.cpu()


def _fill(stage: Any, chunk: int) -> None:
    """Put the figures of all pairs into their stores: those that lie in the run's folder where this run computed them
    before, so that it goes on with the same bits, else new ones, which are left there."""
    parts = {"learnt": stage.learnt, "held_out": stage.kept}
    path = stage.folder / REFERENCE
    identity = stage.inputs() | {
        "context": stage.train.context, "held_out": stage.options.held_out, "compute": str(stage.model.compute),
    }  # fmt: skip
    shapes = {name: (len(part), 2) for name, part in parts.items()}
    found = _read(path, identity, shapes) if stage.ranks.rank == 0 else None
    known = torch.tensor(float(found is not None), device=stage.device)
    stage.ranks.add([known])
    if known.item():
        figures = [(found or {}).get(name, torch.zeros(*shape)).to(stage.device) for name, shape in shapes.items()]
        stage.ranks.add(figures)
        found = dict(zip(parts, figures))
    else:
        found = _computed(stage, parts, chunk)
        if stage.ranks.rank == 0:
            _write(path, found, identity, stage.say)
    for name, part in parts.items():
        part.references[:] = found[name].cpu().numpy()


def _computed(stage: Any, parts: Mapping[str, Preferences], chunk: int) -> dict[str, Tensor]:
    rows = {"learnt": stage.loader.rows, "held_out": stage.task.rows(stage.kept) if len(stage.kept) else []}
    found = {}
    live = False if stage.options.quiet or stage.ranks.rank else None
    with counting("reference", sum(map(len, rows.values())), stage.say, live=live) as each:
        for name, part in parts.items():
            collate = stage.task.collate(part, False)
            found[name] = precompute(
                stage.model, rows[name], collate, len(part), micro_rows=stage.loader.micro_rows, ranks=stage.ranks,
                chunk=chunk, each=each,
            )  # fmt: skip
    stage.say(f"reference: log-probabilities of the answers of {sum(map(len, parts.values())):,} pairs are computed")
    return found


def _read(path: Path, identity: Mapping[str, Any], shapes: Mapping[str, tuple[int, int]]) -> dict[str, Tensor] | None:
    """What was computed before of the same answers by the same model; None where nothing was, or it is damaged."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("of") != json.dumps(identity, sort_keys=True):
                return None
            found = {name: file.get_tensor(name) for name in shapes}
    except (SafetensorError, OSError):
        return None
    fits = all(found[name].shape == shape and bool(found[name].isfinite().all()) for name, shape in shapes.items())
    return found if fits else None


def _write(path: Path, found: Mapping[str, Tensor], identity: Mapping[str, Any], say: Callable[[str], None]) -> None:
    metadata, size = {"of": json.dumps(identity, sort_keys=True)}, sum(tensor.nbytes for tensor in found.values())
    try:
        with told(path, size):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, lambda draft: save_file(dict(found), draft, metadata=metadata))
    except Unwritten as error:
        say(f"warning: {path}: {error.strerror}; a run that goes on will compute the reference anew")


def pick(name: str, *, adapted: bool, previous: bool, names: Sequence[str] = ()) -> str:
    """How the reference is got: `auto` decided, and everything else checked. adapted: the stage trains an adapter;
    previous: the model came with one; names: of the adapters that the model has. Raises InputError for what this stage
    has not."""
    if name == "auto":
        return PRECOMPUTED if not adapted else PREVIOUS if previous else BASE
    if name in (PRECOMPUTED, COPY):
        return name
    if name == BASE and adapted:
        return BASE
    if name == PREVIOUS and adapted and previous:
        return PREVIOUS
    if name in names:
        return name
    if name == PREVIOUS and adapted:
        raise InputError(
            "reference=previous: the model came without an adapter, so none went before; take base, or leave it out"
        )
    if name in (BASE, PREVIOUS):
        raise InputError(
            f"reference={name} with full fine-tuning, where no adapter can be left out; take precomputed or copy, or "
            "train an adapter with --lora.rank"
        )
    known = ", ".join(["auto", PRECOMPUTED, COPY, BASE, PREVIOUS, *names])
    raise InputError(f"reference={name}: neither a folder nor one of {known}; name one of them")
