"""ModernBERT: rotary positions, gated layers, and windows that look both ways in most layers."""

from __future__ import annotations

from functools import partial
from typing import Any

from ...config import InputError, ModelConfig, unknown
from .bert import square
from .family import FULL, NEAR, Family, Foreign, act_name, act_of, computes, one_window, read_windows
from .labels import read_labels, write_labels

BODY = {
    "embed.weight": "embeddings.tok_embeddings.weight",
    **{f"embed_norm.{part}": f"embeddings.norm.{part}" for part in ("weight", "bias")},
    **{f"norm.{part}": f"final_norm.{part}" for part in ("weight", "bias")},
    **{
        f"blocks.{{n}}.{ours}": f"layers.{{n}}.{theirs}"
        for ours, theirs in {
            **{f"attention.{name}.weight": "attn.Wqkv.weight" for name in "qkv"},
            "attention.out.weight": "attn.Wo.weight",
            "feed_forward.gate.weight": "mlp.Wi.weight",
            "feed_forward.up.weight": "mlp.Wi.weight",
            "feed_forward.down.weight": "mlp.Wo.weight",
            **{f"attention_norm.{part}": f"attn_norm.{part}" for part in ("weight", "bias")},
            **{f"feed_forward_norm.{part}": f"mlp_norm.{part}" for part in ("weight", "bias")},
        }.items()
    },
}
KEYS = frozenset(
    "hidden_size num_hidden_layers num_attention_heads intermediate_size max_position_embeddings norm_eps norm_bias "
    "hidden_activation classifier_activation classifier_pooling decoder_bias local_attention layer_types "
    "global_attn_every_n_layers global_rope_theta local_rope_theta embedding_dropout num_labels id2label "
    # what changes nothing in inference
    "position_embedding_type layer_norm_eps mlp_dropout classifier_dropout cls_token_id sep_token_id "
    "initializer_cutoff_factor deterministic_flash_attn reference_compile repad_logits_with_grad sparse_prediction "
    "sparse_pred_ignore_index".split()
)
FIXED = {
    "attention_bias": (False,), "mlp_bias": (False,), "classifier_bias": (False,), "rope_scaling": (None,),
}  # fmt: skip
# What transformers takes where a config.json is silent.
DEFAULTS = {"local_attention": 128, "decoder_bias": True, "norm_bias": False}
THETAS = {FULL: ("global_rope_theta", 160000.0), NEAR: ("local_rope_theta", 10000.0)}
POOLINGS = {"cls": "first", "mean": "mean"}


def _theta(data: Foreign, kind: str) -> float | None:
    """The base of the waves in layers of a kind; transformers 5 writes rope_parameters."""
    rope = (data.get("rope_parameters") or {}).get(kind) or {}
    if rope.get("rope_type", "default") != "default" or rope.keys() - {"rope_type", "rope_theta"}:
        raise InputError(f"config.json says rope_parameters of {kind}={str(rope)[:80]}; we compute them unstretched")
    older, otherwise = THETAS[kind]
    return rope.get("rope_theta", data.get(older, otherwise))


def _windows(data: Foreign) -> list[int]:
    """Theirs is the width of both sides together; ours counts one side and the token itself."""
    near = int(data["local_attention"]) // 2 + 1
    every = data.get("global_attn_every_n_layers") or 3
    return read_windows(data | {"sliding_window": near}, lambda n: n % every > 0)


