"""What a classifier says of texts or of their words, against the labels that they have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

from ..batch import IGNORE, Batch
from ..config import InputError
from ..data.labels import LabelCollate, Labelled, TagCollate, load_labels, load_tags
from ..data.sources import Document
from ..infer.reader import resting
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer
from .classes import class_report
from .entities import entity_report, is_tagging

TEXTS, WORDS = "classify", "tokens"  # the heads that say classes


@dataclass(frozen=True)
class Said:
    """The numbers of the classes wanted and said, text by text: one of a whole text, or one of each word. counts: what
    became of the records when they were read."""

    names: tuple[str, ...]
    words: bool
    gold: list[list[int]] = field(default_factory=list)
    said: list[list[int]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


@torch.inference_mode()
def classify(
    model: Transformer,
    tokenizer: Tokenizer,
    documents: Iterable[Document],
    *,
    held_out: float = 0.0,
    limit: int = 0,
    context: int = 0,
    batch: int = 64,
    each: Callable[[int], None] = lambda done: None,
) -> Said:
    """The classes of all texts, of those that training held out as the share `held_out`, or of the first `limit`.

    context: where longer texts are cut, 0 takes the model's longest; batch: texts read at a time, of about the same
    length, which changes no answer; each: called with how many more were read. Raises InputError for a model without
    classes, a record of another shape, a label that the model does not know, and where no text is left.
    """
    words = _says_words(model)
    config = model.config
    names = config.label_names or tuple(map(str, range(config.labels)))
    longest = config.max_positions
    if not 0 <= context <= longest:
        raise InputError(f"context={context}, wanted from 1 to {longest}, the longest that the model reads")
    load = load_tags if words else load_labels
    labelled, counts = load(documents, tokenizer, context=context or longest, names=names)
    if held_out:
        labelled = labelled.split(held_out)[1]
    numbers = range(len(labelled))[: limit or None]
    if not numbers:
        raise InputError(f"no text is among the {held_out:g} of {counts['kept']} that is held out; raise the share")
    collate = _collate(labelled, config, tokenizer, words)
    answers: dict[int, tuple[list[int], list[int]]] = {}
    order = sorted(numbers, key=lambda number: int(labelled.lengths[number]))
    with resting(model):
        for start in range(0, len(order), batch):
            part = order[start : start + batch]
            said = collate([[(number, 0, int(labelled.lengths[number]))] for number in part]).to(model.device)
            for number, gold, own in zip(part, *_read(model, said, words)):
                answers[number] = gold, own
            each(len(part))
    wanted, guessed = ([answers[number][side] for number in numbers] for side in (0, 1))
    return Said(tuple(names), words, wanted, guessed, counts)


def report(said: Said) -> dict[str, Any]:
    """The figures of `class_report`, or for words tagged as entities those of `entity_report`; and what became of the
    records."""
    if said.words and is_tagging(said.names):
        gold, own = ([[said.names[n] for n in tags] for tags in side] for side in (said.gold, said.said))
        figures = entity_report(gold, own)
    else:
        gold_flat, own_flat = ([n for classes in side for n in classes] for side in (said.gold, said.said))
        figures = class_report(gold_flat, own_flat, said.names)
    return figures | {name: said.counts.get(name, 0) for name in ("empty", "truncated", "lost")}


def _says_words(model: Transformer) -> bool:
    """Whether the model says a class of each word. Raises InputError where it says none at all."""
    if not {TEXTS, WORDS} & set(model.heads):
        raise InputError(
            f"found a model with the heads {', '.join(model.heads) or '(none)'}, wanted classify or tokens; "
            "train one to say classes"
        )
    return TEXTS not in model.heads


def _collate(labelled: Labelled, config: Any, tokenizer: Tokenizer, words: bool) -> Any:
    if words:
        return TagCollate(labelled, config.max_positions, tokenizer.pad)
    return LabelCollate(labelled, config.max_positions, tokenizer.pad, types=config.token_types > 1)


def _read(model: Transformer, batch: Batch, words: bool) -> tuple[list[list[int]], list[list[int]]]:
    """A batch -> the classes wanted and said of each of its texts."""
    hidden = model.hidden(batch.tokens, view=batch.view)
    if not words:
        said = model.heads[TEXTS](model.pool(hidden, batch.view)).argmax(-1, keepdim=True)
        return batch.targets.tolist(), said.tolist()
    said = model.heads[WORDS](hidden).argmax(-1)
    counted = batch.targets != IGNORE
    return tuple([row[own].tolist() for row, own in zip(side, counted)] for side in (batch.targets, said))  # type: ignore[return-value]
