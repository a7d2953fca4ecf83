"""Tokens of many documents, in memory or in files, behind one interface.

A store is cut in *sections*: a short document is one, a long one several that follow each other. Each section
remembers the hash of its text, so any share can be held out later without reading the text again; neighbouring
sections of one document on the same side of that division are one document of the store.

A shard is a stock safetensors file (tokens, offsets, keys, sizes, continues) that is written in one pass: a header
of fixed length, the tokens as they come, then the index. Only the index is read into memory, 25 bytes a section, so
opening takes time and memory by the number of documents and not of tokens; a store adds 28 bytes for each document.

A folder's mixture.json says how often the documents of each shard stand in its store: 2.5 times means twice each, and
half of them, by hash, once more. A share that is held out is the same for any mixture, and each of its sections stands
in it once. Nothing is copied: the same part stands in the store several times.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from ..config import InputError
from .disk import sync
from .hashes import mix
from .refine.mixture import read_mixture

KIND, VERSION = "instar-tokens", "1"
SUFFIX = ".tokens.safetensors"
HEADER = 4096  # bytes before the tokens: 8 for the length, the rest JSON padded with blanks
NAME = 1024  # bytes of it for the name of a source
KEY_BITS = 53  # a key fits a float exactly
INDEX = ("offsets", "keys", "sizes", "continues")
BRANCH = np.dtype(np.uint16)  # numbers of texts that begin alike
WIRE = {"uint16": "U16", "uint32": "U32", "uint64": "U64", "bool": "BOOL"}


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """The smallest type that holds every id of a vocabulary."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


@dataclass(frozen=True)
class Section:
    """Ids of one stretch of text; key: hash of the text; size: its bytes; continues: its document goes on after it.

    branches: of texts that begin alike, which of them each token is of, 0 where of all (`branched.folded`). evidence
    (N, 2): where in the section the words begin and end that what is said after a token rests on; 0, 0: nobody says.
    """

    ids: Sequence[int] | np.ndarray
    key: int
    size: int
    continues: bool = False
    teaches: Sequence[bool] | np.ndarray | None = None
    branches: np.ndarray | None = None
    evidence: np.ndarray | None = None


