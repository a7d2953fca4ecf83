"""Phi-3, whose queries, keys and values lie in one matrix, and whose heads may be turned in part."""

from __future__ import annotations

from ...config import InputError, ModelConfig
from . import llama
from .family import Family, Foreign, computes, one_window
from .rope import SHARE

NAMES = llama.NAMES | {
    **{f"blocks.{{n}}.attention.{name}.weight": "model.layers.{n}.self_attn.qkv_proj.weight" for name in "qkv"},
    **{
        f"blocks.{{n}}.feed_forward.{name}.weight": "model.layers.{n}.mlp.gate_up_proj.weight"
        for name in ("gate", "up")
    },
}
# original_max_position_embeddings says something to longrope alone, which is refused by name.
KEYS = (llama.KEYS - {"mlp_bias", "attention_bias", "head_dim"}) | {
    "sliding_window", "original_max_position_embeddings", SHARE,
}  # fmt: skip


def _read(data: Foreign) -> Foreign:
    shape = llama.read({"rms_norm_eps": 1e-5} | data, share=1.0)
    if (kind := shape["rope_scaling"]["kind"]) != "none":
        raise InputError(f"config.json says rope_type={kind}; Phi-3 has default, which we compute, and longrope")
    return shape | {"windows": [data.get("sliding_window") or 0] * data["num_hidden_layers"]}


def _write(config: ModelConfig) -> Foreign:
    left_out = ("mlp_bias", "attention_bias", "head_dim")
    shape = {name: value for name, value in llama.write(config).items() if name not in left_out}
    return shape | {
        SHARE: config.rotary_share,
        "sliding_window": max(config.windows, default=0) or None,
        "pad_token_id": None,  # silence would mean 32000
    }


def _is_phi3(config: ModelConfig) -> bool:
    """Where heads are turned whole, it is Llama or Mistral in one matrix less."""
    square = config.head_size * config.heads == config.d_model
    even = one_window(config) and min(config.windows, default=1) > 0
    parts = computes(config, rotary_share=None, bias=False, qkv_bias=False)
    return parts and square and even and config.rotary_share < 1 and config.rope_scaling.kind == "none"


PHI3 = Family(
    "Phi3ForCausalLM", "phi3", NAMES, _read, _write, _is_phi3, KEYS,
    fixed={"attention_bias": (False,)},
)  # fmt: skip
