"""The same words in another order: who is told by positions, by a mask, and by nothing."""

import numpy as np
import pytest
import torch

from instar.config import ModelConfig
from instar.eval.claims import CLAIMS, order
from instar.eval.claims.order import WITH, WITHOUT, examples, pairs_of, place_of, tokens_of, verdict_of
from instar.eval.claims.verdict import Case
from instar.model.transformer import Transformer
from instar.text.tokenizer import Tokenizer

DEEDS = "咬追看推抱吓跟找叫帮"
ENCODER = {"causal": False, "heads_of": ("masked",)}


def test_pairs_are_told_by_order_alone(case):
    """Of each pair all tokens are the same, in another order, and so is the last, which is probed; one acts in one, the
    other in the other."""
    pairs, lost = pairs_of(case(limit=8), 12)
    assert len(pairs) + lost == 12
    assert len(pairs) > 8
    for pair in pairs:
        one, other = tokens_of(pair.one), tokens_of(pair.other)
        assert sorted(one) == sorted(other)
        assert one != other
        assert one[place_of(pair.one)] == other[place_of(pair.other)]
    asked = examples(pairs)
    for first, second in zip(asked[::2], asked[1::2]):
        assert {first.label, second.label} == {"person", "animal"}
        assert first.group == second.group
    assert len({example.label for example in asked[::2]}) == 2


def test_pairs_that_tokens_would_tell_are_left_out(case):
    """A word without its blank is another token; the last word is another where no mark closes the sentence."""
    texts = [("the ball was", "was ball the"), (" the ball was", " was ball the")]
    wrong, right = ([{"text": text, "label": 1, "lang": "en"} for text in pair] for pair in texts)
    assert order._pairs(case(), wrong, ".") == []
    assert order._pairs(case(), right, "") == []
    assert len(order._pairs(case(), right, ".")) == 1


@pytest.fixture
def lab(monkeypatch):
    """lab(**changes of the shape): a case with 狗咬人 and 人咬狗 and other deeds, a character a token, nothing asked,
    and random weights so large that attention is not nearly the same everywhere."""
    tokenizer = Tokenizer.train([f"人狗。{DEEDS}" * 9], 330, single_han=True)

    def little(case, count):
        texts = [[f"人{deed}狗", f"狗{deed}人"][:: 1 if n % 2 else -1] for n, deed in enumerate(DEEDS)]
        records = [{"text": text, "label": int(text[0] == "人"), "lang": "zh"} for pair in texts for text in pair]
        return order._pairs(case, records, "。"), 0

    monkeypatch.setattr(order, "pairs_of", little)
    monkeypatch.setattr(order, "_answers", lambda case: {})

    def make(**changes):
        shape = {"d_model": 16, "heads": 2, "layers": 1, "max_positions": 16, "tied": False} | changes
        model = Transformer(ModelConfig(vocab_size=tokenizer.vocab_size, **shape), seed=1)
        with torch.no_grad():
            for block in (model.encoder or model).blocks:
                for part, by in (("q", 8), ("k", 8), ("v", 4), ("out", 4)):
                    getattr(block.attention, part).weight *= by
        return Case(model, tokenizer, limit=4)

    return make


@pytest.mark.parametrize(
    ("shape", "outcome"),
    [
        ({"positions": "none"}, "fails"),
        ({"positions": "none", "layers": 2} | ENCODER, "fails"),
        ({"positions": "sinusoidal"}, "holds"),
        ({"positions": "sinusoidal"} | ENCODER, "holds"),
        ({"positions": "learned", "encoder_layers": 1, "start": 2}, "holds"),
    ],
    ids=["causal, none", "encoder, none", "causal, sinusoids", "encoder, sinusoids", "encoder-decoder, learned"],
)
def test_one_layer_without_positions_cannot_tell(lab, shape, outcome):
    """Order lab, no positions: one causal layer says the same of both, and so does an encoder of any depth, so that one
    of each pair is told; with positions they differ."""
    verdict = CLAIMS["order"](lab(**shape))
    assert verdict.verdict == outcome, verdict.found
    assert verdict.data["accuracy"][WITHOUT][-1] == 0.5
    if outcome == "fails":
        assert (verdict.figure, verdict.interval) == (0.5, (0.5, 0.5))
    assert verdict.data["both_right"] == {}
    assert "answers no questions" in verdict.found.en


def test_two_causal_layers_leak_order(lab):
    """Order lab: two causal layers tell without positions, by the mask, and the finding says so."""
    verdict = CLAIMS["order"](lab(layers=2, positions="none"))
    assert verdict.data["accuracy"][WITHOUT][1] == 0.5
    assert verdict.data["accuracy"][WITHOUT][2] == 1.0
    assert verdict.verdict == "unclear"
    assert "mask still leaks" in verdict.found.en


def test_a_verdict_wants_more_than_a_mask_tells():
    """Surely above guessing by 0.1, and by as much above what is told without positions."""
    assert verdict_of((0.7, 0.9), 0.2) == "holds"
    assert verdict_of((0.7, 0.9), 0.05) == "unclear"
    assert verdict_of((0.55, 0.9), 0.3) == "unclear"
    assert verdict_of((0.4, 0.55), 0.0) == "fails"


def test_who_does_not_heed_order_answers_no_pair(case, monkeypatch):
    """A model that likes one name whatever is asked is right in one of each pair, never in both; one that is right is
    right in all."""
    found = case(limit=4)

    def by_name(model, ready, case, candidates):
        return np.array([sum(window.ids[window.first :]) for window in ready], float).reshape(-1, candidates)

    monkeypatch.setattr(order, "likelihoods", by_name)
    answers = order._answers(found)
    assert len(answers[WITH]) >= 4
    assert not answers[WITH].any()
    monkeypatch.setattr(order, "likelihoods", lambda model, ready, *_: np.tile([1.0, 0.0], (len(ready) // 2, 1)))
    assert order._answers(found)[WITH].all()