@dataclass(frozen=True)
class Part:
    """Sections end to end: tokens (N,), offsets (S+1,) into them, keys (S,), sizes (S,), continues (S,).

    teaches (N,) tells which tokens are to be learnt; None: all. branches (N,) and evidence (N, 2): as a section's;
    None: no text shares its beginning, nobody names evidence.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    keys: np.ndarray
    sizes: np.ndarray
    continues: np.ndarray
    teaches: np.ndarray | None = None
    branches: np.ndarray | None = None
    evidence: np.ndarray | None = None


class TokenStore:
    """len(store) documents as token ids: tokens(i) of each, their lengths, the total, and the bytes of their text."""

    def __init__(
        self,
        parts: Sequence[Part],
        kept: Sequence[np.ndarray] | None = None,
        once: Sequence[np.ndarray] | None = None,
    ) -> None:
        """kept: for each part, which of its sections (S,) belong to this store; all of them when left out. once: which
        may be held out, those kept when left out; of a mixture, where a section stands several times or not at all,
        every one once."""
        self.parts = tuple(parts)
        kept = [np.ones(len(part.keys), bool) for part in parts] if kept is None else kept
        runs = [_runs(part, mask) for part, mask in zip(self.parts, kept)]
        self.starts, self.stops = (_join([run[side] for run in runs]) for side in (0, 1))
        self.part_of = np.repeat(np.arange(len(runs), dtype=np.int32), [len(run[0]) for run in runs])
        self.lengths = self.stops - self.starts
        self.total = int(self.lengths.sum())
        self.bytes = sum(int(part.sizes[mask].sum()) for part, mask in zip(self.parts, kept))
        self._kept = kept
        self._once = kept if once is None else once

    def __len__(self) -> int:
        return len(self.lengths)

    def tokens(self, document: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """The ids [start, stop) of one document, as they lie in the store (a view, not to be written to)."""
        length = int(self.lengths[document])
        first = int(self.starts[document])
        return self.parts[self.part_of[document]].tokens[
            first + start : first + min(length if stop is None else stop, length)
        ]

    def teaches(self, document: int, start: int, stop: int) -> np.ndarray | None:
        """Which of the ids [start, stop) are to be learnt, or None where all are."""
        return self._cut(self.parts[self.part_of[document]].teaches, document, start, stop)

    def branches(self, document: int, start: int, stop: int) -> np.ndarray | None:
        """Which of several texts that begin alike the ids [start, stop) are of, or None where all are of one."""
        return self._cut(self.parts[self.part_of[document]].branches, document, start, stop)

    def evidence(self, document: int, start: int, stop: int) -> np.ndarray | None:
        """Where in the document the words stand that what is said after each of the ids [start, stop) rests on
        (N, 2), or None where nobody says."""
        return self._cut(self.parts[self.part_of[document]].evidence, document, start, stop)

    def _cut(self, values: np.ndarray | None, document: int, start: int, stop: int) -> np.ndarray | None:
        first, length = int(self.starts[document]), int(self.lengths[document])
        return None if values is None else values[first + start : first + min(stop, length)]

    def split(self, share: float) -> tuple[TokenStore, TokenStore]:
        """(to train on, held out): the sections whose hash falls below `share` are held out, whatever the tokenizer."""
        out = [part.keys < threshold(share) for part in self.parts]
        held = [once & below for once, below in zip(self._once, out)]
        rest = [[mask & ~below for mask, below in zip(masks, out)] for masks in (self._kept, self._once)]
        return TokenStore(self.parts, *rest), TokenStore(self.parts, held)


def threshold(share: float) -> int:
    """Keys below this are held out. Raises InputError outside [0, 1]."""
    if not 0.0 <= share <= 1.0:
        raise InputError(f"held_out={share} is outside [0, 1]")
    return int(share * (1 << KEY_BITS))


def _runs(part: Part, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each document of the kept sections starts and stops: neighbours that continue each other are one."""
    joined = np.zeros(len(kept), bool)  # section s goes on from section s - 1
    joined[1:] = kept[1:] & kept[:-1] & part.continues[:-1]
    first = kept & ~joined
    last = kept & ~np.append(joined[1:], False)
    return part.offsets[:-1][first], part.offsets[1:][last]


def passes(parts: Sequence[Part], epochs: Sequence[float]) -> tuple[list[Part], list[np.ndarray], list[np.ndarray]]:
    """parts, kept and once of a store in which the documents of each part stand `epochs` times, one pass of all parts
    after the other. A fraction of a pass takes documents whole, by a hash of the first section; of 0 epochs nothing is
    held out either."""
    placed: list[tuple[Part, np.ndarray, bool]] = []
    left, number = [(part, times) for part, times in zip(parts, epochs) if times > 0], 0
    while left:
        for part, times in left:
            bound = threshold(min(1.0, times - number))
            if bound or not number:  # the first pass has every part: its sections may be held out
                placed.append((part, _drawn(part, bound), not number))
        number += 1
        left = [(part, times) for part, times in left if times > number]
    once = [np.full(len(part.keys), first) for part, _, first in placed]
    return [part for part, _, _ in placed], [kept for _, kept, _ in placed], once


def _drawn(part: Part, bound: int) -> np.ndarray:
    """Which sections (S,) are of documents that are drawn: bound of 2^53 of them, whatever side they are on when a
    share is held out."""
    first = np.ones(len(part.keys), bool)
    if bound == 1 << KEY_BITS:
        return first
    first[1:] = ~part.continues[:-1]
    draws = mix(part.keys[first]) >> np.uint64(64 - KEY_BITS)
    return (draws < bound)[np.cumsum(first) - 1]


