"""How one token is chosen: what each rule leaves, by hand, and the draw."""

from dataclasses import replace

import pytest
import torch

from instar.config.options import SamplingOptions
from instar.probe.choice import State, adds_up, choose, falls, nucleus

# p = 0.5, 0.25, 0.125, 0.125 of ids 3, 1, 0, 2
LOGITS = torch.tensor([1.0, 2.0, 1.0, 4.0], dtype=torch.float64).log()
FULL = SamplingOptions(temperature=0.7, top_k=40, top_p=0.9, min_p=0.02)


def chances(choice, name):
    return choice.stage(name).chances.tolist()


def test_each_rule_by_hand():
    """Temperature 0.5 squares the odds, top-k 3 keeps equals, top-p 0.9 what reaches it, in the engine's order; mass
    and count are told of each. Known answers of the sampler."""
    choice = choose(LOGITS, SamplingOptions(temperature=0.5, top_k=3, top_p=0.9), State([0], luck=0.5))
    assert [stage.name for stage in choice.stages] == ["model", "temperature", "top_k", "top_p", "min_p"]
    assert chances(choice, "model") == pytest.approx([0.125, 0.25, 0.125, 0.5])
    assert chances(choice, "temperature") == pytest.approx([1 / 22, 4 / 22, 1 / 22, 16 / 22])
    assert chances(choice, "top_k") == pytest.approx([1 / 22, 4 / 22, 1 / 22, 16 / 22])
    assert chances(choice, "top_p") == pytest.approx([0, 4 / 20, 0, 16 / 20])
    assert [stage.kept for stage in choice.stages] == [4, 4, 4, 2, 2]
    assert choice.stage("top_p").mass == pytest.approx(20 / 22)
    assert choice.stage("min_p").setting == "", "what was not asked changes nothing"
    assert choice.stage("model").entropy == pytest.approx(0.5 * 0.6931 + 0.25 * 1.3863 + 0.25 * 2.0794, abs=1e-3)


def test_where_the_luck_falls():
    """The line is the kept tokens in the order of their ids: here id 1 up to 0.2, then id 3."""
    options = SamplingOptions(temperature=0.5, top_p=0.9)
    low, high = (choose(LOGITS, options, State([0], luck=luck)) for luck in (0.19, 0.21))
    assert (low.id, high.id) == (1, 3)
    assert (low.low, low.high, high.low, high.high) == pytest.approx((0.0, 0.2, 0.2, 1.0))
    assert (low.rank, high.rank) == (2, 1)
    assert high.logprob == pytest.approx(-0.6931, abs=1e-4)


def test_rules_that_look_back():
    """Bias, penalties, a repeated n-gram and the shortest answer each have a stage, in that order, and only when they
    are asked."""
    options = SamplingOptions(
        logit_bias=((0, 3.0),), repetition_penalty=2.0, no_repeat_ngram_size=2, min_new_tokens=2, max_new_tokens=4
    )
    choice = choose(LOGITS, options, State([1, 3, 1], [], stops={2}, luck=0.0))
    assert [s.name for s in choice.stages][1:5] == [
        "logit_bias", "penalties", "no_repeat_ngram_size", "min_new_tokens",
    ]  # fmt: skip
    assert choice.stage("logit_bias").chances[0] > choice.stage("model").chances[0]
    assert choice.stage("penalties").chances[0] > choice.stage("logit_bias").chances[0], "3 and 1 were said, 0 not"
    assert choice.stage("no_repeat_ngram_size").chances[3] == 0, "3 followed 1 before"
    assert choice.stage("min_new_tokens").chances[2] == 0
    assert choose(LOGITS, options, State([1], [0, 0], stops={2})).stage("min_new_tokens").chances[2] > 0


def test_greedy_draws_nothing():
    """The likeliest token has all the probability, and there is no luck."""
    choice = choose(LOGITS, SamplingOptions("greedy", top_p=0.5), State([0], luck=0.01))
    assert [stage.name for stage in choice.stages] == ["model", "greedy"]
    assert (choice.id, choice.luck, choice.stages[-1].kept, choice.stages[-1].mass) == (3, None, 1, 0.5)
    assert falls(choice) is None
    assert nucleus(choice, 0.5) is None


@pytest.mark.parametrize("size", [7, 300, 5000])
def test_checks_are_green(size):
    """Probabilities of all tokens add up to 1, the top-p set is minimal, the luck falls into the token's share: of
    random logits, few and many, in fp32."""
    generator = torch.Generator().manual_seed(size)
    for luck in (0.0, 0.3, 0.999999):
        choice = choose(3 * torch.randn(size, generator=generator), FULL, State([0], luck=luck))
        checks = [adds_up(choice), nucleus(choice, 0.9), falls(choice)]
        assert all(check.green for check in checks), checks


def test_checks_turn_red():
    """A top-p set with a token too many or too few, a luck beside the token, logits whose sum is not what is taken off:
    each is seen."""
    choice = choose(LOGITS, replace(FULL, temperature=1.0, min_p=0.0, top_p=0.7), State([0], luck=0.5))
    (place,) = [n for n, stage in enumerate(choice.stages) if stage.name == "top_p"]

    def kept(*ids):
        wrong = torch.zeros_like(LOGITS)
        wrong[list(ids)] = 1.0
        stages = list(choice.stages)
        stages[place] = replace(stages[place], chances=wrong / wrong.sum())
        return nucleus(replace(choice, stages=tuple(stages)), 0.7)

    assert kept(3, 1).green
    assert not kept(3).green, "0.5 does not reach 0.7"
    assert not kept(0, 1, 3).green, "0 could be spared"
    assert not kept(3, 0, 2).green, "1 is likelier"
    assert not falls(replace(choice, luck=0.01)).green


def test_a_wrong_normaliser_is_red(monkeypatch):
    """What is told as a log-probability no longer adds up to 1 where too little is taken off."""
    choice = choose(LOGITS, FULL, State([0], luck=0.5))
    monkeypatch.setattr("instar.infer.weights.normaliser", lambda logits: logits.amax(-1, keepdim=True))
    assert not adds_up(choice).green
