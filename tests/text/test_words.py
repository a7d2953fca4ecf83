"""Where words begin, read off the tokens."""

import numpy as np
import pytest

from instar.text import Tokenizer
from instar.text.words import Words


def cut(tokenizer, text, **options):
    """The words of a text, as their tokens read."""
    ids = np.array(tokenizer.document(text))
    numbers = Words(tokenizer).numbers(ids, **options)
    return [tokenizer.decode(ids[numbers == n].tolist(), skip_special=False) for n in range(numbers[-1] + 1)]


@pytest.fixture(scope="module")
def plain():
    """A byte a token."""
    return Tokenizer.train([], 320)


def test_english_by_hand(plain):
    """Letters go on with letters, digits with digits; blanks, signs and control tokens stand alone."""
    words = ["Anna", "'", "s", " ", "naïve", " ", "1999", "a", ".", "\n", "Tom", "<|end_of_text|>"]
    assert cut(plain, "Anna's naïve 1999a.\nTom") == words


def test_other_scripts_by_hand(plain):
    """Greek, Arabic, Korean and Hindi have words; a Chinese, kana or Thai character is one, however many bytes."""
    assert cut(plain, "άλφα بيت 한국어 हिन्दी")[:-1] == ["άλφα", " ", "بيت", " ", "한국어", " ", "हिन्दी"]
    assert cut(plain, "王明,球カไ👨‍👩a")[:-1] == ["王", "明", ",", "球", "カ", "ไ", "👨", "\u200d", "👩", "a"]


def test_a_piece_of_many_characters_is_one_word(tokenizer, texts):
    """What the tokenizer made one piece stays one, a blank before letters with it."""
    words = cut(tokenizer, texts[1][:40] + " the ball")
    assert "".join(words) == texts[1][:40] + " the ball<|end_of_text|>"
    assert " ball" in words
    assert any(len(word) > 1 for word in words[:-3])


@pytest.mark.parametrize("folder", ["tokenizers/gpt2", "tokenizers/minimind", "weights/TinyStories-656K"])
def test_real_vocabularies(shared, folder):
    """Blanks before or after a word, bytes or SentencePiece: "unbelievably" is one word of several tokens."""
    tokenizer = Tokenizer.load(shared / folder)
    words = [word.strip() for word in cut(tokenizer, "Tom walks unbelievably far.")]
    words = [word for word in words if word and word not in tokenizer.specials]
    assert words[:3] == ["Tom", "walks", "unbelievably"]
    assert len(tokenizer.encode("unbelievably")) > 1


def test_a_word_begins_where_it_is_told(plain):
    """A document that begins inside a row begins a word."""
    numbers = Words(plain).numbers(np.array(plain.encode("abcd")), np.array([False, False, True, False]))
    assert numbers.tolist() == [0, 0, 1, 1]
    assert Words(plain).numbers(np.empty(0, np.int64)).tolist() == []


def test_ordinary_ids(tokenizer):
    """What text can give: no control token, no row that nothing uses."""
    small = Tokenizer.train(["ab"], 512, masks=True)
    ordinary = Words(small).ordinary
    assert not set(small.specials.values()) & set(ordinary.tolist())
    assert ordinary.max() < small.vocabulary.size < 512
    assert set(range(256)) <= set(ordinary.tolist())


def test_sentences_by_hand(plain):
    """A full stop ends a sentence, with what closes behind it; one inside a number does not."""
    ids = np.array(plain.encode('It cost 3.14. Yes! "So?" 好。Tom…\nend'))
    ends = np.flatnonzero(Words(plain).sentence_ends(ids))
    parts = [plain.decode(part.tolist()) for part in np.split(ids, ends + 1)]
    assert parts == ["It cost 3.14. ", 'Yes! "', 'So?" ', "好。", "Tom…", "\n", "end"]
