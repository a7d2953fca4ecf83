"""What is done to a text is exactly what the papers say, and every draw is the generator's."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instar.config import InputError
from instar.data.noise import (
    check_rate,
    choose,
    corrupt,
    generator,
    infill,
    permute,
    segments,
    sentinels_needed,
    span_counts,
    spans,
)  # fmt: skip

MARKS = list(range(900, 1000))


class Cuts:
    """A generator whose permutations, and Poisson lengths, are told beforehand."""

    def __init__(self, *orders, lengths=()):
        self.orders, self.lengths = list(orders), list(lengths)

    def poisson(self, mean):
        return self.lengths.pop(0)

    def permutation(self, size):
        order = np.array(self.orders.pop(0))
        assert sorted(order.tolist()) == list(range(size))
        return order


def test_draws_depend_on_seed_and_number_alone():
    """The same two give the same draws, any other two others."""
    draws = {(seed, n): generator(seed, n).integers(2**60) for seed in range(3) for n in range(50)}
    assert len(set(draws.values())) == 150
    assert generator(2, 7).integers(2**60) == draws[2, 7]


def test_whole_words_are_chosen_together():
    """Of a word all tokens or none, never what is not allowed."""
    words = np.repeat(np.arange(400), np.arange(400) % 4 + 1)
    allowed = np.ones(len(words), bool)
    allowed[:20] = False
    for seed in range(20):
        chosen = choose(words, allowed, 0.3, generator(seed, 0))
        assert not chosen[:20].any()
        shares = [chosen[words == word].mean() for word in range(10, 400)]
        assert set(shares) == {0.0, 1.0}


@pytest.mark.parametrize("rate", [0.15, 0.3])
def test_a_share_of_the_words_is_chosen(rate):
    """Each word alike, within three standard deviations."""
    words = np.arange(200)
    hits = sum(choose(words, np.ones(200, bool), rate, generator(5, n)) for n in range(200))
    assert abs(hits.sum() - 40_000 * rate) < 3 * (40_000 * rate * (1 - rate)) ** 0.5
    assert np.abs(hits - 200 * rate).max() < 5 * (200 * rate * (1 - rate)) ** 0.5


def test_a_short_row_teaches_something():
    """Where the draws choose no word one is chosen, any of them; a row of nothing but control tokens has none."""
    allowed = np.array([False, True, True, True])
    chosen = [choose(np.arange(4), allowed, 0.01, generator(1, n)) for n in range(200)]
    assert all(one.any() for one in chosen)
    assert {int(np.flatnonzero(one)[0]) for one in chosen} == {1, 2, 3}
    assert not choose(np.arange(4), np.zeros(4, bool), 0.5, generator(1, 1)).any()
    assert choose(np.empty(0, int), np.empty(0, bool), 0.5, generator(1, 1)).shape == (0,)


def test_eight_in_ten_are_masked():
    """80/10/10 of the chosen within three standard deviations; random tokens are ordinary, the rest is untouched."""
    ids, ordinary = np.full(40_000, 7), np.arange(100, 200)
    chosen = np.arange(40_000) % 2 == 0
    seen = corrupt(ids, chosen, 5, ordinary, generator(3, 0))
    assert (seen[~chosen] == 7).all()
    kinds = Counter("mask" if id == 5 else "same" if id == 7 else "random" for id in seen[chosen].tolist())
    for kind, share in (("mask", 0.8), ("random", 0.1), ("same", 0.1)):
        assert abs(kinds[kind] - 20_000 * share) < 3 * (20_000 * share * (1 - share)) ** 0.5
    others = seen[(seen != 5) & (seen != 7)]
    assert (others.min(), others.max()) == (100, 199)
    assert (ids == 7).all()


@pytest.mark.parametrize(
    ("length", "rate", "mean", "counts"),
    [
        (512, 0.15, 3.0, (77, 26)), (568, 0.15, 3.0, (85, 28)), (16, 0.15, 3.0, (2, 1)), (2, 0.15, 3.0, (1, 1)),
        (3, 0.9, 1.0, (2, 1)), (10, 0.5, 1.0, (5, 5)), (1, 0.15, 3.0, (1, 1)), (0, 0.15, 3.0, (0, 0)),
    ],
)  # fmt: skip
def test_span_counts_by_hand(length, rate, mean, counts):
    """The numbers of the paper: round(length * rate) tokens in round(taken / mean) spans, at least one of each."""
    assert span_counts(length, rate, mean) == counts
    assert sentinels_needed(length, rate, mean) == counts[1] + 1


def test_span_corruption_by_hand():
    """Ten tokens, rate 0.4, mean 2: four go in two spans. Cut 1+3 taken and 2+4 kept, from the definition."""
    draws = Cuts([0, 2, 1], [1, 0, 2, 3, 4])
    source, target = spans(np.arange(10), MARKS, 0.4, 2.0, draws)
    assert source.tolist() == [0, 1, 900, 3, 4, 5, 6, 901]
    assert target.tolist() == [900, 2, 901, 7, 8, 9, 902]


def test_the_example_of_the_paper():
    """Thank you [for inviting] me to your party [last] week, its last word left out since a text ends with a span."""
    words = "Thank you for inviting me to your party last".split()
    source, target = spans(np.arange(9), MARKS, 1 / 3, 1.5, Cuts([1, 0], [1, 0, 2, 3, 4]))
    read = dict(enumerate(words)) | {900: "<X>", 901: "<Y>", 902: "<Z>"}
    assert " ".join(read[id] for id in source.tolist()) == "Thank you <X> me to your party <Y>"
    assert " ".join(read[id] for id in target.tolist()) == "<X> for inviting <Y> last <Z>"


def restored(source, target):
    """The text that a source and a target make together."""
    parts, mark = {}, None
    for id in target.tolist():
        if id >= 900:
            mark = id
        else:
            parts.setdefault(mark, []).append(id)
    return [out for id in source.tolist() for out in (parts.get(id, []) if id >= 900 else [id])]


@given(length=st.integers(0, 300), rate=st.sampled_from([0.15, 0.5, 0.9]), mean=st.sampled_from([1.0, 3.0, 8.0]))
def test_source_and_target_make_the_text(length, rate, mean):
    """Nothing is lost and nothing stands twice; sentinels go up from the first in both; the counts are exact."""
    marks = list(range(900, 1300))
    source, target = spans(np.arange(length), marks, rate, mean, generator(length, 1))
    taken, count = span_counts(length, rate, mean)
    assert restored(source, target) == list(range(length))
    assert [id for id in source.tolist() if id >= 900] == marks[:count]
    assert [id for id in target.tolist() if id >= 900] == marks[: count + 1]
    assert len(target) == taken + count + 1
    if length > 1:
        assert source[0] == 0
        assert source[-1] >= 900


def test_divisions_are_equally_likely():
    """Five things in three parts: the six ways, each about as often (chi-square, 1,200 draws)."""
    ways = Counter(tuple(segments(5, 3, generator(0, n)).tolist()) for n in range(1200))
    assert len(ways) == 6
    assert sum((count - 200) ** 2 / 200 for count in ways.values()) < 25
    assert all(sum(way) == 5 and min(way) >= 1 for way in ways)


def test_too_few_sentinels():
    """The error says how many it takes."""
    with pytest.raises(InputError, match="takes 27 sentinels; the tokenizer has 20"):
        spans(np.arange(512), MARKS[:20], 0.15, 3.0, generator(0, 0))


@given(length=st.integers(0, 200), number=st.integers(0, 10_000))
def test_infilling_takes_its_share(length, number):
    """What stays stays in order, exactly a share of 0.3 is gone, and the source is never longer than the text."""
    ids = np.arange(length)
    seen = infill(ids, 999, 0.3, 3.0, generator(1, number))
    stay = seen[seen != 999]
    assert len(stay) == length - round(length * 0.3)
    assert (np.diff(stay) > 0).all()
    assert len(seen) <= length


def test_lengths_of_infilled_spans():
    """A mask for each Poisson(3) span, also for one of no tokens: as many as the renewal theorem has for 300 tokens."""
    masks = [int((infill(np.arange(1000), 9999, 0.3, 3.0, generator(2, n)) == 9999).sum()) for n in range(300)]
    assert abs(np.mean(masks) - (300 / 3 + (3 + 3**2) / (2 * 3**2) - 1 / 6)) < 1.1
    assert np.std(masks) == pytest.approx((300 / 3**3 * 3) ** 0.5, rel=0.2)


def test_infilling_by_hand():
    """Spans of 2, 0 and 1 tokens in the second, third and seventh of ten slots; the last draw is cut."""
    draws = Cuts([6, 1, 2, 0, 3, 4, 5, 7, 8, 9], lengths=[2, 0, 5])
    seen = infill(np.arange(10), 99, 0.3, 3.0, draws)
    assert seen.tolist() == [0, 99, 99, 3, 4, 5, 99, 7, 8, 9]


def test_a_source_never_outgrows_its_text():
    """Three spans of nothing and one of three tokens would make ten tokens eleven: one span of nothing is left out."""
    draws = Cuts([2, 0, 1, 3, 4, 5, 6, 7, 8, 9], lengths=[0, 0, 0, 5])
    assert infill(np.arange(10), 99, 0.3, 3.0, draws).tolist() == [99, 99, 99, *range(3, 10)]


def test_sentences_change_places():
    """Each sentence whole, every order possible, the rest behind the last mark a sentence too."""
    ids, ends = np.array([1, 2, 0, 3, 0, 4]), np.array([0, 0, 1, 0, 1, 0], bool)
    orders = {tuple(permute(ids, ends, generator(0, n)).tolist()) for n in range(100)}
    assert len(orders) == 6
    assert (4, 3, 0, 1, 2, 0) in orders
    assert permute(np.empty(0, np.int64), np.empty(0, bool), generator(0, 0)).tolist() == []


@pytest.mark.parametrize(("rate", "mean"), [(0.0, 3.0), (1.0, 3.0), (-0.1, 3.0), (float("nan"), 3.0), (0.5, 0.5)])
def test_rates_out_of_bounds(rate, mean):
    """Nothing to restore, nothing to restore it from, or spans of nothing: refused by name."""
    with pytest.raises(InputError, match=r"rate=|span_length="):
        check_rate(rate, mean)
