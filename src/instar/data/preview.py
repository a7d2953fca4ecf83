"""What a model would learn from some records, token by token: read off the very batches that training would see."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ..batch import IGNORE
from .branches import PreferenceCollate, PreferenceRows
from .collate import Collate
from .comparisons import is_comparison
from .corpus import Tally, encode
from .dialogues import load_dialogues
from .memory import store_in_memory
from .packing import best_fit
from .preferences import Preferences, load_preferences
from .records import is_dialogue
from .shards import TokenStore
from .sources import Document

SIDES = ("chosen", "rejected")


@dataclass(frozen=True)
class Seen:
    """One token: its id, how it reads, whether it counts, the number of its document, and of a pair whether it is of
    the prompt, the chosen or the rejected answer. Of a text what is taught counts, of a pair what answers are compared
    by."""

    id: int
    piece: str
    teaches: bool
    document: int
    part: str = "text"


def preview(
    documents: Iterable[Document],
    tokenizer: Any,
    *,
    records: int = 3,
    context: int = 256,
    teach: str = "assistant",
    say: Callable[[str], None] | None = None,
) -> tuple[list[list[Seen]], dict[str, int]]:
    """The tokens of the first `records` documents, document by document, and what was counted on the way.

    Dialogues are shown as SFT sees them, pairs of answers as preference learning does, texts as pretraining. Records at
    fault are told to `say`, however many. Raises InputError as those stages would for all else.
    """
    chosen = list(islice(documents, records))
    # what kind of records they are is told by those that are of any
    known = [
        one.record for one in chosen if "text" in one.record or is_comparison(one.record) or is_dialogue(one.record)
    ]
    if known and all(map(is_comparison, known)):
        pairs, counts = load_preferences(chosen, tokenizer, context=context, bad_records=1.0, say=say)
        return _compared(pairs, tokenizer, context), counts
    if known and all(map(is_dialogue, known)):
        store, counts = load_dialogues(chosen, tokenizer, context=context, teach=teach, bad_records=1.0, say=say)
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


def _compared(store: Preferences, tokenizer: Any, context: int) -> list[list[Seen]]:
    """Each pair as its prompt, the chosen and the rejected answer, of which counts what some position should say."""
    rows = PreferenceRows(store, context)
    collate = PreferenceCollate(store, rows.width)
    shown: dict[int, list[Seen]] = {}
    for row in rows:
        batch = collate([row])
        for number, (pair, _, _) in enumerate(row):
            prompt, *answers = store.pair(pair)
            seen = [Seen(token, tokenizer.piece(token), False, pair, "prompt") for token in prompt.tolist()]
            for side, ids in enumerate(answers):
                said = batch.targets[batch.answer == 2 * number + side].tolist()
                seen += [
                    Seen(token, tokenizer.piece(token), said[place : place + 1] == [token], pair, SIDES[side])
                    for place, token in enumerate(ids.tolist())
                ]
            shown[pair] = seen
    return [shown[pair] for pair in range(len(store))]
