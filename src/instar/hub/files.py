"""Model folders in the layout of Hugging Face: read strictly, checked before anything is allocated, written whole.

Nothing here runs code that a folder brings, and nothing unpickles.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..config import InputError, read_object
from ..model.adapters import own
from ..model.nf4 import NF4Linear
from ..model.quantized import quantized, settle
from ..model.transformer import Transformer
from .configs import CONFIG, LIMIT, read_config
from .families import Family, config_to_hf, foreign_names, layout_of
from .headers import BUFFERS, Header, read_headers
from .layout import join, shape_of, split
from .memory import free_bytes
from .packed import Packed, packed_config, packed_tensors, read_grid
from .places import ADAPTER, INDEX, WEIGHTS, holds_adapter, resolve
from .sentences import sentence_files

GENERATION = "generation_config.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".bin.index.json")
INDEX_LIMIT = 16 << 20  # bytes of the index of a model in many files
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def load_model(
    name: str | Path, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> Transformer:
    """The model of a folder. Raises InputError that lists every weight that is missing, unclaimed or misshapen, or
    tells that the whole does not fit into the memory that is free; nothing is allocated before."""
    folder = resolve(name)
    refuse_adapter(folder)
    if (folder / ADAPTER[0]).is_file():
        warnings.warn(
            f"{folder} holds an adapter beside its model, which is loaded without it; move the adapter to a folder of "
            "its own, and name that to have it heeded",
            stacklevel=2,
        )
    family, config = read_config(folder)
    grid = read_grid(folder, CONFIG, LIMIT)
    headers = read_headers(files := weight_files(folder))
    with torch.device("meta"):
        model = Transformer(config, seed=None)
    packed = None if grid is None else Packed(model, grid, headers, family, folder)
    plain = headers if packed is None else packed.rest
    _check_room(model, headers, dtype, torch.device(device), folder, packed)
    wanted = foreign_names(family, _stored(model))
    found = _check(plain, wanted, family, model, folder)
    state: dict[str, Tensor] = {}
    for path in files:
        with _opened(path, device) as file:
            for theirs in file.keys():  # noqa: SIM118 - not a mapping
                if ours := wanted.get(found.get(theirs, "")):
                    state |= split(file.get_tensor(theirs).to(dtype), ours, theirs, family, model)
    model.load_state_dict(state | _tied(model, state), strict=True, assign=True)
    model.tie()
    model.requires_grad_(True)
    if packed is not None:
        packed.fill(lambda theirs: _tensor(headers, theirs).to(device), dtype)
        settle(model, dtype)
    return model.eval()


class Weights:
    """The weights of a folder by our names, read one tensor at a time. `dtype`: the widest that they are stored in;
    `bytes`: of all.

    Raises InputError as load_model does; nothing is read before `read`.
    """

    def __init__(self, name: str | Path) -> None:
        self.folder = resolve(name)
        refuse_adapter(self.folder)
        self.family, self.config = read_config(self.folder)
        if read_grid(self.folder, CONFIG, LIMIT) is not None:
            raise InputError(f"{self.folder} is quantised, wanted a model that is not: name the one it was made from")
        self._headers = read_headers(weight_files(self.folder))
        with torch.device("meta"):
            self._model = Transformer(self.config, seed=None)
        self._wanted = foreign_names(self.family, _stored(self._model))
        found = _check(self._headers, self._wanted, self.family, self._model, self.folder)
        self._places = {ours: (theirs, full) for theirs, full in found.items() for ours in self._wanted.get(full, ())}
        self.shapes = {name: list(weight.shape) for name, weight in _stored(self._model).items()}
        self.bytes = sum(header.stop - header.start for header in self._headers.values())
        self.dtype = max((DTYPES[self._headers[name].kind] for name in found), key=lambda dtype: dtype.itemsize)

    def read(self, name: str) -> Tensor:
        """One of `shapes`, as it is stored."""
        theirs, full = self._places[name]
        tensor = _tensor(self._headers, theirs)
        return split(tensor, self._wanted[full], full, self.family, self._model)[name]


def save_model(
    model: Transformer, folder: str | Path, *, tokens: Mapping[str, Any] | None = None, dtype: torch.dtype | None = None
) -> None:
    """Write config.json, model.safetensors and generation_config.json, each whole or not at all.

    tokens: bos_token_id, eos_token_id and pad_token_id. Raises InputError where no family has this shape.
    """
    folder = Path(folder)
    _refuse_nf4(model)
    family = layout_of(model.config, packed=any(quantized(model)))
    dtype = dtype or model.embed.weight.dtype
    tokens = {key: value for key, value in (tokens or {}).items() if value is not None}
    if model.config.heads_of == ("classify",) and model.config.pooling == "last" and _ends_with_padding(tokens):
        del tokens["pad_token_id"]
    if model.config.start >= 0:
        tokens["decoder_start_token_id"] = model.config.start
    ours = {name: weight.detach().to("cpu", dtype) for name, weight in _stored(model).items()}
    named = foreign_names(family, ours)
    theirs = {name: join(ours, parts, name, family, model.config) for name, parts in named.items()}
    theirs |= packed_tensors(model, family, dtype)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / WEIGHTS, lambda path: save_file(theirs, path, metadata={"format": "pt"}))
    said = config_to_hf(model.config, _word(dtype), packed=any(quantized(model)), **tokens)
    write_json(folder / CONFIG, said | packed_config(model, family))
    write_json(folder / GENERATION, tokens)
    for place, data in sentence_files(model.config).items():
        (folder / place).parent.mkdir(exist_ok=True)
        write_json(folder / place, data)


def _ends_with_padding(tokens: Mapping[str, Any]) -> bool:
    """Whether texts end with the token that pads them: transformers reads what is said of a text at the last token that
    is no padding, which would be the one before its end."""
    ends = tokens.get("eos_token_id")
    return "pad_token_id" in tokens and tokens["pad_token_id"] in (ends if isinstance(ends, list) else [ends])


def architecture(folder: Path) -> str:
    """The class of transformers that reads a folder."""
    return read_config(folder)[0].architecture


def read_json(path: Path, otherwise: str, limit: int = LIMIT) -> dict[str, Any]:
    """A JSON object from a file of at most `limit` bytes. Raises InputError, which begins with `otherwise` where there
    is no such file."""
    data = read_object(path, limit)
    if data is None:
        raise InputError(f"{otherwise}: {path.name} is missing")
    return data


def write_json(path: Path, data: Any) -> None:
    """Write JSON, whole or not at all."""
    text = json.dumps(data, ensure_ascii=False, indent=2) + "\n"
    write_whole(path, lambda draft: draft.write_text(text, encoding="utf-8"))


def write_whole(path: Path, fill: Any) -> None:
    """Fill a file beside the real one, flush it to the disk, and give it the name."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fill(draft)
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder. Names in an index are names, never paths."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        return _indexed(folder)
    refuse_pickle(folder, sorted(path.name for path in folder.iterdir()))
    raise InputError(f"{folder} holds no {WEIGHTS}; name a folder that a model was saved to")


