"""How surprised a model is by a text: nats per token, perplexity, and bits per byte, which no tokenizer can flatter."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch

from ..config import InputError
from ..infer.reader import resting
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer
from .likelihood import Window, foresee, reach

CONTEXT = 2048


@dataclass
class Surprise:
    """nats: summed over `tokens`; bytes: of the UTF-8 text that these tokens spell."""

    nats: float = 0.0
    tokens: int = 0
    bytes: int = 0
    documents: int = 0

    @property
    def loss(self) -> float:
        return self.nats / max(1, self.tokens)

    @property
    def perplexity(self) -> float:
        return math.exp(min(700.0, self.loss))

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / max(1, self.bytes)

    def report(self) -> dict[str, float | int]:
        """The figures by name."""
        names = ("loss", "perplexity", "bits_per_byte")
        return {name: getattr(self, name) for name in names} | {
            "tokens": self.tokens, "bytes": self.bytes, "documents": self.documents,
        }  # fmt: skip


def windows(ids: Sequence[int], context: int, overlap: int) -> Iterator[Window]:
    """Cut a document so that each token but the first is counted once, after at least `overlap` others where there
    are so many; a window holds at most context + 1 ids, the last of which is only a target.

    Example: 6 ids, context 3, overlap 1 -> ids 0-3 counting 1-3, then 2-5 counting 4-5
    """
    counted = 1
    while counted < len(ids):
        start = max(0, counted - 1 - overlap) if counted > 1 else 0
        stop = min(len(ids), start + context + 1)
        yield Window(list(ids[start:stop]), counted - start)
        counted = stop


@torch.inference_mode()
def measure(
    model: Transformer,
    tokenizer: Tokenizer,
    texts: Iterable[str],
    *,
    context: int = 0,
    overlap: int | None = None,
    batch: int = 8,
    ended: bool = True,
    each: Callable[[int], None] = lambda done: None,
) -> Surprise:
    """Read texts as documents; memory does not grow with them, and the batch changes no figure.

    context: tokens read at a time, 0 takes the model's longest up to 2048; overlap: tokens that only set the scene
    where a document is longer, by default a quarter of the context; ended: the end of each document is to be foreseen
    too. each: called with how many documents were read. The first token of a document is foreseen only where the
    tokenizer puts a begin before it; elsewhere neither its surprise nor its bytes count. Raises InputError.
    """
    longest = reach(model)
    if model.encoder is not None:
        raise InputError("perplexity is of a text, and this model reads a source besides; try metric=bleu")
    context = context or min(longest, CONTEXT)
    overlap = context // 4 if overlap is None else overlap
    if not 1 <= context <= longest:
        raise InputError(f"context={context}, wanted from 1 to {longest}, the longest that the model reads")
    if not 0 <= overlap < context or batch < 1:
        raise InputError(f"overlap={overlap} and batch={batch}, wanted 0 to {context - 1} and at least 1")
    total = Surprise()

    def cut() -> Iterator[Window]:
        for text in texts:
            yield from windows(_document(tokenizer, text, ended, total), context, overlap)
            each(1)

    with resting(model):
        for part in _batches(cut(), batch):
            _read(model, part, total)
    if not total.tokens:
        raise InputError("no text to measure: every document is empty or has a single token")
    return total


def _document(tokenizer: Tokenizer, text: str, ended: bool, total: Surprise) -> list[int]:
    """The ids of a text, counted."""
    ids = tokenizer.document(text) if ended else tokenizer.prompt(text)
    size = len(text.encode())
    if size and ids[0] != tokenizer.bos:
        size -= len(tokenizer.token_bytes(ids[0]))
    total.documents += 1
    total.bytes += size
    return ids


def _batches(cut: Iterator[Window], batch: int) -> Iterator[list[Window]]:
    """`batch` windows at a time, about as long as each other: sorted within what is held at once."""
    while held := list(islice(cut, batch * 16)):
        held.sort(key=lambda window: len(window.ids))
        for start in range(0, len(held), batch):
            yield held[start : start + batch]


def _read(model: Transformer, part: list[Window], total: Surprise) -> None:
    """Add the surprise of some windows."""
    nats, _ = foresee(model, part)
    total.nats += math.fsum(nats.tolist())
    total.tokens += len(nats)
