"""Marian, the encoder-decoder of 2017 as thousands of translators have it: post norm, sinusoidal positions."""

from __future__ import annotations

from ...config import InputError, ModelConfig
from . import bart
from .family import Family, Foreign

NAMES = bart.BLOCKS | bart.HEAD | {
    "embed.weight": "model.shared.weight",
    "encoder.embed.weight": "model.encoder.embed_tokens.weight",
}  # fmt: skip
# A source with a vocabulary of its own.
APART = {"encoder.embed.weight": {"embed.weight": "model.decoder.embed_tokens.weight"}}


def _read(data: Foreign) -> Foreign:
    shared = bool(data.get("share_encoder_decoder_embeddings", True))
    source, target = data["vocab_size"], data.get("decoder_vocab_size") or data["vocab_size"]
    if shared and source != target:
        raise InputError(
            f"config.json says share_encoder_decoder_embeddings with vocab_size={source!r} and decoder_vocab_size="
            f"{target!r}; make them equal, or set it to false"
        )
    if shared and not data.get("tie_word_embeddings", True):
        raise InputError(
            "config.json says share_encoder_decoder_embeddings and tie_word_embeddings=False; we compute a head of its "
            "own where source and target have embeddings of their own"
        )
    sizes = {"vocab_size": target, "source_vocab_size": 0 if shared else source}
    return bart.read(data) | sizes | {"positions": "sinusoidal_halves"}


def _write(config: ModelConfig) -> Foreign:
    return bart.write(config) | {
        "vocab_size": config.source_vocab_size or config.vocab_size,
        "decoder_vocab_size": config.vocab_size,
        "share_encoder_decoder_embeddings": not config.source_vocab_size,
    }


MARIAN = Family(
    "MarianMTModel", "marian", NAMES, _read, _write,
    lambda config: bart.like(config, positions="sinusoidal_halves", source_vocab_size=None),
    bart.KEYS | bart.SAID | {"decoder_vocab_size", "share_encoder_decoder_embeddings", "extra_pos_embeddings"},
    fixed=bart.FIXED | {"normalize_embedding": (False,), "static_position_embeddings": (True,)},
    rows=frozenset({"final_logits_bias"}), prefix="model.", instead=APART, twins=bart.TWINS,
    idle=("embed_positions.weight",), tied=True,
)  # fmt: skip
