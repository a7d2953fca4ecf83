"""What an architecture of llama.cpp is, and what all of them share: names of weights, and keys."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ...config import InputError, ModelConfig

Keys = dict[str, Any]
Change = Callable[[Tensor, ModelConfig], Tensor]


class Unwritable(InputError):
    """llama.cpp does not know this family, shape or tokenizer, or would compute something else."""


@dataclass(frozen=True)
class Arch:
    """name: llama.cpp's; names: ours -> theirs, {n} the layer; several of ours with one name are joined by rows, and
    experts ({e}) stacked. keys: what it is told besides the sizes that all have. computes: fields of ours -> the values
    that it knows; also: a further demand -> why not, or "". ropes: kinds of stretching. changes: ours -> what is done
    to it on the way. own_head: it wants a head in the file although it is the embedding. windows: it knows layers that
    look back so far and no farther. keep: ours that stay in fp32 besides vectors. whole: its texts are documents with
    their ends, and nothing goes on from them."""

    name: str
    names: Mapping[str, str]
    keys: Callable[[ModelConfig], Keys]
    computes: Mapping[str, tuple[Any, ...]]
    also: Callable[[ModelConfig], str] = lambda config: ""
    ropes: tuple[str, ...] = ("none", "linear", "yarn", "dynamic")
    changes: Mapping[str, Change] = field(default_factory=dict)
    own_head: bool = False
    windows: bool = False
    keep: frozenset[str] = frozenset()
    whole: bool = False


BLOCK = "blocks.{n}."


def both(pairs: Mapping[str, str]) -> dict[str, str]:
    """Names of layers -> names of their weights and biases."""
    return {f"{ours}.{part}": f"{theirs}.{part}" for ours, theirs in pairs.items() for part in ("weight", "bias")}


def blocks(pairs: Mapping[str, str]) -> dict[str, str]:
    return both({f"{BLOCK}{ours}": f"blk.{{n}}.{theirs}" for ours, theirs in pairs.items()})


NAMES = both({"embed": "token_embd", "norm": "output_norm", "heads.lm": "output"}) | blocks(
    {
        "attention.q": "attn_q",
        "attention.k": "attn_k",
        "attention.v": "attn_v",
        "attention.out": "attn_output",
        "attention.q_norm": "attn_q_norm",
        "attention.k_norm": "attn_k_norm",
        "attention_norm": "attn_norm",
        "feed_forward.gate": "ffn_gate",
        "feed_forward.up": "ffn_up",
        "feed_forward.down": "ffn_down",
        "feed_forward_norm": "ffn_norm",
    }
)
# --- keys -----------------------------------------------------------------------------------------------------------


def reach(config: ModelConfig, arch: Arch) -> int:
    """The longest text of which llama.cpp computes what we do: up to it windows leave nothing out where it knows none,
    and dynamic stretching has not begun."""
    longest = config.max_positions
    if config.windows and not arch.windows:
        longest = min(longest, *(window for window in config.windows if window))
    if config.positions == "rotary" and config.rope_scaling.kind == "dynamic":
        longest = min(longest, config.rope_scaling.original_positions)
    return longest


def sizes(config: ModelConfig, arch: Arch) -> Keys:
    """What every architecture is told, without its name in front."""
    return {
        "vocab_size": config.vocab_size,
        "context_length": reach(config, arch),
        "embedding_length": config.d_model,
        "block_count": config.layers,
        "feed_forward_length": config.d_ff,
        "attention.head_count": config.heads,
        "attention.head_count_kv": config.kv_heads,
        **arch.keys(config),
    }


def rms(config: ModelConfig) -> Keys:
    return {
        "attention.layer_norm_rms_epsilon": float(config.norm_eps),
        "attention.key_length": config.head_size,
        "attention.value_length": config.head_size,
        **rope(config),
    }


def layer_norm(config: ModelConfig) -> Keys:
    return {"attention.layer_norm_epsilon": float(config.norm_eps)}


def rope(config: ModelConfig) -> Keys:
    """Linear stretching and yarn are keys; llama3's is a tensor; dynamic is none as far as the file reaches."""
    scaling = config.rope_scaling
    keys: Keys = {"rope.dimension_count": config.rotary_size, "rope.freq_base": float(config.rope_theta)}
    if scaling.kind in ("linear", "yarn"):
        keys |= {"rope.scaling.type": scaling.kind, "rope.scaling.factor": float(scaling.factor)}
    if scaling.kind == "yarn":
        usual = 0.1 * math.log(scaling.factor) + 1.0 if scaling.factor > 1 else 1.0
        keys |= {
            "rope.scaling.original_context_length": scaling.original_positions,
            # theirs is multiplied by the usual one
            "rope.scaling.attn_factor": (scaling.temper or usual) / usual,
        }
    return keys
