"""What a source of a recipe names -> the pieces of files that tasks read. Everything is looked up before the first byte
is read, so that a misspelt name fails at once."""

from __future__ import annotations

import glob
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from ...config import InputError
from ...config.data import SourceOptions
from .opening import HEAD, open_file, packing_of, suffix_of
from .piece import Piece
from .reading import READERS, WORLD, missing_library

HUB = "hf:"
WEB = ("http://", "https://")
LINES, TABLES = (".jsonl", ".ndjson"), (".parquet",)


@dataclass(frozen=True)
class Places:
    """pieces: in the order of the source, of each folder sorted. skipped: addresses of files that folders and globs
    hold and that this kind of source has no reader for."""

    pieces: tuple[Piece, ...]
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class _File:
    address: str
    size: int


def find(source: SourceOptions, task_bytes: int) -> Places:
    """The pieces of all that `source.data` names: files, folders, globs, fsspec addresses, world:NAME, hf:org/name. A
    large plain .jsonl is cut in ranges of about `task_bytes` bytes, a large .parquet between row groups.

    Raises InputError for what does not exist, for a folder or glob with nothing to read, for an unknown kind of file.
    """
    if source.kind not in READERS:
        raise InputError(f"source {source.name}: found the kind {source.kind}, wanted one of {', '.join(READERS)}")
    pieces: dict[str, list[Piece]] = {}
    skipped: dict[str, None] = {}
    for data in source.data:
        try:
            files, unread = _look_up(data, tuple(READERS[source.kind]), source.kind)
        except ImportError as error:
            raise missing_library(error, f"{data} needs") from None
        for file in files:
            if file.address not in pieces:  # named twice, it is read once
                pieces[file.address] = list(_cut(_whole(file, source), task_bytes))
        skipped |= dict.fromkeys(file.address for file in unread)
    if not pieces:
        raise InputError(f"source {source.name}: no data; name files, folders, globs, addresses, world: or hf:")
    return Places(tuple(piece for cut in pieces.values() for piece in cut), tuple(skipped))


def _whole(file: _File, source: SourceOptions) -> Piece:
    return Piece(source.name, source.kind, file.address, file.size, fields=tuple(source.fields))


def _look_up(data: str, suffixes: tuple[str, ...], kind: str) -> tuple[list[_File], list[_File]]:
    """The files that can be read, and the others."""
    if data.startswith(WORLD):
        return [_world(data)], []
    if data.startswith(HUB):
        return _fetched(data, suffixes)
    files = _far(data) if "://" in data else _near(data)
    read = [file for file in files if suffix_of(file.address) in suffixes]
    if not read:
        found = ", ".join(sorted({suffix_of(file.address) or file.address for file in files})[:8]) or "no files"
        raise InputError(
            f"{data}: found {found}, wanted for {kind} one of {', '.join(suffixes)} (and .gz, .zst, .bz2, .xz)"
        )
    return read, [file for file in files if suffix_of(file.address) not in suffixes]


def _world(address: str) -> _File:
    """Looked up by its first record. Raises InputError for a misspelt one."""
    from ..sources import world

    next(iter(world(address)), None)
    return _File(address, 0)


def _fetched(data: str, suffixes: tuple[str, ...]) -> tuple[list[_File], list[_File]]:
    """A data set of the Hugging Face hub, as `data.sources` fetches it."""
    from ..sources import resolve

    found = resolve([data])
    files = [_File(str(path), Path(path).stat().st_size) for path in found.places]
    read = [file for file in files if suffix_of(file.address) in suffixes]
    if not read:
        raise InputError(f"{data}: found no file of {', '.join(suffixes)}")
    unread = [file for file in files if suffix_of(file.address) not in suffixes]
    return read, unread + [_File(str(path), 0) for path in found.skipped]


