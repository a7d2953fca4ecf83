"""A base and several adapters of it in one model, for those who choose among them answer by answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch

from ..config import InputError
from ..hub.files import load_model as load_base
from ..hub.folders import folder_digest
from ..hub.places import holds_adapter, resolve
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer, check_fits
from . import peft
from .folders import HUB, base_folder, check_learnt, load, shape_of
from .growth import grow_rows
from .lora import activate
from .nf4 import to_nf4
from .peft.names import ROWS, A, B


@dataclass(frozen=True)
class Shelf:
    """model: none of its adapters is active; adapters: how they are called -> their names on the model; words: the
    folder of the tokenizer; base: where the folder itself holds an adapter, the name of what it was made for;
    fingerprint: sha256 of all weights; created: when the folder was written, in seconds since 1970."""

    model: Transformer
    tokenizer: Tokenizer
    adapters: dict[str, str]
    words: Path
    base: str
    fingerprint: str
    created: int


def take(
    name: str, adapters: Mapping[str, str], *, own: str, dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> Shelf:  # fmt: skip
    """The model of a folder, and these adapters of it, each a name and a folder. own: what the folder's own adapter is
    called, where it holds one; its base is served beside it then.

    An adapter that trained heads besides has no base any more: it is merged, and can only stand alone. Raises
    InputError for folders that do not belong together.
    """
    folder = resolve(name)
    stored: dict[str, peft.Stored] = {}
    home, base = folder, ""
    if holds_adapter(folder):
        stored[own] = peft.read(folder)
        home = base_folder(stored[own])
        base = stored[own].base.name if HUB.fullmatch(stored[own].base.name) else home.resolve().name
    for called, place in adapters.items():
        where = resolve(place)
        if not holds_adapter(where):
            raise InputError(f"{place} holds no adapter; a model of its own wants a server of its own")
        stored[called] = peft.read(where)
        base_folder(stored[called], home)  # that it was made for this one
    digests = [folder_digest(place) for place in (home, *(one.folder for one in stored.values()))]
    written = int(folder.stat().st_mtime)
    fingerprint = sha256("".join(digests).encode()).hexdigest() if len(digests) > 1 else digests[0]
    if changed := [called for called, one in stored.items() if _brings_heads(one)]:
        if adapters:
            raise InputError(
                f"the adapter {changed[0]} has trained a head of its own, which others do not share; serve it alone"
            )
        merged, tokenizer = load(folder, dtype=dtype, device=device)
        words = folder if (folder / "tokenizer.json").is_file() else home
        return Shelf(merged, tokenizer, {}, words, "", fingerprint, written)
    model = load_base(home, dtype=dtype, device=device)
    sizes = [shape_of(one, model.config).vocab_size for one in stored.values()]
    grow_rows(model, max([model.config.vocab_size, *sizes]))
    if own in stored and stored[own].options.bits == 4:
        to_nf4(model, home)
    names = {called: f"adapter{number}" for number, called in enumerate(stored)}
    for called, one in stored.items():
        peft.fit(model, names[called], one)
    activate(model)
    words, tokenizer = _words(model, home, stored, names)
    check_fits(tokenizer, model.config.vocab_size)
    return Shelf(model.requires_grad_(False).eval(), tokenizer, names, words, base, fingerprint, written)


def _brings_heads(stored: peft.Stored) -> bool:
    return not all(name.endswith((A, B, ROWS)) for name in stored.tensors)


def _words(
    model: Transformer, home: Path, stored: Mapping[str, peft.Stored], names: Mapping[str, str]
) -> tuple[Path, Tokenizer]:
    """The tokenizer that all of them are served with: the base's, or the one that adapters brought, which adds tokens
    or a template to it. Raises InputError where they brought different ones."""
    has = (home / "tokenizer.json").is_file()
    found = {called: one.folder for called, one in stored.items() if (one.folder / "tokenizer.json").is_file()}
    own = {called: Tokenizer.load(folder) for called, folder in found.items()}
    base = Tokenizer.load(home) if has or not own else None
    if base is not None:
        for called, tokenizer in own.items():
            check_learnt(model, names[called], tokenizer, base, found[called])
        own = {called: one for called, one in own.items() if one.fingerprint != base.fingerprint}
    if not own:
        assert base is not None
        return home, base
    if len({tokenizer.fingerprint for tokenizer in own.values()}) > 1:
        one, other = list(own)[:2]
        raise InputError(
            f"the adapters {one} and {other} have different tokenizers or chat templates; serve them one by one"
        )
    called, tokenizer = next(iter(own.items()))
    return found[called], tokenizer
