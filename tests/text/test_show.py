"""How a text becomes tokens, step by step."""

from itertools import pairwise

import pytest

from instar.config import InputError
from instar.text import Tokenizer
from instar.text.show import show, visible


def test_the_steps_end_in_the_ids(tokenizer, texts):
    """The words' tokens are the encoder's ids, and the words' bytes are the text's."""
    for text in (*texts, "", "  x\n\n", "👨‍👩‍👧 e\u0301"):
        shown = show(tokenizer, text)
        assert list(shown.ids) == tokenizer.encode(text)
        assert bytes.fromhex(" ".join(word.bytes for word in shown.words)) == text.encode()


def test_each_step_is_one_merge(tokenizer):
    """Every step joins one neighbouring pair, and the last one leaves the tokens."""
    (word,) = show(tokenizer, "garden").words
    counts = [len("garden"), *(len(step.pieces) for step in word.steps)]
    assert [before - after for before, after in pairwise(counts)] == [1] * len(word.steps)
    assert [token.piece for token in word.tokens] == list(word.steps[-1].pieces)
    assert "".join(token.piece for token in word.tokens) == "garden"


def test_half_a_character_is_its_bytes():
    """A Chinese character over three tokens is shown as bytes, and U+FFFD nowhere."""
    shown = show(Tokenizer.train([], 320), "a世")
    lines = list(shown.lines(merges=True))
    assert lines[0].startswith("a世  [61 E4 B8 96]  a=")
    assert "<E4>=" in lines[0]
    assert "\ufffd" not in "".join(lines)


def test_lines(tokenizer):
    """One line for a word, one below it for each merge, one that sums up."""
    shown = show(tokenizer, " ball\n")
    lines = list(shown.lines(merges=True))
    assert lines[0].startswith("·ball  [20 62 61 6C 6C]  ·ball=")
    assert len(lines) == len(shown.words) + sum(len(word.steps) for word in shown.words) + 1
    assert lines[-1].startswith(f"{len(shown.ids)} tokens, {6 / len(shown.ids):.2f} bytes per token: ")
    assert len(list(shown.lines())) == len(shown.words) + 1


def test_what_does_not_print_is_escaped():
    """No control character reaches a terminal."""
    assert visible(" a\n\x1b[31m") == "·a\\n\\x1b[31m"
    assert visible("<E4 B8>") == "<E4 B8>"


def test_too_much_to_show(tokenizer):
    """A word or a text beyond what an eye can follow is refused."""
    for text in ("a" * 3_000, "a " * 60_000):
        with pytest.raises(InputError, match="can be shown"):
            show(tokenizer, text)
    with pytest.raises(InputError, match="surrogate"):
        show(tokenizer, "\ud800")


@pytest.mark.parametrize("folder", ["tokenizers/gpt2", "tokenizers/minimind", "weights/TinyStories-656K"])
def test_real_vocabularies(shared, folder):
    """Replayed merges of real vocabularies end in their ids, unknown characters and all."""
    real = Tokenizer.load(shared / folder)
    for text in ("Once upon a time, there was a dog.\n", "猴王在花园里 a", " two  spaces"):
        assert list(show(real, text).ids) == real.encode(text)
