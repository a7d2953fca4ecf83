"""Options, shapes and recipes: frozen dataclasses <-> strict YAML <-> dotted flags. Knows nothing of torch."""

from .errors import InputError, Interrupted, nearest, unknown
from .shape import ModelConfig, RopeScaling
from .strict import dump_yaml, from_dict, load_yaml, option_names, to_dict

__all__ = [
    "InputError", "Interrupted", "ModelConfig", "RopeScaling", "dump_yaml", "from_dict", "load_yaml",
    "nearest", "option_names", "to_dict", "unknown",
]  # fmt: skip
