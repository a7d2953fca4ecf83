"""What --data says -> documents: files, folders, globs, world:NAME, hf:org/name[@revision].

`resolve` looks everything up before the first document is read, so that a misspelt name fails at once. A folder that
`data prepare` wrote stands for its token shards, or where it has none for its refined documents.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..config import InputError
from .readers import COMPRESSED, READERS, read_records, suffix_of
from .records import text_of
from .refine.mixture import MIXTURE
from .shards import SUFFIX, shard_digest

WORLD, HUB = "world:", "hf:"
# what `data prepare` writes besides shards: which task reads what, the recipe, refined documents, last the report
PLAN, RECIPE, DOCUMENTS, REPORT = "plan.json", "recipe.yaml", "documents", "report.json"
HUB_SUFFIXES = (".parquet", ".jsonl", ".txt")


@dataclass(frozen=True)
class Document:
    """One record, and where it comes from: its file or address, and its number there from 1."""

    record: dict[str, Any]
    source: str
    number: int

    @property
    def where(self) -> str:
        return f"{self.source}, record {self.number}"

    def read(self, how: Callable[[dict[str, Any]], Any]) -> Any:
        """`how(record)`; an InputError about the record names the place too."""
        try:
            return how(self.record)
        except InputError as error:
            raise InputError(f"{self.where}: {error}") from None

    @property
    def text(self) -> str:
        return self.read(text_of)


@dataclass(frozen=True)
class Found:
    """What the sources stand for: files and world: addresses in order, the files in folders left unread, and what says
    how often the shards of a folder are seen."""

    places: tuple[Path | str, ...]
    skipped: tuple[Path, ...]
    mixtures: tuple[Path, ...] = ()


def read(sources: Sequence[str]) -> Iterator[Document]:
    """Every document of every source, in order. Raises InputError for what is missing or cannot be read."""
    for place in resolve(sources).places:
        if is_shard(place):
            texts = Path(place).parent / DOCUMENTS
            them = str(texts) if texts.is_dir() else "the texts"
            raise InputError(f"{place} holds token shards, which are read by pretrain alone; give {them}")
        records = read_records(place) if isinstance(place, Path) else world(place)
        for number, record in enumerate(records, 1):
            yield Document(record, str(place), number)


def resolve(sources: Sequence[str]) -> Found:
    """Look every source up. Raises InputError for a missing file, an empty glob, a folder with nothing to read."""
    if isinstance(sources, str):
        sources = [sources]
    places: list[Path | str] = []
    skipped: list[Path] = []
    mixtures: list[Path] = []
    for source in sources:
        if source.startswith(WORLD):
            places.append(source)
            continue
        files, unread = _files(source)
        places += files
        skipped += unread
        if (mixture := Path(source).expanduser() / MIXTURE).is_file() and any(map(is_shard, files)):
            mixtures.append(mixture)
    if not places:
        raise InputError("no data: give files, folders, globs, world:NAME or hf:org/name")
    return Found(tuple(places), tuple(skipped), tuple(mixtures))


def fingerprint(sources: Sequence[str]) -> str:
    """A sha256 that changes with any byte of the texts, with the order of the files, with a mixture, or with the
    world's code. Of token shards the index is read, which has the hash of every text."""
    total, found = sha256(), resolve(sources)
    for place in (*found.places, *found.mixtures):
        total.update(_digest(place))
    return total.hexdigest()


def is_shard(place: Path | str) -> bool:
    """Whether this is tokens already."""
    return isinstance(place, Path) and place.name.endswith(SUFFIX)


def world(address: str) -> Iterator[dict[str, Any]]:
    """The records of the built-in world at an address."""
    from .world import records

    return records(address)


def _files(source: str) -> tuple[list[Path], list[Path]]:
    """The files of one source that can be read, and those that cannot."""
    if source.startswith(HUB):
        return _fetched(source)
    path = Path(source).expanduser()
    if path.is_file():
        return [path], []
    if path.is_dir():
        if shards := sorted(path.glob(f"*{SUFFIX}")):
            _check_finished(path, MIXTURE)
            return shards, []
        if (path / PLAN).is_file() and (path / DOCUMENTS).is_dir():
            _check_finished(path, REPORT)
            found = sorted((path / DOCUMENTS).glob("*.jsonl.zst"))
        else:
            found = _inside(path)
    elif glob.has_magic(str(path)):
        found = [
            file
            for match in sorted(glob.glob(str(path), recursive=True))
            for file in ([Path(match)] if Path(match).is_file() else _inside(Path(match)))
        ]
    else:
        raise InputError(f"no such file or folder: {source}; give a file, a folder, a glob, world:NAME or hf:org/name")
    return _sort_out(source, found, tuple(READERS))


def _check_finished(folder: Path, last: str) -> None:
    """Raises InputError where `data prepare` has not come to its end: a part of the data would pass for the whole."""
    if (folder / PLAN).is_file() and not (folder / last).is_file():
        raise InputError(
            f"{folder}: instar data prepare has not finished ({last} is missing); run it again, which goes on"
        )


def _sort_out(source: str, found: list[Path], suffixes: tuple[str, ...]) -> tuple[list[Path], list[Path]]:
    """Divide files by whether they are of these kinds. Raises InputError where none is."""
    readable = [file for file in found if suffix_of(file) in suffixes]
    if not readable:
        kinds = ", ".join(sorted({file.suffix or file.name for file in found})[:8]) or "no files"
        raise InputError(f"{source}: found {kinds}, wanted one of {', '.join(suffixes)}")
    return readable, [file for file in found if suffix_of(file) not in suffixes]


def _inside(folder: Path) -> list[Path]:
    """Every file below a folder, sorted by path; hidden files and folders are none of ours."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(file for file in files if not any(part[0] == "." for part in file.relative_to(folder).parts))


def _fetched(source: str) -> tuple[list[Path], list[Path]]:
    """The files of hf:org/name[@revision], a data set on the Hugging Face hub; its card is none of them."""
    name, _, revision = source.removeprefix(HUB).partition("@")
    import huggingface_hub

    try:
        folder = huggingface_hub.snapshot_download(
            name,
            repo_type="dataset",
            revision=revision or None,
            allow_patterns=[f"*{suffix}{packed}" for suffix in HUB_SUFFIXES for packed in ("", *COMPRESSED)],
        )
    except (OSError, ValueError) as error:  # the hub's own errors derive from these two
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"{source}: could not be fetched from the hub: {reason[0]}") from None
    return _sort_out(source, _inside(Path(folder)), HUB_SUFFIXES)


def _digest(place: Path | str) -> bytes:
    if not isinstance(place, Path):
        return _world_digest(place)
    return shard_digest(place) if is_shard(place) else _file_digest(place)


def _file_digest(path: Path) -> bytes:
    digest = sha256(path.name.encode())
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.digest()


def _world_digest(address: str) -> bytes:
    """A world is made by code, so its identity is its address and that code."""
    digest = sha256(address.encode())
    for path in sorted((Path(__file__).parent / "world").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(path.read_bytes())
    return digest.digest()
