"""Texts with labels -> stores and batches for classification: one label for a whole text (or for a pair of texts), or
one for each word.

Whole texts are records {"text", "label"}, {"sentence", "label"}, or of two texts {"text", "text2", "label"} and
{"sentence1", "sentence2", "label"}; words are {"tokens", "labels"} or {"tokens", "tags"}. A label is a string or a
whole number. What is longer than the context is cut and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch

from ..batch import IGNORE, Batch
from ..config import InputError, unknown
from ..text.words import unspaced
from .collate import fill, view_of, width_of
from .corpus import Encoder, frame, text_key
from .memory import store_in_memory
from .packing import Row
from .pairs import Pairs
from .shards import Section
from .sources import Document

TEXTS = (("text", "text2"), ("sentence1", "sentence2"), ("sentence", "sentence2"), ("premise", "hypothesis"))
TAGS = ("labels", "tags", "ner_tags")
Label = str | int


class Tagger(Encoder, Protocol):
    """What is needed of a tokenizer to make tokens of words."""

    def drops_first_space(self, continues: bool) -> bool: ...


@dataclass
class LabelCounts:
    """What became of the records: empty ones are left out, truncated ones were longer than the context; lost: labels
    of words that this cut away."""

    records: int = 0
    kept: int = 0
    empty: int = 0
    truncated: int = 0
    lost: int = 0
    tokens: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Labelled(Pairs):
    """sources: the texts; targets: what belongs to each; names: the labels in the order of their numbers.

    Of whole texts the target is [label, tokens of the first text, with its begin and end]; of words it is as long as
    the text: 1 + the label on the first token of each word, 0 elsewhere.
    """

    names: tuple[str, ...] = ()

    @property
    def lengths(self) -> np.ndarray:
        return self.sources.lengths

    @property
    def total(self) -> int:
        return self.sources.total

    def tokens(self, text: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        return self.sources.tokens(text, start, stop)

    def split(self, share: float) -> tuple[Labelled, Labelled]:
        """(to train on, held out), by the hash of the text; both know all labels."""
        learnt, kept = (replace(self, sources=s.sources, targets=s.targets) for s in super().split(share))
        return learnt, kept


def load_labels(
    documents: Iterable[Document], tokenizer: Encoder, *, context: int, names: Sequence[str] = ()
) -> tuple[Labelled, dict[str, int]]:
    """Texts with one label each as rows of at most `context` tokens, and what was counted on the way.

    names: the labels in the order of their numbers, as a model has learnt them; without, those of the data in order.
    Two texts are one row, the first with its begin and end, then the second with its end; of a pair that is too long
    the longer one is cut. Raises InputError for a record of another shape, an unknown label, and where nothing is left.
    """
    found = [(document.read(_texts_of), document.read(_label_of)) for document in documents]
    names = names or _names([label for _, label in found])
    number = _numbering(names)
    counts = LabelCounts(records=len(found))
    full = [(texts, label) for texts, label in found if all(text.strip() for text in texts)]
    counts.empty = len(found) - len(full)
    before, after = frame(tokenizer)
    parts = iter(tokenizer.encode_batch([text for texts, _ in full for text in texts]))
    sections = []
    for texts, label in full:
        bodies: list[Sequence[int]] = [next(parts) for _ in texts]
        room = context - len(before) - len(after) * len(bodies)
        counts.truncated += sum(map(len, bodies)) > room
        bodies = _shortened(bodies, room)
        first = [*before, *bodies[0], *after]
        ids = first + [id for body in bodies[1:] for id in (*body, *after)]
        sections.append(_sections(ids, [number(label), len(first)], "\n".join(texts), counts))
    return _labelled(sections, tokenizer.vocab_size, names, counts, max(len(names), context) + 1)


def load_tags(
    documents: Iterable[Document], tokenizer: Tagger, *, context: int, names: Sequence[str] = ()
) -> tuple[Labelled, dict[str, int]]:
    """Texts of words with a label each as rows of at most `context` tokens, and what was counted on the way.

    Between two words stands a blank, but none where both are of a script that has none. A word is encoded by itself, so
    that none shares a token with its neighbour. Raises InputError as `load_labels` does, and for a word without tokens.
    """
    found = [document.read(words_and_labels) for document in documents]
    names = names or _names([label for _, labels in found for label in labels])
    number = _numbering(names)
    counts = LabelCounts(records=len(found), empty=sum(not words for words, _ in found))
    found = [(words, labels) for words, labels in found if words]
    blank = "" if tokenizer.drops_first_space(False) else " "
    spelt = [spelt_words(words, blank) for words, _ in found]
    parts = iter(tokenizer.encode_batch([word for words in spelt for word in words]))
    before, after = frame(tokenizer)
    sections = []
    for (words, labels), spelling in zip(found, spelt):
        ids, tags = list(before), [0] * len(before)
        for word, label in zip(words, labels):
            piece = next(parts)
            if not piece:
                raise InputError(f"the word {word!r} has no tokens; remove it with its label")
            ids += piece
            tags += [1 + number(label), *[0] * (len(piece) - 1)]
        room = context - len(after)
        counts.truncated += len(ids) > room
        counts.lost += sum(tag > 0 for tag in tags[room:])
        sections.append(_sections([*ids[:room], *after], tags[:room] + [0] * len(after), "".join(spelling), counts))
    return _labelled(sections, tokenizer.vocab_size, names, counts, len(names) + 1)


@dataclass(frozen=True)
class LabelCollate:
    """rows of one text each -> Batch with targets (B, 1), the label's number. The view tells of padding, and of the
    second of two texts as type 1 where `types` is set."""

    labelled: Labelled
    context: int
    pad: int | None = None
    types: bool = False
    whole: bool = False

    def __call__(self, rows: Sequence[Row]) -> Batch:
        texts = [[self.labelled.sources.tokens(text)] for ((text, _, _),) in rows]
        answers = [self.labelled.targets.tokens(text).tolist() for ((text, _, _),) in rows]
        width = width_of(texts, self.context, self.whole)
        view = view_of(texts, width)
        if self.types:
            seconds = [[(np.arange(len(ids)) >= first) for ids in row] for row, (_, first) in zip(texts, answers)]
            view = replace(view, types=fill(seconds, width, 0))
        targets = torch.tensor([[label] for label, _ in answers])
        return Batch(fill(texts, width, self.pad or 0), targets, view)


@dataclass(frozen=True)
class TagCollate:
    """rows -> Batch with targets (B, T): the label's number on the first token of each word, else IGNORE."""

    labelled: Labelled
    context: int
    pad: int | None = None
    whole: bool = False

    def __call__(self, rows: Sequence[Row]) -> Batch:
        texts, tags = (
            [[store.tokens(*piece).astype(np.int64) for piece in row] for row in rows]
            for store in (self.labelled.sources, self.labelled.targets)
        )
        width = width_of(texts, self.context, self.whole)
        targets = fill([[np.where(tag > 0, tag - 1, IGNORE) for tag in row] for row in tags], width, IGNORE)
        return Batch(fill(texts, width, self.pad or 0), targets, view_of(texts, width))


