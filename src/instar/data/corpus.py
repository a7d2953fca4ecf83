"""Sources -> documents -> tokens, with a share held out by the hash of the text.

A text longer than 8,192 characters is cut into sections of about 4,096 at the ends of paragraphs, so that a part of a
single book can be held out. Which sections are held out depends on their text alone: not on the order of the files,
on the tokenizer or on the machine. Neighbouring sections on the same side stay one document.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from ..config import InputError
from .memory import store_in_memory
from .records import as_messages, is_dialogue, text_of, tools_of
from .shards import KEY_BITS, Section, Shards, TokenStore, threshold
from .sources import Document, fingerprint, is_shard, read, resolve

__all__ = [
    "Document", "Shards", "Tally", "TokenStore", "as_messages", "divide", "encode", "fingerprint", "frame",
    "is_dialogue", "is_held_out", "load_tokens", "read", "resolve", "sections", "text_key", "text_of", "tools_of",
]  # fmt: skip

SECTION = 4096  # characters
ENDS = ("\n\n", "\n", "。", ". ", " ")
CHUNK = 1 << 19  # characters tokenised at a time: more take memory and are slower


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
    return _key(text.encode())


def _key(raw: bytes) -> int:
    return int.from_bytes(sha256(raw).digest()[:8], "big") >> (64 - KEY_BITS)


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
    return list(_pieces(text))


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > 2 * SECTION:
        stop = _cut_after(text, start + SECTION)
        yield text[start:stop]
        start = stop
    yield text[start:]


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
            raw = text.encode()
            if first:
                ids[:0] = before
            if last:
                ids += after
            tally.sections += 1
            tally.bytes += len(raw)
            tally.tokens += len(ids)
            yield Section(ids, _key(raw), len(raw), continues=not last)


def _cut(documents: Iterable[Document], tally: Tally) -> Iterator[tuple[str, bool, bool]]:
    """(text, is it the first section of its document, is it the last); empty documents are counted and left out."""
    for document in documents:
        text = document.text
        tally.documents += 1
        if not text or text.isspace():
            tally.empty += 1
            continue
        done = 0
        for part in _pieces(text):
            yield part, done == 0, done + len(part) == len(text)
            done += len(part)


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
    """All tokens of the sources as one store, and what they amount to: prepared shards are mapped, those of a folder
    as often as its mixture says and files named by themselves once; anything else is tokenised into memory.
    `store.split(share)` then divides it. Raises InputError for shards of another tokenizer."""
    found = resolve(sources)
    shards = [Path(place) for place in found.places if is_shard(place)]
    if shards and len(shards) < len(found.places):
        raise InputError("token shards and texts cannot be mixed; prepare the texts into shards too")
    if shards:
        places = [sources] if isinstance(sources, str) else sources
        return _mapped(Shards([Path(place).expanduser() for place in places], tokenizer.fingerprint), shards)
    tally = Tally()
    store = store_in_memory(encode(read(sources), tokenizer, tally), tokenizer.vocab_size)
    if not store.total:
        raise InputError(f"no text in {', '.join(sources)}: all of its {tally.documents} documents are empty")
    return store, asdict(tally) | {"skipped_files": len(found.skipped)}


def _mapped(store: Shards, shards: Sequence[Path]) -> tuple[TokenStore, dict[str, Any]]:
    """A store of shards and what it amounts to: one pass of its mixture, before anything is held out."""
    counts: dict[str, Any] = {"shards": len(shards), "documents": len(store), "bytes": store.bytes}
    return store, counts | {"tokens": store.total} | ({"mixture": store.mixture} if store.mixture else {})
