"""The order of rows is a function of seed and step alone."""

from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.batch import Batch
from instar.config import InputError
from instar.data.loader import Loader, Place, once, shuffled


def show(rows):
    """A batch whose tokens are the numbers of its rows."""
    tokens = torch.tensor(rows)[:, None]
    return Batch(tokens, tokens)


def loader(rows=37, **options):
    return Loader(range(rows), show, **{"batch_rows": 8, **options})


def drawn(source, micro_batches):
    return [next(source).tokens[:, 0].tolist() for _ in range(micro_batches)]


@given(size=st.integers(1, 3000), seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 9))
def test_an_epoch_is_every_row_once(size, seed, epoch):
    """Whatever the size, the order is a permutation, and each place can be asked for alone."""
    order = shuffled(np.arange(size), size, seed, epoch)
    assert sorted(order.tolist()) == list(range(size))
    assert shuffled(np.array([size // 2]), size, seed, epoch)[0] == order[size // 2]


def test_orders_differ_by_seed_and_epoch_and_look_random():
    """No two epochs alike, no row tied to its place, neighbours torn apart."""
    orders = [shuffled(np.arange(5000), 5000, seed, epoch) for seed in (0, 1) for epoch in (0, 1, 2)]
    for number, order in enumerate(orders):
        assert abs(np.corrcoef(np.arange(5000), order)[0, 1]) < 0.06
        assert (np.abs(np.diff(order)) == 1).sum() < 12
        assert all((order == other).sum() < 12 for other in orders[:number])


def test_a_place_falls_evenly_over_the_rows():
    """Over many seeds the first row of an epoch is any row, by chi-square (16 rows, 1,600 draws)."""
    counts = np.bincount([int(shuffled(np.array([0]), 16, seed, 0)[0]) for seed in range(1600)], minlength=16)
    assert ((counts - 100) ** 2 / 100).sum() < 40


def test_the_order_is_frozen():
    """A new version goes on with an old run: the order is part of the format of a checkpoint."""
    assert loader(seed=7).row_ids(0) == [23, 34, 27, 17, 1, 19, 31, 9]
    assert loader(seed=7).row_ids(100) == [24, 16, 26, 19, 14, 10, 3, 18]
    assert loader(10**9).row_ids(5 * 10**6)[:4] == [3169867, 579563169, 406592173, 582925703]


@settings(deadline=None, max_examples=12)
@given(
    rows=st.integers(1, 60),
    seed=st.integers(0, 5),
    world=st.sampled_from([1, 2, 4]),
    micro_rows=st.sampled_from([0, 1, 3]),
    workers=st.sampled_from([0, 2]),
)
def test_any_ranks_and_workers_see_the_same_steps(rows, seed, world, micro_rows, workers):
    """The rows of a step are the same whoever shares it: each once, rank r taking every world-th."""
    plain = loader(rows, seed=seed)
    for step in range(3):
        (wanted,) = drawn(plain, 1)
        assert plain.row_ids(step) == wanted
    ranks = [
        loader(rows, seed=seed, rank=rank, world=world, micro_rows=micro_rows, workers=workers) for rank in range(world)
    ]
    for step in range(3):
        parts = [list(chain(*drawn(rank, rank.micro_batches))) for rank in ranks]
        assert [row for group in zip(*parts) for row in group] == plain.row_ids(step)
    for rank in ranks:
        rank.close()


def test_no_row_is_dropped_between_epochs():
    """37 rows in steps of 8: after 37 steps every row was seen exactly 8 times, and epochs cross inside a step."""
    source = loader()
    rows = [row for step in drawn(source, 37) for row in step]
    assert [rows.count(row) for row in range(37)] == [8] * 37
    assert all(sorted(rows[start : start + 37]) == list(range(37)) for start in range(0, len(rows), 37))
    assert source.epoch == 8


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [0, 3, 7, 11])
def test_going_on_is_the_same_as_never_having_stopped(stop, workers):
    """Resumed in the middle of an epoch and of a step, the rows that follow are those that would have followed."""
    source = loader(micro_rows=3, workers=workers)
    drawn(source, stop)
    state = source.state_dict()
    wanted = drawn(source, 9)
    again = loader(micro_rows=3, workers=workers)
    drawn(again, 2)
    again.load_state_dict(state)
    assert drawn(again, 9) == wanted
    source.close()
    again.close()


def test_between_steps_ranks_may_change():
    """A run of one rank goes on with two, at the same rows."""
    source = loader(micro_rows=4)
    drawn(source, 6)
    first, second = (loader(rank=rank, world=2) for rank in (0, 1))
    for rank in (first, second):
        rank.load_state_dict(source.state_dict())
    assert sorted(drawn(first, 1)[0] + drawn(second, 1)[0]) == sorted(source.row_ids(3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed was 0 and is 1"),
        ({"rows": 36}, "rows was 37 and is 36"),
        ({"batch_rows": 4}, "batch_rows was 8"),
    ],
)
def test_another_sequence_is_not_resumed(change, message):
    """Story: nanoGPT#467 and others, a resumed run that quietly reads other data. Both values are named."""
    with pytest.raises(InputError, match=message):
        loader(**change).load_state_dict(loader().state_dict())


def test_inside_a_step_the_parts_must_stay_the_same():
    """Half a step of one division cannot be finished with another."""
    source = loader(micro_rows=3)
    drawn(source, 1)
    with pytest.raises(InputError, match="micro_rows was 3 and is 8"):
        loader().load_state_dict(source.state_dict())


def test_steps_of_an_epoch():
    """Passes over the rows as steps: rounded up, and never none."""
    assert (loader().steps_per_epoch, loader().steps(2.0), loader().steps(0.01)) == (5, 10, 1)
    assert loader(micro_rows=3).micro_batches == 3


def test_nothing_to_load_is_an_error():
    """An empty data set and a batch that ranks cannot share fail before the first step."""
    with pytest.raises(InputError, match="no rows to train on"):
        loader(0)
    with pytest.raises(InputError, match="a batch of 8 rows does not divide among 3 ranks"):
        loader(world=3)


def test_a_worker_that_fails_fails_the_run():
    """An error while collating ahead is raised where the batch would have come."""

    def collate(rows):
        raise RuntimeError("broken row")

    with pytest.raises(RuntimeError, match="broken row"):
        next(Loader(range(4), collate, batch_rows=2, workers=1))


def test_once_reads_every_row_in_order():
    """Evaluation sees each row once, over ranks too."""
    assert [batch.tokens[:, 0].tolist() for batch in once(range(5), show, micro_rows=2)] == [[0, 1], [2, 3], [4]]
    assert [b.tokens[:, 0].tolist() for b in once(range(5), show, micro_rows=2, rank=1, world=2)] == [[1, 3]]


class Noting:
    """A collator that wants places: each row's tokens are its place and its row."""

    wants_places = True

    def __call__(self, rows, places):
        assert [place.row for place in places] == list(rows)
        tokens = torch.tensor(places)
        return Batch(tokens, tokens)


@pytest.mark.parametrize(
    ("world", "micro_rows", "workers"), [(1, 0, 0), (1, 3, 0), (1, 1, 2), (2, 0, 0), (2, 3, 2), (4, 1, 0)]
)
def test_a_row_has_the_same_place_whoever_collates_it(world, micro_rows, workers):
    """Places count the endless sequence, over steps and epochs, whatever the ranks, micro-batches and workers."""
    plain = loader()
    wanted = [Place(step * 8 + k, row) for step in range(6) for k, row in enumerate(plain.row_ids(step))]
    found = []
    for rank in range(world):
        source = Loader(
            range(37), Noting(), batch_rows=8, rank=rank, world=world, micro_rows=micro_rows, workers=workers
        )
        for _ in range(6 * source.micro_batches):
            found += [Place(*pair) for pair in next(source).tokens.tolist()]
        source.close()
    assert sorted(found) == wanted


def test_places_go_on_where_a_run_goes_on():
    """A resumed run draws the noise that it would have drawn."""
    source = Loader(range(37), Noting(), batch_rows=8, micro_rows=3)
    drawn(source, 4)
    again = Loader(range(37), Noting(), batch_rows=8, micro_rows=3)
    again.load_state_dict(source.state_dict())
    assert torch.equal(next(again).tokens, next(source).tokens)


def test_once_places_rows_by_their_number():
    """In evaluation a row has the same place each time, on any rank."""
    places = [b.tokens.tolist() for b in once(range(10, 15), lambda rows: show(rows), micro_rows=2, rank=1, world=2)]
    assert places == [[[11], [13]]]

    class Rows(Noting):
        def __call__(self, rows, places):
            return Noting.__call__(self, [place.row for place in places], places)

    found = [b.tokens.tolist() for b in once(range(10, 15), Rows(), micro_rows=1, rank=1, world=2)]
    assert found == [[[1, 1]], [[3, 3]]]
