"""Rows become batches: targets are the next tokens of the same document, and only those that teach."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from instar.batch import IGNORE
from instar.data.collate import Collate
from instar.data.memory import store_in_memory
from instar.data.packing import PACKINGS, windows
from instar.data.shards import Section

X = IGNORE


def store_of(*documents, teaches=None):
    return store_in_memory(
        [Section(ids, 0, 1, teaches=teaches and teaches[n]) for n, ids in enumerate(documents)], 70_000
    )


def test_a_packed_row_by_hand():
    """Documents 1 2 3 and 4 5 with one place of padding: nothing is predicted across, positions begin anew."""
    batch = Collate(store_of([1, 2, 3], [4, 5]), context=6, pad=9)([[(0, 0, 3), (1, 0, 2)]])
    assert batch.tokens.tolist() == [[1, 2, 3, 4, 5, 9]]
    assert batch.targets.tolist() == [[2, 3, X, 5, X, X]]
    assert batch.view.positions.tolist() == [[0, 1, 2, 0, 1, 0]]
    assert batch.view.segments.tolist() == [[0, 0, 0, 1, 1, 2]]
    assert batch.view.keep.tolist() == [[True] * 5 + [False]]
    assert batch.count() == 3
    assert {batch.tokens.dtype, batch.targets.dtype, batch.view.segments.dtype} == {torch.int64}


def test_a_cut_document_predicts_the_token_after_the_cut():
    """A row that ends inside a document still teaches its last token; the next row begins at position 0."""
    collate = Collate(store_of([1, 2, 3, 4, 5]), context=3)
    batch = collate(list(windows(np.array([5]), 3)))
    assert batch.tokens.tolist() == [[1, 2, 3], [4, 5, 0]]
    assert batch.targets.tolist() == [[2, 3, 4], [5, X, X]]


def test_rows_of_one_document_have_the_plain_view():
    """One piece to a row needs no mask but the causal one, so attention takes its fast path."""
    collate = Collate(store_of([1, 2, 3], [4, 5]), context=32)
    view = collate([[(0, 0, 3)], [(1, 0, 2)]]).view
    assert (view.positions, view.segments, view.keep) == (None, None, None)
    assert collate([[(0, 0, 3), (1, 0, 2)], [(1, 0, 2)]]).view.segments is not None


@pytest.mark.parametrize(("length", "width"), [(3, 16), (16, 16), (17, 20), (20, 20)])
def test_a_batch_is_as_wide_as_its_longest_row(length, width):
    """Rounded up to 16, so that shapes repeat, but never wider than the context the model can take."""
    assert Collate(store_of(list(range(length))), context=20)([[(0, 0, length)]]).tokens.shape == (1, width)


def test_full_rows_need_no_keep():
    """Without padding there is nothing to leave out."""
    assert Collate(store_of([1, 2], [3, 4]), context=4)([[(0, 0, 2), (1, 0, 2)]]).view.keep is None


def test_only_what_teaches_is_a_target():
    """targets[t] is the next token where that one teaches, wherever the row is cut."""
    store = store_of([1, 2, 3, 4], teaches=[[True, False, True, True]])
    collate = Collate(store, context=16)
    assert collate([[(0, 0, 4)]]).targets[0, :4].tolist() == [X, 3, 4, X]
    assert collate([[(0, 0, 2)]]).targets[0, :2].tolist() == [X, 3]


@pytest.mark.parametrize("packing", PACKINGS)
@given(lengths=st.lists(st.integers(0, 20), min_size=1, max_size=20), context=st.integers(2, 12))
def test_every_transition_is_taught_once(packing, lengths, context):
    """However rows are made, each token but a document's first is a target exactly once, after its predecessor."""
    starts = np.cumsum([0, *lengths])
    store = store_of(*[list(range(start, start + n)) for start, n in zip(starts, lengths)])
    rows = PACKINGS[packing](store.lengths, context)
    if not len(rows):
        return
    batch = Collate(store, context)(list(rows))
    live = batch.targets != IGNORE
    assert (batch.targets[live] == batch.tokens[live] + 1).all()
    wanted = [token for start, n in zip(starts, lengths) for token in range(start + 1, start + n)]
    assert sorted(batch.targets[live].tolist()) == wanted


def test_whole_rows_have_one_shape():
    """Compiled blocks see the context's width whatever the rows hold, and the same tokens, targets and view in it."""
    store = store_of([1, 2, 3], [4, 5])
    rows = [[(0, 0, 3), (1, 0, 2)]]
    short, whole = Collate(store, 64)(rows), Collate(store, 64, whole=True)(rows)
    assert (short.tokens.shape, whole.tokens.shape) == ((1, 16), (1, 64))
    assert torch.equal(whole.tokens[:, :16], short.tokens)
    assert torch.equal(whole.targets[:, :16], short.targets)
    assert (whole.targets[:, 16:] == X).all()
    assert not whole.view.keep[:, 5:].any()
