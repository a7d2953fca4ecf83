"""One pass and many, with a cache and without, and the ways of choosing tokens."""

import pytest
import torch

from instar.eval.claims import CLAIMS
from instar.eval.claims.cache import Said, gap_until, same_until
from instar.eval.claims.decoding import difference, distinct, repeated
from instar.eval.claims.reading import alone, at_once, gap_of, one_by_one, texts_of
from instar.model.cache import LayerCache

SHAPES = [
    {},
    {"kv_heads": 1, "residual": "post", "norm": "layer", "positions": "alibi"},
    {"encoder_layers": 1, "start": 2},
]


@pytest.mark.parametrize("shape", SHAPES, ids=["decoder", "grouped", "encoder-decoder"])
def test_a_pass_equals_steps(case, shape):
    """KV: cached = uncached, and one pass = each of its beginnings by itself."""
    found = case(**shape)
    found.model.double()
    for text in texts_of(found, 2, 20):
        with torch.inference_mode():
            whole = at_once(found.model, text)
            assert gap_of(whole, one_by_one(found.model, text)) < 1e-12
            assert gap_of(whole, alone(found.model, text)) < 1e-12


def test_parallel_and_cache_hold(case):
    """Both claims hold on a model whose weights are random, in figures that say so."""
    for name in ("parallel", "cache"):
        verdict = CLAIMS[name](case())
        assert verdict.verdict == "holds", verdict.found
        assert verdict.data["gap"] <= verdict.data["limit"]
        assert verdict.figures
        assert verdict.count == 2


def test_a_cache_that_is_wrong_is_found(case, monkeypatch):
    """Keys that are kept a little wrong turn both claims, though nothing fails."""
    update = LayerCache.update

    def wrong(self, k, v):
        return update(self, 1.2 * k if k.shape[2] == 1 else k, v)

    monkeypatch.setattr(LayerCache, "update", wrong)
    assert CLAIMS["parallel"](case()).verdict == "fails"
    assert CLAIMS["cache"](case()).verdict == "fails"


def test_only_a_tie_excuses_another_token():
    """Answers part where logits do: a tie within rounding is the same answer, a clear choice is not."""
    logits = torch.tensor([[0.0, 5.0, 1.0], [3.0, 3.0 + 1e-7, -3.0]])
    other = Said([1, 1], logits, [])
    assert same_until([1, 1], other, 1e-4) == 1.0
    assert same_until([1, 0], other, 1e-4) == 1.0
    assert same_until([1, 2], other, 1e-4) == 0.5
    assert same_until([1], other, 1e-4) == 0.5
    assert gap_until(Said([1, 0], logits + torch.tensor([[0.0], [1.0]]), []), other) > 0.1


def test_what_is_repeated_by_hand():
    """Of abcabcabc's six runs of four three stood before; of different tokens none."""
    assert repeated([1, 2, 3] * 3) == 0.5
    assert repeated(range(20)) == 0.0
    assert repeated([1, 1]) == 0.0


def test_how_different_by_hand():
    """Equal answers differ in nothing, answers without a common pair in all, and distinct-2 counts pairs once."""
    assert difference([[1, 2, 3], [1, 2, 3]]) == 0.0
    assert difference([[1, 2, 3], [3, 2, 1]]) == 1.0
    assert difference([[1, 2, 3], [1, 2, 4]]) == pytest.approx(2 / 3)
    assert distinct([[1, 2, 3], [1, 2, 4]]) == 0.75


def test_ways_of_choosing_on_a_model_of_bigrams(case):
    """A model sure of each next token repeats itself when greedy; beams are likelier and alike; heat varies."""
    found = case(limit=8)
    with torch.no_grad():
        found.model.heads["lm"].weight *= 60
    for name in ("greedy", "beam", "temperature"):
        verdict = CLAIMS[name](found)
        assert verdict.verdict == "holds", (name, verdict.found)
        assert verdict.interval[0] <= verdict.figure <= verdict.interval[1]


def test_answers_that_are_the_same_at_every_heat_do_not_hold(case, monkeypatch):
    """Where temperature is not heeded, the claim is not said to hold."""
    monkeypatch.setattr("instar.eval.claims.decoding.HEAT", (1.0, 1.0, 1.0))
    verdict = CLAIMS["temperature"](case())
    assert verdict.verdict == "fails"
    assert verdict.figure == 0.0
