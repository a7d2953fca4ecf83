"""Options, shapes and recipes: frozen dataclasses <-> strict YAML <-> dotted flags. Knows nothing of torch."""

from .errors import Diverged, Failed, InputError, Interrupted, nearest, unknown
from .jsonfile import parse_json, read_object, read_text
from .shape import ModelConfig, RopeScaling
from .strict import dump_yaml, from_dict, load_yaml, option_names, to_dict

__all__ = [
    "Diverged", "Failed",
    "InputError", "Interrupted", "ModelConfig", "RopeScaling", "dump_yaml", "from_dict", "load_yaml",
    "nearest", "option_names", "parse_json", "read_object", "read_text", "to_dict", "unknown",
]  # fmt: skip
