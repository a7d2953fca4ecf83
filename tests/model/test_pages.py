"""The blocks of keys, against a model in plain Python: what is read back is what was written, and nothing is lost."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)  # fmt: skip

from instar.config import ModelConfig
from instar.model.pages import Pages
from instar.model.pool import BLOCK

ROWS, CAPACITY, SOURCE, CHUNK = 5, 80, 40, 24
# beginnings that texts have in common, and what tells them apart
TEXTS = st.builds(
    lambda first, cut, rest: ([first] * 72)[:cut] + rest,
    st.integers(0, 1), st.integers(0, 72), st.lists(st.integers(0, 1), min_size=1, max_size=6),
)  # fmt: skip
SOURCES = st.sampled_from([(1,), (2,) * 17, (3,) * 40])


def config(windows, encoder_layers=0):
    return ModelConfig(
        vocab_size=8, d_model=4, layers=3, heads=2, kv_heads=1, windows=windows, encoder_layers=encoder_layers,
        max_positions=CAPACITY,
    )  # fmt: skip


class Row:
    """A text as the model knows it: what was read of it, the number that stands for each token's keys, and the rest."""

    def __init__(self, ids, rest, numbers, source, about):
        self.ids, self.rest, self.numbers = list(ids), list(rest), list(numbers)
        self.source, self.about = source, about

    def copy(self):
        return Row(self.ids, self.rest, self.numbers, self.source, self.about)


