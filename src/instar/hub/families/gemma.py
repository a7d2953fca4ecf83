"""Gemma 2 and Gemma 3 (text): norms round each sublayer, windows in most layers, scores and logits with a cap."""

from __future__ import annotations

from ...config import InputError, ModelConfig
from . import llama
from .family import (
    FULL,
    NEAR,
    Family,
    Foreign,
    act_name,
    act_of,
    computes,
    one_window,
    read_windows,
    write_windows,
)
from .rope import read_rope, write_rope

NAMES = llama.NAMES | {
    f"blocks.{{n}}.{ours}.weight": f"model.layers.{{n}}.{theirs}_layernorm.weight"
    for ours, theirs in {
        "attention_norm": "input",
        "attention_after": "post_attention",
        "feed_forward_norm": "pre_feedforward",
        "feed_forward_after": "post_feedforward",
    }.items()
}
KEYS = (llama.KEYS - {"mlp_bias"}) | frozenset(
    "hidden_activation query_pre_attn_scalar sliding_window layer_types final_logit_softcapping "
    "attn_logit_softcapping".split()
)
GEMMA3_KEYS = frozenset("sliding_window_pattern _sliding_window_pattern rope_local_base_freq".split())
# What transformers takes where a config.json is silent.
DEFAULTS = {"head_dim": 256, "num_key_value_heads": 4, "query_pre_attn_scalar": 256, "sliding_window": 4096}
CAPS = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
FIXED = {"attention_bias": (False,), "use_bidirectional_attention": (False, None)}
GATES = "gelu_pytorch_tanh"


def _read(data: Foreign) -> Foreign:
    shape = {name: value for name, value in data.items() if name != "hidden_act"}
    return llama.read(shape) | {
        "norm": "rms_one",
        "residual": "both",
        # older files name it hidden_act, and mean the approximation by "gelu"
        "act": act_of(data, "hidden_activation", GATES),
        "score_size": float(data["query_pre_attn_scalar"]),
        "score_cap": float(data.get("attn_logit_softcapping") or 0),
        "logit_cap": float(data.get("final_logit_softcapping") or 0),
        "scaled_embed": True,
    }


def _write(config: ModelConfig) -> Foreign:
    shape = llama.write(config)
    for name in ("hidden_act", "mlp_bias"):
        del shape[name]
    size = config.score_size or config.head_size
    return shape | {
        "hidden_activation": act_name(config),
        "query_pre_attn_scalar": int(size) if size == int(size) else size,
        "attn_logit_softcapping": config.score_cap or None,
        "final_logit_softcapping": config.logit_cap or None,
        **write_windows(config),
    }


def _read_gemma2(data: Foreign) -> Foreign:
    data = {**DEFAULTS, **CAPS, **data}
    return _read(data) | {"windows": read_windows(data, lambda n: n % 2 == 0)}


def _read_gemma3(data: Foreign) -> Foreign:
    """Layers with a window turn by rope_local_base_freq, or by rope_parameters of their own."""
    data = {**DEFAULTS, **data}
    every = data.get("sliding_window_pattern") or data.get("_sliding_window_pattern") or 6
    ropes = data.get("rope_parameters") or {}
    if FULL in ropes or NEAR in ropes:
        near = ropes.get(NEAR) or {}
        if near.get("rope_type", "default") != "default":
            raise InputError(f"config.json stretches the layers with a window ({near!r}); we compute them unstretched")
        theta = near.get("rope_theta", data.get("rope_local_base_freq", 10000.0))
        full = {"rope_theta": data.get("rope_theta", 1_000_000.0)} | (ropes.get(FULL) or {})
        data = data | {"rope_parameters": full, "rope_scaling": None}
    else:
        theta = data.get("rope_local_base_freq", 10000.0)
        data = {"rope_theta": 1_000_000.0} | data
    return _read(data) | {
        **read_rope(data), "qk_norm": True, "window_theta": theta,
        "windows": read_windows(data, lambda n: (n + 1) % every > 0),
    }  # fmt: skip


def _write_gemma3(config: ModelConfig) -> Foreign:
    rope = write_rope(config)
    near = {"rope_type": "default", "rope_theta": config.window_theta}
    return _write(config) | {
        "rope_parameters": {FULL: rope["rope_parameters"], NEAR: near},
        "rope_local_base_freq": config.window_theta,
    }


def _is_gemma2(config: ModelConfig) -> bool:
    parts = computes(
        config, norm="rms_one", residual="both", scaled_embed=True, score_size=None, score_cap=None, logit_cap=None,
        bias=False, qkv_bias=False,
    )  # fmt: skip
    return parts and one_window(config)


def _is_gemma3(config: ModelConfig) -> bool:
    parts = computes(
        config, norm="rms_one", residual="both", scaled_embed=True, score_size=None, score_cap=None, logit_cap=None,
        bias=False, qkv_bias=False, qk_norm=True, window_theta=None,
    )  # fmt: skip
    return parts and one_window(config) and config.window_theta > 0


GEMMA = (
    Family(
        "Gemma2ForCausalLM", "gemma2", NAMES, _read_gemma2, _write, _is_gemma2, KEYS, fixed=FIXED, tied=True
    ),
    Family(
        "Gemma3ForCausalLM", "gemma3_text", NAMES, _read_gemma3, _write_gemma3, _is_gemma3, KEYS | GEMMA3_KEYS,
        fixed=FIXED, tied=True,
    ),
)  # fmt: skip