def _read(data: Foreign, *, kind: str) -> Foreign:
    data = DEFAULTS | data
    act, other = act_of(data, "hidden_activation", "gelu"), act_of(data, "classifier_activation", "gelu")
    if kind and act != other:
        raise InputError(f"config.json says hidden_activation={act} and classifier_activation={other}; we compute one")
    pooling = data.get("classifier_pooling", "cls")
    if pooling not in POOLINGS:
        raise unknown("classifier_pooling", str(pooling), POOLINGS)
    windows, far, near = _windows(data), _theta(data, FULL), _theta(data, NEAR)
    return {
        "d_model": data["hidden_size"],
        "layers": data["num_hidden_layers"],
        "heads": data["num_attention_heads"],
        "d_ff": data["intermediate_size"],
        "max_positions": data["max_position_embeddings"],
        "norm": "layer" if data["norm_bias"] else "layer_plain",
        "norm_eps": data.get("norm_eps", 1e-5),
        "embed_norm": True,
        "first_norm": False,
        "act": act,
        "rope_theta": far,
        "windows": windows,
        "window_theta": 0.0 if near in (None, far) or not any(windows) else near,
        "head_bias": kind == "masked" and bool(data["decoder_bias"]),
        "causal": False,
        "dropout": data.get("embedding_dropout", 0.0),
        "attention_dropout": data.get("attention_dropout", 0.0),
        "heads_of": [kind] if kind else [],
        "pooled": "norm",
        **({"pooling": POOLINGS[pooling]} if kind == "classify" else {}),
        **(read_labels(data) if kind in ("classify", "tokens") else {}),
    }


def _write(config: ModelConfig, *, kind: str) -> Foreign:
    windows = config.windows or (0,) * config.layers
    near = config.window_theta or config.rope_theta
    return {
        "hidden_size": config.d_model,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.d_ff,
        "max_position_embeddings": config.max_positions,
        "norm_eps": config.norm_eps,
        "norm_bias": config.norm == "layer",
        "hidden_activation": act_name(config),
        "classifier_activation": act_name(config),
        "classifier_pooling": {ours: word for word, ours in POOLINGS.items()}.get(config.pooling, "cls"),
        "decoder_bias": config.head_bias,
        "attention_bias": False,
        "mlp_bias": False,
        "classifier_bias": False,
        "local_attention": 2 * (max(windows) - 1) if any(windows) else DEFAULTS["local_attention"],
        "layer_types": [NEAR if window else FULL for window in windows],
        "rope_parameters": {
            FULL: {"rope_type": "default", "rope_theta": config.rope_theta},
            NEAR: {"rope_type": "default", "rope_theta": near},
        },
        "global_rope_theta": config.rope_theta,
        "local_rope_theta": near,
        "embedding_dropout": config.dropout,
        "mlp_dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        # ids of its own vocabulary, where nothing else is said
        **dict.fromkeys(("pad_token_id", "cls_token_id", "sep_token_id")),
        **(write_labels(config) if kind in ("classify", "tokens") else {}),
    }  # fmt: skip


def _holds(config: ModelConfig, *, kind: str) -> bool:
    parts = computes(
        config, norm=None, embed_norm=True, first_norm=False, causal=False, window_theta=None, head_bias=None,
        qkv_bias=False, bias=False, heads_of=(kind,) if kind else (),
    )  # fmt: skip
    head = kind in ("", "masked") or config.pooled == "norm"
    pools = kind != "classify" or config.pooling in POOLINGS.values()
    norm = config.norm in ("layer", "layer_plain")
    # a window of one token has no width in their count
    near = one_window(config) and all(window != 1 for window in config.windows)
    return parts and head and pools and norm and near and square(config) and config.rope_scaling.kind == "none"


def _family(architecture: str, kind: str, head: dict[str, str]) -> Family:
    names = {ours: f"model.{theirs}" if kind else theirs for ours, theirs in BODY.items()}
    word: dict[str, Any] = {"kind": kind}
    return Family(
        architecture, "modernbert", names | head, partial(_read, **word), partial(_write, **word),
        partial(_holds, **word), KEYS, fixed=FIXED, tied=True,
    )  # fmt: skip


def _head(kind: str, out: str) -> dict[str, str]:
    return {
        f"heads.{kind}.transform.dense.weight": "head.dense.weight",
        **{f"heads.{kind}.transform.norm.{part}": f"head.norm.{part}" for part in ("weight", "bias")},
        **{f"heads.{kind}.out.{part}": f"{out}.{part}" for part in ("weight", "bias")},
    }


MODERNBERT = (
    _family("ModernBertForMaskedLM", "masked", _head("masked", "decoder")),
    _family("ModernBertForSequenceClassification", "classify", _head("classify", "classifier")),
    _family("ModernBertForTokenClassification", "tokens", _head("tokens", "classifier")),
    _family("ModernBertModel", "", {}),
)
