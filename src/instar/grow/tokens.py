"""The first stage of a life: a tokenizer out of documents."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config import InputError
from ..config.options import TokenizerTrainOptions
from ..data.corpus import read
from ..data.portion import Portion
from ..text.tokenizer import Tokenizer


def train_tokenizer(options: TokenizerTrainOptions) -> dict[str, Any]:
    """Train and save a tokenizer; returns what it read and made. Raises InputError for the data's faults.

    Learning holds every word once, so memory grows with what is read, up to `max_bytes`; Chinese has no blanks between
    words, so there it grows fastest.
    """
    started = time.perf_counter()
    texts = Portion(options.data, options.fields, options.max_bytes)
    tokenizer = Tokenizer.train(
        iter(texts), options.vocab_size, max_token_bytes=options.max_token_bytes, split=options.split,
        single_han=options.single_han, words=_words(options.words), markup=options.markup,
        masks=options.masks, sentinels=options.sentinels,
    )  # fmt: skip
    if not texts.bytes:
        raise InputError(_nothing(options, texts.of))
    tokenizer.save(Path(options.out))
    return {
        "stage": "tokenizer",
        "vocab_size": tokenizer.vocab_size,
        "documents": texts.documents,
        "bytes": texts.bytes,
        "bytes_of_data": texts.of,
        "fingerprint": tokenizer.fingerprint,
        "seconds": round(time.perf_counter() - started, 1),
    }


def _nothing(options: TokenizerTrainOptions, of: int) -> str:
    if of:
        return f"max_bytes={options.max_bytes} is less than any text of {of:,} bytes has; ask for more"
    return f"{', '.join(options.data)}: no text; a tokenizer is made of what texts have in common"


def _words(sources: Sequence[str]) -> list[str]:
    """The lines of some documents. Raises InputError where there are none, which nobody means."""
    documents = read(sources) if sources else ()
    found = [line.strip() for document in documents for line in document.text.splitlines() if line.strip()]
    if sources and not found:
        raise InputError(f"{', '.join(sources)}: no words; wanted one a line")
    return found
