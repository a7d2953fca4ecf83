"""Intervals, verdicts, and claims that cannot be measured."""

import math

import numpy as np
import pytest

from instar.config import InputError
from instar.eval.claims import CLAIMS, Claim, Finding, against, check, interval
from instar.eval.claims.verdict import RESAMPLES, Case, resamples, together
from instar.probe.panel import Words

W = Words("a", "甲")


def test_interval_of_many_texts_is_the_normal_one():
    """The bootstrap of a mean agrees with 1.96 standard errors."""
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    low, high = interval(values)
    error = 1.96 * values.std() / math.sqrt(len(values))
    assert abs(low - (values.mean() - error)) < 0.05
    assert abs(high - (values.mean() + error)) < 0.05


def test_interval_covers_the_truth_as_often_as_it_says():
    """Of a hundred samples about 95 intervals hold the true mean."""
    chance = np.random.default_rng(2)
    held = sum(low <= 0 <= high for low, high in (interval(chance.normal(0, 1, 60), seed) for seed in range(100)))
    assert 88 <= held <= 100


def test_interval_depends_on_the_seed_alone():
    """The same seed gives the same interval; equal values one without width; no text is an error."""
    values = list(np.random.default_rng(0).random(40))
    assert interval(values, 3) == interval(values, 3) != interval(values, 4)
    assert interval([0.25] * 5) == (0.25, 0.25)
    assert resamples(4).shape == (RESAMPLES, 4)
    with pytest.raises(InputError, match="no texts"):
        interval([])


def test_interval_of_another_statistic():
    """What is no mean is taken of each resample: here the largest."""
    low, high = interval([1.0, 2.0, 9.0], statistic=lambda drawn: drawn.max(1))
    assert high == 9.0
    assert low < 9.0


@pytest.mark.parametrize(
    ("found", "outcome"),
    [((0.2, 0.5), "holds"), ((-0.1, 0.5), "unclear"), ((-0.5, 0.0), "fails"), ((math.nan, 1.0), "unclear")],
)
def test_against_a_bar(found, outcome):
    """A verdict wants the whole interval on one side."""
    assert against(found, 0.0) == outcome


def test_several_parts_hold_together():
    """One part that fails is enough, and one that is unclear leaves all unclear."""
    assert together(["holds", "holds"]) == "holds"
    assert together(["holds", "unclear"]) == "unclear"
    assert together(["unclear", "fails"]) == "fails"
    assert together([]) == "unclear"


def test_a_claim_that_cannot_be_measured_is_unclear_and_says_why(case):
    """Another one is measured all the same."""

    def refuse(case):
        raise InputError("no head for words")

    bad = Claim("bad", W, W, W, W, refuse)
    good = Claim("good", W, W, W, W, lambda case: Finding("holds", 1.0, W))
    one, other = check(case(), [bad, good])
    assert (one.verdict, other.verdict) == ("unclear", "holds")
    assert "no head for words" in one.found.en
    assert "no head for words" in one.found.zh
    assert one.figure is None
    assert other.said == W


def test_encoders_get_a_reason_from_every_claim_of_speech(case):
    """A model that reads both ways goes on with no text."""
    found = case(causal=False, heads_of=("masked",))
    for name in ("parallel", "cache", "knowledge", "greedy", "beam", "temperature"):
        verdict = CLAIMS[name](found)
        assert verdict.verdict == "unclear", name
        assert "causal=false" in verdict.found.en, name


def test_languages_are_those_of_the_tokenizer(case, worldly):
    """It was taught English, and spells Chinese in bytes; one that loses letters speaks nothing."""
    found = case()
    assert found.languages == ("en",)
    assert all(text.isascii() for text in found.stories(3))

    class Deaf:
        def encode_batch(self, texts):
            return [[0] for _ in texts]

        def decode(self, ids):
            return "?"

    with pytest.raises(InputError, match="neither English nor Chinese"):
        _ = Case(found.model, Deaf()).languages


def test_limit_is_one_dial(case):
    """All work is in proportion to it, and never nothing."""
    assert case(limit=0).scaled(64) == 64
    assert case(limit=32).scaled(64) == 32
    assert case(limit=1).scaled(8, least=2) == 2


def test_every_claim_says_its_rule_in_both_languages():
    """Title, unit, the textbook's sentence and the rule are there before anything is measured."""
    for name, claim in CLAIMS.items():
        assert claim.name == name
        for words in (claim.title, claim.unit, claim.said, claim.rule):
            assert words.en
            assert words.zh
            assert words.en.isascii()
            assert not words.zh.isascii()
