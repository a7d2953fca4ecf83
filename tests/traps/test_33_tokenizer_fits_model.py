"""Trap 33: a tokenizer with more ids than the model has rows ended in a device-side assert that named neither
(huggingface/transformers#1848, #12763, #24698; huggingface/tokenizers#1609).

Guard: `check_fits` compares both sizes before anything runs.
"""

import pytest

from instar import InputError, Tokenizer
from instar.text import check_fits

TOKENIZER = Tokenizer.train(["a"], 320)


def test_larger_tokenizer_is_an_error_that_names_both_sizes():
    """One row too few is refused, with both numbers and a remedy."""
    size = TOKENIZER.vocabulary.size
    with pytest.raises(InputError, match=rf"{size} ids .* {size - 1} rows .* use the tokenizer"):
        check_fits(TOKENIZER, size - 1)


def test_padded_rows_are_no_ids():
    """A model may have more rows than ids, and exactly as many."""
    check_fits(TOKENIZER, TOKENIZER.vocabulary.size)
    check_fits(TOKENIZER, TOKENIZER.vocab_size)
    assert max(TOKENIZER.specials.values()) < TOKENIZER.vocab_size