def _join(arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate([np.empty(0, np.int64), *arrays])


class ShardWriter:
    """Writes one shard under a temporary name; `close` completes, syncs and renames it, `abandon` removes it."""

    def __init__(
        self, path: Path, vocab_size: int, fingerprint: str, *, source: str = "", draft: Path | None = None
    ) -> None:
        """source: what its documents are from, by the name in a data recipe; draft: the temporary name, on the same
        file system."""
        if len(json.dumps(source)) > NAME:
            raise InputError(f"a source's name of {len(source)} characters; wanted one that fits {NAME} bytes of JSON")
        self.path, self.vocab_size, self.fingerprint, self.source = path, vocab_size, fingerprint, source
        self.dtype = token_dtype(vocab_size)
        self.ends = [0]
        self.index: list[tuple[int, int, bool]] = []
        self._draft = draft or path.with_name(f".{path.name}.{os.getpid()}")
        self._file = self._draft.open("wb")
        self._file.write(b" " * HEADER)

    @property
    def total(self) -> int:
        return self.ends[-1]

    def add(self, section: Section) -> None:
        ids = np.asarray(section.ids, self.dtype)
        self._file.write(ids.tobytes())
        self.ends.append(self.ends[-1] + len(ids))
        self.index.append((section.key, section.size, section.continues))

    def close(self) -> None:
        keys, sizes, continues = zip(*self.index) if self.index else ((), (), ())
        index = {
            "offsets": np.array(self.ends, np.uint64),
            "keys": np.array(keys, np.uint64),
            "sizes": np.array(sizes, np.uint64),
            "continues": np.array(continues, bool),
        }
        for array in index.values():
            self._file.write(array.tobytes())
        self._file.seek(0)
        self._file.write(self._header(index))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._draft.rename(self.path)
        sync(self.path.parent)

    def abandon(self) -> None:
        self._file.close()
        self._draft.unlink(missing_ok=True)

    def _header(self, index: dict[str, np.ndarray]) -> bytes:
        meta = {
            "kind": KIND, "version": VERSION, "dtype": self.dtype.name, "vocab_size": str(self.vocab_size),
            "tokenizer": self.fingerprint, "source": self.source, "sections": str(len(self.index)),
            "documents": str(sum(not continues for _, _, continues in self.index)),
            "bytes": str(sum(size for _, size, _ in self.index)), "tokens": str(self.total),
        }  # fmt: skip
        entries: dict[str, Any] = {"__metadata__": meta}
        place = 0
        for name, dtype, count in [
            ("tokens", self.dtype, self.total),
            *[(name, array.dtype, len(array)) for name, array in index.items()],
        ]:
            stop = place + count * dtype.itemsize
            entries[name] = {"dtype": WIRE[dtype.name], "shape": [count], "data_offsets": [place, stop]}
            place = stop
        text = json.dumps(entries).encode()
        assert len(text) <= HEADER - 8
        return (HEADER - 8).to_bytes(8, "little") + text.ljust(HEADER - 8)


class Shards(TokenStore):
    """The shards of prepared folders as one store; tokens stay on disk until they are looked at."""

    def __init__(self, where: str | Path | Sequence[Path], fingerprint: str | None = None) -> None:
        """where: a folder, or folders and files in any order. The mixture of a folder says how often its documents
        stand here; those of a file that is named by itself stand once, whatever lies beside it. fingerprint: of the
        tokenizer that will be used. Raises InputError for shards made by another one, a damaged file, a type that does
        not hold the vocabulary, a mixture of other shards."""
        epochs: dict[int, float] = {}
        paths: list[Path] = []
        self.mixture: list[dict[str, Any]] = []  # source, epochs, tokens, and share of one pass
        for place in [Path(where)] if isinstance(where, (str, Path)) else where:
            found = [place] if place.is_file() else shard_files(place)
            if mixture := None if place.is_file() else read_mixture(place):
                epochs |= {len(paths) + number: times for number, times in enumerate(mixture.epochs_of(found))}
                self.mixture += mixture.rows()
            paths += found
        parts = [open_shard(path, fingerprint) for path in paths]
        super().__init__(*passes(parts, [epochs.get(number, 1.0) for number in range(len(parts))]))


def shard_files(folder: str | Path) -> list[Path]:
    """The shards of a folder in order. Raises InputError where there are none."""
    paths = sorted(Path(folder).glob(f"*{SUFFIX}"))
    if not paths:
        raise InputError(f"{folder} holds no token shards (*{SUFFIX}); make them with instar data prepare")
    return paths


def open_shard(path: Path, fingerprint: str | None = None) -> Part:
    """One shard, checked against its own header and against the tokenizer; tokens are memory-mapped."""
    meta, index, wire = _opened(path)
    if fingerprint is not None and meta["tokenizer"] != fingerprint:
        raise InputError(
            f"{path} was made by tokenizer {meta['tokenizer'][:12]}, and this run uses {fingerprint[:12]}; "
            "prepare the data again with this tokenizer"
        )
    offsets = index["offsets"].view(np.int64)
    tokens = _map_tokens(path, meta, wire, int(offsets[-1]))
    return Part(tokens, offsets, index["keys"], index["sizes"].view(np.int64), index["continues"])


def shard_facts(path: Path) -> dict[str, Any]:
    """file, source, documents, tokens and bytes (of text) of a shard, by its header alone."""
    with _damaged(path), safe_open(path, "numpy") as file:
        meta = file.metadata() or {}
    _check_kind(path, meta)
    counts = {name: int(meta.get(name, 0)) for name in ("documents", "tokens", "bytes")}
    return {"file": path.name, "source": meta.get("source", "")} | counts


def shard_digest(path: Path) -> bytes:
    """What identifies a shard: its name, its header and its index. They hold the hash of every text and that of the
    tokenizer, from which the tokens follow; those are not read, so that a run on terabytes begins at once."""
    meta, index, _ = _opened(path)
    total = sha256(path.name.encode())
    total.update(json.dumps(meta, sort_keys=True).encode())
    for name in INDEX:
        total.update(index[name].tobytes())
    return total.digest()


def _opened(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray], str]:
    """The facts of a shard's header, its index, and the type of its tokens."""
    with _damaged(path), safe_open(path, "numpy") as file:
        meta = file.metadata() or {}
        _check_kind(path, meta)
        index = {name: file.get_tensor(name) for name in INDEX}
        return meta, index, str(file.get_slice("tokens").get_dtype())


