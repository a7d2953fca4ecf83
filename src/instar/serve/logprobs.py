"""How likely tokens were, as OpenAI writes it: one form for chats, an older one for texts. All are natural logarithms
of the model's own probabilities, before any rule of sampling."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..text.tokenizer import Tokenizer
from .answers import Placed
from .ticket import Token
from .wire import Scored

LEAST = -9999.0  # what OpenAI writes for what is next to impossible; JSON has no infinity


def finite(logprob: float) -> float:
    """A log-probability that JSON can say."""
    return max(logprob, LEAST)


def spelt(raw: bytes, mark: str = "") -> str:
    """A token's text; where it is no whole text its bytes, such as \\xe7\\x8e, behind the mark."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return mark + "".join(f"\\x{byte:02x}" for byte in raw)


def of_chat(tokenizer: Tokenizer, placed: Iterable[Placed], top: int) -> dict[str, Any]:
    """The logprobs of a choice, or of a piece of it. top: likeliest tokens told at each place."""
    return {"content": [_entry(tokenizer, token, top) for token, _ in placed], "refusal": None}


def _entry(tokenizer: Tokenizer, token: Token, top: int) -> dict[str, Any]:
    assert token.id is not None
    likeliest = (token.alternatives or [])[:top]
    return {
        **_one(tokenizer, token.id, token.logprob),
        "top_logprobs": [_one(tokenizer, id, chance) for id, chance in likeliest],
    }


def _one(tokenizer: Tokenizer, id: int, logprob: float) -> dict[str, Any]:
    raw = tokenizer.token_bytes(id)
    return {"token": spelt(raw), "logprob": finite(logprob), "bytes": list(raw)}


class TextLogprobs:
    """The older form, four lists of equal length, of a text or of a piece of it. top_logprobs: at each place the `top`
    likeliest tokens and the one that was said; of two tokens with the same text the likelier one."""

    def __init__(self, tokenizer: Tokenizer, top: int) -> None:
        self.tokenizer, self.top = tokenizer, top
        self.tokens: list[str] = []
        self.token_logprobs: list[float | None] = []
        self.top_logprobs: list[dict[str, float] | None] = []
        self.text_offset: list[int] = []

    def add(self, placed: Iterable[Placed], start: int) -> None:
        """Tokens of the answer. start: characters before it."""
        for token, place in placed:
            assert token.id is not None
            self._add(token.id, token.logprob, token.alternatives or [], start + place)

    def add_prompt(self, ids: Sequence[int], offsets: Sequence[int], scored: Scored) -> None:
        """The prompt, where it is echoed: its first token follows nothing, so that it has no probability."""
        for place, (id, offset) in enumerate(zip(ids, offsets, strict=True)):
            if not place:
                self.tokens.append(self._spelt(id))
                self.token_logprobs.append(None)
                self.top_logprobs.append(None)
                self.text_offset.append(offset)
                continue
            others = scored.alternatives[place - 1] if scored.alternatives else []
            self._add(id, scored.logprobs[place - 1], [(int(other), chance) for other, chance in others], offset)

    def _add(self, id: int, logprob: float, likeliest: Sequence[tuple[int, float]], offset: int) -> None:
        found: dict[str, float] = {}
        for other, chance in [*likeliest[: self.top], (id, logprob)]:
            found.setdefault(self._spelt(other), finite(chance))
        self.tokens.append(self._spelt(id))
        self.token_logprobs.append(finite(logprob))
        self.top_logprobs.append(found)
        self.text_offset.append(offset)

    def _spelt(self, id: int) -> str:
        return spelt(self.tokenizer.token_bytes(id), "bytes:")

    @property
    def body(self) -> dict[str, Any]:
        return {
            "tokens": self.tokens, "token_logprobs": self.token_logprobs, "top_logprobs": self.top_logprobs,
            "text_offset": self.text_offset,
        }  # fmt: skip
