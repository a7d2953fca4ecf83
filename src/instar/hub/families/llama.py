"""Llama, and those that differ from it in a norm, a bias or a window: Mistral, Qwen2, Qwen3, OLMo 2."""

from __future__ import annotations

from typing import Any

from ...config import InputError, ModelConfig
from .family import Family, Foreign, act_name, act_of, computes, one_window, read_windows, write_windows
from .rope import read_rope, write_rope

NAMES = {
    "embed.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "heads.lm.weight": "lm_head.weight",
    **{
        f"blocks.{{n}}.{ours}.{part}": f"model.layers.{{n}}.{theirs}.{part}"
        for ours, theirs in {
            "attention.q": "self_attn.q_proj",
            "attention.k": "self_attn.k_proj",
            "attention.v": "self_attn.v_proj",
            "attention.out": "self_attn.o_proj",
            "feed_forward.gate": "mlp.gate_proj",
            "feed_forward.up": "mlp.up_proj",
            "feed_forward.down": "mlp.down_proj",
            "attention_norm": "input_layernorm",
            "feed_forward_norm": "post_attention_layernorm",
            "attention.q_norm": "self_attn.q_norm",
            "attention.k_norm": "self_attn.k_norm",
        }.items()
        for part in ("weight", "bias")
    },
}
# OLMo 2 normalises what a sublayer gives, not what it is given.
OLMO2_NAMES = NAMES | {
    f"blocks.{{n}}.{ours}_norm.weight": f"model.layers.{{n}}.{theirs}_layernorm.weight"
    for ours, theirs in {"attention": "post_attention", "feed_forward": "post_feedforward"}.items()
}
KEYS = frozenset(
    "hidden_size num_hidden_layers num_attention_heads num_key_value_heads head_dim intermediate_size "
    "max_position_embeddings rms_norm_eps hidden_act attention_bias mlp_bias".split()
)
WINDOW_KEYS = frozenset("layer_types sliding_window use_sliding_window max_window_layers".split())
# What transformers takes where a config.json is silent.
QWEN3_DEFAULTS = {"head_dim": 128, "num_key_value_heads": 32}
QWEN2_DEFAULTS = {"num_key_value_heads": 32}
MISTRAL_DEFAULTS = {"num_key_value_heads": 8, "sliding_window": 4096}


def read(data: Foreign, share: float | None = None) -> Foreign:
    """share: as read_rope takes it."""
    bias = bool(data.get("attention_bias", False))
    if bias != bool(data.get("mlp_bias", False)):
        raise InputError(f"config.json says attention_bias={bias} and not mlp_bias; we compute both or neither")
    return {
        "d_model": data["hidden_size"],
        "layers": data["num_hidden_layers"],
        "heads": data["num_attention_heads"],
        "kv_heads": data.get("num_key_value_heads") or data["num_attention_heads"],
        "head_size": data.get("head_dim") or 0,
        "d_ff": data["intermediate_size"],
        "max_positions": data["max_position_embeddings"],
        "norm_eps": data.get("rms_norm_eps", 1e-6),
        "act": act_of(data, "hidden_act", "silu"),
        "qkv_bias": bias,
        "bias": bias,
        **read_rope(data, share),
    }


def write(config: ModelConfig) -> Foreign:
    return {
        "hidden_size": config.d_model,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_size,
        "intermediate_size": config.d_ff,
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": config.norm_eps,
        "hidden_act": act_name(config),
        "attention_bias": config.qkv_bias,
        "mlp_bias": config.bias,
        **write_rope(config),
    }


def _without(data: Foreign, *names: str) -> Foreign:
    return {name: value for name, value in data.items() if name not in names}


def _like(config: ModelConfig, *, windows: bool = False, bias: bool | None = None, **besides: Any) -> bool:
    """bias: of every projection; None takes either, for all of them."""
    biases = (config.qkv_bias, config.bias)
    even = biases[0] == biases[1] if bias is None else biases == (bias, bias)
    return computes(config, **besides) and even and (one_window(config) if windows else not config.windows)


# --- Mistral: every layer has the window ----------------------------------------------------------------------------


def _read_mistral(data: Foreign) -> Foreign:
    data = MISTRAL_DEFAULTS | data
    return read(data) | {"windows": read_windows(data, lambda n: bool(data["sliding_window"]))}


def _write_mistral(config: ModelConfig) -> Foreign:
    return _without(write(config), "attention_bias", "mlp_bias") | {"sliding_window": max(config.windows)}


def _is_mistral(config: ModelConfig) -> bool:
    return _like(config, windows=True, bias=False) and min(config.windows, default=0) > 0


# --- Qwen: windows from a layer on, where they are used at all ------------------------------------------------------


def _qwen_windows(data: Foreign) -> list[int]:
    if not data.get("use_sliding_window", False):
        data = data | {"sliding_window": None}
    first = data.get("max_window_layers", 28)
    return read_windows(data, lambda n: bool(data.get("sliding_window")) and n >= first)


def _write_qwen(config: ModelConfig) -> Foreign:
    first = next((n for n, window in enumerate(config.windows) if window), config.layers)
    used = {"use_sliding_window": bool(config.windows), "max_window_layers": first}
    return _without(write(config), "mlp_bias") | used | write_windows(config)


def _read_qwen2(data: Foreign) -> Foreign:
    shape = read(QWEN2_DEFAULTS | data) | {"windows": _qwen_windows(data)}
    return shape | {"qkv_bias": True, "bias": False}


def _write_qwen2(config: ModelConfig) -> Foreign:
    return _without(_write_qwen(config), "attention_bias")


def _is_qwen2(config: ModelConfig) -> bool:
    return computes(config, qkv_bias=True, bias=False) and one_window(config)


def _read_qwen3(data: Foreign) -> Foreign:
    return read(QWEN3_DEFAULTS | data) | {"qk_norm": True, "windows": _qwen_windows(data)}


# --- OLMo 2 ---------------------------------------------------------------------------------------------------------


def _read_olmo2(data: Foreign) -> Foreign:
    shape = read({"rms_norm_eps": 1e-5} | data)
    return shape | {"residual": "inside", "qk_norm_whole": True}


def _write_olmo2(config: ModelConfig) -> Foreign:
    return _without(write(config), "mlp_bias")


NO_BIAS = {"attention_bias": (False,), "mlp_bias": (False,)}

LLAMA = (
    Family(
        "LlamaForCausalLM", "llama", NAMES, read, write, _like, KEYS,
        fixed={"pretraining_tp": (1,), "rope_interleaved": (False,)},
    ),
    Family(
        "MistralForCausalLM", "mistral", NAMES, _read_mistral, _write_mistral, _is_mistral, KEYS | WINDOW_KEYS,
        fixed=NO_BIAS,
    ),
    Family(
        "Qwen2ForCausalLM", "qwen2", NAMES, _read_qwen2, _write_qwen2, _is_qwen2, KEYS | WINDOW_KEYS, fixed=NO_BIAS,
    ),
    Family(
        "Qwen3ForCausalLM", "qwen3", NAMES, _read_qwen3, _write_qwen,
        lambda config: _like(config, windows=True, bias=False, qk_norm=True), KEYS | WINDOW_KEYS, fixed=NO_BIAS,
    ),
    Family(
        "Olmo2ForCausalLM", "olmo2", OLMO2_NAMES, _read_olmo2, _write_olmo2,
        lambda config: _like(config, bias=False, residual="inside", qk_norm_whole=True), KEYS, fixed=NO_BIAS,
    ),
)  # fmt: skip
