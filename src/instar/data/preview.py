"""What a model would learn from some records, token by token: read off the very batches that training would see."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ..batch import IGNORE
from .collate import Collate
from .corpus import Tally, encode
from .dialogues import load_dialogues
from .packing import best_fit
from .records import is_dialogue
from .shards import TokenStore, store_in_memory
from .sources import Document


@dataclass(frozen=True)
class Seen:
    """One token: its id, how it reads, whether the model is taught to say it, and the number of its document."""

    id: int
    piece: str
    teaches: bool
    document: int


def preview(
    documents: Iterable[Document], tokenizer: Any, *, records: int = 3, context: int = 256, teach: str = "assistant"
) -> tuple[list[list[Seen]], dict[str, int]]:
    """The tokens of the first `records` documents, document by document, and what was counted on the way.

    Dialogues are shown as SFT sees them, texts as pretraining does. Raises InputError as those stages would.
    """
    chosen = list(islice(documents, records))
    if chosen and all(is_dialogue(document.record) for document in chosen):
        store, counts = load_dialogues(chosen, tokenizer, context=context, teach=teach)
    else:
        tally = Tally()
        store, counts = store_in_memory(encode(chosen, tokenizer, tally), tokenizer.vocab_size), vars(tally)
    taught = _taught(store, context)
    shown = [
        [
            Seen(token, tokenizer.piece(token), (number, place) in taught, number)
            for place, token in enumerate(store.tokens(number).tolist())
        ]
        for number in range(len(store))
    ]
    return shown, counts


def _taught(store: TokenStore, context: int) -> set[tuple[int, int]]:
    """(document, place) of every token that is the target of some position of a batch."""
    rows = best_fit(store.lengths, context)
    collate = Collate(store, context)
    taught: set[tuple[int, int]] = set()
    for row in rows:
        targets = collate([row]).targets[0].tolist()
        place = 0
        for document, start, stop in row:
            spoken = targets[place : place + stop - start]
            taught |= {(document, start + n + 1) for n, target in enumerate(spoken) if target != IGNORE}
            place += stop - start
    return taught