def _indexed(folder: Path) -> list[Path]:
    path = folder / INDEX
    named = read_json(path, str(folder), INDEX_LIMIT).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise InputError(f"{path} has no weight_map; wanted an object of weights and file names; fetch it again")
    names = sorted({str(name) for name in named.values()})
    refuse_pickle(folder, names)
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise InputError(f"{path} names {name[:80]!r}, which is no file of this folder; fetch the folder again")
        if not _stays(folder, folder / name):
            raise InputError(f"{folder / name} is a link that leads out of its folder; put a copy of the file there")
    return [folder / name for name in names]


def _stays(folder: Path, path: Path) -> bool:
    """Whether a file lies in the folder; the hub's cache keeps the files of a snapshot in blobs beside it."""
    home, place = folder.resolve(), path.resolve()
    blobs = home.parents[1] / "blobs" if home.parent.name == "snapshots" else home
    return place.is_relative_to(home) or place.is_relative_to(blobs)


def refuse_pickle(folder: Path, names: list[str]) -> None:
    old = [name for name in names if name.endswith(PICKLES)]
    if old:
        raise InputError(
            f"{folder} holds {old[0]}, a pickle, which can run code and is never read; convert it where you trust it "
            "with safetensors.torch.save_file, or transformers' save_pretrained, to model.safetensors"
        )


def refuse_adapter(folder: Path) -> None:
    """Raise InputError for a folder that changes a model and holds none, where a whole one is wanted."""
    if holds_adapter(folder):
        raise InputError(
            f"{folder} holds an adapter and no model; make a model of it and its base with `instar merge`, and name "
            "that folder"
        )


def _stored(model: Transformer) -> dict[str, Tensor]:
    """The weights that a file holds: a tied head is the embedding and stands there once; adapters have files of their
    own."""
    state = own(model.state_dict())
    for name in model.tied():
        del state[name]
    return state


def _refuse_nf4(model: Transformer) -> None:
    """Raise InputError for a model whose layers are kept in 4 bits while adapters learn: no file of ours holds them."""
    if any(isinstance(module, NF4Linear) for module in model.modules()):
        raise InputError("a model in NF4 is not saved, only its adapters are; merge them first, which makes it dense")


