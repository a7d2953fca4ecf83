"""GPT-NeoX: attention and feed-forward layer at once, queries, keys and values woven head by head."""

from __future__ import annotations

from ...config import ModelConfig
from .family import Family, Foreign, act_name, act_of, computes
from .rope import SHARE, read_rope, write_rope

PAIRS = {
    "attention.out": "attention.dense",
    "feed_forward.up": "mlp.dense_h_to_4h",
    "feed_forward.down": "mlp.dense_4h_to_h",
    "attention_norm": "input_layernorm",
    "feed_forward_norm": "post_attention_layernorm",
    **{f"attention.{name}": "attention.query_key_value" for name in "qkv"},
}
NAMES = {
    "embed.weight": "gpt_neox.embed_in.weight",
    "norm.weight": "gpt_neox.final_layer_norm.weight",
    "norm.bias": "gpt_neox.final_layer_norm.bias",
    "heads.lm.weight": "embed_out.weight",
    **{
        f"blocks.{{n}}.{ours}.{part}": f"gpt_neox.layers.{{n}}.{theirs}.{part}"
        for ours, theirs in PAIRS.items()
        for part in ("weight", "bias")
    },
}
KEYS = frozenset(
    "hidden_size num_hidden_layers num_attention_heads intermediate_size max_position_embeddings layer_norm_eps "
    "hidden_act use_parallel_residual rotary_pct rotary_emb_base hidden_dropout classifier_dropout".split()
)


def _read(data: Foreign) -> Foreign:
    # the older spelling has words of its own
    older = {"rope_theta": data.get("rotary_emb_base", 10000.0), SHARE: data.get("rotary_pct", 0.25)}
    return {
        "d_model": data["hidden_size"],
        "layers": data["num_hidden_layers"],
        "heads": data["num_attention_heads"],
        "d_ff": data["intermediate_size"],
        "max_positions": data["max_position_embeddings"],
        "norm": "layer",
        "norm_eps": data.get("layer_norm_eps", 1e-5),
        "residual": "parallel" if data.get("use_parallel_residual", True) else "pre",
        "mlp": "plain",
        "act": act_of(data, "hidden_act", "gelu"),
        "qkv_bias": True,
        "bias": True,
        **read_rope(data | older, 0.25),
    }


def _write(config: ModelConfig) -> Foreign:
    rope = write_rope(config)
    rope["rope_parameters"][SHARE] = config.rotary_share
    return {
        "hidden_size": config.d_model,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.d_ff,
        "max_position_embeddings": config.max_positions,
        "layer_norm_eps": config.norm_eps,
        "hidden_act": act_name(config),
        "use_parallel_residual": config.residual == "parallel",
        "attention_bias": True,
        "rotary_pct": config.rotary_share,
        "rotary_emb_base": config.rope_theta,
        **rope,
    }


def _is_neox(config: ModelConfig) -> bool:
    square = config.kv_heads == config.heads and config.head_size * config.heads == config.d_model
    parts = computes(config, norm="layer", mlp="plain", bias=True, qkv_bias=True, residual=None, rotary_share=None)
    return parts and square and config.residual in ("parallel", "pre") and not config.windows


NEOX = Family(
    "GPTNeoXForCausalLM", "gpt_neox", NAMES, _read, _write, _is_neox, KEYS,
    fixed={"attention_bias": (True,)},
    interleaved=frozenset({"attention.query_key_value.weight", "attention.query_key_value.bias"}),
    idle=(".attention.bias", ".attention.masked_bias"),
)  # fmt: skip
