"""GPT-2, whose matrices are stored the other way round and whose queries, keys and values lie in one."""

from __future__ import annotations

from ...config import ModelConfig
from .family import Family, Foreign, act_name, act_of, computes

PAIRS = {
    "attention.out": "attn.c_proj",
    "feed_forward.up": "mlp.c_fc",
    "feed_forward.down": "mlp.c_proj",
    "attention_norm": "ln_1",
    "feed_forward_norm": "ln_2",
}
NAMES = {
    "embed.weight": "transformer.wte.weight",
    "positions.weight": "transformer.wpe.weight",
    "norm.weight": "transformer.ln_f.weight",
    "norm.bias": "transformer.ln_f.bias",
    "heads.lm.weight": "lm_head.weight",
    **{
        f"blocks.{{n}}.{ours}.{part}": f"transformer.h.{{n}}.{theirs}.{part}"
        for ours, theirs in (PAIRS | {f"attention.{name}": "attn.c_attn" for name in "qkv"}).items()
        for part in ("weight", "bias")
    },
}


def read(data: Foreign) -> Foreign:
    return {
        "d_model": data["n_embd"],
        "layers": data["n_layer"],
        "heads": data["n_head"],
        "d_ff": data.get("n_inner") or 4 * data["n_embd"],
        "max_positions": data["n_positions"],
        "norm": "layer",
        "norm_eps": data.get("layer_norm_epsilon", 1e-5),
        "mlp": "plain",
        "act": act_of(data, "activation_function", "gelu_new"),
        "positions": "learned",
        "qkv_bias": True,
        "bias": True,
    }


def write(config: ModelConfig) -> Foreign:
    return {
        "n_embd": config.d_model,
        "n_layer": config.layers,
        "n_head": config.heads,
        "n_inner": config.d_ff,
        "n_positions": config.max_positions,
        "layer_norm_epsilon": config.norm_eps,
        "activation_function": act_name(config),
    }


def _is_gpt2(config: ModelConfig) -> bool:
    square = config.kv_heads == config.heads and config.head_size * config.heads == config.d_model
    parts = computes(config, norm="layer", mlp="plain", positions="learned", bias=True, qkv_bias=True)
    return parts and square and not config.windows


GPT2 = Family(
    "GPT2LMHeadModel", "gpt2", NAMES, read, write, _is_gpt2,
    frozenset("n_embd n_layer n_head n_inner n_positions layer_norm_epsilon activation_function".split()),
    fixed={
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "reorder_and_upcast_attn": (False,),
    },
    transposed=frozenset({"attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"}),
    prefix="transformer.",
    tied=True,
)  # fmt: skip
