"""Pairs of answers in rows: where each token stands, what it should say, and whose it is."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from instar.batch import IGNORE
from instar.data.branches import PreferenceCollate, PreferenceRows, pair_sizes
from instar.data.loader import Loader, once
from instar.data.preferences import Preferences


def make(*pairs, margins=None, references=None):
    """A store of pairs of (prompt, chosen, rejected) given as lists of ids."""
    sizes = np.array([[0, *map(len, pair)] for pair in pairs])
    starts = np.cumsum(sizes.sum(1)) - sizes.sum(1)
    return Preferences(
        ids=np.array([id for pair in pairs for side in pair for id in side], np.uint16),
        bounds=sizes.cumsum(1) + starts[:, None],
        keys=np.arange(len(pairs), dtype=np.uint64), sizes=np.ones(len(pairs), np.int64),
        margins=margins, references=references,
    )  # fmt: skip


ONE = ([1, 2, 3], [4, 5], [6])
TWO = ([9], [8], [7, 7])


@pytest.fixture
def many():
    """Sixty pairs of all sizes, of which no two are alike."""
    generator = np.random.default_rng(1)
    sides = [[generator.integers(3, 60, size=generator.integers(1, 14)).tolist() for _ in "pcr"] for _ in range(60)]
    return make(*sides, margins=np.arange(60, dtype=np.float32), references=np.arange(120.0).reshape(60, 2))


def test_a_prompt_and_its_two_answers_by_hand():
    """Trunk, chosen, rejected: positions go on where the trunk ends, and the prompt's last token begins both."""
    rows = [[(0, 0, 7), (1, 0, 5)]]
    batch = PreferenceCollate(make(ONE, TWO), 16, pad=0)(rows)
    x = IGNORE
    assert batch.tokens.tolist() == [[1, 2, 3, 4, 5, 3, 6, 9, 8, 9, 7, 7, 0, 0, 0, 0]]
    assert batch.targets.tolist() == [[x, x, 4, 5, x, 6, x, 8, x, 7, 7, x, x, x, x, x]]
    assert batch.answer.tolist() == [[-1, -1, 0, 0, -1, 1, -1, 2, -1, 3, 3, -1, -1, -1, -1, -1]]
    assert batch.view.positions.tolist() == [[0, 1, 2, 3, 4, 2, 3, 0, 1, 0, 1, 2, 0, 0, 0, 0]]
    assert batch.view.branches.tolist() == [[0, 0, 1, 1, 1, 2, 2, 1, 1, 2, 2, 2, 0, 0, 0, 0]]
    assert batch.view.segments.tolist() == [[0] * 7 + [1] * 5 + [2] * 4]
    assert batch.view.keep.tolist() == [[True] * 12 + [False] * 4]
    assert batch.last.tolist() == [4, 6, 8, 11]
    assert (batch.answers, batch.count(), batch.margin, batch.reference) == (4, 2, None, None)


def test_two_sequences_by_hand():
    """Without sharing each answer has its prompt before it, and is a text of its own."""
    store = make(ONE, margins=np.array([0.5], np.float32), references=np.array([[-1.0, -2.0]]))
    assert pair_sizes(store, share=False).tolist() == [9]
    batch = PreferenceCollate(store, 9, pad=0, share=False)([[(0, 0, 9)]])
    x = IGNORE
    assert batch.tokens.tolist() == [[1, 2, 3, 4, 5, 1, 2, 3, 6]]
    assert batch.targets.tolist() == [[x, x, 4, 5, x, x, x, 6, x]]
    assert batch.view.segments.tolist() == [[0] * 5 + [1] * 4]
    assert batch.view.positions.tolist() == [[0, 1, 2, 3, 4, 0, 1, 2, 3]]
    assert (batch.view.branches, batch.view.keep) == (None, None)
    assert (batch.last.tolist(), batch.margin.tolist(), batch.reference.tolist()) == ([4, 8], [0.5], [-1.0, -2.0])


