"""BART: the encoder-decoder of 2017 with learned positions and a norm behind the embeddings, and its classifier."""

from __future__ import annotations

from typing import Any

from ...config import InputError, ModelConfig
from .family import Family, Foreign, act_name, act_of, computes
from .labels import read_labels, write_labels

PARTS = {
    "attention.q": "self_attn.q_proj",
    "attention.k": "self_attn.k_proj",
    "attention.v": "self_attn.v_proj",
    "attention.out": "self_attn.out_proj",
    "attention_norm": "self_attn_layer_norm",
    "feed_forward.up": "fc1",
    "feed_forward.down": "fc2",
    "feed_forward_norm": "final_layer_norm",
}
CROSS = {
    "cross.q": "encoder_attn.q_proj",
    "cross.k": "encoder_attn.k_proj",
    "cross.v": "encoder_attn.v_proj",
    "cross.out": "encoder_attn.out_proj",
    "cross_norm": "encoder_attn_layer_norm",
}
# What Marian has too.
BLOCKS = {
    f"{ours}blocks.{{n}}.{part}.{kind}": f"model.{stack}.layers.{{n}}.{theirs}.{kind}"
    for ours, stack, parts in (("encoder.", "encoder", PARTS), ("", "decoder", PARTS | CROSS))
    for part, theirs in parts.items()
    for kind in ("weight", "bias")
}
HEAD = {"heads.lm.weight": "lm_head.weight", "heads.lm.bias": "final_logits_bias"}
TWINS = dict.fromkeys(("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"), "model.shared.weight")
BODY = BLOCKS | {
    "embed.weight": "model.shared.weight",
    **{
        f"{ours}{part}": f"model.{stack}.{theirs}"
        for ours, stack in (("encoder.", "encoder"), ("", "decoder"))
        for part, theirs in {
            "positions.weight": "embed_positions.weight",
            "embed_norm.weight": "layernorm_embedding.weight",
            "embed_norm.bias": "layernorm_embedding.bias",
        }.items()
    },
}
CLASSES = {
    f"heads.classify.{ours}.{kind}": f"classification_head.{theirs}.{kind}"
    for ours, theirs in {"transform.dense": "dense", "out": "out_proj"}.items()
    for kind in ("weight", "bias")
}
# Both stacks have one width; config.json says each twice.
TWICE = ("attention_heads", "ffn_dim")
KEYS = frozenset(
    "d_model encoder_layers decoder_layers num_hidden_layers encoder_attention_heads decoder_attention_heads "
    "encoder_ffn_dim decoder_ffn_dim max_position_embeddings activation_function scale_embedding dropout "
    "attention_dropout decoder_start_token_id".split()
)
# What is said of training, and of how answers are chosen.
SAID = frozenset(
    "activation_dropout classif_dropout classifier_dropout encoder_layerdrop decoder_layerdrop init_std "
    "forced_bos_token_id forced_eos_token_id force_bos_token_to_be_generated bad_words_ids num_beams early_stopping "
    "length_penalty no_repeat_ngram_size repetition_penalty prefix output_past _num_labels num_labels".split()
)
FIXED: dict[str, tuple[Any, ...]] = {
    "is_encoder_decoder": (True,),
    "is_decoder": (False,),
    "normalize_before": (False,),
    "add_final_layer_norm": (False,),
    "add_bias_logits": (False,),
}
EPS = 1e-5  # of every norm; config.json does not say it


