"""Folders that hold an adapter, and those that hold a model: both are loaded here, an adapter with its base.

`load` is what every command uses: the adapter is in the weights then, and nothing tells that it was apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from ..config import InputError, ModelConfig, from_dict
from ..hub import folders as hub
from ..hub.files import GENERATION, listed, write_json
from ..hub.files import architecture as base_architecture
from ..hub.files import load_model as load_base
from ..hub.places import holds_adapter, resolve
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer, check_fits
from . import peft
from .growth import GROWN, grow_rows, put_heads
from .lora import merge
from .nf4 import to_nf4

NAME = "default"  # of the adapter that a folder holds, as peft calls it
HUB = re.compile(r"[\w.-]+/[\w.-]+")


def load(
    name: str | Path, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu",
    base: str | Path | None = None,
) -> tuple[Transformer, Tokenizer]:  # fmt: skip
    """The model and the tokenizer of a run folder, a Hugging Face folder or hf:org/name[@revision]; of a folder that
    holds an adapter its base with the adapter merged into it.

    base: where the base of an adapter lies, if it is not where the adapter says. Raises InputError where one is missing
    or they do not fit each other.
    """
    model, tokenizer = load_adapted(name, dtype=dtype, device=device, base=base)
    if model.active:
        merge(model)
        model.requires_grad_(True)
    return model, tokenizer


def load_model(
    name: str | Path, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> Transformer:
    """`load` without the tokenizer, which need not be there."""
    folder = resolve(name)
    if not holds_adapter(folder):
        return load_base(folder, dtype=dtype, device=device)
    model, _ = _adapted(folder, NAME, dtype, device, None)
    merge(model)
    return model.requires_grad_(True)


def load_adapted(
    name: str | Path, *, adapter: str = NAME, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu",
    base: str | Path | None = None,
) -> tuple[Transformer, Tokenizer]:  # fmt: skip
    """As `load`, with the adapter kept apart from its base, active, and known by this name. Where a folder holds no
    adapter, its model has none. An adapter of QLoRA comes with its base in 4 bits."""
    folder = resolve(name)
    if not holds_adapter(folder):
        return hub.load(folder, dtype=dtype, device=device)
    model, home = _adapted(folder, adapter, dtype, device, base)
    own = (folder / "tokenizer.json").is_file()
    tokenizer = Tokenizer.load(folder if own else home)
    if own and (home / "tokenizer.json").is_file():
        check_learnt(model, adapter, tokenizer, Tokenizer.load(home), folder)
    check_fits(tokenizer, model.config.vocab_size)
    return model, tokenizer


def load_tokenizer(name: str | Path) -> Tokenizer:
    """The tokenizer of a folder, of an adapter without one its base's."""
    folder = resolve(name)
    if holds_adapter(folder) and not (folder / "tokenizer.json").is_file():
        folder = base_folder(peft.read(folder))
    return hub.load_tokenizer(folder)


def _adapted(
    folder: Path, adapter: str, dtype: torch.dtype, device: str | torch.device, base: str | Path | None
) -> tuple[Transformer, Path]:
    """A base with its adapter, and where the base lies."""
    stored = peft.read(folder)
    home = base_folder(stored, base)
    model = load_base(home, dtype=dtype, device=device)
    shape = shape_of(stored, model.config)
    grow_rows(model, max(shape.vocab_size, model.config.vocab_size))
    new = put_heads(model, shape)
    if stored.options.bits == 4:
        to_nf4(model, home)
    peft.fit(model, adapter, stored, needed=new)
    return model.eval(), home


def shape_of(stored: peft.Stored, base: ModelConfig) -> ModelConfig:
    """The shape of a base with what was grown for an adapter. Raises InputError for what is never grown."""
    said = stored.ours.get("shape")
    shape = said if isinstance(said, dict) else {}
    if unknown := shape.keys() - set(GROWN):
        raise InputError(f"{stored.folder} says that its base has {listed(sorted(unknown))} of its own; save it again")
    return from_dict(ModelConfig, shape, base=base, where=f"{stored.folder / peft.WEIGHTS} shape")