@pytest.mark.parametrize("share", [True, False])
def test_every_pair_is_in_one_row_whole(many, share):
    """Rows hold every pair once, are never too full, and are wider than the context only for a pair that is."""
    rows = PreferenceRows(many, 64, share)
    assert sorted(piece[0] for row in rows for piece in row) == list(range(60))
    sizes = pair_sizes(many, share)
    assert [start for row in rows for _, start, _ in row] == [0] * 60
    assert all(stop == sizes[pair] for row in rows for pair, _, stop in row)
    assert max(sum(stop for _, _, stop in row) for row in rows) <= rows.width == 64
    assert PreferenceRows(many, 27, share).width == max(27, sizes.max()) <= 2 * 27
    assert len(rows) < 60 / 2


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_answers_of_a_batch_are_those_of_the_store(many, share, whole):
    """Answers 2k and 2k + 1 are those of the k-th piece, row by row, with their margin and reference; the last token of
    each is where it is said to be, and answers end with it."""
    rows = PreferenceRows(many, 64, share)
    collate = PreferenceCollate(many, rows.width, share=share, whole=whole)
    for start in range(0, len(rows), 3):
        chosen = rows[start : start + 3]
        batch = collate(chosen)
        pairs = [piece[0] for row in chosen for piece in row]
        said = [side for pair in pairs for side in many.pair(pair)[1:]]
        assert batch.answers == 2 * len(pairs) == 2 * batch.count()
        for number, ids in enumerate(said):
            assert batch.targets[batch.answer == number].tolist() == ids.tolist()
        assert batch.tokens.flatten()[batch.last].tolist() == [ids[-1] for ids in said]
        assert ((batch.targets == IGNORE) == (batch.answer < 0)).all()
        assert batch.margin.tolist() == pairs
        assert batch.reference.tolist() == [float(2 * pair + side) for pair in pairs for side in (0, 1)]
        used = max(sum(size for _, _, size in row) for row in chosen)
        assert batch.tokens.shape[1] == (64 if whole else min(64, -(-used // 16) * 16))


@pytest.mark.parametrize("micro_rows", [1, 3, 0])
def test_the_loader_takes_them(many, micro_rows):
    """A step's micro-batches hold the pairs of its rows, with workers or without, and `once` holds every pair."""
    rows = PreferenceRows(many, 64)
    collate = PreferenceCollate(many, rows.width)
    loaders = [
        Loader(rows, collate, batch_rows=4, micro_rows=micro_rows, seed=5, workers=workers) for workers in (0, 2)
    ]
    for _ in range(2 * loaders[0].micro_batches):
        one, other = (next(loader) for loader in loaders)
        assert torch.equal(one.tokens, other.tokens)
        assert torch.equal(one.margin, other.margin)
    loaders[1].close()
    seen = torch.cat([batch.margin for batch in once(rows, collate, micro_rows=3)])
    assert sorted(seen.tolist()) == list(range(60))


def test_an_order_of_answers_is_an_order_of_answers(many):
    """Chosen and rejected exchanged in the store are exchanged in the batch, and nothing else is."""
    start, asked, chosen, rejected = many.bounds.T
    turned = replace(
        many,
        ids=np.concatenate([many.ids[np.r_[s:a, c:r, a:c]] for s, a, c, r in many.bounds]),
        bounds=np.stack([start, asked, asked + rejected - chosen, rejected], 1),
    )
    one, other = (PreferenceCollate(store, 64)([[(3, 0, 1)]]) for store in (many, turned))
    for number in (0, 1):
        assert one.targets[one.answer == number].tolist() == other.targets[other.answer == 1 - number].tolist()


def test_a_batch_moves_whole(many):
    """All its tensors go to a device, those of the view too."""
    batch = PreferenceCollate(many, 64)([[(0, 0, 1)]]).to("meta")
    assert {x.device.type for x in (batch.tokens, batch.answer, batch.last, batch.margin, batch.view.branches)} == {
        "meta"
    }
