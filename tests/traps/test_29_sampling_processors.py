"""Trap 29: processors of logits that do something else than they say. huggingface/transformers#2302 (the repetition
penalty made negative logits likelier), ml-explore/mlx-lm#388 (top-k then top-p left nothing), vllm-project/vllm#5639
(penalties of one request leaked into the next).

Engines differ in their order; ours is logit bias, penalties, no-repeat-n-gram, shortest answer, temperature, top-k,
top-p, min-p, draw. The oracle below is a second implementation in plain Python floats, one token at a time.
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.config import ModelConfig
from instar.config.options import DRAWING, SamplingOptions
from instar.infer.engine import Engine
from instar.infer.sampling import Rules, Said, greedy, min_p, repetition, sampler, temperature, top_k, top_p
from instar.infer.weights import weigh
from instar.model.transformer import Transformer

VOCAB, DRAWS = 12, 20_000
PROMPT, ANSWER = [0, 3, 7], [3, 3, 5, 3]
SETTINGS = {
    "plain": {},
    "hot": {"temperature": 1.7},
    "top k": {"top_k": 4, "temperature": 0.7},
    "top p": {"top_p": 0.6},
    "min p": {"min_p": 0.2, "temperature": 1.2},
    "repetition": {"repetition_penalty": 1.8},
    "presence": {"presence_penalty": 0.7},
    "frequency": {"frequency_penalty": 0.5},
    "bias": {"logit_bias": ((2, 1.5), (3, -2.0), (11, 0.25))},
    "no repeat": {"no_repeat_ngram_size": 2},
    "short": {"min_new_tokens": 5, "stop_ids": (1, 9)},
    "long enough": {"min_new_tokens": 4, "stop_ids": (1, 9)},
    "all": {
        "temperature": 1.4, "top_k": 7, "top_p": 0.9, "min_p": 0.05, "repetition_penalty": 1.3,
        "presence_penalty": 0.4, "frequency_penalty": -0.3, "logit_bias": ((2, 1.5), (3, -2.0)),
        "no_repeat_ngram_size": 2, "min_new_tokens": 5, "stop_ids": (1,),
    },
}  # fmt: skip


def make_logits(seed=0, rows=1):
    return 1.5 * torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reference(logits, options):
    """token -> probability, by the formulas as they stand in the documentation."""
    scores = list(logits)
    before = PROMPT + ANSWER
    followers = {before[k + 1] for k in range(len(before) - 1) if before[k] == before[-1]}
    for token in range(VOCAB):
        scores[token] += dict(options.logit_bias).get(token, 0.0)
        if token in before:
            scores[token] *= options.repetition_penalty ** (1 if scores[token] < 0 else -1)
        scores[token] -= options.presence_penalty * (token in ANSWER)
        scores[token] -= options.frequency_penalty * ANSWER.count(token)
        repeats = options.no_repeat_ngram_size == 2 and token in followers
        if repeats or (token in options.stop_ids and len(ANSWER) < options.min_new_tokens):
            scores[token] = -math.inf
    weights = {token: math.exp(score / options.temperature) for token, score in enumerate(scores)}
    ranked = sorted(weights, key=lambda token: -weights[token])
    if options.top_k:
        ranked = ranked[: options.top_k]
    kept, total, mass = [], sum(weights[token] for token in ranked), 0.0
    for token in ranked:
        if mass / total < options.top_p:
            kept.append(token)
        mass += weights[token]
    kept = [token for token in kept if weights[token] >= options.min_p * weights[kept[0]] and weights[token]]
    total = sum(weights[token] for token in kept)
    return {token: weights[token] / total for token in kept}


def drawn(logits, options):
    """DRAWS ids from rows that all hold these logits, chosen as the engine chooses."""
    rows = logits.expand(DRAWS, -1)
    rules = Rules([options] * DRAWS, rows)
    said = Said(1, 99, VOCAB, torch.device("cpu"))
    said.begin(0, PROMPT)
    for id in ANSWER:
        said.add(torch.tensor([0]), torch.tensor([id]))
    luck = torch.rand(DRAWS, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    short = torch.full((DRAWS,), len(ANSWER) < options.min_new_tokens)
    return rules.choose(rules.shape(rows, said, torch.zeros(DRAWS, dtype=torch.int64), short), luck)


@pytest.mark.parametrize("name", SETTINGS)
def test_draws_follow_the_formula(name):
    """Chi-square of 20,000 draws against the oracle: no token that it excludes, and p above one in ten thousand."""
    options = SamplingOptions(**SETTINGS[name])
    logits = make_logits()
    chances = reference(logits[0].tolist(), options)
    counts = torch.bincount(drawn(logits, options), minlength=VOCAB)
    assert {token for token in range(VOCAB) if counts[token]} <= set(chances)
    expected = {token: DRAWS * chance for token, chance in chances.items()}
    statistic = sum((counts[token].item() - wish) ** 2 / wish for token, wish in expected.items())
    freedom = torch.tensor((len(chances) - 1) / 2, dtype=torch.float64)
    assert torch.special.gammaincc(freedom, torch.tensor(statistic / 2, dtype=torch.float64)) > 1e-4


def test_the_oracle_would_notice_another_order():
    """With temperature behind top-p, as some engines have it, other tokens are kept: the test above can fail."""
    logits = make_logits()
    ours = top_p(0.6)(temperature(2.0)(logits))
    theirs = temperature(2.0)(top_p(0.6)(logits))
    assert (ours > -torch.inf).sum() > (theirs > -torch.inf).sum()


@pytest.mark.parametrize("seed", range(5))
def test_equal_to_transformers(seed):
    """The same tokens kept with the same logits as transformers' processors, one by one and in its order."""
    theirs = pytest.importorskip("transformers")
    logits = make_logits(seed, rows=6)
    tokens = torch.tensor([[0, 3, 7]]).expand(6, -1)
    seen = torch.zeros(6, VOCAB, dtype=torch.bool).scatter(1, tokens, True)
    pairs = [
        (repetition(1.7, seen), theirs.RepetitionPenaltyLogitsProcessor(1.7)),
        (temperature(0.6), theirs.TemperatureLogitsWarper(0.6)),
        (top_k(5), theirs.TopKLogitsWarper(5)),
        (top_p(0.8), theirs.TopPLogitsWarper(0.8)),
        (min_p(0.1), theirs.MinPLogitsWarper(0.1)),
    ]
    chained = logits, logits.clone()
    for rule, processor in pairs:
        assert torch.allclose(rule(logits), processor(tokens, logits.clone()), rtol=1e-12)
        chained = rule(chained[0]), processor(tokens, chained[1])
        assert torch.allclose(*chained, rtol=1e-12)


