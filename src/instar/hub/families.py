"""All we know of foreign checkpoints: for each family its config and its names of weights, both ways.

A family has no code of its own anywhere else. Ours: `blocks.{n}.attention.q.weight` and so on, as in model/.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..config import InputError, ModelConfig, from_dict, unknown

Foreign = dict[str, Any]
_LAYER = re.compile(r"^blocks\.(\d+)\.")


@dataclass(frozen=True)
class Family:
    """names: ours -> theirs, {n} the layer; several of ours with one name lie in it one after the other, by rows.
    transposed: endings of theirs that are stored (in, out). prefix: what some files leave off their names. read and
    write: their config.json <-> our fields; keys: all that read looks at; fixed: keys and the values that we compute.
    holds: whether a config of ours is of this family."""

    architecture: str
    model_type: str
    names: Mapping[str, str]
    read: Callable[[Foreign], Foreign]
    write: Callable[[ModelConfig], Foreign]
    holds: Callable[[ModelConfig], bool]
    keys: frozenset[str]
    fixed: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    transposed: frozenset[str] = frozenset()
    prefix: str = ""


# Keys that say nothing about what is computed in inference.
IGNORED = frozenset(
    "architectures model_type torch_dtype dtype transformers_version use_cache initializer_range attention_dropout "
    "bos_token_id eos_token_id pad_token_id unk_token_id _name_or_path auto_map _attn_implementation "
    "_attn_implementation_autoset return_dict output_attentions output_hidden_states tie_word_embeddings id2label "
    "label2id max_length min_length do_sample task_specific_params is_decoder is_encoder_decoder max_window_layers "
    "embd_pdrop attn_pdrop resid_pdrop summary_type summary_use_proj summary_activation summary_first_dropout "
    "summary_proj_to_labels n_ctx gradient_checkpointing chunk_size_feed_forward problem_type rope_scaling "
    "rope_theta rope_parameters vocab_size".split()
)

ACTS = {"silu": "silu", "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}


def config_from_hf(data: Foreign) -> ModelConfig:
    """config.json -> ModelConfig. Raises InputError for a family, a key or a value that we do not compute."""
    family = family_named(data)
    _refuse_unknown(family, data)
    tied = data.get("tie_word_embeddings", family.model_type == "gpt2")
    try:
        shape = {"vocab_size": data["vocab_size"], "tied": bool(tied), **family.read(data)}
    except KeyError as error:
        raise InputError(f"config.json of {family.architecture} lacks the key {error}") from None
    return from_dict(ModelConfig, shape, where="config.json")


def config_to_hf(config: ModelConfig, dtype: str = "float32", **tokens: int | list[int] | None) -> Foreign:
    """ModelConfig -> config.json. tokens: bos_token_id and the like. Raises InputError where no family holds it."""
    family = family_of(config)
    head = {"architectures": [family.architecture], "model_type": family.model_type, "vocab_size": config.vocab_size}
    tail = {"tie_word_embeddings": config.tied, "dtype": dtype, "torch_dtype": dtype, "use_cache": True}
    return head | family.write(config) | tail | {"bos_token_id": None, "eos_token_id": None} | tokens


def family_of(config: ModelConfig) -> Family:
    """The family that a config of ours is saved as. Raises InputError, naming what no family has."""
    for family in FAMILIES.values():
        if family.holds(config):
            return family
    words = ("norm", "residual", "mlp", "act", "positions", "qk_norm", "qkv_bias", "bias", "causal", "heads_of")
    said = ", ".join(f"{word}={getattr(config, word)}" for word in words)
    raise InputError(f"no known family has {said}; known: {', '.join(FAMILIES)}. It can be trained but not saved")


def family_named(data: Foreign) -> Family:
    """The family that a config.json names."""
    names = data.get("architectures") or []
    for name in names:
        if name in FAMILIES:
            return FAMILIES[name]
    raise unknown("architecture", ", ".join(map(str, names)) or str(data.get("model_type")), FAMILIES)


def foreign_names(family: Family, ours: Iterable[str]) -> dict[str, list[str]]:
    """Their name -> the weights of ours that it holds, in order. Example: h.0.attn.c_attn.bias -> q, k and v's."""
    held: dict[str, list[str]] = {}
    for name in ours:
        pattern, n = _LAYER.sub("blocks.{n}.", name), _LAYER.match(name)
        theirs = family.names[pattern].format(n=n and n[1])
        held.setdefault(theirs, []).append(name)
    return held


