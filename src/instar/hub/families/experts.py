"""Families with experts: Mixtral, Qwen3-MoE, and ERNIE 4.5 whose router is balanced by a bias."""

from __future__ import annotations

from ...config import InputError, ModelConfig
from . import llama
from .family import Family, Foreign, computes, one_window

EXPERT = "blocks.{n}.feed_forward.experts.{e}"
ROUTER = "blocks.{n}.feed_forward.router.weight"
MIXTRAL_NAMES = llama.NAMES | {
    ROUTER: "model.layers.{n}.block_sparse_moe.gate.weight",
    **{
        f"{EXPERT}.{ours}.weight": f"model.layers.{{n}}.block_sparse_moe.experts.{{e}}.{theirs}.weight"
        for ours, theirs in {"gate": "w1", "down": "w2", "up": "w3"}.items()
    },
}
QWEN_NAMES = llama.NAMES | {
    ROUTER: "model.layers.{n}.mlp.gate.weight",
    **{
        f"{EXPERT}.{name}.weight": f"model.layers.{{n}}.mlp.experts.{{e}}.{name}_proj.weight"
        for name in ("gate", "up", "down")
    },
}
ERNIE_NAMES = QWEN_NAMES | {"blocks.{n}.feed_forward.bias": "model.layers.{n}.mlp.moe_statics.e_score_correction_bias"}
# What transformers takes where a config.json is silent.
MIXTRAL_DEFAULTS: Foreign = {
    "num_key_value_heads": 8, "rms_norm_eps": 1e-5, "rope_theta": 1e6, "num_local_experts": 8, "num_experts_per_tok": 2,
    "router_aux_loss_coef": 0.001,
}  # fmt: skip
QWEN_DEFAULTS: Foreign = {
    "num_key_value_heads": 4, "num_experts_per_tok": 8, "moe_intermediate_size": 768, "decoder_sparse_step": 1,
    "norm_topk_prob": False, "router_aux_loss_coef": 0.001,
}  # fmt: skip
ERNIE_DEFAULTS: Foreign = {
    "num_key_value_heads": 4, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "moe_num_experts": 64, "moe_k": 6,
    "moe_intermediate_size": 1536, "moe_layer_start_index": 1, "moe_layer_end_index": -1, "moe_layer_interval": 1,
    "moe_num_shared_experts": 2, "moe_router_bias_update_rate": 0.001,
}  # fmt: skip
KEYS = llama.KEYS - {"mlp_bias"} | {"num_experts_per_tok", "num_local_experts", "router_aux_loss_coef"}
QWEN_KEYS = KEYS | frozenset(
    "num_experts moe_intermediate_size norm_topk_prob decoder_sparse_step mlp_only_layers use_sliding_window "
    "sliding_window".split()
)
# The last is Megatron's word for what transformers, which does not train the bias, has none for.
ERNIE_KEYS = (llama.KEYS - {"mlp_bias", "attention_bias"}) | frozenset(
    "moe_num_experts moe_k moe_intermediate_size moe_layer_start_index moe_layer_end_index moe_layer_interval "
    "moe_num_shared_experts router_aux_loss_coef moe_router_bias_update_rate".split()
)
# Noise of training that we do not have, and outputs that change nothing.
FIXED = {"attention_bias": (False,), "output_router_logits": (False, True)}


def _like(config: ModelConfig, **besides: object) -> bool:
    """One window, if any, is all layers'."""
    parts = computes(config, experts=None, bias=False, qkv_bias=False, **besides)
    return parts and config.experts > 0 and one_window(config) and min(config.windows, default=1) > 0


def _write(config: ModelConfig) -> Foreign:
    shape = llama.write(config)
    return {name: value for name, value in shape.items() if name not in ("mlp_bias", "attention_bias")}


# --- Mixtral: experts in every layer, and their shares add up to one ------------------------------------------------


def _read_mixtral(data: Foreign) -> Foreign:
    data = MIXTRAL_DEFAULTS | data
    return llama.read(data) | {
        "experts": data["num_local_experts"],
        "experts_used": data["num_experts_per_tok"],
        "expert_norm": True,
        "balance": float(data["router_aux_loss_coef"]),
        "windows": [data.get("sliding_window") or 0] * data["num_hidden_layers"],
    }


def _write_mixtral(config: ModelConfig) -> Foreign:
    return _write(config) | {
        "intermediate_size": config.d_expert,
        "num_local_experts": config.experts,
        "num_experts_per_tok": config.experts_used,
        "router_aux_loss_coef": config.balance,
        "sliding_window": max(config.windows, default=0) or None,
    }


def _is_mixtral(config: ModelConfig) -> bool:
    return _like(config) and config.balance_by == "loss" and config.expert_norm and not config.dense_layers


# --- Qwen3-MoE: layers may keep one feed-forward layer for all ------------------------------------------------------


