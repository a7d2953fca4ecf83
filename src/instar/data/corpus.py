"""Sources -> documents -> tokens, in memory or as shards, with a share held out by the hash of the text.

A text longer than 8,192 characters is cut into sections of about 4,096 at the ends of paragraphs, so that a part of a
single book can be held out. Which sections are held out depends on their text alone: not on the order of the files,
on the tokenizer or on the machine. Neighbouring sections on the same side stay one document.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from ..config import InputError
from .disk import sync
from .records import as_messages, is_dialogue, text_of, tools_of
from .shards import KEY_BITS, SUFFIX, Section, Shards, ShardWriter, TokenStore, store_in_memory, threshold
from .sources import Document, fingerprint, is_shard, read, resolve

__all__ = [
    "Document", "Shards", "Tally", "TokenStore", "as_messages", "data_key", "divide", "encode", "fingerprint", "frame",
    "is_dialogue", "is_held_out", "load_tokens", "prepare", "read", "resolve", "sections", "text_key", "text_of",
    "tools_of", "write_shards",
]  # fmt: skip

SECTION = 4096  # characters
ENDS = ("\n\n", "\n", "。", ". ", " ")
CHUNK = 1 << 22  # characters tokenised at a time
REPORT = "report.json"


class Encoder(Protocol):
    """What is needed of a tokenizer to make tokens of texts."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def vocab_size(self) -> int: ...
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]: ...
    def document(self, text: str) -> list[int]: ...


@dataclass
class Tally:
    """What went through: documents read, those empty and left out, sections, UTF-8 bytes, tokens."""

    documents: int = 0
    empty: int = 0
    sections: int = 0
    bytes: int = 0
    tokens: int = 0


def text_key(text: str) -> int:
    """The hash that decides on which side of a division a text falls: 53 bits of its sha256."""
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") >> (64 - KEY_BITS)


def is_held_out(document: Document, share: float) -> bool:
    """Whether this document belongs to the held-out share; the same everywhere for the same text."""
    return text_key(document.text) < threshold(share)


def divide(documents: Iterable[Document], share: float) -> Iterator[tuple[Document, bool]]:
    """(document, held out) for each document, a long text in as many parts as its sections change sides."""
    for document in documents:
        if is_dialogue(document.record):
            yield document, is_held_out(document, share)
            continue
        for held, parts in groupby(sections(document.text), lambda part: text_key(part) < threshold(share)):
            yield Document(document.record | {"text": "".join(parts)}, document.source, document.number), held


def sections(text: str) -> list[str]:
    """The text in pieces that give it back when joined; a short text is one piece."""
    if len(text) <= 2 * SECTION:
        return [text]
    cuts = [0]
    while len(text) - cuts[-1] > 2 * SECTION:
        cuts.append(_cut_after(text, cuts[-1] + SECTION))
    return [text[start:stop] for start, stop in zip(cuts, [*cuts[1:], len(text)])]


def _cut_after(text: str, place: int) -> int:
    """The end of the paragraph, line, sentence or word at `place`, within one section's length."""
    for end in ENDS:
        found = text.find(end, place, place + SECTION)
        if found >= 0:
            return found + len(end)
    return place + SECTION


def encode(documents: Iterable[Document], tokenizer: Encoder, tally: Tally) -> Iterator[Section]:
    """Documents -> sections with their ids, many texts at a time. A document begins and ends as `tokenizer.document`
    says, however many sections it has."""
    before, after = frame(tokenizer)
    for chunk in _chunks(_cut(documents, tally)):
        encoded = tokenizer.encode_batch([text for text, _, _ in chunk])
        for (text, first, last), ids in zip(chunk, encoded):
            ids = (before if first else []) + ids + (after if last else [])
            size = len(text.encode())
            tally.sections += 1
            tally.bytes += size
            tally.tokens += len(ids)
            yield Section(ids, text_key(text), size, continues=not last)


def _cut(documents: Iterable[Document], tally: Tally) -> Iterator[tuple[str, bool, bool]]:
    """(text, is it the first section of its document, is it the last); empty documents are counted and left out."""
    for document in documents:
        text = document.text
        tally.documents += 1
        if not text.strip():
            tally.empty += 1
            continue
        parts = sections(text)
        for number, part in enumerate(parts):
            yield part, number == 0, number == len(parts) - 1