def _refuse_unknown(family: Family, data: Foreign) -> None:
    for key, allowed in family.fixed.items():
        if key in data and data[key] not in allowed:
            raise InputError(
                f"config.json says {key}={data[key]!r}; we compute {family.architecture} with {allowed[0]!r}"
            )
    known = IGNORED | family.keys | family.fixed.keys()
    for key, value in data.items():
        if key not in known and value not in (None, False, [], {}):
            raise InputError(f"config.json says {key}={value!r}, which we do not know for {family.architecture}")


# --- rotary frequencies ---------------------------------------------------------------------------------------------

_ROPE_KINDS = {"default": "none", "linear": "linear", "llama3": "llama3"}
_ROPE_KEYS = frozenset(
    "rope_type type rope_theta factor low_freq_factor high_freq_factor original_max_position_embeddings".split()
)


def _read_rope(data: Foreign) -> Foreign:
    """transformers 5 writes rope_parameters; before it rope_theta and rope_scaling."""
    rope = {"rope_theta": data.get("rope_theta", 10000.0)} | (data.get("rope_scaling") or {})
    rope |= data.get("rope_parameters") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in _ROPE_KINDS:
        raise unknown("rope_type", str(kind), _ROPE_KINDS)
    if strange := rope.keys() - _ROPE_KEYS:
        raise unknown("key of rope_parameters", min(strange), _ROPE_KEYS)
    scaling = {
        "kind": _ROPE_KINDS[kind],
        "factor": rope.get("factor", 1.0),
        "low_factor": rope.get("low_freq_factor", 1.0),
        "high_factor": rope.get("high_freq_factor", 4.0),
        "original_positions": rope.get("original_max_position_embeddings", 8192),
    }
    return {"rope_theta": rope["rope_theta"], "rope_scaling": scaling}


def _write_rope(config: ModelConfig) -> Foreign:
    scaling = config.rope_scaling
    kind = next(theirs for theirs, ours in _ROPE_KINDS.items() if ours == scaling.kind)
    details: Foreign = {"rope_type": kind}
    if kind != "default":
        details["factor"] = scaling.factor
    if kind == "llama3":
        details |= {
            "low_freq_factor": scaling.low_factor,
            "high_freq_factor": scaling.high_factor,
            "original_max_position_embeddings": scaling.original_positions,
        }
    return {
        "rope_theta": config.rope_theta,
        "rope_scaling": None if kind == "default" else details,
        "rope_parameters": details | {"rope_theta": config.rope_theta},
    }


# --- Llama and Qwen3 ------------------------------------------------------------------------------------------------

_LLAMA_NAMES = {
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
_LLAMA_KEYS = frozenset(
    "hidden_size num_hidden_layers num_attention_heads num_key_value_heads head_dim intermediate_size "
    "max_position_embeddings rms_norm_eps hidden_act attention_bias mlp_bias".split()
)
# What transformers takes where a Qwen3 config.json is silent.
_QWEN3_DEFAULTS = {"head_dim": 128, "num_key_value_heads": 32}


def _read_llama(data: Foreign) -> Foreign:
    act = data.get("hidden_act", "silu")
    if act not in ACTS:
        raise unknown("hidden_act", act, ACTS)
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
        "act": ACTS[act],
        "qkv_bias": bias,
        "bias": bias,
        **_read_rope(data),
    }


def _read_qwen3(data: Foreign) -> Foreign:
    kinds = data.get("layer_types") or []
    if not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds):
        raise InputError(f"config.json says layer_types={kinds!r}; we compute every layer with full_attention")
    return _read_llama(_QWEN3_DEFAULTS | data) | {"qk_norm": True}


def _write_llama(config: ModelConfig) -> Foreign:
    return {
        "hidden_size": config.d_model,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_size,
        "intermediate_size": config.d_ff,
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": config.norm_eps,
        "hidden_act": next(theirs for theirs, ours in ACTS.items() if ours == config.act),
        "attention_bias": config.qkv_bias,
        "mlp_bias": config.bias,
        **_write_rope(config),
    }