@settings(max_examples=100, deadline=None)
@given(
    logits=st.lists(st.sampled_from([-1e30, -50.0, -1.0, -0.0, 0.0, 1.0, 3.0, 80.0, 1e30]), min_size=2, max_size=9),
    heat=st.sampled_from([0.001, 0.3, 1.0, 100.0]),
    k=st.integers(0, 12),
    p=st.sampled_from([0.0, 1e-12, 0.5, 1 - 1e-12, 1.0]),
    share=st.sampled_from([0.0, 1e-9, 0.5, 1.0]),
    luck=st.sampled_from([0.0, 0.5, 1 - 2**-53]),
)  # fmt: skip
def test_a_token_is_always_left(logits, heat, k, p, share, luck):
    """Whatever the figures, ties and extremes: something is kept, the likeliest is, and the draw is a kept token."""
    row = torch.tensor([logits, logits[::-1]], dtype=torch.float32)
    options = SamplingOptions(temperature=heat, top_k=k, top_p=p, min_p=share)
    rules = Rules([options, options], row)
    weights = rules.weigh(row)
    assert not weights.isnan().any()
    assert (weights.amax(-1) == 1).all()
    assert (weights.argmax(-1) == row.argmax(-1)).all()
    ids = rules.choose(row, torch.tensor([luck, luck], dtype=torch.float64))
    assert (weights.gather(-1, ids[:, None]) > 0).all()


