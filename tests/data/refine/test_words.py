"""Words and sentences for datatrove's filters."""

import time

import pytest

pytest.importorskip("datatrove")
from datatrove.utils.text import split_into_sentences, split_into_words
from datatrove.utils.word_tokenizers import load_word_tokenizer

from instar.data.refine.words import Words, unspaced


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's 3 km, really!", ["It's", "3", "km", ",", "really", "!"]),
        ("漢字、かな。", ["漢", "字", "、", "か", "な", "。"]),
        ("用GPU训练...", ["用", "GPU", "训", "练", "..."]),
        ("snake_case == 'x'", ["snake_case", "==", "'", "x", "'"]),
        ("हिन्दी naïve Ёлка", ["हिन्दी", "naïve", "Ёлка"]),
        ("", []),
    ],
)
def test_words(text, words):
    """Runs of letters with inner apostrophes, runs of signs, and single Han and kana characters are words."""
    assert Words().word_tokenize(text) == words


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Pi is 3.14. It stays.\nGood", ["Pi is 3.14.", "It stays.", "Good"]),
        ("他说：“走吧。”然后走了！真的？", ["他说：“走吧。”", "然后走了！", "真的？"]),
        ("设计方法.仿真结果", ["设计方法.", "仿真结果"]),
        ('He said "go." Then he went.', ['He said "go."', "Then he went."]),
        ("\n\n", []),
    ],
)
def test_sentences(text, sentences):
    """A sentence ends at 。！？ with its closing quotes, at .!? before a blank or between Han, and at a line break."""
    assert Words().sent_tokenize(text) == sentences
    spans = Words().span_tokenize(text)
    assert all(text[start:stop].strip() for start, stop in spans)
    assert [stop for _, stop in spans[:-1]] == [start for start, _ in spans[1:]]


def test_copies_share_the_caches_of_datatrove():
    """Every copy of Words is the same key, so that four rules split a text once."""
    assert Words() == Words()
    assert hash(Words()) == hash(Words())
    assert Words() != "instar"
    assert load_word_tokenizer(Words()) is load_word_tokenizer(Words())
    text = "one text " * 3
    assert split_into_words(text, Words()) is split_into_words(text, Words())
    assert len(split_into_sentences("One. Two. Three", Words())) == 3


@pytest.mark.parametrize("text", ["." * 300_000 + "x", "a'" * 150_000, '."' * 150_000, "。" * 300_000], ids=len)
def test_a_long_line_takes_linear_time(text):
    """No sign is tried twice, however the line is made."""
    start = time.process_time()
    Words().word_tokenize(text)
    Words().span_tokenize(text)
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("text", "language", "counted"),
    [("x", "zh", True), ("漢字", "en", False), ("漢字 word", "", True), ("one 漢", "unknown", False), ("", "", False)],
)
def test_what_is_counted_by_characters(text, language, counted):
    """The language decides; where it is not known, the half of the letters."""
    assert unspaced(text, language) is counted
