"""The first stage of a life: a tokenizer out of documents."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..config import InputError
from ..config.options import TokenizerTrainOptions
from ..data.corpus import read
from ..data.records import texts_of
from ..text.tokenizer import Tokenizer


def train_tokenizer(options: TokenizerTrainOptions) -> dict[str, Any]:
    """Train and save a tokenizer; returns what it read and made. Raises InputError for the data's faults."""
    started = time.perf_counter()
    texts = _Counted(options)
    tokenizer = Tokenizer.train(
        iter(texts), options.vocab_size, max_token_bytes=options.max_token_bytes, split=options.split,
        single_han=options.single_han, words=_words(options.words), markup=options.markup,
        masks=options.masks, sentinels=options.sentinels,
    )  # fmt: skip
    if not texts.bytes:
        raise InputError(f"{', '.join(options.data)}: no text; a tokenizer is made of what texts have in common")
    tokenizer.save(Path(options.out))
    return {
        "stage": "tokenizer",
        "vocab_size": tokenizer.vocab_size,
        "documents": texts.documents,
        "bytes": texts.bytes,
        "stopped_at_max_bytes": texts.stopped,
        "fingerprint": tokenizer.fingerprint,
        "seconds": round(time.perf_counter() - started, 1),
    }


def _words(sources: Sequence[str]) -> list[str]:
    """The lines of some documents. Raises InputError where there are none, which nobody means."""
    documents = read(sources) if sources else ()
    found = [line.strip() for document in documents for line in document.text.splitlines() if line.strip()]
    if sources and not found:
        raise InputError(f"{', '.join(sources)}: no words; wanted one a line")
    return found


class _Counted:
    """The texts of some documents, counted as they pass, up to `max_bytes`."""

    def __init__(self, options: TokenizerTrainOptions) -> None:
        self.options = options
        self.documents = self.bytes = 0
        self.stopped = False

    def __iter__(self) -> Iterator[str]:
        most = self.options.max_bytes
        for document in read(self.options.data):
            texts = document.read(lambda record: texts_of(record, self.options.fields))
            size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
            if most and self.bytes + size > most:
                self.stopped = True
                return
            self.documents += 1
            self.bytes += size
            yield from texts
