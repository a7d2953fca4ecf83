"""Pairs of texts -> two stores, rows of pairs of about the same length, and batches for an encoder-decoder.

A pair is a record {"source", "target"}, {"translation": {"en", "de"}} or {"en", "de"}; of the last two somebody has to
say which is which. Each text is a document of its own, with the begin and end of its tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, ClassVar

import numpy as np

from ..batch import IGNORE, Batch
from ..config import InputError
from .collate import Laid, fill, view_of
from .corpus import Encoder, frame, text_key
from .loader import shuffled
from .memory import store_in_memory
from .packing import Row, Rows
from .shards import Section, TokenStore
from .sources import Document

CHUNK = 2048  # pairs tokenised at a time


@dataclass
class PairCounts:
    """What became of the pairs: empty ones (nothing on a side) and too_long ones (a side does not fit) are left out;
    tokens are those of the targets, bytes their text."""

    pairs: int = 0
    kept: int = 0
    empty: int = 0
    too_long: int = 0
    source_tokens: int = 0
    tokens: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Pairs:
    """Two stores whose documents belong together: number n of the one and number n of the other.

    Where one store is asked for, as by what shows or counts tokens, it is the targets.
    """

    sources: TokenStore
    targets: TokenStore

    def __post_init__(self) -> None:
        if len(self.sources) != len(self.targets):
            raise InputError(f"{len(self.sources)} sources and {len(self.targets)} targets; wanted as many of both")

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def lengths(self) -> np.ndarray:
        return self.targets.lengths

    @property
    def total(self) -> int:
        return self.targets.total

    @property
    def bytes(self) -> int:
        return self.targets.bytes

    def tokens(self, pair: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        return self.targets.tokens(pair, start, stop)

    def split(self, share: float) -> tuple[Pairs, Pairs]:
        """(to train on, held out), by the hash of the source, so that no source is on both sides."""
        sources, targets = self.sources.split(share), self.targets.split(share)
        return Pairs(sources[0], targets[0]), Pairs(sources[1], targets[1])


def pair_of(record: Mapping[str, Any], source: str = "source", target: str = "target") -> tuple[str, str]:
    """The two texts of a record, under these keys or under them in its "translation". Raises InputError naming the keys
    found and wanted."""
    inside = record.get("translation")
    sides = inside if isinstance(inside, Mapping) else record
    for key in (source, target):
        if key not in sides:
            found = ", ".join(map(str, sides)) or "(none)"
            raise InputError(f'no "{key}": the keys are {found}; name the two that are wanted as source and target')
        if not isinstance(sides[key], str):
            raise InputError(f'"{key}" is {type(sides[key]).__name__}, wanted a string')
    return sides[source], sides[target]


def load_pairs(
    documents: Iterable[Document],
    tokenizer: Encoder,
    *,
    context: int,
    source: str = "source",
    target: str = "target",
    source_tokenizer: Encoder | None = None,
) -> tuple[Pairs, dict[str, int]]:
    """All pairs of which both sides fit `context` tokens, and the counts of what was kept and left out.

    source, target: the keys of the two texts; source_tokenizer: where the source has a vocabulary of its own. Raises
    InputError for a record that is no pair, and where none is left to learn from.
    """
    counts = PairCounts()
    reader = source_tokenizer or tokenizer
    kept = list(_encoded(documents, reader, tokenizer, counts, context, source, target))
    if not kept:
        raise InputError(
            f"nothing to learn: of {counts.pairs} pairs {counts.too_long} are longer than context={context} and "
            f"{counts.empty} are empty; raise the context or check the data"
        )
    sources, targets = (store_in_memory([pair[n] for pair in kept], (reader, tokenizer)[n].vocab_size) for n in (0, 1))
    return Pairs(sources, targets), asdict(counts)


def _encoded(
    documents: Iterable[Document],
    reader: Encoder,
    writer: Encoder,
    counts: PairCounts,
    context: int,
    source: str,
    target: str,
) -> Iterator[tuple[Section, Section]]:
    documents = iter(documents)
    while chunk := list(islice(documents, CHUNK)):
        counts.pairs += len(chunk)
        texts = [document.read(lambda record: pair_of(record, source, target)) for document in chunk]
        full = [(x, y) for x, y in texts if x.strip() and y.strip()]
        counts.empty += len(texts) - len(full)
        sides = (framed(reader, [x for x, _ in full]), framed(writer, [y for _, y in full]))
        for (asked, answered), x, y in zip(full, *sides):
            if max(len(x), len(y)) > context:
                counts.too_long += 1
                continue
            size, key = len(answered.encode()), text_key(asked)
            counts.kept += 1
            counts.source_tokens += len(x)
            counts.tokens += len(y)
            counts.bytes += size
            yield Section(x, key, len(asked.encode())), Section(y, key, size)


def framed(tokenizer: Encoder, texts: Sequence[str]) -> list[list[int]]:
    """Each text as a document. Raises InputError where documents have no end, without which no target ends."""
    before, after = frame(tokenizer)
    if len(after) != 1:
        raise InputError("this tokenizer puts no end token after a text; use one with an eos_token")
    return [[*before, *ids, *after] for ids in tokenizer.encode_batch(texts)]


class Buckets(Rows):
    """Rows of pairs of about the same length: as many as fit `context` tokens, padding counted, on either side.

    A row is a list of pieces (pair, 0, tokens of its target). Which pairs share a row is the same in every epoch.
    """

    def __init__(self, pairs: Pairs, context: int, seed: int = 0) -> None:
        """Raises InputError for a pair that does not fit a row."""
        x, y = pairs.sources.lengths, pairs.targets.lengths
        longest = int(max(x.max(initial=0), y.max(initial=0)))
        if longest > context:
            raise InputError(f"a pair of {longest} tokens does not fit a row of {context}; raise the context")
        # pairs of the same lengths in a random order, since neighbours in a file are often alike
        mixed = shuffled(np.arange(len(x), dtype=np.int64), len(x), seed, 0) if len(x) else np.empty(0, np.int64)
        wide = np.maximum(x, y)
        # by the longer side, and there from long sources to long targets and back by turns: no jump between rows
        self.order = np.lexsort((mixed, np.where(wide % 2, x - y, y - x), wide))
        self.lengths, wide = y, wide[self.order]
        bounds = [0]
        for place, width in enumerate(wide.tolist()):  # they grow, so the last of a row is its widest
            if (place + 1 - bounds[-1]) * width > context:
                bounds.append(place)
        self.bounds = [*bounds, len(wide)] if len(wide) else [0]

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def row(self, row: int) -> Row:
        pairs = self.order[self.bounds[row] : self.bounds[row + 1]].tolist()
        return [(pair, 0, int(self.lengths[pair])) for pair in pairs]


@dataclass(frozen=True)
class PairCollate:
    """rows of pairs -> one Batch with a line for each pair: see `pair_batch`. Rows of other lengths would only pad each
    other, so it is best given one row at a time.

    start: the id that decoding begins with; pad, source_pad: of the two vocabularies, the first for both where there is
    no second; multiple: widths are rounded up to it, for what is compiled for a shape.
    """

    pairs: Pairs
    start: int
    pad: int | None = None
    source_pad: int | None = None
    multiple: int = 1

    rows_at_once: ClassVar[int] = 1

    def __call__(self, rows: Sequence[Row]) -> Batch:
        chosen = [piece[0] for row in rows for piece in row]
        sources = [[self.pairs.sources.tokens(pair)] for pair in chosen]
        targets = [[self.pairs.targets.tokens(pair)] for pair in chosen]
        return pair_batch(sources, targets, self.start, self.pad, self.source_pad, self.multiple)


def pair_batch(
    sources: Laid, targets: Laid, start: int, pad: int | None, source_pad: int | None = None, multiple: int = 1
) -> Batch:
    """sources, targets: rows of documents, each of which ends with its end -> Batch with source (B, S), and tokens
    [start, y1..yn] and targets [y1..yn, end] (B, T). A begin token of a target gives way to `start` where they are one.

    Several documents in a row are segments, the first source for the first target and so on. The views tell of padding
    only where there is some.
    """
    said = [[y[1:] if len(y) and y[0] == start else y for y in row] for row in targets]
    given = [[np.concatenate([[start], y[:-1]]) for y in row] for row in said]
    widths = [-(-max(sum(map(len, row)) for row in side) // multiple) * multiple for side in (sources, said)]
    return Batch(
        tokens=fill(given, widths[1], pad or 0),
        targets=fill(said, widths[1], IGNORE),
        view=view_of(said, widths[1]),
        source=fill(sources, widths[0], (pad if source_pad is None else source_pad) or 0),
        source_view=view_of(sources, widths[0]),
    )