def _sections(ids: Sequence[int], target: Sequence[int], text: str, counts: LabelCounts) -> tuple[Section, Section]:
    key, size = text_key(text), len(text.encode())
    counts.kept += 1
    counts.tokens += len(ids)
    counts.bytes += size
    return Section(ids, key, size), Section(target, key, size)


def _labelled(
    sections: Sequence[tuple[Section, Section]], rows: int, names: Sequence[str], counts: LabelCounts, most: int
) -> tuple[Labelled, dict[str, int]]:
    if not sections:
        raise InputError(f"nothing to learn: all of {counts.records} records are empty; check the data")
    texts, targets = (store_in_memory([pair[n] for pair in sections], (rows, most)[n]) for n in (0, 1))
    return Labelled(texts, targets, tuple(names)), asdict(counts)


def _texts_of(record: Mapping[str, Any]) -> tuple[str, ...]:
    for first, second in TEXTS:
        if first in record:
            texts = tuple(record[key] for key in (first, second) if key in record)
            if all(isinstance(text, str) for text in texts):
                return texts
            raise InputError(f'"{first}" or "{second}" is no string; wanted a text')
    raise InputError(
        f'the keys are {", ".join(map(str, record))}; wanted "text" and "label", or "text", "text2", "label"'
    )


def _label_of(record: Mapping[str, Any]) -> Label:
    if "label" not in record:
        raise InputError(f'no "label": the keys are {", ".join(map(str, record))}')
    return _checked(record["label"])


def words_and_labels(record: Mapping[str, Any]) -> tuple[list[str], list[Label]]:
    """The words of a record and what each is. Raises InputError for a record of another shape."""
    key = next((key for key in TAGS if key in record), None)
    words, labels = record.get("tokens"), record.get(key or "")
    if not isinstance(words, list) or not isinstance(labels, list):
        raise InputError(f'the keys are {", ".join(map(str, record))}; wanted lists "tokens" and "labels"')
    if len(words) != len(labels):
        raise InputError(f'{len(words)} "tokens" and {len(labels)} "{key}"; wanted a label for each word')
    if not all(isinstance(word, str) and word.strip() for word in words):
        raise InputError('"tokens" holds an empty word, or one that is no string; remove it with its label')
    return words, [_checked(label) for label in labels]


def _checked(label: Any) -> Label:
    if not isinstance(label, (str, int)) or label == "" or (isinstance(label, int) and label < 0):
        raise InputError(
            f"the label is {label!r}, wanted a name or a whole number from 0 on; leave unlabelled ones out"
        )
    return int(label) if isinstance(label, int) else label


def _names(labels: Sequence[Label]) -> tuple[str, ...]:
    """The labels in order: by number where they are numbers. Raises InputError where some are and some are not."""
    if len({type(label) for label in labels}) > 1:
        raise InputError("some labels are numbers and some are names; wanted one kind")
    return tuple(str(label) for label in sorted(set(labels)))


def _numbering(names: Sequence[str]) -> Callable[[Label], int]:
    numbers = {name: number for number, name in enumerate(names)}

    def number(label: Label) -> int:
        if str(label) not in numbers:
            raise unknown("label", str(label), list(names))
        return numbers[str(label)]

    return number


def _shortened(bodies: Sequence[Sequence[int]], room: int) -> list[Sequence[int]]:
    """At most `room` ids together: the longest gives way until it is as long as the next."""
    if room < len(bodies):
        raise InputError(
            f"a context with room for {room} tokens of text takes no {len(bodies)} texts; raise the context"
        )
    lengths = [len(body) for body in bodies]
    while sum(lengths) > room:
        longest = max(range(len(lengths)), key=lengths.__getitem__)
        others = max([length for n, length in enumerate(lengths) if n != longest], default=0)
        lengths[longest] = max(lengths[longest] - (sum(lengths) - room), min(others, lengths[longest] - 1))
    return [body[:length] for body, length in zip(bodies, lengths)]


def spelt_words(words: Sequence[str], blank: str) -> list[str]:
    """Each word with the blank that stands before it."""
    joined = [bool(blank) and not (unspaced(a[-1]) and unspaced(b[0])) for a, b in pairwise(words)]
    return [blank * space + word for space, word in zip([False, *joined], words)]
