"""The names of classes in a config.json: id2label and label2id."""

from __future__ import annotations

from collections.abc import Mapping

from ...config import InputError, ModelConfig
from .family import Foreign

_UNNAMED = "LABEL_{}"  # what transformers calls a class that has no name


def read_labels(data: Foreign) -> Foreign:
    """How many classes there are and what they are called. Raises InputError unless they are numbered from 0 on."""
    named = data.get("id2label")
    if named is None:
        return {"labels": data.get("num_labels", 2)}
    if not isinstance(named, Mapping) or set(named) != {str(number) for number in range(len(named))}:
        raise InputError(f"config.json says id2label={str(named)[:80]}, wanted names for 0, 1, 2 and so on")
    names = [named[str(number)] for number in range(len(named))]
    unnamed = all(name == _UNNAMED.format(number) for number, name in enumerate(names))
    return {"labels": len(names), "label_names": [] if unnamed else names}


def write_labels(config: ModelConfig) -> Foreign:
    names = config.label_names or tuple(_UNNAMED.format(number) for number in range(config.labels))
    return {
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
    }
