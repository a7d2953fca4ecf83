"""The text of an answer while its ids come. Stop texts themselves are trap 30 (tests/traps/test_30_streaming.py)."""

import random

import pytest

from instar.text.stops import Cut
from instar.text.tokenizer import Tokenizer

TEXTS = ["👩‍👩‍👧 नमस्ते é 🇨🇳 王明", "क्षि 👨🏽‍🚀 a\u2028b", "x"]


@pytest.fixture(scope="module")
def tokenizer():
    """Bytes and a few merges: every character beyond ASCII is several tokens."""
    return Tokenizer.train(["the cat sat on the mat. " * 8], 320)


def test_ten_thousand_random_answers(tokenizer):
    """S9: of random ids, half of them bytes that are no text, the pieces joined are the text that is not streamed, and
    U+FFFD stands in a piece only where it stands in the text."""
    luck = random.Random(5)
    characters = [tokenizer.encode(text) for text in TEXTS]
    for _ in range(10_000):
        ids = [luck.randrange(256) for _ in range(luck.randrange(6))]
        whole = luck.choice(characters)
        ids = luck.choice([ids, [*whole[: luck.randrange(9)], *ids], whole[luck.randrange(4) :]])
        cut, pieces = Cut(tokenizer, ()), []
        for place, id in enumerate(ids):
            pieces.append(cut.push(id, last=place + 1 == len(ids)))
        wanted = tokenizer.decode(ids, continues=True)
        assert "".join(pieces) == wanted
        assert cut.shown == len(wanted)


@pytest.mark.parametrize("stops", [[], ["zzz"], ["👩"]])
def test_a_control_token_that_is_text(tokenizer, stops):
    """It is hidden, unless it is said to be a part of the text; half a character before it stays half."""
    id, half = tokenizer.specials["<|im_start|>"], tokenizer.encode("球")[0]
    for spelt, wanted in (({}, "a�b"), ({id: "<|im_start|>"}, "a�<|im_start|>b")):
        cut, text = Cut(tokenizer, stops, spelt), ""
        for each in [*tokenizer.encode("a"), half, id, *tokenizer.encode("b")]:
            text += cut.push(each, last=False)
        text += cut.push(None, last=True)
        assert text == wanted
        assert cut.read == cut.shown == len(text)


def test_a_stop_text_that_ends_with_the_answer(tokenizer):
    """What is held back at the end is text, unless a stop stands in it; nothing behind a hit is shown."""
    cut = Cut(tokenizer, ["at.", "mat. And"])
    shown = "".join(cut.push(id, last=False) for id in tokenizer.encode("the mat."))
    assert not cut.hit
    assert shown + cut.push(None, last=True) == "the m"
    assert cut.hit
    assert cut.push(tokenizer.encode("a")[0], last=False) == ""