def _near(data: str) -> list[_File]:
    path = Path(data).expanduser()
    if path.is_file():
        found: Iterable[Path] = [path]
    elif path.is_dir():
        found = _inside(path)
    elif glob.has_magic(str(path)):
        matches = sorted(map(Path, glob.glob(str(path), recursive=True)))
        found = [file for match in matches for file in ([match] if match.is_file() else _inside(match))]
    else:
        raise InputError(
            f"no such file or folder: {data}; give a file, a folder, a glob, an address such as s3://..., world:NAME "
            "or hf:org/name"
        )
    return [_File(str(file), file.stat().st_size) for file in found]


def _inside(folder: Path) -> list[Path]:
    """Every file below a folder, sorted by path; hidden files and folders are none of ours."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(file for file in files if not any(part[0] == "." for part in file.relative_to(folder).parts))


def _far(data: str) -> list[_File]:
    """Files of an fsspec address: one, those of a glob, those below a folder."""
    import fsspec

    if "::" in data:
        raise InputError(f"{data}: chained addresses are not read; unpack the archive, or name its files one by one")
    try:
        system, path = fsspec.core.url_to_fs(data)
        if glob.has_magic(path) and not data.startswith(WEB):  # a ? of the web begins a query
            found = system.glob(path, detail=True)
        elif data.startswith(WEB) or system.isfile(path):
            found = {path: system.info(path)}
        else:
            found = system.find(path, detail=True)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{data}: cannot be looked up: {' '.join(str(error).split()) or type(error).__name__}"
        ) from None
    if not found:
        raise InputError(f"nothing lies at {data}; give an address of a file, a folder or a glob")
    return [
        _File(data if data.startswith(WEB) else system.unstrip_protocol(name), int(about.get("size") or 0))
        for name, about in sorted(found.items())
        if about.get("type") != "directory" and not _hidden(name, path)
    ]


def _hidden(name: str, root: str) -> bool:
    inside = name.removeprefix(root) if not glob.has_magic(root) else name.rpartition("/")[2]
    return any(part.startswith(".") for part in inside.split("/"))


def _cut(piece: Piece, task_bytes: int) -> Iterator[Piece]:
    """The same in pieces of about `task_bytes`, if it is of a kind that can be cut."""
    suffix = suffix_of(piece.address)
    if piece.size <= task_bytes or piece.address.startswith(WEB) or suffix not in LINES + TABLES:
        yield piece
    elif suffix in TABLES:
        yield from _between_groups(piece, task_bytes)
    elif _packed(piece):
        yield piece
    else:
        parts = math.ceil(piece.size / task_bytes)
        ends = [piece.size * part // parts for part in range(parts + 1)]
        for start, stop in pairwise(ends):
            yield replace(piece, start=start, stop=stop, size=stop - start)


def _packed(piece: Piece) -> bool:
    """Whether it is compressed, whatever its name says; such a file is read from its beginning only."""
    try:
        with open_file(piece.address) as stream:
            return bool(packing_of(stream.peek(HEAD)[:HEAD]))
    except OSError:  # the reader will say so
        return True


def _between_groups(piece: Piece, task_bytes: int) -> Iterator[Piece]:
    try:
        sizes = _group_sizes(piece)
    except (OSError, ValueError):  # pyarrow's errors are one of the two; the reader will say what is wrong
        yield piece
        return
    start, size = 0, 0
    for number, more in enumerate(sizes):
        if size and size + more > task_bytes:
            yield replace(piece, start=start, stop=number, size=size)
            start, size = number, 0
        size += more
    yield replace(piece, start=start, stop=len(sizes), size=size) if start else piece


def _group_sizes(piece: Piece) -> list[int]:
    """Stored bytes of each row group."""
    from pyarrow.parquet import ParquetFile

    with open_file(piece.address) as stream:
        about: Any = ParquetFile(stream).metadata
        groups = [about.row_group(number) for number in range(about.num_row_groups)]
        return [sum(group.column(n).total_compressed_size for n in range(group.num_columns)) for group in groups]