def architecture(folder: Path) -> str:
    """The class of transformers that reads a folder, of an adapter its base's."""
    return base_architecture(base_folder(peft.read(folder)) if holds_adapter(folder) else folder)


def check_learnt(model: Transformer, adapter: str, own: Tokenizer, before: Tokenizer, folder: Path) -> None:
    """Raise InputError for tokens that neither the base nor the adapter learnt."""
    learnt = set(model.attached[adapter].tokens)
    new = {text: id for text, id in own.specials.items() if before.specials.get(text) != id and id not in learnt}
    if new:
        raise InputError(
            f"the tokenizer in {folder} has {', '.join(sorted(new)[:4])}, which its base does not know, and the "
            "adapter has no rows for them: they were never learnt; train it with --lora.tokens"
        )


# --- where a base lies ----------------------------------------------------------------------------------------------


def base_folder(stored: peft.Stored, named: str | Path | None = None) -> Path:
    """The folder of the base that an adapter was made for. Raises InputError, naming both, where it is not there, where
    it is another model now, or no model by itself."""
    base = stored.base
    folder = resolve(named) if named else _found(stored)
    if holds_adapter(folder):
        raise InputError(
            f"the adapter in {stored.folder} was made for {folder}, which holds an adapter itself; make a model of "
            "that one with `instar merge`, and name it as the base"
        )
    if base.sha256 is not None and (digest := hub.folder_digest(folder, weights_alone=True)) != base.sha256:
        raise InputError(
            f"the adapter in {stored.folder} was made for {base.name} with weights of sha256 {base.sha256[:12]}, and "
            f"those in {folder} have {digest[:12]}: it is another model; name the base that it was made for"
        )
    return folder


def _found(stored: peft.Stored) -> Path:
    base, beside = stored.base, stored.ours.get("beside")
    places = [Path(base.name)] + ([stored.folder / beside] if isinstance(beside, str) else [])
    if found := [place for place in places if base.name and place.is_dir()]:
        return found[0]
    if HUB.fullmatch(base.name):
        return resolve(f"hf:{base.name}" + (f"@{base.revision}" if base.revision else ""))
    raise InputError(
        f"the adapter in {stored.folder} was made for {base.name or 'a model that it does not name'}, which is not "
        "there; bring that folder back, or say where it is with `instar merge --base`"
    )


def base_of(name: str | Path) -> peft.Base:
    """What to write into an adapter that is made for the model of a folder."""
    folder, text = resolve(name), str(name)
    digest = hub.folder_digest(folder, weights_alone=True)
    if text.startswith("hf:"):
        repository, _, revision = text[3:].partition("@")
        return peft.Base(repository, revision or None, digest)
    return peft.Base(str(folder.resolve()), None, digest)


# --- writing --------------------------------------------------------------------------------------------------------


def save_adapter(
    model: Transformer, name: str, out: str | Path, base: peft.Base, tokenizer: Tokenizer | None = None, *,
    heads: Sequence[str] = (), tokens: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """Write an adapter of a model, heads that were trained with it, and a tokenizer, as one folder that peft reads.
    tokens: as save_model takes them. There is no config.json: transformers would look for the whole model there."""
    folder = Path(out)
    peft.write(model, name, folder, base, heads=heads)
    write_json(folder / GENERATION, {key: value for key, value in (tokens or {}).items() if value is not None})
    if tokenizer is not None:
        tokenizer.save(folder)


@contextmanager
def whole(name: str) -> Iterator[str]:
    """The name of a folder with a model: the same, or where it holds an adapter, one that is there for as long."""
    if not holds_adapter(resolve(name)):
        yield name
        return
    with TemporaryDirectory(prefix="instar-") as place:
        hub.save(*load(name), place)
        yield place
