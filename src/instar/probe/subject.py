"""What is looked at: a model, and a text as the model reads it, token by token, each with the characters that it is."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..config import InputError
from ..config.options import SamplingOptions
from ..infer.text import complete
from ..model.transformer import Transformer
from ..text.chat import Message
from ..text.tokenizer import Tokenizer
from ..text.vocabulary import display
from .capture import Trace, capture

MOST_TOKENS = 4096


class TooLong(InputError):
    """More tokens than a look may have. limit, got: tokens."""

    def __init__(self, limit: int, got: int) -> None:
        super().__init__(f"the text has {got:,} tokens; at most {limit:,} can be looked at; shorten it")
        self.limit, self.got = limit, got


class Token(NamedTuple):
    """One token: its text for the eye (bytes like <E4 B8> where it is no whole text), its bytes, the characters
    [start, end) of the text that it stands for, (-1, -1) where it is a control token that the text does not have."""

    id: int
    piece: str
    raw: bytes
    start: int
    end: int

    @property
    def control(self) -> bool:
        return self.start < 0


@dataclass(frozen=True)
class Subject:
    """A text and what the model makes of it. source: what the encoder of an encoder-decoder reads; empty elsewhere."""

    model: Transformer
    tokenizer: Tokenizer | None
    text: str
    tokens: tuple[Token, ...]
    source_text: str = ""
    source: tuple[Token, ...] = ()

    @property
    def ids(self) -> Tensor:
        """(1, T)."""
        return torch.tensor([[token.id for token in self.tokens]])

    @property
    def source_ids(self) -> Tensor | None:
        """(1, S)."""
        return torch.tensor([[token.id for token in self.source]]) if self.source else None

    @property
    def pieces(self) -> list[str]:
        return [token.piece for token in self.tokens]

    def piece(self, id: int) -> str:
        """Any id for the eye: its text or bytes, a control token's name, the number itself without a tokenizer."""
        return str(id) if self.tokenizer is None else _name(self.tokenizer, id)

    def spelt(self, ids: Sequence[int]) -> str:
        """Ids for the eye, one after the other: their text as far as it is whole, control tokens by name."""
        if self.tokenizer is None:
            return " ".join(map(str, ids))
        raw, text = b"", ""
        for id in ids:
            if id in self.tokenizer.specials.values():
                text, raw = text + display(raw) + _name(self.tokenizer, id), b""
            else:
                raw += self.tokenizer.token_bytes(id)
        return text + display(raw)

    def capture(self, *, grad: bool = False) -> Trace:
        return capture(self.model, self.ids, source=self.source_ids, grad=grad)


def read(
    model: Transformer, tokenizer: Tokenizer, text: str, *, target: str = "", chat: bool = False, said: int = 24
) -> Subject:
    """A text as the model reads it: a text to go on with, for an encoder a whole document, whose holes are spelt as the
    tokenizer's mask is; for an encoder-decoder the source, and as text the target, or without one the `said` tokens
    that the model says of it. chat: the text is a user's message.

    Raises InputError where it is empty, too long, or no control token may stand.
    """
    config = model.config
    if config.encoder_layers:
        if chat:
            raise InputError("an encoder-decoder reads a source and holds no conversation; leave out chat")
        if config.source_vocab_size:
            raise InputError("the sources of this model have a vocabulary of their own; pass their ids")
        source = _document(model, tokenizer, text)
        begin = [Token(config.start, _name(tokenizer, config.start), b"", -1, -1)] if config.start >= 0 else []
        ids = tokenizer.encode(target) if target else _answer(model, tokenizer, text, said)
        _check(model, len(begin) + len(ids))
        target = target or tokenizer.decode(ids)
        tokens = (*begin, *_placed(tokenizer, ids, target))
        return Subject(model, tokenizer, target, tokens, text, source)
    if target:
        raise InputError("found a target, and a model without an encoder; leave it out")
    if chat:
        return read_chat(model, tokenizer, [{"role": "user", "content": text}])
    return Subject(model, tokenizer, text, _document(model, tokenizer, text, ends=not config.causal))


def read_chat(model: Transformer, tokenizer: Tokenizer, messages: Sequence[Message]) -> Subject:
    """Messages by the tokenizer's template, up to where the answer begins. Raises InputError for an encoder-decoder, a
    tokenizer without a template, and too many tokens."""
    if model.config.encoder_layers:
        raise InputError("an encoder-decoder reads a source and holds no conversation; pass a text")
    return read_said(model, tokenizer, tokenizer.chat(messages, add_generation_prompt=True).ids)


def read_said(model: Transformer, tokenizer: Tokenizer, ids: Sequence[int], source: Sequence[int] = ()) -> Subject:
    """`read_ids` of a model whose tokenizer is at hand, so that each id has its text. Raises InputError for ids that
    the model does not have, and where there are none, or too many."""
    config = model.config
    ids = within("ids", ids, config.vocab_size)
    source = within("ids", source, config.source_vocab_size or config.vocab_size)
    _check(model, len(ids))
    if source:
        _check(model, len(source))
    text, about = tokenizer.decode(ids), tokenizer.decode(source)
    return Subject(
        model, tokenizer, text, _placed(tokenizer, ids, text), about, _placed(tokenizer, source, about)
    )  # fmt: skip