def _chunks(parts: Iterable[tuple[str, bool, bool]]) -> Iterator[list[tuple[str, bool, bool]]]:
    chunk: list[tuple[str, bool, bool]] = []
    held = 0
    for part in parts:
        chunk.append(part)
        held += len(part[0])
        if held >= CHUNK:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def frame(tokenizer: Encoder) -> tuple[list[int], list[int]]:
    """The ids that stand before and after every document."""
    probe = tokenizer.encode_batch(["a"])[0]
    whole = tokenizer.document("a")
    start = next((n for n in range(len(whole)) if whole[n : n + len(probe)] == probe), 0)
    return whole[:start], whole[start + len(probe) :]


def load_tokens(sources: Sequence[str], tokenizer: Encoder) -> tuple[TokenStore, dict[str, Any]]:
    """All tokens of the sources as one store, and what they amount to: prepared shards are mapped, anything else is
    tokenised into memory. `store.split(share)` then divides it. Raises InputError for shards of another tokenizer."""
    found = resolve(sources)
    shards = [Path(place) for place in found.places if is_shard(place)]
    if shards and len(shards) < len(found.places):
        raise InputError("token shards and texts cannot be mixed; prepare the texts into shards too")
    if shards:
        store: TokenStore = Shards(shards, tokenizer.fingerprint)
        return store, {"shards": len(shards), "documents": len(store), "bytes": store.bytes, "tokens": store.total}
    tally = Tally()
    store = store_in_memory(encode(read(sources), tokenizer, tally), tokenizer.vocab_size)
    if not store.total:
        raise InputError(f"no text in {', '.join(sources)}: all of its {tally.documents} documents are empty")
    return store, asdict(tally) | {"skipped_files": len(found.skipped)}


def data_key(sources: Sequence[str], tokenizer: Encoder, **settings: Any) -> str:
    """The identity of tokenised data: a sha256 over the data's bytes, the tokenizer with its chat template, and every
    setting that shapes rows (context, teach, ...). Equal keys mean equal rows."""
    parts = {"format": 1, "data": fingerprint(sources), "tokenizer": tokenizer.fingerprint, "settings": settings}
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def prepare(
    sources: Sequence[str], tokenizer: Encoder, out: str | Path, shard_tokens: int = 100_000_000
) -> dict[str, Any]:
    """Tokenise the sources into a folder of shards, which appears complete or not at all; returns its report.

    The same data prepared before is left as it is (`reused`). Raises InputError where `out` holds something else.
    """
    out = Path(out)
    key = data_key(sources, tokenizer)
    if out.exists() and any(out.iterdir()):
        return _made_before(out, key)
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    draft.mkdir(parents=True)
    try:
        tally = Tally()
        shards = write_shards(read(sources), tokenizer, draft, shard_tokens, tally)
        if not tally.tokens:
            raise InputError(f"no text in {', '.join(sources)}: all of its {tally.documents} documents are empty")
        report = asdict(tally) | {
            "shards": shards,
            "skipped_files": len(resolve(sources).skipped),
            "tokenizer": tokenizer.fingerprint,
            "sources": list(sources),
            "key": key,
        }
        (draft / REPORT).write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        sync(draft / REPORT)
        sync(draft)
        if out.exists():
            out.rmdir()  # it is empty, and not every system renames onto a folder
        draft.rename(out)
        sync(out.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return report | {"reused": False}


def write_shards(
    documents: Iterable[Document], tokenizer: Encoder, folder: Path, shard_tokens: int, tally: Tally
) -> int:
    """Write shards of about `shard_tokens` tokens as the documents come; returns how many."""
    number = 0
    writer: ShardWriter | None = None
    try:
        for section in encode(documents, tokenizer, tally):
            if writer is None:
                writer = ShardWriter(folder / f"{number:05d}{SUFFIX}", tokenizer.vocab_size, tokenizer.fingerprint)
            writer.add(section)
            if writer.total >= shard_tokens and not section.continues:
                writer.close()
                writer, number = None, number + 1
        if writer is not None:
            writer.close()
            number += 1
    except BaseException:
        if writer is not None:
            writer.abandon()
        raise
    return number


def _made_before(out: Path, key: str) -> dict[str, Any]:
    path = out / REPORT
    report = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if report.get("key") != key:
        found = f"data prepared with the key {report['key'][:12]}" if "key" in report else "other files"
        raise InputError(f"{out} holds {found}, wanted {key[:12]}; name another folder or remove this one")
    return report | {"reused": True}