@contextmanager
def _damaged(path: Path) -> Iterator[None]:
    """What safetensors says of a damaged file, said as ours."""
    try:
        yield
    except (SafetensorError, OSError) as error:
        size = path.stat().st_size if path.exists() else 0
        raise InputError(f"{path}: damaged, {size} bytes ({error}); prepare the data again") from None


def _check_kind(path: Path, meta: dict[str, str]) -> None:
    if (meta.get("kind"), meta.get("version")) != (KIND, VERSION):
        found = f"{meta.get('kind')} {meta.get('version')}"
        raise InputError(f"{path}: found {found}, wanted {KIND} {VERSION}; prepare the data again")


def _map_tokens(path: Path, meta: dict[str, str], wire: str, count: int) -> np.ndarray:
    """The tokens where they lie. Raises InputError where the type or the number contradicts the header."""
    dtype = token_dtype(int(meta["vocab_size"]))
    if (meta["dtype"], wire) != (dtype.name, WIRE[dtype.name]):
        raise InputError(
            f"{path}: tokens are {wire}, its header says {meta['dtype']}, and a vocabulary of {meta['vocab_size']} "
            f"needs {dtype.name}; prepare the data again"
        )
    if count != int(meta["tokens"]):
        raise InputError(f"{path}: offsets end at {count}, the header says {meta['tokens']} tokens; prepare it again")
    with path.open("rb") as file:
        begin = 8 + int.from_bytes(file.read(8), "little")
    try:
        return np.memmap(path, dtype, "r", begin, (count,)) if count else np.empty(0, dtype)
    except OSError as error:  # Linux maps 65,530 files in one process unless told otherwise
        raise InputError(
            f"{path}: cannot be mapped ({error}); of very many shards make fewer, larger ones (task_mb of the recipe), "
            "or raise vm.max_map_count"
        ) from None
