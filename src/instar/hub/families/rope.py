"""Rotary frequencies in a config.json, in the spelling of transformers 5 and in the older one."""

from __future__ import annotations

import math

from ...config import InputError, ModelConfig, RopeScaling, unknown
from .family import Foreign

_ROPE_KINDS = {"default": "none", "linear": "linear", "llama3": "llama3", "yarn": "yarn", "dynamic": "dynamic"}
_ROPE_KEYS = frozenset(
    "rope_type type rope_theta factor low_freq_factor high_freq_factor original_max_position_embeddings "
    "beta_fast beta_slow attention_factor mscale mscale_all_dim truncate".split()
)
SHARE = "partial_rotary_factor"


def read_rope(data: Foreign, share: float | None = None) -> Foreign:
    """transformers 5 writes rope_parameters; before it rope_theta and rope_scaling.

    share: of a family that turns a part of each head, what it turns where config.json is silent; of the others None.
    """
    rope = {"rope_theta": data.get("rope_theta", 10000.0)} | (data.get("rope_scaling") or {})
    rope |= data.get("rope_parameters") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in _ROPE_KINDS:
        raise unknown("rope_type", str(kind), _ROPE_KINDS)
    turned: Foreign = {} if share is None else {"rotary_share": rope.pop(SHARE, data.get(SHARE, share))}
    if strange := rope.keys() - _ROPE_KEYS:
        raise unknown("key of rope_parameters", min(strange), _ROPE_KEYS)
    if rope.get("truncate", True) is not True:
        raise InputError(f"config.json says truncate={rope['truncate']!r}; we compute yarn with True")
    scaling = {
        "kind": _ROPE_KINDS[kind],
        "factor": rope.get("factor", 1.0),
        "low_factor": rope.get("low_freq_factor", 1.0),
        "high_factor": rope.get("high_freq_factor", 4.0),
        "original_positions": RopeScaling.original_positions,
    }
    given = data.get("max_position_embeddings", RopeScaling.original_positions)
    if kind in ("llama3", "yarn"):
        scaling["original_positions"] = rope.get("original_max_position_embeddings") or given
    if kind == "yarn":
        scaling |= {
            "fast": rope.get("beta_fast") or RopeScaling.fast,
            "slow": rope.get("beta_slow") or RopeScaling.slow,
            "temper": rope.get("attention_factor") or _temper(rope),
        }
    if kind == "dynamic":  # stretched from what max_position_embeddings says on
        turned |= {"max_positions": int(given * scaling["factor"])}
        scaling["original_positions"] = given
    return turned | {"rope_theta": rope["rope_theta"], "rope_scaling": scaling}


def _temper(rope: Foreign) -> float:
    """DeepSeek's two figures: the ratio of what each would give; 0 where they are not both there."""
    both = [float(rope.get(name) or 0) for name in ("mscale", "mscale_all_dim")]
    if not all(both):
        return 0.0
    one, other = (0.1 * scale * math.log(max(rope["factor"], 1)) + 1.0 for scale in both)
    return one / other


def check_length(config: ModelConfig) -> None:
    """Raise InputError where `dynamic` is meant for texts of another length than max_positions: a config.json has room
    for one of the two."""
    scaling = config.rope_scaling
    longest = int(scaling.original_positions * scaling.factor)
    if scaling.kind == "dynamic" and config.max_positions != longest:
        raise InputError(
            f"max_positions={config.max_positions} with rope_scaling.kind=dynamic, factor={scaling.factor} and "
            f"original_positions={scaling.original_positions}, which reach to {longest}; set it to that"
        )


def write_rope(config: ModelConfig) -> Foreign:
    """Both spellings. For `dynamic` max_position_embeddings is among them: what texts are stretched from."""
    scaling = config.rope_scaling
    kind = next(theirs for theirs, ours in _ROPE_KINDS.items() if ours == scaling.kind)
    details: Foreign = {"rope_type": kind}
    if kind != "default":
        details["factor"] = scaling.factor
    if kind in ("llama3", "yarn"):
        details["original_max_position_embeddings"] = scaling.original_positions
    if kind == "llama3":
        details |= {"low_freq_factor": scaling.low_factor, "high_freq_factor": scaling.high_factor}
    if kind == "yarn":
        details |= {"beta_fast": scaling.fast, "beta_slow": scaling.slow}
        details |= {"attention_factor": scaling.temper} if scaling.temper else {}
    if config.rotary_share < 1:
        details[SHARE] = config.rotary_share
    rest = {"max_position_embeddings": scaling.original_positions} if kind == "dynamic" else {}
    return rest | {
        "rope_theta": config.rope_theta,
        "rope_scaling": None if kind == "default" else details,
        "rope_parameters": details | {"rope_theta": config.rope_theta},
    }