def _tied(model: Transformer, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return dict.fromkeys(model.tied(), state["embed.weight"])


def _check_room(
    model: Transformer, headers: Mapping[str, Header], dtype: torch.dtype, device: torch.device, folder: Path,
    packed: Packed | None,
) -> None:  # fmt: skip
    """Raise InputError where the weights that config.json asks for do not fit into the memory that is free."""
    size, free = model.size() * dtype.itemsize + (packed.bytes if packed else 0), free_bytes(device)
    if free is not None and size > free:
        held = sum(header.stop - header.start for header in headers.values())
        raise InputError(
            f"{folder / CONFIG} asks for {model.size():,} weights, {size:,} bytes as {_word(dtype)}; {free:,} bytes "
            f"are free on {device}, and the files hold {held:,}; take a smaller model or dtype, or a larger machine"
        )


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@contextmanager
def _opened(path: Path, device: str | torch.device) -> Iterator[Any]:
    """A file of weights. What the library refuses although its header was right is damage too."""
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} cannot be read: {error}; fetch or save it again") from None


def _check(
    headers: Mapping[str, Header], wanted: Mapping[str, list[str]], family: Family, model: Transformer, folder: Path
) -> dict[str, str]:
    """Every wanted weight is there in its shape and nothing else is; returns name in the file -> full name."""
    found = {name: full for name in headers if (full := _full(name, wanted, family)) in wanted}
    idle = (*BUFFERS, *family.idle)
    unclaimed = [name for name in headers if name not in found and not name.endswith(idle)]
    spare = [name for name in unclaimed if any(re.fullmatch(pattern, name) for pattern in family.spare)]
    unclaimed = [name for name in unclaimed if name not in spare]
    embedding = next(name for name, parts in wanted.items() if parts == ["embed.weight"])
    for name, other in {**{family.names[name]: embedding for name in model.tied()}, **family.twins}.items():
        _share(found, unclaimed, name, other, headers, family)
    wrong = []
    for name, full in found.items():
        kind, shape, fits = headers[name].kind, headers[name].shape, shape_of(wanted[full], full, family, model)
        if kind not in DTYPES:
            wrong.append(f"{name} ({kind})")
        elif shape != fits:
            wrong.append(f"{name} {shape}, wanted {fits}")
    missing = sorted(set(wanted) - set(found.values()))
    if missing or unclaimed or wrong:
        raise InputError(
            f"{folder} does not fit its {CONFIG}; missing: {listed(missing)}; unclaimed: {listed(unclaimed)}; "
            f"of another shape or type: {listed(wrong)}; {CONFIG} asks for {model.size():,} weights and the files "
            f"hold {sum(header.numel for header in headers.values()):,}: take both from one model"
        )
    if spare:
        warnings.warn(
            f"{folder} holds {len(spare)} weights that we compute {family.architecture} without: {listed(spare)}; "
            "they are not loaded, and a save leaves them out",
            stacklevel=3,
        )
    return found


def _full(name: str, wanted: Mapping[str, list[str]], family: Family) -> str:
    """Some files leave the prefix off their names, or call a part as it was called once."""
    for older, now in family.older.items():
        if name.endswith(older):
            name = name.removesuffix(older) + now
    return name if name in wanted else f"{family.prefix}{name}"


def _share(
    found: dict[str, str], unclaimed: list[str], head: str, embedding: str, headers: Mapping[str, Header],
    family: Family,
) -> None:  # fmt: skip
    """A tied head and the embedding are one: a file may hold either, or both if they are equal. So it is with twins."""
    if head not in unclaimed:
        return
    unclaimed.remove(head)
    double = [name for name, full in found.items() if full == embedding]
    if not double:
        found[head] = embedding
    elif not _equal(headers, head, double[0]):
        if head in family.twins:
            raise InputError(
                f"{head} and {double[0]} differ in {headers[head].file}; we compute {family.architecture} with one "
                "weight for both; take the file from a model that has one"
            )
        raise InputError(
            f"{head} and {double[0]} differ in {headers[head].file}, and {CONFIG} says tie_word_embeddings; "
            "set it to false to keep both"
        )


def _equal(headers: Mapping[str, Header], one: str, other: str) -> bool:
    """Whether two tensors of the files are the same; only those of one size are read."""
    if headers[one].shape != headers[other].shape:
        return False
    return torch.equal(*(_tensor(headers, name) for name in (one, other)))


def _tensor(headers: Mapping[str, Header], name: str) -> Tensor:
    with _opened(headers[name].file, "cpu") as file:
        return file.get_tensor(name)


def listed(names: list[str], most: int = 8) -> str:
    """The first of some names, which a stranger may have chosen: short, and on one line."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    shown = [name[:120] if name.isprintable() else ascii(name)[:120] for name in names[:most]]
    return (", ".join(shown) or "none") + more
