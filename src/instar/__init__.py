"""Instar raises a language model through its whole life and shows its inside at every stage.

The public names are loaded when they are first used, so that `import instar` costs nothing.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Batch": "batch", "IGNORE": "batch", "Loss": "batch", "View": "batch",
    "Engine": "infer.engine", "generate": "infer.text", "stream": "infer.text",
    "Inspection": "probe.inspection", "inspect": "probe.inspection",
    "InputError": "config", "ModelConfig": "config",
    "KVCache": "model.cache", "Transformer": "model.transformer",
    "Tokenizer": "text.tokenizer", "load_tokenizer": "adapt.folders",
    "Trainer": "train.trainer",
    "load": "adapt.folders", "load_model": "adapt.folders",
}  # fmt: skip

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module instar has no name {name!r}")
    return getattr(import_module(f"instar.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
