"""The control tokens of a tokenizer that we train, and how many rows they leave for text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any, Literal

from ..config import InputError, unknown
from .markup import MARKUPS
from .vocabulary import MAX_ID

END_OF_TEXT, PAD, MASK, BEGIN = "<|end_of_text|>", "<|pad|>", "<|mask|>", "<|begin|>"
# the numbered marks that stand for a hole: ours, and those of T5
SENTINELS = ("<|extra_{}|>", "<extra_id_{}>")
Markups = Literal["chatml", "brief"]


def specials(markup: Markups = "chatml", masks: bool = False, sentinels: int = 0) -> tuple[str, ...]:
    """The control tokens in the order of their ids. Raises InputError for an unknown markup or fewer than 0 sentinels.

    What a plain tokenizer has comes first, so that more of them changes no id.
    """
    if markup not in MARKUPS:
        raise unknown("markup", markup, MARKUPS)
    if sentinels < 0:
        raise InputError(f"sentinels={sentinels}, wanted 0 or more")
    masking = (MASK, BEGIN) if masks else ()
    return (END_OF_TEXT, PAD, *MARKUPS[markup].controls, *masking, *map(SENTINELS[0].format, range(sentinels)))


def rows_for(vocab_size: int, controls: Sequence[str] | None = None) -> int:
    """A wished vocabulary size, rounded up to a multiple of 64, with room for these control tokens (None: those of a
    plain tokenizer). Raises InputError where it is out of bounds."""
    count = len(specials() if controls is None else controls)
    least = 256 + count
    if not least <= vocab_size <= MAX_ID:
        raise InputError(
            f"vocab_size={vocab_size}, wanted from {least} (256 bytes and {count} control tokens) to {MAX_ID}"
        )
    return -(-vocab_size // 64) * 64


def framed(begin: int, end: int) -> dict[str, Any]:
    """The post-processor that tells other libraries how a text, or a pair of texts, becomes a document."""
    before, after = ({"SpecialToken": {"id": token, "type_id": 0}} for token in (BEGIN, END_OF_TEXT))
    first, second = ({"Sequence": {"id": name, "type_id": number}} for number, name in enumerate("AB"))
    return {
        "type": "TemplateProcessing",
        "single": [before, first, after],
        "pair": [before, first, after, second, {"SpecialToken": {"id": END_OF_TEXT, "type_id": 1}}],
        "special_tokens": {
            token: {"id": token, "ids": [id], "tokens": [token]} for token, id in ((BEGIN, begin), (END_OF_TEXT, end))
        },
    }


def sentinels_of(controls: Mapping[str, int]) -> list[int]:
    """The ids of numbered marks from 0 on, up to the first number that has none."""
    for form in SENTINELS:
        numbered = map(controls.get, map(form.format, range(len(controls))))
        found = [mark for mark in takewhile(lambda mark: mark is not None, numbered) if mark is not None]
        if found:
            return found
    return []
