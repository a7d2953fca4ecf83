"""Trap 26: with a cache the model said something else than without (jingyaogong/minimind#550,
lucidrains/x-transformers#219, TransformerLensOrg/TransformerLens#776, huggingface/nanoVLM#69: rotary frequencies
stretched by the length seen, Lightning-AI/litgpt#2165).

Guard: one mask for every use of the cache, "a token sees positions up to its own", and positions that count from each
row's own length. However a text is cut into passes, every logit is the same.
"""

from dataclasses import replace

import pytest
import torch

from instar.config import ModelConfig, RopeScaling
from instar.config.presets import preset
from instar.model.cache import KVCache
from instar.model.transformer import Transformer

LLAMA = ModelConfig(vocab_size=61, d_model=24, layers=2, heads=4, max_positions=16)
SHAPES = {
    "llama3 past its context": replace(
        LLAMA, kv_heads=2, head_size=8, rope_scaling=RopeScaling("llama3", 4.0, 1.0, 4.0, original_positions=8)
    ),
    "qwen3": replace(LLAMA, kv_heads=1, qk_norm=True, tied=False),
    "windows": replace(LLAMA, kv_heads=2, windows=(4, 0), window_theta=100.0),
    "gemma2": replace(
        LLAMA, norm="rms_one", residual="both", scaled_embed=True, windows=(5, 0), score_size=20.0, score_cap=2.0,
        logit_cap=3.0,
    ),
    "olmo2": replace(LLAMA, residual="inside", qk_norm_whole=True),
    "gpt2": preset("gpt2", vocab_size=61, d_model=24, layers=2, heads=4, max_positions=32),
    "none": replace(LLAMA, positions="none"),
    "sinusoidal": replace(LLAMA, positions="sinusoidal", residual="post"),
    "t5": replace(LLAMA, positions="t5", kv_heads=2, relative_buckets=8, relative_distance=12),
    "alibi, windows": replace(LLAMA, positions="alibi", kv_heads=2, windows=(4, 0)),
    "mixtral": replace(LLAMA, experts=4, kv_heads=2, windows=(5, 5)),
    "qwen3 moe": replace(LLAMA, experts=5, experts_used=3, expert_norm=False, dense_layers=(0,), qk_norm=True),
    "ernie": replace(LLAMA, experts=4, balance_by="bias"),
    "neox": replace(
        LLAMA, head_size=8, norm="layer", mlp="plain", residual="parallel", rotary_share=0.5, bias=True, qkv_bias=True
    ),
    "yarn": replace(LLAMA, rope_scaling=RopeScaling("yarn", 4.0, original_positions=8, fast=4.0, slow=0.5)),
    "dynamic past its context": replace(LLAMA, rope_scaling=RopeScaling("dynamic", 4.0, original_positions=8)),
}  # fmt: skip
LENGTHS = [24, 7, 13, 1]
CAPACITY = 32  # tokens that a row of the cache has room for
# fp32 sums in another order; gaps of 3.2e-5 were seen
PRECISIONS = [(torch.float64, 1e-10), (torch.float32, 1e-4)]


@pytest.fixture(params=[f"{shape}, {dtype}" for shape in SHAPES for dtype, _ in PRECISIONS])
def case(request):
    """A model, four rows of tokens, their logits without a cache, and how near others must come."""
    name, _, kind = request.param.rpartition(", ")
    dtype, near = next(pair for pair in PRECISIONS if str(pair[0]) == kind)
    model = Transformer(SHAPES[name]).to(dtype).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():  # logits of a new model are too small for details to show
            weight *= 5 if weight.ndim > 1 and weight is not model.embed.weight else 1
        tokens = torch.randint(0, 61, (4, CAPACITY), generator=generator)
        for weight in [*model.parameters(), *model.buffers()]:
            if not weight.any():  # biases and distances
                weight.copy_(torch.randn(weight.shape, generator=generator))
        std = model(tokens).std()
        for weight in model.norm.parameters():
            weight /= std
        logits = model(tokens)  # as long as the cache: `dynamic` stretches by the longest that a text may become
    return model, tokens[:, :24], logits[:, :24], near


def new_cache(model):
    return KVCache(model.config, 4, CAPACITY, dtype=model.embed.weight.dtype)


def check(found, wanted, near):
    torch.testing.assert_close(found, wanted, rtol=0, atol=near)


@pytest.mark.parametrize("cuts", [[24], [1] * 24, [9, 1, 1, 13], [1, 23]], ids=["prefill", "single", "chunks", "late"])
@torch.no_grad()
def test_however_a_text_is_cut(case, cuts):
    """All at once, one by one and in chunks: equal at every position."""
    model, tokens, wanted, near = case
    cache = new_cache(model)
    found = [model(part, cache=cache) for part in tokens.split(cuts, dim=1)]
    check(torch.cat(found, dim=1), wanted, near)
    assert cache.lengths == [24] * 4


@pytest.mark.parametrize("step", [1, 5])
@torch.no_grad()
def test_ragged_prompts(case, step):
    """Prompts of four lengths, padded on the right and trimmed, go on side by side as each would alone."""
    model, tokens, wanted, near = case
    prompts = [min(length, 24 - 10) for length in LENGTHS]
    padded = tokens.clone()
    for row, length in enumerate(prompts):
        padded[row, length:] = 60
    cache = new_cache(model)
    first = model(padded[:, : max(prompts)], cache=cache)
    cache.trim(prompts)
    for row, length in enumerate(prompts):
        check(first[row, :length], wanted[row, :length], near)
    for start in range(0, 10, step):
        at = torch.tensor(prompts)[:, None] + torch.arange(start, start + step)
        found = model(tokens.gather(1, at), cache=cache)
        check(found, wanted[torch.arange(4)[:, None], at], near)


@torch.no_grad()
def test_speculation_is_taken_back(case):
    """Tokens that were tried and trimmed leave no trace."""
    model, tokens, wanted, near = case
    cache = new_cache(model)
    model(tokens[:, :10], cache=cache)
    model(torch.full((4, 6), 60), cache=cache)
    cache.trim([10] * 4)
    check(model(tokens[:, 10:], cache=cache), wanted[:, 10:], near)


@torch.no_grad()
def test_what_stands_behind_a_row_is_never_seen(case):
    """Huge values in unused places of the cache do not reach a logit of a shorter row."""
    model, tokens, wanted, near = case
    cache = new_cache(model)
    model(tokens, cache=cache)
    cache.trim([24, 8, 8, 8])
    for layer in range(model.config.layers):
        cache[layer].store[:, 1:, :, 8:] = 1e4
    found = model(tokens[:, 8:9], cache=cache)
    check(found[1:], wanted[1:, 8:9], near)
