"""Rows out of lengths: every token in exactly one piece, no row too long, short documents whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instar.config import InputError
from instar.data.packing import PACKINGS, best_fit, one_each, windows

LENGTHS = st.lists(st.integers(0, 40), min_size=1, max_size=60)


def covered(rows):
    """document -> the places that are in some piece, in the order of the rows."""
    places = {}
    for row in rows:
        for document, start, stop in row:
            places.setdefault(document, []).extend(range(start, stop))
    return places


@pytest.mark.parametrize("packing", PACKINGS)
@given(lengths=LENGTHS, context=st.integers(2, 24))
def test_every_token_is_in_one_piece_and_every_row_fits(packing, lengths, context):
    """No token twice, none lost but the last one of a document cut just before it, which has nothing left to say."""
    rows = PACKINGS[packing](np.array(lengths), context)
    places = covered(rows)
    for document, length in enumerate(lengths):
        found = sorted(places.get(document, []))
        spent = packing != "windows" and length > context and length % context == 1
        assert found == list(range(length - spent))
    assert all(sum(stop - start for _, start, stop in row) <= context for row in rows)
    assert all(row for row in rows)


def test_windows_cut_the_stream():
    """Documents of 3, 0, 5 and 2 tokens in rows of 4."""
    rows = windows(np.array([3, 0, 5, 2]), 4)
    assert list(rows) == [[(0, 0, 3), (2, 0, 1)], [(2, 1, 5)], [(3, 0, 2)]]
    assert rows[1:] == [[(2, 1, 5)], [(3, 0, 2)]]
    with pytest.raises(IndexError, match="row 3 of 3"):
        rows[3]


def test_best_fit_puts_each_piece_into_the_tightest_row():
    """Lengths 7, 5, 3, 2, 2 in rows of 10: 7+3 and 5+2+2, as by hand."""
    rows = best_fit(np.array([2, 7, 5, 3, 2]), 10)
    assert list(rows) == [[(1, 0, 7), (3, 0, 3)], [(2, 0, 5), (0, 0, 2), (4, 0, 2)]]


@given(lengths=LENGTHS, context=st.integers(2, 48))
def test_best_fit_keeps_what_fits_whole_and_counts_the_rest(lengths, context):
    """A document is in several pieces only when it is longer than a row."""
    rows = best_fit(np.array(lengths), context)
    pieces = [document for row in rows for document, _, _ in row]
    assert all(pieces.count(n) <= 1 for n, length in enumerate(lengths) if length <= context)
    assert rows.split == sum(length > context for length in lengths)


def test_best_fit_fills_rows():
    """Real lengths leave under two percent of a row empty."""
    lengths = np.random.default_rng(0).integers(20, 300, 5000)
    rows = best_fit(lengths, 1024)
    assert lengths.sum() / (len(rows) * 1024) > 0.98


def test_one_each_gives_a_row_per_document():
    """Without packing nothing shares a row."""
    rows = one_each(np.array([3, 9]), 4)
    assert list(rows) == [[(0, 0, 3)], [(1, 0, 4)], [(1, 4, 8)]]
    assert rows.split == 1


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_context_that_predicts_nothing_is_refused(packing):
    """A row of one token has no next one."""
    with pytest.raises(InputError, match="context=1 leaves nothing to predict"):
        PACKINGS[packing](np.array([3]), 1)
    assert len(PACKINGS[packing](np.empty(0, np.int64), 8)) == 0
