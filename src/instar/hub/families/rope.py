"""Rotary frequencies in a config.json, in the spelling of transformers 5 and in the older one."""

from __future__ import annotations

from ...config import ModelConfig, unknown
from .family import Foreign

_ROPE_KINDS = {"default": "none", "linear": "linear", "llama3": "llama3"}
_ROPE_KEYS = frozenset(
    "rope_type type rope_theta factor low_freq_factor high_freq_factor original_max_position_embeddings".split()
)


def read_rope(data: Foreign) -> Foreign:
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


def write_rope(config: ModelConfig) -> Foreign:
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
