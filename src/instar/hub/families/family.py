"""What a family is, and what every family shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...config import InputError, ModelConfig, unknown

Foreign = dict[str, Any]


@dataclass(frozen=True)
class Family:
    """names: ours -> theirs, {n} the layer, {e} the expert; several of ours with one name lie in it one after the
    other, by rows. transposed: endings of theirs that are stored (in, out); interleaved: endings of theirs in which
    ours lie head by head; paired: endings of theirs in which the two channels that are turned together lie side by
    side; rows: endings of theirs that are our vectors with a first axis of 1. prefix: what some files leave off their
    names. instead: names that take the place of others in a model that has a certain weight of ours. idle: endings of
    theirs that old files carry along and nothing is computed with; spare: patterns of whole names of theirs that a file
    may hold and the architecture does without, which is told; older: endings of theirs in old files -> what they are
    called now; twins: those of theirs that may be stored twice -> the other name. read and write: their config.json
    <-> our fields; keys: all that read looks at; fixed: keys and the values that we compute; own: keys of write
    that a tokenizer's ids must agree with. holds: whether a config of ours is of this family. tied: what a
    config.json that does not say it means."""

    architecture: str
    model_type: str
    names: Mapping[str, str]
    read: Callable[[Foreign], Foreign]
    write: Callable[[ModelConfig], Foreign]
    holds: Callable[[ModelConfig], bool]
    keys: frozenset[str]
    fixed: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    transposed: frozenset[str] = frozenset()
    interleaved: frozenset[str] = frozenset()
    paired: frozenset[str] = frozenset()
    rows: frozenset[str] = frozenset()
    prefix: str = ""
    instead: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    idle: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()
    older: Mapping[str, str] = field(default_factory=dict)
    twins: Mapping[str, str] = field(default_factory=dict)
    own: frozenset[str] = frozenset()
    tied: bool = False


# Keys that say nothing about what is computed in inference.
IGNORED = frozenset(
    "architectures model_type torch_dtype dtype transformers_version use_cache initializer_range attention_dropout "
    "bos_token_id eos_token_id pad_token_id unk_token_id _name_or_path auto_map _attn_implementation "
    "_attn_implementation_autoset return_dict output_attentions output_hidden_states tie_word_embeddings id2label "
    "label2id max_length min_length do_sample task_specific_params is_decoder is_encoder_decoder max_window_layers "
    "embd_pdrop attn_pdrop resid_pdrop summary_type summary_use_proj summary_activation summary_first_dropout "
    "summary_proj_to_labels n_ctx gradient_checkpointing chunk_size_feed_forward problem_type rope_scaling "
    "rope_theta rope_parameters vocab_size cache_implementation is_llama_config transformers.js_config "
    "quantization_config".split()
)

ACTS = {"silu": "silu", "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}
ACTS |= {"swish": "silu", "gelu_fast": "gelu_tanh"}  # older names

# What a decoder computes that has none of what only some families have.
PLAIN: Foreign = {
    "norm": "rms", "residual": "pre", "mlp": "gated", "positions": "rotary", "encoder_layers": 0, "heads_of": ("lm",),
    "causal": True, "qk_norm": False, "qk_norm_whole": False, "window_theta": 0.0, "score_size": 0.0, "score_cap": 0.0,
    "logit_cap": 0.0, "scaled_embed": False, "embed_norm": False, "first_norm": True, "experts": 0, "rotary_share": 1.0,
    "position_start": 0, "head_scale": 1.0, "head_bias": False, "token_types": 0, "source_vocab_size": 0,
}  # fmt: skip


def computes(config: ModelConfig, **besides: Any) -> bool:
    """Whether a config asks for PLAIN with these changes; a field whose value is None here may be anything."""
    return all(value is None or getattr(config, name) == value for name, value in (PLAIN | besides).items())


def act_of(data: Foreign, key: str, otherwise: str) -> str:
    """Our name of the activation. Raises InputError for one that we do not have."""
    act = data.get(key) or otherwise
    if act not in ACTS:
        raise unknown(key, str(act), ACTS)
    return ACTS[act]


def act_name(config: ModelConfig) -> str:
    return next(theirs for theirs, ours in ACTS.items() if ours == config.act)


FULL, NEAR = "full_attention", "sliding_attention"


def read_windows(data: Foreign, near: Callable[[int], bool]) -> list[int]:
    """The window of each layer; `near` tells which layers have one where layer_types does not."""
    layers, window = data["num_hidden_layers"], data.get("sliding_window")
    kinds = data.get("layer_types") or [NEAR if near(n) else FULL for n in range(layers)]
    if not isinstance(kinds, list) or len(kinds) != layers or not set(kinds) <= {FULL, NEAR}:
        raise InputError(f"config.json says layer_types={kinds!r}; wanted {FULL} or {NEAR} for each of {layers} layers")
    if NEAR in kinds and not window:
        raise InputError(f"config.json says layer_types with {NEAR} and sliding_window={window!r}; wanted a number")
    return [int(window or 0) if kind == NEAR else 0 for kind in kinds]


def write_windows(config: ModelConfig) -> Foreign:
    windows = config.windows or (0,) * config.layers
    return {"sliding_window": max(windows) or None, "layer_types": [NEAR if window else FULL for window in windows]}


def one_window(config: ModelConfig) -> bool:
    """Whether all windows of a config are equally long, as every family has them."""
    return len(set(config.windows) - {0}) <= 1
