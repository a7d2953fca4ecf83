"""Entities of a text by what shows in its writing."""

import pytest
import torch

from instar.config import InputError
from instar.probe.spans import Span, held, spans
from instar.probe.subject import Token


def found(text, **how):
    return [(text[span.start : span.end], span.kind) for span in spans(text, **how)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("The band of the year, The Mad Capsule Markets, met Leo in Oslo.",
         [("The Mad Capsule Markets", "capitals"), ("Leo", "capitals"), ("Oslo", "capitals")]),
        ("Leo ran. Then he saw Mary. Mary sat.", [("Mary", "capitals"), ("Mary", "capitals")]),
        ("OpenAI and the AP sold iPhones, I think.", [("OpenAI", "capitals"), ("AP", "capitals")]),
        ("In 2024 it cost 3,000.50 or 12% more.", [("2024", "digits"), ("3,000.50", "digits"), ("12%", "digits")]),
        ("谷歌的 Transformer 和 BERT-large 在 2017 年。",
         [("Transformer", "latin"), ("BERT-large", "latin"), ("2017", "digits")]),
        ("用Google Cloud训练。", [("Google Cloud", "latin")]),
        ("ALL OF IT IS LOUD", []),
        ("nothing to see", []),
        ("", []),
    ],
)  # fmt: skip
def test_entities_by_their_writing(text, wanted):
    """Names by capitals that no sentence's beginning explains, numbers, and Latin words inside Chinese."""
    assert found(text) == wanted


def test_marks_and_lists_come_first():
    """What a reader marks wins over what is in a list, that over what shows; longer words of a list win, and none is
    found inside a longer word of letters."""
    text = "the New York cat of Leo sat on a catalogue"
    assert found(text, user=[(20, 27)], listed=["New", "New York cat", "York"]) == [
        ("New York cat", "listed"), ("Leo sat", "user"),
    ]  # fmt: skip
    assert found("小猫坐在猫屋", listed=["猫"]) == [("猫", "listed"), ("猫", "listed")]
    with pytest.raises(InputError, match="40:41"):
        spans("short", user=[(40, 41)])


def test_rare_words_by_the_frequencies_of_a_corpus():
    """The one word that a corpus hardly has is found; where all are as frequent, none is."""
    words = "the cat saw the zebra and the dog by the old red barn".split()
    text, tokens, at = " ".join(words), [], 0
    for word in words:
        start = max(0, at - 1)
        tokens.append(Token(words.index(word), word, b"", start, at + len(word)))
        at += len(word) + 1
    often = torch.full((20,), 500)
    often[words.index("zebra")] = 2
    assert found(text, tokens=tokens, frequencies=often) == [("zebra", "rare")]
    assert found(text, tokens=tokens, frequencies=torch.full((20,), 500)) == []


def test_tokens_that_hold_a_span():
    """A token with one character of it holds it; a control token holds nothing."""
    tokens = [Token(0, "", b"", -1, -1), Token(1, "ab", b"", 0, 2), Token(2, "cd", b"", 2, 4), Token(3, "e", b"", 4, 5)]
    assert held(tokens, [Span(1, 3, "user")]).tolist() == [False, True, True, False]
    assert held(tokens, [(4, 5)]).tolist() == [False, False, False, True]
    assert not held(tokens, []).any()