class Machine(RuleBasedStateMachine):
    """Random walks through all that can happen to rows."""

    windows, encoder_layers = (0, 5, 20), 0
    taken = 0

    @initialize(tight=st.floats(1.0, 4.0))
    def begin(self, tight):
        made = config(self.windows, self.encoder_layers)
        more = dict(source_capacity=SOURCE if self.encoder_layers else 0, chunk=CHUNK, dtype=torch.float64)
        least = Pages(made, 1, CAPACITY, **more).budget
        self.pages = Pages(made, ROWS, CAPACITY, budget=int(least * tight), **more)
        self.rows, self.era = {}, 0

    def numbers(self, ids, start, source):
        """What the keys of ids[start:] are: they depend on all ids before, the source, and the weights."""
        return [float(hash((tuple(ids[: n + 1]), source, self.era)) % 2**31 + 1) for n in range(start, len(ids))]

    def write(self, row, start, numbers):
        """As a forward pass does, in every kind of layer."""
        for pool in self.pages.pools.values():
            places = np.arange(start, start + len(numbers))
            blocks = torch.from_numpy(pool.table[row, places // BLOCK])
            for layer, store in pool.stores.items():
                store[:, blocks, torch.from_numpy(places % BLOCK)] = torch.tensor(numbers, dtype=torch.float64)[
                    None, :, None, None
                ].add(layer)

    def pick(self, data):
        return data.draw(st.sampled_from(sorted(self.rows)))

    @precondition(lambda self: self.pages.free_rows)
    @rule(ids=TEXTS, source=SOURCES)
    def open(self, ids, source):
        source = source if self.encoder_layers else ()
        if source and not self.pages.source_fits(source):
            assert len(source) > BLOCK * (self.pages.sources.free)
            return
        root = self.pages.root_of(source) if source else b""
        matched, coming = self.pages.match(ids, root)
        if coming:  # somebody is at it
            near = ids[: matched + BLOCK]
            assert any((row.ids + row.rest)[: len(near)] == near and row.rest for row in self.rows.values())
        free = [pool.free for pool in self.pages.every]
        row, known = self.pages.open(ids, root)
        assert row not in self.rows
        assert known == matched < len(ids)
        if not known:
            assert [pool.free for pool in self.pages.every] == free
        about = self.numbers(source, 0, ())
        self.rows[row] = Row(ids[:known], ids[known:], self.numbers(ids[:known], 0, source), source, about)
        if source and not self.pages.attend_to(row, source):
            pool = self.pages.sources
            for place, number in enumerate(about):
                for store in pool.stores.values():
                    store[:, pool.table[row, place // BLOCK], place % BLOCK] = number

    @precondition(lambda self: self.rows)
    @rule(data=st.data(), more=st.lists(st.integers(0, 1), min_size=1, max_size=18), draft=st.integers(0, 5))
    def read(self, data, more, draft):
        """A prompt goes on, or an answer, with guesses behind it that turn out wrong."""
        row = self.pick(data)
        own = self.rows[row]
        count = min(len(own.rest) or len(more), CHUNK - 6, CAPACITY - len(own.ids))
        if not count:
            return
        new = (own.rest or more)[:count]
        draft = min(draft, CAPACITY - len(own.ids) - count) if not own.rest else 0
        length = len(own.ids)
        fits = self.pages.fits(row, length + count + draft)
        before = [(pool.table.copy(), pool.count.copy(), pool.free) for pool in self.pages.every]
        grown = self.pages.grow(row, length + count + draft)
        assert grown == fits
        if not grown:  # nothing changed
            assert any(pool.free < 3 + count // BLOCK for pool in self.pages.pools.values())
            for pool, (table, counts, free) in zip(self.pages.every, before):
                assert (pool.table == table).all()
                assert (pool.count == counts).all()
                assert pool.free == free
            return
        assert not self.pages.cramped(np.array([row]), count + draft).size
        numbers = self.numbers(own.ids + new, length, own.source)
        self.write(row, length, numbers + [-7.0] * draft)
        own.ids, own.rest, own.numbers = own.ids + new, own.rest[count:], own.numbers + numbers
        for filled in self.pages.advance(np.array([row]), np.array([count])).tolist():
            self.pages.fill(filled, own.ids + own.rest)

    @precondition(lambda self: self.rows and self.pages.free_rows)
    @rule(data=st.data())
    def fork(self, data):
        row = self.pick(data)
        free = [pool.free for pool in self.pages.every]
        new = self.pages.fork(row)
        self.rows[new] = self.rows[row].copy()
        assert [pool.free for pool in self.pages.every] == free

    @precondition(lambda self: sum(not row.rest for row in self.rows.values()) > 1)
    @rule(data=st.data())
    def reorder(self, data):
        rows = data.draw(st.permutations([row for row, own in sorted(self.rows.items()) if not own.rest]))
        parents = [data.draw(st.sampled_from(rows)) for _ in rows]
        self.pages.reorder(rows, parents)
        self.rows |= dict(zip(rows, [self.rows[parent].copy() for parent in parents]))

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def close(self, data):
        row = self.pick(data)
        self.pages.close(row)
        del self.rows[row]

    @precondition(lambda self: not self.rows)
    @rule()
    def clear(self):
        self.pages.clear()
        self.era += 1
        for pool in self.pages.every:
            assert pool.free == pool.total
            assert not any(store.any() for store in pool.stores.values())

    @rule(often=st.sampled_from([False] * 7 + [True]))
    def forget(self, often):
        if often:
            self.pages.forget()
            self.era += 1

    @invariant()
    def the_books_balance(self):
        type(self).taken += 1
        self.pages.check()
        assert self.pages.nbytes <= self.pages.budget
        assert self.pages.free_rows + len(self.rows) == ROWS
        for pool in self.pages.every:
            assert pool.allocated + pool.free == pool.total
            if not self.rows:
                assert pool.allocated == 0

    @invariant()
    def what_is_read_is_what_was_written(self):
        for row, own in self.rows.items():
            length = self.pages.lengths[row]
            assert length == len(own.ids)
            for window, pool in self.pages.pools.items():
                begin = max(0, length - window + 1) if window else 0
                assert pool.count[row] - pool.first[row] <= -(-(window + CHUNK) // BLOCK) + 2 or not window
                self.same(pool, row, begin, own.numbers)
            if own.source:
                assert self.pages.source_lengths[row] == len(own.source)
                self.same(self.pages.sources, row, 0, own.about, shift=0)

    def same(self, pool, row, begin, numbers, shift=1):
        places = np.arange(begin, len(numbers))
        assert not len(places) or pool.first[row] <= begin // BLOCK
        assert len(numbers) <= pool.count[row] * BLOCK
        blocks = torch.from_numpy(pool.table[row, places // BLOCK])
        for layer, store in pool.stores.items():
            found = store[:, blocks, torch.from_numpy(places % BLOCK), 0, 0]
            assert (found == torch.tensor(numbers[begin:], dtype=torch.float64) + shift * layer).all()


def walk(machine, examples, steps):
    chosen = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck), phases=(Phase.generate, Phase.shrink), report_multiple_bugs=False,
    )  # fmt: skip
    machine.taken = 0
    run_state_machine_as_test(machine, settings=chosen)
    return machine.taken


class Plain(Machine):
    windows = ()


class Crossing(Machine):
    windows, encoder_layers = (), 1


class Near(Machine):
    """No layer sees everything."""

    windows = (5, 20, 5)


MACHINES = (Plain, Machine, Crossing, Near)


@pytest.mark.parametrize("machine", MACHINES)
def test_random_walks(machine):
    """S13: allocated + free = total after each step; what rows read is what was written for exactly their tokens."""
    assert walk(machine, 20, 30) > 20 * 15


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_long_random_walks(machine):
    """The same, over 10,000 steps of each kind."""
    assert walk(machine, 100, 120) > 10_000


def test_blocks_behind_the_end_are_not_shared():
    """A row with room for guesses that came to nothing goes on as two, and each writes to blocks of its own."""
    pages = Pages(config(()), 3, CAPACITY)
    row, _ = pages.open([1] * 10)
    assert pages.grow(row, 18)
    pages.advance(np.array([row]), 10)
    new = pages.fork(row)
    assert pages.grow(row, 20)
    assert pages.grow(new, 20)
    assert len(set(pages.pools[0].table[[row, new], :2].flatten().tolist())) == 4
    pages.check()


def test_books_do_not_grow():
    """A thousand texts that come and go leave no more behind than the blocks are."""
    pages = Pages(config(()), 2, CAPACITY)
    pool = pages.pools[0]
    for n in range(1000):
        row, _ = pages.open([n % 8] * 8)
        assert pages.grow(row, 40)
        pages.close(row)
    assert len(pool._heap) <= 2 * pool.total
    pages.check()
