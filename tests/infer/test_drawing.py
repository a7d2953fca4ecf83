"""The draw from among the likeliest, which a CPU makes first, against the draw from the whole vocabulary."""

import math

import pytest
import torch

from instar.config.options import SamplingOptions
from instar.infer.drawing import Drawing
from instar.infer.weights import pick

VOCAB, DRAWS = 1000, 10_000
SETTINGS = {
    "top k": dict(top_k=7),
    "top p": dict(top_p=0.8),
    "min p": dict(min_p=0.1),
    "hot": dict(temperature=1.6, top_k=200, top_p=0.9),
    "all": dict(temperature=0.7, top_k=40, top_p=0.9, min_p=0.2),
}


def make_logits(rows, scale=3.0, seed=0):
    return scale * torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make_luck(count, seed=1):
    return torch.rand(count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def reference(logits, options):
    """token -> probability, in plain floats."""
    weights = {token: math.exp(logit / options.temperature) for token, logit in enumerate(logits)}
    ranked = sorted(weights, key=lambda token: -weights[token])[: options.top_k or len(logits)]
    kept, mass, total = [], 0.0, sum(weights[token] for token in ranked)
    for token in ranked:
        if mass < options.top_p * total and weights[token] >= options.min_p * weights[ranked[0]]:
            kept.append(token)
        mass += weights[token]
    return {token: weights[token] / sum(weights[other] for other in kept) for token in kept}


@pytest.mark.parametrize("name", SETTINGS)
def test_draws_follow_the_formula(name):
    """Chi-square of 10,000 draws: no token that the formula excludes, tokens expected less than five times taken
    together, and p above one in ten thousand."""
    options, logits = SamplingOptions(**SETTINGS[name]), make_logits(1)[:, :400]
    chances = reference(logits[0].tolist(), options)
    rows = logits.expand(DRAWS, -1)
    counts = sum(
        torch.bincount(Drawing([options] * len(part), logits).draw(part, luck), minlength=VOCAB)
        for part, luck in zip(rows.split(2000), make_luck(DRAWS).split(2000))
    )
    assert {token for token in range(VOCAB) if counts[token]} <= set(chances)
    rare = [token for token in chances if DRAWS * chances[token] < 5]
    groups = [[token] for token in chances if token not in rare] + ([rare] if rare else [])
    statistic = 0.0
    for group in groups:
        expected = DRAWS * sum(chances[token] for token in group)
        statistic += (sum(counts[token].item() for token in group) - expected) ** 2 / expected
    freedom = torch.tensor((len(groups) - 1) / 2, dtype=torch.float64)
    assert torch.special.gammaincc(freedom, torch.tensor(statistic / 2, dtype=torch.float64)) > 1e-4


@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0, 12.0])
@pytest.mark.parametrize("seed", range(3))
def test_near_and_far_agree(scale, seed):
    """Flat rows keep more than the likeliest, peaked ones a few: rows of both kinds and all settings, side by side,
    draw what the whole vocabulary gives them."""
    options = [SamplingOptions(**rules) for rules in (*SETTINGS.values(), {}, dict(top_k=255), dict(top_k=256))] * 12
    options += [SamplingOptions(top_p=p, temperature=heat) for p in (0.01, 0.5, 0.999) for heat in (0.3, 1.0, 3.0)]
    logits, luck = make_logits(len(options), scale, seed), make_luck(len(options), seed)
    drawing = Drawing(options, logits)
    assert torch.equal(drawing.draw(logits, luck), pick(drawing.weigh(logits), luck, VOCAB))


def test_equals_at_the_edge_of_what_is_near():
    """Four hundred equals: whoever keeps one of them keeps all, and each is drawn in its share."""
    logits = torch.zeros(400, VOCAB, dtype=torch.float64)
    logits[:, 500:900] = 20.0
    luck = (torch.arange(400) + 0.5).double() / 400
    for rules in (dict(top_k=3), dict(top_p=0.1), dict(min_p=1.0)):
        drawn = Drawing([SamplingOptions(**rules)] * 400, logits).draw(logits, luck)
        assert torch.equal(drawn, torch.arange(500, 900))