def test_temperature_zero_is_greedy_and_greedy_never_draws():
    """Both give the likeliest token, the first of equals, and leave the request's generator where it was."""
    logits = torch.tensor([[1.0, 4.0, 4.0, 0.0]]).double()
    assert sampler(0)(logits).tolist() == greedy(logits).tolist() == [1]
    model = make_model()
    for options in (SamplingOptions(temperature=0.0), SamplingOptions(strategy="greedy", temperature=5.0)):
        engine = Engine(model, slots=2)
        engine.submit([3], SamplingOptions(max_new_tokens=130))  # a neighbour that does draw
        request = engine.submit([1, 2], options, seed=3)
        engine.run()
        assert request.luck._numbers == []
        again = Engine(model, slots=1)
        assert request.ids == run(again, [1, 2], SamplingOptions(strategy="greedy")).ids


@pytest.mark.parametrize("penalty", [1.5, 0.7])
def test_the_repetition_penalty_acts_on_negative_logits_too(penalty):
    """Above 1 a seen token is less likely than before, below 1 likelier, whatever the sign of its logit."""
    logits = torch.tensor([[2.0, -2.0, 0.5, -0.5]]).double()
    for token in range(4):
        seen = torch.zeros(1, 4, dtype=torch.bool)
        seen[0, token] = True
        after = repetition(penalty, seen)(logits)
        assert (after[0, token] < logits[0, token]) == (penalty > 1)
        assert torch.equal(after[~seen], logits[~seen])


def make_model():
    config = ModelConfig(vocab_size=31, d_model=16, layers=1, heads=2, max_positions=160, tied=False)
    model = Transformer(config, seed=2).double()
    with torch.no_grad():
        model.heads["lm"].weight *= 20
    return model


def run(engine, prompt, options):
    request = engine.submit(prompt, options, seed=1)
    engine.run()
    return request


def test_penalties_do_not_leak_into_the_next_request():
    """A row that held a penalised request answers its next ones, penalised or not, as a fresh engine does."""
    model = make_model()
    hard = SamplingOptions(strategy="greedy", repetition_penalty=3.0, frequency_penalty=2.0, max_new_tokens=25)
    plain = SamplingOptions(strategy="greedy", max_new_tokens=25)
    used = Engine(model, slots=1)
    for prompt, options in (([4, 5, 6], hard), ([7], hard), ([7], plain), ([4, 5, 6], hard)):
        assert run(used, prompt, options).ids == run(Engine(model, slots=1), prompt, options).ids
    assert run(used, [7], plain).ids != run(used, [7], hard).ids  # the penalty does something


def test_penalties_do_not_leak_to_a_neighbour():
    """Beside a penalised request an unpenalised one keeps its text, and so does one that keeps every token by
    top_p = 1 beside one that does not."""
    model = make_model()
    plain = SamplingOptions(max_new_tokens=20)
    hard = SamplingOptions(
        repetition_penalty=3.0, presence_penalty=1.0, top_p=0.1, top_k=2, min_p=0.9, max_new_tokens=20
    )
    alone = run(Engine(model, slots=1), [7], plain).ids
    engine = Engine(model, slots=2)
    beside = engine.submit([7], hard, seed=1)
    request = run(engine, [7], plain)
    assert request.ids == alone != beside.ids


def test_top_p_of_one_keeps_the_least_likely_token():
    """In fp32 the sum of the likelier ones already rounds to 1; the tail is still there."""
    logits = torch.tensor([[20.0, *[0.0] * 200, -20.0]])
    both = top_p(torch.tensor([[1.0], [0.5]]))(logits.expand(2, -1))
    assert (both[0] > -torch.inf).all()
    assert (both[1] > -torch.inf).sum() == 1


@pytest.mark.parametrize("name", SETTINGS)
def test_rules_are_the_functions(name):
    """The vectorised rules of a mixed batch, and a list of the plain functions, give the same weights."""
    options = SamplingOptions(**{k: v for k, v in SETTINGS[name].items() if k in DRAWING})
    logits = make_logits(3, rows=3)
    mixed = Rules([SamplingOptions(top_k=1, top_p=0.1, min_p=0.9, temperature=3.0), options, SamplingOptions()], logits)
    plain = logits[1:2]
    for rule in (temperature(options.temperature), top_k(options.top_k), top_p(options.top_p), min_p(options.min_p)):
        plain = rule(plain)
    weights = mixed.weigh(logits)
    assert torch.allclose(weights[1:2], weigh(plain), rtol=1e-12)
    assert torch.equal(weights[1:2] > 0, weigh(plain) > 0)
    assert torch.equal(weights[2:], weigh(logits[2:]))
