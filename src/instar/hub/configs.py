"""config.json -> a shape that could exist: read strictly, every figure in bounds, before a family looks at it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config import InputError, ModelConfig, read_object
from ..config.shape import MOST, MOST_POSITIONS
from .families import Family, config_from_hf, family_named
from .families.family import IGNORED
from .sentences import read_pooling

CONFIG = "config.json"
LIMIT = 1 << 20  # bytes of a config.json
# Sizes in the spellings of all families -> the field of ours whose bound they have.
SIZES = {
    **dict.fromkeys(("vocab_size", "decoder_vocab_size"), "vocab_size"),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim"), "d_model"),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "n_layers", "decoder_layers"), "layers"),
    **dict.fromkeys(("encoder_layers", "num_decoder_layers"), "encoder_layers"),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), "heads"),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), "heads"),
    "num_key_value_heads": "kv_heads",
    "type_vocab_size": "token_types",
    "num_labels": "labels",
    **dict.fromkeys(("head_dim", "d_kv"), "head_size"),
    **dict.fromkeys(("intermediate_size", "n_inner", "d_ff", "hidden_dim"), "d_ff"),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), "d_ff"),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), "max_positions"),
    **dict.fromkeys(("num_local_experts", "num_experts", "moe_num_experts"), "experts"),
    **dict.fromkeys(("num_experts_per_tok", "moe_k"), "experts_used"),
    "moe_intermediate_size": "d_expert",
}
_SHOWN = 400  # characters of a message that quotes a config.json


def read_config(folder: Path) -> tuple[Family, ModelConfig]:
    """The family and the shape that a folder's config.json says. Raises InputError, and allocates nothing."""
    path = folder / CONFIG
    data = read_object(path, LIMIT)
    if data is None:
        raise InputError(f"{folder} is no model folder: {CONFIG} is missing; name a folder that a model was saved to")
    try:
        _check_sizes(data)
        family, config = family_named(data), config_from_hf(data)
    except InputError as error:
        said = str(error) if len(str(error)) <= _SHOWN else f"{str(error)[:_SHOWN]}..."
        named = said.startswith(CONFIG)
        raise InputError(f"{path}{said.removeprefix(CONFIG) if named else ': ' + said}") from None
    except (TypeError, AttributeError, ValueError, LookupError, ArithmeticError) as error:
        # a family's reader takes every key to be of its kind; a stranger's file need not be so kind
        raise InputError(
            f"{path}: a value is of another kind than its key wants ({str(error)[:200]}); fetch the file again"
        ) from None
    return family, config if config.heads_of else replace(config, **read_pooling(folder, config.d_model))


def _check_sizes(data: dict[str, Any]) -> None:
    """Raise InputError for a size that is no whole number in bounds: a reader may make a list as long as it says."""
    for key, value in data.items():
        if key in SIZES:
            most = MOST[SIZES[key]]
            if value is not None and (type(value) is not int or not 0 <= value <= most):
                raise InputError(f"{key}={_shown(value)}, wanted a whole number up to {most:,}")
        elif type(value) is int and key not in IGNORED and abs(value) > MOST_POSITIONS:
            raise InputError(f"{key}={_shown(value)}, wanted a number up to {MOST_POSITIONS:,}")


def _shown(value: Any) -> str:
    return f"{value:,}" if type(value) is int and abs(value) < 10**30 else repr(value)[:60]
