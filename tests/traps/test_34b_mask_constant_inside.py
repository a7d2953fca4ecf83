"""Trap 34, where it was first seen: an inspector that masks the future with -1e5 draws what the model never did
(TransformerLensOrg/TransformerLens#318, #385: scores of Pythia below -1e5).

Guard: the attention that is drawn comes from the one place where scores are made, so that what may not be seen has a
share of exactly 0 however large the scores are, and a query that may look nowhere is no NaN.
"""

from dataclasses import replace

import pytest
import torch

from instar.batch import View
from instar.config import ModelConfig
from instar.model.transformer import Transformer
from instar.probe import capture as seen
from instar.probe.capture import capture
from instar.probe.checks import future_is_zero, rows_add_up

PLAIN = ModelConfig(vocab_size=61, d_model=24, layers=2, heads=4, kv_heads=2, head_size=8, max_positions=32, tied=False)
SHAPES = {
    "causal": PLAIN,
    "both ways": replace(PLAIN, causal=False),
    "windows": replace(PLAIN, windows=(3, 2)),
    "alibi": replace(PLAIN, positions="alibi"),
    "capped": replace(PLAIN, score_cap=1e8),
}
TOKENS = torch.randint(0, 61, (3, 12), generator=torch.Generator().manual_seed(2))
KEEP = torch.arange(12) < torch.tensor([[12], [7], [1]])


@torch.no_grad()
def huge(shape, dtype=torch.float32):
    """Scores of 1e6, most of them far below zero."""
    model = Transformer(shape).to(dtype).eval()
    for block in model.all_blocks():
        block.attention.q.weight.mul_(-1e6)
        block.attention.k.weight.copy_(block.attention.q.weight[: len(block.attention.k.weight)] / -1e6)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", SHAPES)
def test_what_may_not_be_seen_is_drawn_as_nothing(name, dtype):
    """The future, what lies beyond a window, padding: exactly 0, and every row still adds up to 1."""
    side = capture(huge(SHAPES[name], dtype), TOKENS, view=View(keep=KEEP)).own
    scores = side.attended[0].q @ side.attended[0].k.repeat_interleave(2, 1).mT * side.attended[0].scale
    assert (scores < -1e5).any()
    for layer, seam in enumerate(side.attended):
        weights = seam.weights()
        assert rows_add_up(weights).green
        assert future_is_zero(weights, side, layer, View(keep=KEEP)).gap == 0


def test_a_query_that_may_look_nowhere_is_a_number():
    """A source that is all padding: what looks at it has shares and states that are numbers, and a row of padding in a
    text too."""
    keep = KEEP.clone()
    keep[2] = False
    pair = huge(replace(PLAIN, encoder_layers=2, start=1))
    trace = capture(pair, TOKENS, source=TOKENS, source_view=View(keep=keep))
    alone = capture(huge(PLAIN), TOKENS, view=View(keep=keep))
    for side in (*trace.sides, *alone.sides):
        assert all(seam.weights().isfinite().all() for seam in (*side.attended, *side.crossed))
        assert side.hidden.isfinite().all()


def test_an_inspector_with_a_constant_of_its_own_is_caught(monkeypatch):
    """The check above can fail: with -1e5 in what is drawn the future has a share, as it had in that tool."""
    plain = seen.attention_weights

    def with_constant(q, k, mask, causal, scale=0.0, cap=0.0):
        future = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).triu(1)
        scores = q @ k.repeat_interleave(2, 1).mT * scale
        return scores.masked_fill(future, -1e5).softmax(-1) if causal else plain(q, k, mask, causal, scale, cap)

    side = capture(huge(PLAIN), TOKENS).own
    assert future_is_zero(side.attended[0].weights(), side).green
    monkeypatch.setattr(seen, "attention_weights", with_constant)
    assert not future_is_zero(side.attended[0].weights(), side).green
