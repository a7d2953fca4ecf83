"""The phase "tokens": the refined documents of a task become its token shard, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from io import BufferedReader
from itertools import chain, islice
from pathlib import Path
from typing import Any

import orjson
import zstandard
from datatrove.pipeline.base import PipelineStep

from ...text.tokenizer import Tokenizer
from ..corpus import Tally, encode
from ..shards import SUFFIX, ShardWriter
from ..sources import DOCUMENTS, Document
from .ledger import TOKENS, Flow, Ledger, size_of

# whether the tokenizers library may use several threads; it looks at each call
THREADS = "TOKENIZERS_PARALLELISM"
WORK = "work"


class Tokenize(PipelineStep):
    """Task r reads OUT/documents/r.jsonl.zst and writes OUT/r.tokens.safetensors, then its ledger. A task without text
    writes no shard and removes one of an earlier run."""

    name, type = "tokens", "shards"

    def __init__(self, tokenizer: str, out: str, *, alone: bool = False) -> None:
        """tokenizer: its folder; alone: no other task runs on this machine, so this one may use all of its cores."""
        super().__init__()
        self.tokenizer, self.out, self.alone = tokenizer, out, alone

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        out = Path(self.out)
        with threads(self.alone):
            ledger = tokenize(out, rank, _loaded(self.tokenizer))
        ledger.save(out / WORK / "ledger" / f"{TOKENS}-{rank:05d}.json")
        yield from data or ()


def tokenize(out: Path, rank: int, tokenizer: Tokenizer) -> Ledger:
    """Write the shard of one task, under another name until it is complete; what went through it. Memory holds one
    document, and of that a few sections as tokens."""
    path, tally, ledger = out / f"{rank:05d}{SUFFIX}", Tally(), Ledger()
    documents = stored(out / DOCUMENTS / f"{rank:05d}.jsonl.zst")
    first = list(islice(documents, 1))
    source = first[0].record["source"] if first else ""
    flow = ledger.account(source).step(TOKENS) if first else Flow()
    sections = encode(_noted(chain(first, documents), flow), tokenizer, tally)
    if begun := list(islice(sections, 1)):
        draft = out / WORK / f"{path.name}.{os.getpid()}.draft"
        draft.parent.mkdir(exist_ok=True)
        writer = ShardWriter(path, tokenizer.vocab_size, tokenizer.fingerprint, source=source, draft=draft)
        try:
            for section in chain(begun, sections):
                writer.add(section)
        except BaseException:
            writer.abandon()
            raise
        writer.close()
    else:
        path.unlink(missing_ok=True)
    blank = flow.bytes[0]
    flow.documents[:] = tally.documents, tally.documents - tally.empty
    flow.bytes[:] = flow.probed_bytes[:] = tally.bytes + blank, tally.bytes
    flow.probed_tokens[:] = tally.tokens, tally.tokens
    return ledger


def _noted(documents: Iterable[Document], flow: Flow) -> Iterator[Document]:
    """The documents; those without text, which `encode` leaves out, are noted with their bytes."""
    for document in documents:
        text = document.record["text"]
        if not text or text.isspace():
            flow.because("empty", size_of(text), changed=False)
            flow.bytes[0] += size_of(text)
        yield document


def stored(path: Path) -> Iterator[Document]:
    """The documents that an earlier phase wrote, one at a time: our own file, so a line has any length."""
    with path.open("rb") as file:
        lines = BufferedReader(zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True), 1 << 20)
        for number, line in enumerate(lines, 1):
            yield Document(orjson.loads(line), str(path), number)


@contextmanager
def threads(many: bool) -> Iterator[None]:
    """Let the tokenizers library use all cores, or one thread: workers beside each other share the machine."""
    before = os.environ.get(THREADS)
    os.environ[THREADS] = "true" if many else "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[THREADS]
        else:
            os.environ[THREADS] = before


@lru_cache(1)
def _loaded(folder: str) -> Tokenizer:
    """Once for all tasks of a process."""
    return Tokenizer.load(folder)