def _like_llama(config: ModelConfig, *, qk_norm: bool) -> bool:
    parts = (config.norm, config.residual, config.mlp, config.positions, config.encoder_layers, config.heads_of)
    wanted = ("rms", "pre", "gated", "rotary", 0, ("lm",))
    return parts == wanted and config.causal and config.qk_norm == qk_norm and config.bias == config.qkv_bias


# --- GPT-2 ----------------------------------------------------------------------------------------------------------

_GPT2_PAIRS = {
    "attention.out": "attn.c_proj",
    "feed_forward.up": "mlp.c_fc",
    "feed_forward.down": "mlp.c_proj",
    "attention_norm": "ln_1",
    "feed_forward_norm": "ln_2",
}
_GPT2_NAMES = {
    "embed.weight": "transformer.wte.weight",
    "positions.weight": "transformer.wpe.weight",
    "norm.weight": "transformer.ln_f.weight",
    "norm.bias": "transformer.ln_f.bias",
    "heads.lm.weight": "lm_head.weight",
    **{
        f"blocks.{{n}}.{ours}.{part}": f"transformer.h.{{n}}.{theirs}.{part}"
        for ours, theirs in (_GPT2_PAIRS | {f"attention.{name}": "attn.c_attn" for name in "qkv"}).items()
        for part in ("weight", "bias")
    },
}


def _read_gpt2(data: Foreign) -> Foreign:
    act = data.get("activation_function", "gelu_new")
    if act not in ACTS:
        raise unknown("activation_function", act, ACTS)
    return {
        "d_model": data["n_embd"],
        "layers": data["n_layer"],
        "heads": data["n_head"],
        "d_ff": data.get("n_inner") or 4 * data["n_embd"],
        "max_positions": data["n_positions"],
        "norm": "layer",
        "norm_eps": data.get("layer_norm_epsilon", 1e-5),
        "mlp": "plain",
        "act": ACTS[act],
        "positions": "learned",
        "qkv_bias": True,
        "bias": True,
    }


def _write_gpt2(config: ModelConfig) -> Foreign:
    return {
        "n_embd": config.d_model,
        "n_layer": config.layers,
        "n_head": config.heads,
        "n_inner": config.d_ff,
        "n_positions": config.max_positions,
        "layer_norm_epsilon": config.norm_eps,
        "activation_function": next(theirs for theirs, ours in ACTS.items() if ours == config.act),
    }


def _like_gpt2(config: ModelConfig) -> bool:
    parts = (config.norm, config.residual, config.mlp, config.positions, config.encoder_layers, config.heads_of)
    wanted = ("layer", "pre", "plain", "learned", 0, ("lm",))
    square = config.kv_heads == config.heads and config.head_size * config.heads == config.d_model
    return parts == wanted and square and config.causal and config.bias and config.qkv_bias and not config.qk_norm


FAMILIES: dict[str, Family] = {
    family.architecture: family
    for family in (
        Family(
            "LlamaForCausalLM",
            "llama",
            _LLAMA_NAMES,
            _read_llama,
            _write_llama,
            lambda config: _like_llama(config, qk_norm=False),
            _LLAMA_KEYS,
            fixed={"pretraining_tp": (1,)},
        ),
        Family(
            "Qwen3ForCausalLM",
            "qwen3",
            _LLAMA_NAMES,
            _read_qwen3,
            _write_llama,
            lambda config: _like_llama(config, qk_norm=True) and not config.bias,
            _LLAMA_KEYS | {"layer_types", "sliding_window"},
            fixed={"use_sliding_window": (False,), "attention_bias": (False,), "mlp_bias": (False,)},
        ),
        Family(
            "GPT2LMHeadModel",
            "gpt2",
            _GPT2_NAMES,
            _read_gpt2,
            _write_gpt2,
            _like_gpt2,
            frozenset("n_embd n_layer n_head n_inner n_positions layer_norm_epsilon activation_function".split()),
            fixed={
                "scale_attn_weights": (True,),
                "scale_attn_by_inverse_layer_idx": (False,),
                "reorder_and_upcast_attn": (False,),
            },
            transposed=frozenset({"attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"}),
            prefix="transformer.",
        ),
    )
}