def read_ids(model: Transformer, ids: Sequence[int], source: Sequence[int] = ()) -> Subject:
    """Ids, of a model whose tokenizer is not at hand."""

    def tokens(ids: Sequence[int]) -> tuple[Token, ...]:
        return tuple(Token(int(id), str(id), b"", -1, -1) for id in ids)

    _check(model, len(ids))
    if source:
        _check(model, len(source))
    return Subject(model, None, "", tokens(ids), "", tokens(source))


def within(name: str, ids: Sequence[int], rows: int) -> tuple[int, ...]:
    """The ids. Raises InputError for one that a vocabulary of so many rows does not have."""
    if wrong := [id for id in ids if not 0 <= id < rows]:
        raise InputError(f"{name}: found {wrong[0]}, wanted 0 to {rows - 1}, the rows of the model's vocabulary")
    return tuple(ids)


def covering(tokens: Sequence[Token], start: int, end: int) -> list[int]:
    """The places of the tokens that hold any of the characters [start, end)."""
    return [place for place, token in enumerate(tokens) if token.start < end and token.end > start]


def _document(model: Transformer, tokenizer: Tokenizer, text: str, *, ends: bool = True) -> tuple[Token, ...]:
    """The tokens of a whole text, with a mask wherever its name stands, framed as in training. Raises InputError where
    there are none, or too many."""
    whole = tokenizer.document("") if ends else tokenizer.prompt("")
    frame = [Token(id, _name(tokenizer, id), b"", -1, -1) for id in whole]
    before = len(tokenizer.prompt(""))
    mask = None if tokenizer.mask is None else _name(tokenizer, tokenizer.mask)
    parts = text.split(mask) if mask and mask in text else [text]
    found = tokenizer.encode_places(parts)
    _check(model, len(frame) + len(parts) - 1 + sum(len(ids) for ids, _ in found))
    tokens: list[Token] = []
    at = 0
    for number, (part, (ids, places)) in enumerate(zip(parts, found)):
        if number and mask and tokenizer.mask is not None:
            tokens.append(Token(tokenizer.mask, mask, b"", at, at + len(mask)))
            at += len(mask)
        tokens += [_token(tokenizer, id, at + start, at + end) for id, (start, end) in zip(ids, places)]
        at += len(part)
    return (*frame[:before], *tokens, *frame[before:])


def _placed(tokenizer: Tokenizer, ids: Sequence[int], text: str) -> tuple[Token, ...]:
    """Ids that say a text, control tokens among them, each with its characters: by the bytes that stand before it.
    Bytes that are no text stand for the U+FFFD that they are shown as."""
    raws, controls = tokenizer.visible_bytes(ids), frozenset(tokenizer.specials.values())
    whole = b"".join(raws)
    starts = _starts(whole)
    # a blank that some vocabularies put before a text is no character of it
    dropped = int(len(starts) - 1 == len(text) + 1 and whole.startswith(b" "))
    tokens, at = [], 0
    for id, raw in zip(ids, raws):
        if id in controls:
            tokens.append(Token(id, _name(tokenizer, id), b"", -1, -1))
        else:
            first, last = bisect_right(starts, at) - 1, bisect_left(starts, at + len(raw))
            tokens.append(_token(tokenizer, id, *(min(max(n - dropped, 0), len(text)) for n in (first, last))))
        at += len(raw)
    return tuple(tokens)


def _starts(raw: bytes) -> list[int]:
    """The byte at which each character of these bytes, decoded with replacements, begins, and where the last ends."""
    starts: list[int] = []
    at = 0
    while at < len(raw):
        try:
            text, bad = str(memoryview(raw)[at:], "utf-8"), 0
        except UnicodeDecodeError as error:  # bytes that are no character are one replacement
            text, bad = raw[at : at + error.start].decode(), error.end - error.start
        for letter in text:
            starts.append(at)
            at += len(letter.encode())
        if bad:
            starts.append(at)
            at += bad
    return [*starts, len(raw)]


def _token(tokenizer: Tokenizer, id: int, start: int, end: int) -> Token:
    return Token(id, tokenizer.piece(id), tokenizer.token_bytes(id), start, end)


def _name(tokenizer: Tokenizer, id: int) -> str:
    return next((name for name, number in tokenizer.specials.items() if number == id), tokenizer.piece(id))


def _answer(model: Transformer, tokenizer: Tokenizer, text: str, said: int) -> list[int]:
    (answer,) = complete(model, tokenizer, [text], SamplingOptions(strategy="greedy", max_new_tokens=said))
    return list(answer.ids)


def _check(model: Transformer, count: int) -> None:
    longest = min(MOST_TOKENS, model.config.max_positions)
    if not count:
        raise InputError("the text is empty; there is nothing to look at")
    if count > longest:
        raise TooLong(longest, count)
