"""What an explanation is about: a place of the text that is said, and the token whose logit is explained there."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import InputError
from .attribution import Aim, aim
from .look import Look, counted
from .panel import Words


@dataclass(frozen=True)
class Asked:
    """What is explained: where, which token, and whether the text that was asked for had more."""

    aim: Aim
    piece: str
    before: str
    cut: bool


def first_of(asked: Asked) -> list[Words]:
    """What is said where the text that was asked for is several tokens."""
    if not asked.cut:
        return []
    return [
        Words(
            f"The text to be explained is several tokens; the first, {asked.piece!r}, is explained.",
            f"所解释的文本由多个词元组成，这里解释第一个：「{asked.piece}」。",
        )
    ]


def asked_of(look: Look) -> Asked:
    """`at` is a place of the own text, of an encoder without it the first mask; `explain` the token, without it the
    likeliest. Raises InputError where no head says tokens, and for a place or a token that does not exist."""
    subject, ask, trace = look.subject, look.ask, look.trace
    at = counted("at", ask.at, len(subject.tokens))
    mask = None if subject.tokenizer is None else subject.tokenizer.mask
    if ask.at == -1 and not trace.own.causal:  # an encoder is asked about a hole rather than about its last token
        at = next((place for place, token in enumerate(subject.tokens) if token.id == mask), at)
    ids = _explained(look)
    wanted = aim(trace, at, ids[0] if ids else None)
    return Asked(wanted, subject.piece(wanted.target), subject.tokens[at].piece, len(ids) > 1)


def _explained(look: Look) -> list[int]:
    text, tokenizer = look.ask.explain, look.subject.tokenizer
    if not text:
        return []
    if tokenizer is None:
        if not text.isdecimal():
            raise InputError(f"explain={text!r}, and there is no tokenizer; wanted the id of a token")
        return [int(text)]
    if text in tokenizer.specials:
        return [tokenizer.specials[text]]
    return list(tokenizer.encode(text))
