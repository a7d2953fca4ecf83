"""Trap 35: the inspector shows another computation than the model's (TransformerLensOrg/TransformerLens#693, #223:
weights that were folded and centred for looking at them shift the logits).

Guard: nothing is converted and no second forward pass is written. Hooks keep what the model itself computed; the shares
that are drawn, times the values, are the output of its own kernel, and with hooks on every logit is bit for bit what it
is without.
"""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from instar.batch import View
from instar.config import ModelConfig, RopeScaling
from instar.config.presets import preset
from instar.model.attention import Attend
from instar.model.transformer import Transformer
from instar.probe.capture import capture, watching
from instar.probe.checks import values_give_output, watched_is_unwatched

LLAMA = ModelConfig(vocab_size=61, d_model=24, layers=2, heads=4, kv_heads=2, max_positions=32)
PAIR = dict(encoder_layers=2, start=1, kv_heads=4)
SHAPES = {
    "llama3": replace(
        LLAMA, head_size=8, rope_scaling=RopeScaling("llama3", 4.0, 1.0, 4.0, original_positions=8), tied=False
    ),
    "qwen3 with windows": replace(LLAMA, qk_norm=True, windows=(5, 0)),
    "gemma2": replace(
        LLAMA, norm="rms_one", residual="both", scaled_embed=True, windows=(5, 0), score_size=20.0, score_cap=2.0,
        logit_cap=3.0,
    ),
    "olmo2": replace(LLAMA, residual="inside", qk_norm_whole=True),
    "gpt2": preset("gpt2", vocab_size=61, d_model=24, layers=2, heads=4, max_positions=32),
    "neox": replace(
        LLAMA, head_size=8, norm="layer", mlp="plain", residual="parallel", rotary_share=0.5, bias=True, qkv_bias=True
    ),
    "mixtral": replace(LLAMA, experts=4),
    "alibi": replace(LLAMA, positions="alibi"),
    "bert": preset("bert-nano", vocab_size=61, d_model=24, layers=2, heads=4, max_positions=32),
    "marian": replace(LLAMA, positions="sinusoidal_halves", norm="layer", residual="post", bias=True, **PAIR),
    "t5": replace(LLAMA, positions="t5", relative_buckets=8, relative_distance=12, **PAIR),
}  # fmt: skip
TOKENS = torch.randint(0, 61, (2, 12), generator=torch.Generator().manual_seed(2))
VIEW = View(keep=torch.arange(12) < torch.tensor([[12], [7]]))


@pytest.fixture(params=SHAPES)
def model(request):
    return made(SHAPES[request.param])


@torch.no_grad()
def made(shape):
    """In training, with attention that is sharp, and biases and norms that are not as new."""
    model = Transformer(shape).train()
    for name, weight in model.named_parameters():
        weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel()))
        weight *= 2 if name.endswith(("q.weight", "k.weight")) else 1
    return model


def asked(model):
    if model.encoder is None:
        return {"view": VIEW}
    return {"source": TOKENS, "source_view": VIEW}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_logits_are_identical_with_hooks_on(model, dtype):
    """Bit for bit, in either precision; and after watching as before."""
    model = model.to(dtype).eval()
    before = model(TOKENS, **asked(model))
    with watching(model) as sides:
        watched = model(TOKENS, **asked(model))
    assert all(len(side.attended) == len(side.blocks) for side in sides)
    assert torch.equal(watched, before)
    assert torch.equal(capture(model, TOKENS, **asked(model)).logits(), before)
    assert torch.equal(model(TOKENS, **asked(model)), before)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2), (torch.float64, 2e-11)])
def test_weights_times_values_are_the_output(model, dtype, near, grad):
    """Of every layer and head, of the source too, whichever kernel the model took; and it trains on as it did."""
    trace = capture(model.to(dtype), TOKENS, **asked(model), grad=grad)
    assert model.training
    for side in trace.sides:
        for seam in (*side.attended, *side.crossed):
            check = values_give_output(seam)
            assert check.green, check
            assert check.limit <= near
            gap = seam.weights() @ seam.values().to(seam.weights().dtype) - seam.y
            assert gap.abs().max() <= near * seam.v.abs().max()
    assert watched_is_unwatched(trace).gap == 0


@pytest.mark.parametrize("fault", ["scale", "order of heads", "no window"])
def test_another_computation_is_caught(monkeypatch, fault):
    """Weights that are scaled, grouped or masked otherwise than those of the model do not give its output."""

    def wrong(self, q, k, v, mask, causal):
        groups = q.shape[1] // k.shape[1]
        wide = [
            x.repeat(1, groups, 1, 1) if fault == "order of heads" else x.repeat_interleave(groups, 1) for x in (k, v)
        ]
        if fault == "no window":
            mask, causal = None, True
        return F.scaled_dot_product_attention(
            q, *wide, mask, is_causal=causal, scale=0.9 * q.shape[-1] ** -0.5 if fault == "scale" else None
        )

    model = made(SHAPES["qwen3 with windows"])
    assert all(values_give_output(seam).green for seam in capture(model, TOKENS).own.attended)
    monkeypatch.setattr(Attend, "forward", wrong)
    assert not values_give_output(capture(model, TOKENS).own.attended[0]).green
