"""Named shapes, from the demo's to well-known ones. vocab_size 0 takes the tokenizer's."""

from __future__ import annotations

from typing import Any

from .errors import unknown
from .shape import ModelConfig
from .strict import from_dict

BERT: dict[str, Any] = dict(
    norm="layer", norm_eps=1e-12, residual="post", mlp="plain", act="gelu", positions="learned", qkv_bias=True,
    bias=True, head_bias=True, embed_norm=True, token_types=2, dropout=0.1, attention_dropout=0.1, causal=False,
    heads_of=("masked",), pooled="tanh",
)  # fmt: skip
TRANSFORMER: dict[str, Any] = dict(
    norm="layer", norm_eps=1e-5, residual="post", mlp="plain", act="relu", positions="sinusoidal_halves",
    scaled_embed=True, qkv_bias=True, bias=True, head_bias=True,
)  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    # the demo: about a million weights, minutes on two cores
    "nano": dict(d_model=128, layers=4, heads=4, max_positions=1024, qk_norm=True, tied=False),
    "micro": dict(d_model=192, layers=6, heads=6, max_positions=1024, qk_norm=True, tied=False),
    # 12M weights with an 8,192-token vocabulary
    "small": dict(d_model=320, layers=8, heads=5, max_positions=2048, qk_norm=True, tied=False),
    # many thin layers, to see what depth does
    "deep": dict(d_model=96, layers=24, heads=4, max_positions=1024, qk_norm=True, tied=False),
    "gpt2": dict(
        vocab_size=50257, d_model=768, layers=12, heads=12, max_positions=1024, norm="layer", norm_eps=1e-5,
        mlp="plain", act="gelu_tanh", positions="learned", qkv_bias=True, bias=True,
    ),
    # encoders: BERT's shape in small, and ModernBERT's
    "bert-nano": BERT | dict(d_model=128, layers=4, heads=4, max_positions=512),
    "bert-small": BERT | dict(d_model=512, layers=4, heads=8, max_positions=512),
    "modernbert-nano": dict(
        d_model=128, layers=4, heads=4, d_ff=192, max_positions=1024, norm="layer_plain", norm_eps=1e-5, act="gelu",
        embed_norm=True, first_norm=False, rope_theta=160000.0, window_theta=10000.0, windows=(0, 65, 65, 0),
        head_bias=True, causal=False, heads_of=("masked",), pooled="norm",
    ),
    # encoder-decoders: that of the paper, the small one for small data of Wu et al. 2021, and T5's
    "transformer-base": TRANSFORMER | dict(d_model=512, layers=6, encoder_layers=6, heads=8, d_ff=2048, dropout=0.1),
    "transformer-tiny": TRANSFORMER | dict(d_model=128, layers=4, encoder_layers=4, heads=4, d_ff=256, dropout=0.3),
    "t5-nano": dict(
        d_model=128, layers=4, encoder_layers=4, heads=4, act="gelu_tanh", positions="t5", score_size=1.0, tied=False,
        relative_distance=64,
    ),
    "llama-3.2-1b": dict(
        vocab_size=128256, d_model=2048, layers=16, heads=32, kv_heads=8, d_ff=8192, max_positions=131072,
        norm_eps=1e-5, rope_theta=500000.0,
        rope_scaling=dict(kind="llama3", factor=32.0, low_factor=1.0, high_factor=4.0, original_positions=8192),
    ),
    "qwen3-0.6b": dict(
        vocab_size=151936, d_model=1024, layers=28, heads=16, kv_heads=8, head_size=128, d_ff=3072,
        max_positions=40960, rope_theta=1000000.0, qk_norm=True,
    ),
}  # fmt: skip


def preset(name: str, **changes: Any) -> ModelConfig:
    """A named shape with some values changed; what the preset leaves open is derived after the change.

    Example: preset("nano", heads=8) has 8 key-value heads too.
    """
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return from_dict(ModelConfig, PRESETS[name] | changes, where="model")
