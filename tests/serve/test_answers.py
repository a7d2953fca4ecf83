"""The texts of answers as they come: never half a character, nothing of a stop text, and each token in its place."""

import asyncio

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from instar.serve.answers import Choice
from instar.serve.ticket import Token


class Said:
    """Stands for a Ticket: it says ids, and ends as it is told."""

    def __init__(self, ids, finish="length", alone=False):
        """alone: the end comes after the last id, as a stop token makes it."""
        self.tokens = [Token(id, -0.5, None) for id in ids]
        if alone or not ids:
            self.tokens.append(Token(None, 0.0, finish))
        else:
            self.tokens[-1] = Token(ids[-1], -0.5, finish)
        self.read, self.done = 0, False

    async def __aiter__(self):
        for token in self.tokens:
            self.read += 1
            yield token

    def enough(self):
        self.done = True


def read(ids, tokenizer, stops=(), finish="length", alone=False, **rest):
    """All pieces of an answer, its ticket and the choice that read it."""
    ticket = Said(ids, finish, alone)
    choice = Choice(ticket, tokenizer, stops, **rest)

    async def reading():
        return [piece async for piece in choice.pieces()]

    return asyncio.run(reading()), ticket, choice


TEXTS = ["👩‍👩‍👧 नमस्ते é 🇨🇳 王明", "क्षि 👨🏽‍🚀 a\u2028b", "x", ""]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("alone", [True, False])
def test_a_whole_text_holds_no_mark_of_a_broken_one(tokenizer, text, alone):
    """S9: emoji of several characters, Indic, four bytes over four tokens: no piece holds half of a character."""
    pieces, _, choice = read(tokenizer.encode(text), tokenizer, alone=alone, tells=True)
    assert "".join(piece.text for piece in pieces) == text
    assert [piece.finish for piece in pieces if piece.finish] == ["length"]
    assert choice.count == len(tokenizer.encode(text)) == sum(len(piece.tokens) for piece in pieces)


def oracle(text, stops):
    """The text up to where the first stop begins."""
    return text[: min((text.find(stop) for stop in stops if stop in text), default=len(text))]


@settings(max_examples=100, deadline=None)
@given(
    text=st.text("abé球", max_size=12),
    stops=st.lists(st.text("abé球", min_size=1, max_size=5), min_size=1, max_size=4),
    alone=st.booleans(),
)
@example(text="aba", stops=["b", "aba"], alone=True)  # the longer began earlier, and comes true
@example(text="abab", stops=["abb", "ba"], alone=False)
def test_stop_texts(tokenizer, text, stops, alone):
    """S10: cut at the first hit of the whole text, overlapping stops, in the middle of tokens and over three of them;
    at no moment was anything shown that the cut text does not begin with."""
    ids, wanted = tokenizer.encode(text), oracle(text, stops)
    pieces, ticket, choice = read(ids, tokenizer, stops, alone=alone, tells=True)
    assert "".join(piece.text for piece in pieces) == wanted
    hit = wanted != text
    assert [piece.finish for piece in pieces if piece.finish] == ["stop" if hit else "length"]
    assert pieces[-1].finish
    last = ticket.tokens[: ticket.read][-1]
    assert ticket.done == (last.finish is None)  # the engine is told where it would go on
    assert choice.count == ticket.read - (last.id is None)
    told = b"".join(tokenizer.token_bytes(token.id) for piece in pieces for token, _ in piece.tokens)
    assert wanted.encode().startswith(told)
    assert hit or told == wanted.encode()


def test_a_stop_of_many_tokens(tokenizer):
    """S10: a stop text over three and more tokens is never begun to be shown."""
    text = "王明有一个红色的球。"
    ids = tokenizer.encode(text)
    assert len(tokenizer.encode("红色的球")) >= 3
    pieces, _, _ = read(ids, tokenizer, ["红色的球"])
    assert "".join(piece.text for piece in pieces) == "王明有一个"


def test_a_token_that_reaches_into_a_stop_text_is_not_told(tokenizer):
    """S10: where a stop begins in the middle of a token, the token would tell a part of it."""
    ids = tokenizer.encode("Anna had a red ball.")
    word = next(id for id in ids if len(tokenizer.token_bytes(id)) > 2)
    stop = tokenizer.token_bytes(word).decode()[1:]
    pieces, _, _ = read(ids, tokenizer, [stop], tells=True)
    shown = "".join(piece.text for piece in pieces)
    told = "".join(tokenizer.decode([token.id], continues=True) for piece in pieces for token, _ in piece.tokens)
    assert shown == oracle("Anna had a red ball.", [stop])
    assert shown == told + tokenizer.token_bytes(word).decode()[0]


def test_tokens_come_with_their_text(tokenizer):
    """Each token is told once, in order, where it begins; a part of a character with the part that completes it."""
    ids = tokenizer.encode("a球 b")
    pieces, _, _ = read(ids, tokenizer, ["zzz"], tells=True)
    placed = [each for piece in pieces for each in piece.tokens]
    assert [token.id for token, _ in placed] == ids
    shown = 0
    for piece in pieces:
        for token, start in piece.tokens:
            begins = len(tokenizer.decode(ids[: [t for t, _ in placed].index(token)]).rstrip("�"))
            assert start == begins
            assert shown <= start <= shown + len(piece.text)
        shown += len(piece.text)


def test_control_tokens_that_are_text(tokenizer):
    """What stands around calls of tools is hidden as a control token, and shown where it has to be read."""
    id = tokenizer.specials["<|im_start|>"]
    ids = [*tokenizer.encode("a"), id, *tokenizer.encode("b")]
    assert "".join(piece.text for piece in read(ids, tokenizer)[0]) == "ab"
    spelt = {id: "<|im_start|>"}
    assert "".join(piece.text for piece in read(ids, tokenizer, spelt=spelt)[0]) == "a<|im_start|>b"
    pieces, _, _ = read([tokenizer.encode("👩")[0], id], tokenizer, spelt=spelt)
    assert "".join(piece.text for piece in pieces) == "�<|im_start|>"
