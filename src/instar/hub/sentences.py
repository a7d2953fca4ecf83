"""How the vectors of a text's tokens become one, in the folder layout of sentence-transformers: modules.json names
three steps, of which the first is the model itself, 1_Pooling/config.json says how the second pools, and a third brings
what it gives to length one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config import InputError, ModelConfig, parse_json, read_object, read_text, unknown

MODULES, POOLING, SIDE = "modules.json", "1_Pooling", "config.json"
LIMIT = 1 << 20  # bytes of one of these files
STEPS = (["Transformer"], ["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
# ours -> theirs, as a key that is true (before sentence-transformers 5.4), or as a word
KEYS = {"first": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens", "last": "pooling_mode_lasttoken"}
WORDS = {"first": "cls", "mean": "mean", "last": "lasttoken"}
WIDTHS = ("word_embedding_dimension", "embedding_dimension")


def read_pooling(folder: Path, width: int) -> dict[str, Any]:
    """The fields pooling and normalised of a folder's model of this width; none where it has no modules.json.

    Raises InputError for steps or a pooling that we do not compute, and for a path that leads out of the folder.
    """
    path = folder / MODULES
    if not path.is_file():
        return {}
    steps = parse_json(read_text(path, LIMIT), str(path))
    kinds = [_kind(step) for step in steps] if isinstance(steps, list) else []
    if kinds not in STEPS:
        raise InputError(f"{path} says {str(kinds)[:80]}; we compute {' and then '.join(STEPS[-1])}, or the first two")
    found: dict[str, Any] = {"normalised": "Normalize" in kinds}
    if "Pooling" in kinds:
        place = str(steps[1].get("path"))
        if place in ("", "..") or Path(place).name != place:
            raise InputError(f"{path} names {place[:80]!r}, which is no folder beside it; fetch the folder again")
        found["pooling"] = _pooling(folder / place / SIDE, width)
    return found


def _kind(step: Any) -> str:
    """The name of a step's class; the modules round it were moved several times."""
    return str(step.get("type")).rpartition(".")[2] if isinstance(step, Mapping) else "no step"


def _pooling(path: Path, width: int) -> str:
    data = read_object(path, LIMIT)
    if data is None:
        raise InputError(f"{path} is missing, which {MODULES} names; fetch the folder again")
    for key in WIDTHS:
        if data.get(key, width) != width:
            raise InputError(f"{path} says {key}={str(data[key])[:40]}, and the model has d_model={width}")
    if data.get("include_prompt", True) is not True:
        raise InputError(f"{path} says include_prompt={str(data['include_prompt'])[:40]}; we pool all tokens of a text")
    modes = data.get("pooling_mode") or [key for key, on in data.items() if key.startswith("pooling_mode_") and on]
    if isinstance(modes, list) and len(modes) == 1:
        modes = modes[0]
    known = {theirs: ours for table in (KEYS, WORDS) for ours, theirs in table.items()}
    if not isinstance(modes, str) or modes not in known:
        raise unknown(f"pooling in {path}:", str(modes)[:80], known)
    return known[modes]


def sentence_files(config: ModelConfig) -> dict[str, Any]:
    """Path in the folder -> what stands there, for a model without a head, whose answer is one vector a text."""
    if config.heads_of:
        return {}
    steps = STEPS[-1] if config.normalised else STEPS[1]
    places = ("", POOLING, "2_Normalize")
    modes = {key: ours == config.pooling for ours, key in KEYS.items()}
    return {
        f"{POOLING}/{SIDE}": {WIDTHS[0]: config.d_model, **modes},
        MODULES: [
            {"idx": number, "name": str(number), "path": place, "type": f"sentence_transformers.models.{kind}"}
            for number, (kind, place) in enumerate(zip(steps, places))
        ],
    }
