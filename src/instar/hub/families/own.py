"""Our own layout, for shapes that no family of transformers has: every field and every weight by our name."""

from __future__ import annotations

from dataclasses import fields

from ...config import ModelConfig, to_dict
from .family import Family, Foreign


class _Same(dict[str, str]):
    """Every name for itself."""

    def __missing__(self, name: str) -> str:
        return name


APART = {"vocab_size", "tied"}  # what every config.json says in the spelling of transformers
FIELDS = frozenset(field.name for field in fields(ModelConfig)) - APART
# what every encoder-decoder's config.json says besides; `start` is the same
BESIDE = {"decoder_start_token_id"}


def _read(data: Foreign) -> Foreign:
    return {name: data[name] for name in FIELDS if name in data}


def _write(config: ModelConfig) -> Foreign:
    return {name: value for name, value in to_dict(config).items() if name in FIELDS}


OWN = Family("InstarTransformer", "instar", _Same(), _read, _write, lambda config: True, FIELDS | BESIDE)
