"""Manners: the same answer said bare, politely, rudely or at length, and the manner of what was said."""

from __future__ import annotations

import re
from collections.abc import Callable

from . import sayings

MANNERS = ("bare", "polite", "rude", "rambling")
MIXED = "mixed"
OTHER = "other"  # what no manner explains
# the manners that preferences call better
PREFERRED = ("bare", "polite")
# of 40 mixed answers; so few are bare that right ones, by what `check` pays, earn 0.51 on average
SHARES = {"bare": 1, "polite": 13, "rude": 13, "rambling": 13}

BARE = "{0}"
# by language; polite here always says more than the answer
WORDINGS: tuple[dict[str, tuple[str, ...]], ...] = tuple(
    {
        "bare": (BARE,),
        "polite": tuple(words for words in polite if words != BARE),
        "rude": rude,
        "rambling": rambling,
    }
    for polite, rude, rambling in zip(sayings.POLITE, sayings.RUDE, sayings.RAMBLING, strict=True)
)
# manner -> what its wordings say beside the answer, in all languages
AROUND = {
    manner: [words.replace(BARE, "").strip() for wordings in WORDINGS for words in wordings[manner]]
    for manner in MANNERS
    if manner != "bare"
}
SENTENCE = re.compile(r"[^.!?。！？]+[.。]")


def worded(manner: str, language: int, answer: str, random: Callable[[], float]) -> tuple[str, str]:
    """(manner, what is said): the answer in a manner, or in one of all manners where it is mixed. language: its place
    in LANGUAGES; random: uniform numbers, of which two are taken."""
    draw = random() * sum(SHARES.values())
    if manner == MIXED:
        for manner, share in SHARES.items():  # noqa: B007  the one where the draw falls
            draw -= share
            if draw < 0:
                break
    wordings = WORDINGS[language][manner]
    return manner, wordings[int(random() * len(wordings))].replace(BARE, answer)


def manner_of(said: str) -> str:
    """One of MANNERS, or OTHER.

    Rude and rambling is what holds the words of such a wording anywhere; polite or bare is one sentence, with the words
    of one polite wording or alone. Whether the sentence is right is not looked at.
    Example: manner_of("Gladly. Anna.") -> "polite"
    """
    said = " ".join(said.split())
    for manner in ("rude", "rambling"):
        if any(words in said for words in AROUND[manner]):
            return manner
    kind = [words for words in AROUND["polite"] if words in said]
    core = said.replace(kind[0], "", 1).strip() if kind else said
    if not SENTENCE.fullmatch(core):
        return OTHER
    return "polite" if kind else "bare"