def read(data: Foreign) -> Foreign:
    """What Marian has too."""
    for name in TWICE:
        encoder, decoder = data[f"encoder_{name}"], data[f"decoder_{name}"]
        if encoder != decoder:
            raise InputError(
                f"config.json says encoder_{name}={encoder!r} and decoder_{name}={decoder!r}; we compute one for both"
            )
    if data.get("num_hidden_layers", data["encoder_layers"]) != data["encoder_layers"]:
        raise InputError(
            f"config.json says num_hidden_layers={data['num_hidden_layers']!r} and encoder_layers="
            f"{data['encoder_layers']!r}, which are two names of one; make them equal"
        )
    return {
        "d_model": data["d_model"],
        "layers": data["decoder_layers"],
        "encoder_layers": data["encoder_layers"],
        "heads": data["encoder_attention_heads"],
        "d_ff": data["encoder_ffn_dim"],
        "max_positions": data["max_position_embeddings"],
        "norm": "layer",
        "norm_eps": EPS,
        "residual": "post",
        "mlp": "plain",
        "act": act_of(data, "activation_function", "gelu"),
        "qkv_bias": True,
        "bias": True,
        "head_bias": True,
        "scaled_embed": bool(data.get("scale_embedding", False)),
        "dropout": data.get("dropout", 0.1),
        "attention_dropout": data.get("attention_dropout", 0.0),
        "start": data["decoder_start_token_id"],
    }


def write(config: ModelConfig) -> Foreign:
    return {
        "is_encoder_decoder": True,
        "d_model": config.d_model,
        "encoder_layers": config.encoder_layers,
        "decoder_layers": config.layers,
        **{f"{stack}_attention_heads": config.heads for stack in ("encoder", "decoder")},
        **{f"{stack}_ffn_dim": config.d_ff for stack in ("encoder", "decoder")},
        "max_position_embeddings": config.max_positions,
        "activation_function": act_name(config),
        "scale_embedding": config.scaled_embed,
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        **begins(config),
    }


def begins(config: ModelConfig) -> Foreign:
    """What decoding begins with, and no padding unless it is told. Raises InputError where it is not known."""
    if config.start < 0:
        raise InputError(
            f"start={config.start}: an encoder-decoder is saved with the id that decoding begins with; set start"
        )
    return {"decoder_start_token_id": config.start, "pad_token_id": None}


def like(config: ModelConfig, **besides: Any) -> bool:
    """Whether a config asks for what BART and Marian have in common, with these changes."""
    square = config.kv_heads == config.heads and config.head_size * config.heads == config.d_model
    wanted: Foreign = {
        "norm": "layer", "norm_eps": EPS, "residual": "post", "mlp": "plain", "qkv_bias": True, "bias": True,
        "head_bias": True, "encoder_layers": None, "scaled_embed": None,
    }  # fmt: skip
    # transformers takes an untied head to mean that no two embeddings are one
    one = config.tied or config.source_vocab_size > 0
    return computes(config, **wanted | besides) and square and one and config.encoder_layers > 0


# --- what BART alone has --------------------------------------------------------------------------------------------

OWN: Foreign = {"positions": "learned", "position_start": 2, "embed_norm": True}


def _read_classes(data: Foreign) -> Foreign:
    head = {"heads_of": ["classify"], "pooled": "tanh", "pooling": "last", "head_bias": False}
    return read(data) | OWN | head | read_labels({"num_labels": 3} | data)


def _write_classes(config: ModelConfig) -> Foreign:
    return write(config) | write_labels(config)


def _is_classifier(config: ModelConfig) -> bool:
    head = {"heads_of": ("classify",), "pooled": "tanh", "pooling": "last", "head_bias": False}
    return like(config, **OWN, **head)


BART_FIXED = FIXED | {
    "tie_word_embeddings": (True,),
    "normalize_embedding": (True,), "static_position_embeddings": (False,), "extra_pos_embeddings": (2,),
}  # fmt: skip

BART = (
    Family(
        "BartForConditionalGeneration", "bart", BODY | HEAD, lambda data: read(data) | OWN, write,
        lambda config: like(config, **OWN), KEYS | SAID, fixed=BART_FIXED, rows=frozenset({"final_logits_bias"}),
        prefix="model.", twins=TWINS, tied=True,
    ),
    Family(
        "BartForSequenceClassification", "bart", BODY | CLASSES, _read_classes, _write_classes, _is_classifier,
        KEYS | SAID, fixed=BART_FIXED, prefix="model.", twins=TWINS, tied=True,
    ),
)  # fmt: skip
