"""A tiny model of every family that llama.cpp knows, at random, in which every detail shows."""

import pytest
import torch

from instar.config import ModelConfig, RopeScaling
from instar.hub.families import family_of
from instar.hub.files import save_model
from instar.model.transformer import Transformer
from instar.text.tokenizer import Tokenizer

TEXTS = [
    "Once upon a time there was a red ball.",
    "从前，花园里有一只红色的皮球。",
    "3.14 and 2026, naïve café 🙂",
] * 20
LIKE_LLAMA = dict(d_model=32, layers=3, heads=4, kv_heads=2, d_ff=48, max_positions=128, norm_eps=1e-5, tied=False)
LIKE_GEMMA = LIKE_LLAMA | dict(
    norm="rms_one", residual="both", act="gelu_tanh", scaled_embed=True, head_size=12, score_size=20.0, tied=True,
    windows=(5, 0, 5),
)  # fmt: skip
LIKE_GPT2 = dict(
    d_model=32, layers=3, heads=4, d_ff=48, max_positions=128, norm="layer", norm_eps=1e-5, mlp="plain",
    act="gelu_tanh", qkv_bias=True, bias=True,
)  # fmt: skip
LIKE_BERT = LIKE_GPT2 | dict(
    norm_eps=1e-12, residual="post", act="gelu", positions="learned", embed_norm=True, token_types=2, causal=False,
    heads_of=(),
)  # fmt: skip
LIKE_T5 = dict(
    d_model=32, layers=2, encoder_layers=2, heads=4, head_size=6, d_ff=48, max_positions=128, positions="t5",
    score_size=1.0, relative_buckets=8, start=5,
)  # fmt: skip
MANY = dict(experts=4, experts_used=2, d_expert=20)
LLAMA3 = RopeScaling("llama3", 4.0, low_factor=1.0, high_factor=4.0, original_positions=16)
YARN = RopeScaling("yarn", 4.0, original_positions=32)
# name -> the class of transformers, and the shape
SHAPES = {
    "llama": ("Llama", LIKE_LLAMA),
    "llama tied": ("Llama", LIKE_LLAMA | dict(tied=True, kv_heads=1)),
    "llama with biases": ("Llama", LIKE_LLAMA | dict(qkv_bias=True, bias=True)),
    "llama with wide heads": ("Llama", LIKE_LLAMA | dict(head_size=12, rope_theta=500.0)),
    "llama3": ("Llama", LIKE_LLAMA | dict(rope_scaling=LLAMA3)),
    "llama linear": ("Llama", LIKE_LLAMA | dict(rope_scaling=RopeScaling("linear", 2.5))),
    "llama yarn": ("Llama", LIKE_LLAMA | dict(rope_scaling=YARN)),
    "llama yarn with a temper": (
        "Llama",
        LIKE_LLAMA | dict(rope_scaling=RopeScaling("yarn", 4.0, original_positions=32, temper=1.7)),
    ),
    "llama dynamic": (
        "Llama",
        LIKE_LLAMA | dict(rope_scaling=RopeScaling("dynamic", 2.0, original_positions=64)),
    ),
    "mistral": ("Mistral", LIKE_LLAMA | dict(windows=(40,) * 3)),
    "mixtral": ("Mixtral", LIKE_LLAMA | MANY),
    "qwen2": ("Qwen2", LIKE_LLAMA | dict(qkv_bias=True)),
    "qwen3": ("Qwen3", LIKE_LLAMA | dict(qk_norm=True, head_size=12)),
    "qwen3 tied yarn": ("Qwen3", LIKE_LLAMA | dict(qk_norm=True, tied=True, rope_scaling=YARN)),
    "qwen3 moe": ("Qwen3Moe", LIKE_LLAMA | MANY | dict(qk_norm=True, head_size=12)),
    "ernie": ("Ernie4_5_Moe", LIKE_LLAMA | MANY | dict(balance_by="bias", dense_layers=(0,))),
    "olmo2": ("Olmo2", LIKE_LLAMA | dict(residual="inside", qk_norm_whole=True)),
    "olmo2 tied": ("Olmo2", LIKE_LLAMA | dict(residual="inside", qk_norm_whole=True, tied=True)),
    "gemma2": ("Gemma2", LIKE_GEMMA | dict(score_cap=2.0, logit_cap=3.0)),
    "gemma3": ("Gemma3", LIKE_GEMMA | dict(qk_norm=True, window_theta=50.0, rope_theta=900.0)),
    "gemma3 stretched": (
        "Gemma3",
        LIKE_GEMMA | dict(qk_norm=True, window_theta=50.0, rope_scaling=RopeScaling("linear", 2.5)),
    ),
    "phi3": ("Phi3", LIKE_LLAMA | dict(rotary_share=0.5)),
    "neox": ("GPTNeoX", LIKE_GPT2 | dict(residual="parallel", rotary_share=0.5, tied=False)),
    "neox one after the other": ("GPTNeoX", LIKE_GPT2 | dict(rotary_share=0.5, act="gelu")),
    "gpt2": ("GPT2", LIKE_GPT2 | dict(positions="learned")),
    "t5": ("T5", LIKE_T5 | dict(act="relu", mlp="plain", head_scale=32**-0.5)),
    "t5 gated": ("T5", LIKE_T5 | dict(act="gelu_tanh", tied=False, encoder_layers=3)),
    "bert": ("BertModel", LIKE_BERT | dict(pooling="mean")),
    "roberta": ("RobertaModel", LIKE_BERT | dict(position_start=2, token_types=1)),
    "modernbert": (
        "ModernBertModel",
        LIKE_LLAMA | dict(
            kv_heads=0, norm="layer_plain", act="gelu", embed_norm=True, first_norm=False, causal=False, heads_of=(),
            windows=(0, 5, 5), window_theta=50.0, tied=True, pooled="norm",
        ),
    ),
}  # fmt: skip


def pytest_generate_tests(metafunc):
    """A test that names `every_shape` is run for each of SHAPES."""
    if "every_shape" in metafunc.fixturenames:
        metafunc.parametrize("every_shape", SHAPES)


def blended(config, seed=1):
    """Weights so large, biases and norms too, that logits have a standard deviation of 1 to 3."""
    model = Transformer(config, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.state_dict().items():
            noise = torch.randn(weight.shape, generator=generator)
            if weight.ndim == 1:
                one = 1.0 if "norm" in name or "after" in name else 0.0
                shifted = config.norm == "rms_one" or name.endswith("bias")
                weight.copy_((0.2 if "feed_forward.bias" in name else 0.3) * noise + (0.0 if shifted else one))
            else:
                weight.copy_(noise / weight.shape[-1] ** 0.5)
        if not config.scaled_embed:
            model.embed.weight *= 3
    model.tie()
    return model.eval()


@pytest.fixture(scope="session")
def tokenizers():
    """One tokenizer of ours for each split that we train with."""
    return {split: Tokenizer.train(TEXTS, 384, split=split) for split in ("qwen2", "llama-bpe")}


@pytest.fixture
def written(tokenizers, tmp_path):
    """make(shape of SHAPES, **changes) -> a folder with that model and a tokenizer, and the model."""

    def make(shape, tokenizer=tokenizers["qwen2"], place="model", **changes):
        family, fields = SHAPES[shape]
        config = ModelConfig(vocab_size=tokenizer.vocab_size, **fields | changes)
        assert family_of(config).architecture.startswith(family)
        model = blended(config)
        folder = tmp_path / place
        save_model(model, folder, tokens={"eos_token_id": tokenizer.eos})
        tokenizer.save(folder)
        return folder, model

    return make