def _read_qwen3_moe(data: Foreign) -> Foreign:
    data = QWEN_DEFAULTS | data
    window = data.get("sliding_window") or 0 if data.get("use_sliding_window") else 0
    layers, every = data["num_hidden_layers"], data["decoder_sparse_step"]
    kept = data.get("mlp_only_layers") or []
    return llama.read(data) | {
        "qk_norm": True,
        "experts": data.get("num_local_experts") or data.get("num_experts") or 128,
        "experts_used": data["num_experts_per_tok"],
        "d_expert": data["moe_intermediate_size"],
        "expert_norm": bool(data["norm_topk_prob"]),
        "dense_layers": [n for n in range(layers) if n in kept or (n + 1) % every],
        "balance": float(data["router_aux_loss_coef"]),
        "windows": [window] * layers,
    }


def _write_qwen3_moe(config: ModelConfig) -> Foreign:
    return _write(config) | {
        "num_experts": config.experts,
        "num_experts_per_tok": config.experts_used,
        "moe_intermediate_size": config.d_expert,
        "norm_topk_prob": config.expert_norm,
        "mlp_only_layers": list(config.dense_layers),
        "decoder_sparse_step": 1,
        "router_aux_loss_coef": config.balance,
        "use_sliding_window": bool(config.windows),
        "sliding_window": max(config.windows, default=0) or None,
    }


def _is_qwen3_moe(config: ModelConfig) -> bool:
    return _like(config, qk_norm=True) and config.balance_by == "loss"


# --- ERNIE 4.5: a bias has a say in the choice alone; its experts that all tokens take we do not have ---------------


def _read_ernie(data: Foreign) -> Foreign:
    data = ERNIE_DEFAULTS | data
    if data["moe_num_shared_experts"]:
        shared = data["moe_num_shared_experts"]
        raise InputError(f"config.json says moe_num_shared_experts={shared!r}; we compute ERNIE 4.5 with 0")
    layers, last = data["num_hidden_layers"], data["moe_layer_end_index"]
    many = _many(layers, data["moe_layer_start_index"], last if last >= 0 else layers - 1, data["moe_layer_interval"])
    return llama.read(data) | {
        "experts": data["moe_num_experts"],
        "experts_used": data["moe_k"],
        "d_expert": data["moe_intermediate_size"],
        "expert_norm": True,
        "dense_layers": [n for n in range(layers) if n not in many],
        "balance_by": "bias",
        "balance": float(data["moe_router_bias_update_rate"]),
    }


def _many(layers: int, first: int, last: int, every: int) -> set[int]:
    """The layers with experts."""
    return {n for n in range(layers) if first <= n <= last and (n + 1) % every == 0}


def _steps(config: ModelConfig) -> tuple[int, int, int] | None:
    """First and last layer with experts and the step between; None where they do not lie so."""
    many = set(range(config.layers)) - set(config.dense_layers)
    for every in range(1, config.layers + 1) if many else ():
        if _many(config.layers, min(many), max(many), every) == many:
            return min(many), max(many), every
    return None


def _write_ernie(config: ModelConfig) -> Foreign:
    first, last, every = _steps(config) or (0, config.layers - 1, 1)
    return _write(config) | {
        "moe_num_experts": config.experts,
        "moe_k": config.experts_used,
        "moe_intermediate_size": config.d_expert,
        "moe_num_shared_experts": 0,
        "moe_layer_start_index": first,
        "moe_layer_end_index": last,
        "moe_layer_interval": every,
        "moe_router_bias_update_rate": config.balance,
    }


def _is_ernie(config: ModelConfig) -> bool:
    by_bias = config.balance_by == "bias" and config.expert_norm and not config.windows
    return _like(config) and by_bias and _steps(config) is not None


EXPERTS = (
    Family(
        "MixtralForCausalLM", "mixtral", MIXTRAL_NAMES, _read_mixtral, _write_mixtral, _is_mixtral,
        KEYS | {"sliding_window"}, fixed=FIXED | {"router_jitter_noise": (0.0,)},
    ),
    Family(
        "Qwen3MoeForCausalLM", "qwen3_moe", QWEN_NAMES, _read_qwen3_moe, _write_qwen3_moe, _is_qwen3_moe, QWEN_KEYS,
        fixed=FIXED,
    ),
    Family(
        "Ernie4_5_MoeForCausalLM", "ernie4_5_moe", ERNIE_NAMES, _read_ernie, _write_ernie, _is_ernie, ERNIE_KEYS,
        fixed={"use_bias": (False,), "moe_norm_min": (1e-12,), "output_router_logits": (False, True)}, tied=True,
        paired=frozenset({"self_attn.q_proj.weight", "self_attn.k_proj.weight"}),
        rows=frozenset({"e_score_correction_bias"}),
    ),
)  # fmt: skip
