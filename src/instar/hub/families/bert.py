"""BERT and RoBERTa: encoders that differ in what they call their heads and where they count positions from.

An architecture is a body and what stands on it: a head that names hidden tokens, one that tells classes of texts or of
tokens apart, or none, whose vector of a text is what its folder says besides (`hub/sentences.py`).
"""

from __future__ import annotations

from functools import partial
from typing import Any

from ...config import InputError, ModelConfig
from .family import Family, Foreign, act_name, act_of, computes
from .labels import read_labels, write_labels

BODY = {
    "embed": "embeddings.word_embeddings",
    "positions": "embeddings.position_embeddings",
    "types": "embeddings.token_type_embeddings",
    "embed_norm": "embeddings.LayerNorm",
    **{
        f"blocks.{{n}}.{ours}": f"encoder.layer.{{n}}.{theirs}"
        for ours, theirs in {
            "attention.q": "attention.self.query",
            "attention.k": "attention.self.key",
            "attention.v": "attention.self.value",
            "attention.out": "attention.output.dense",
            "attention_norm": "attention.output.LayerNorm",
            "feed_forward.up": "intermediate.dense",
            "feed_forward.down": "output.dense",
            "feed_forward_norm": "output.LayerNorm",
        }.items()
    },
}
TOKENS = {"heads.tokens.out": "classifier"}
KEYS = frozenset(
    "hidden_size num_hidden_layers num_attention_heads intermediate_size max_position_embeddings layer_norm_eps "
    "hidden_act type_vocab_size hidden_dropout_prob attention_probs_dropout_prob pad_token_id num_labels id2label "
    # the first classifiers' dropout of their own, and what Google's own files say of a pooler that is a square layer
    "classifier_dropout _num_labels directionality pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers "
    "pooler_size_per_head pooler_type".split()
)
FIXED = {"position_embedding_type": ("absolute",), "add_cross_attention": (False,), "is_decoder": (False,)}
# norms as TensorFlow named them
OLDER = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}

# 0, 1, 2, ..., and zeros
COUNTS = ("embeddings.position_ids", "embeddings.token_type_ids")


def both_parts(pairs: dict[str, str]) -> dict[str, str]:
    """Names of layers -> names of their weights and biases."""
    return {f"{ours}.{part}": f"{theirs}.{part}" for ours, theirs in pairs.items() for part in ("weight", "bias")}


def square(config: ModelConfig) -> bool:
    """Whether the heads of a config divide its width among them, and each has keys of its own."""
    return config.kv_heads == config.heads and config.head_size * config.heads == config.d_model


def _read(data: Foreign, *, kind: str, roberta: bool) -> Foreign:
    start = _padding(data) + 1 if roberta else 0
    return {
        "d_model": data["hidden_size"],
        "layers": data["num_hidden_layers"],
        "heads": data["num_attention_heads"],
        "d_ff": data["intermediate_size"],
        "max_positions": data["max_position_embeddings"] - start,
        "position_start": start,
        "norm": "layer",
        "norm_eps": data.get("layer_norm_eps", 1e-12),
        "residual": "post",
        "embed_norm": True,
        "mlp": "plain",
        "act": act_of(data, "hidden_act", "gelu"),
        "positions": "learned",
        "token_types": data.get("type_vocab_size", 2),
        "qkv_bias": True,
        "bias": True,
        "head_bias": kind == "masked",
        "causal": False,
        "dropout": data.get("hidden_dropout_prob", 0.1),
        "attention_dropout": data.get("attention_probs_dropout_prob", 0.1),
        "heads_of": [kind] if kind else [],
        "pooled": "tanh",
        **(read_labels(data) if kind in ("classify", "tokens") else {}),
    }


def _padding(data: Foreign) -> int:
    """The id after whose number RoBERTa counts positions."""
    padding = data.get("pad_token_id", 1)
    if type(padding) is not int or padding < 0:
        raise InputError(f"config.json says pad_token_id={padding!r}; RoBERTa counts positions from it, wanted an id")
    return padding


def _write(config: ModelConfig, *, kind: str, roberta: bool) -> Foreign:
    return {
        "hidden_size": config.d_model,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.d_ff,
        "max_position_embeddings": config.max_positions + config.position_start,
        "layer_norm_eps": config.norm_eps,
        "hidden_act": act_name(config),
        "type_vocab_size": config.token_types,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "pad_token_id": config.position_start - 1 if roberta else None,
        **(write_labels(config) if kind in ("classify", "tokens") else {}),
    }


def _holds(config: ModelConfig, *, kind: str, roberta: bool) -> bool:
    heads: dict[str, dict[str, Any]] = {
        "masked": {"head_bias": True, "tied": True, **({"act": "gelu"} if roberta else {})},
        "classify": {"pooled": "tanh", "pooling": "first"},
    }
    parts = computes(
        config, norm="layer", residual="post", embed_norm=True, mlp="plain", positions="learned", qkv_bias=True,
        bias=True, causal=False, token_types=None, position_start=None, heads_of=(kind,) if kind else (),
        **{"head_bias": None, **heads.get(kind, {})},
    )  # fmt: skip
    plain = config.pooled != "norm" and config.token_types > 0 and not config.windows
    return parts and plain and square(config) and (config.position_start > 0) == roberta


def _family(architecture: str, kind: str, head: dict[str, str], **besides: Any) -> Family:
    roberta = architecture.startswith("Roberta")
    model_type = "roberta" if roberta else "bert"
    prefix = f"{model_type}." if kind else ""
    fixed: dict[str, tuple[Any, ...]] = dict(FIXED)
    if kind == "masked":
        fixed["tie_word_embeddings"] = (True,)
        if roberta:
            fixed["hidden_act"] = ("gelu",)
    # the pooler of a text, which only BERT's classifier computes with
    pooler = () if (roberta, kind) == (False, "classify") else (rf"({model_type}\.)?pooler\.dense\.(weight|bias)",)
    if roberta:
        besides["own"] = frozenset({"pad_token_id"})
    besides["spare"] = (*pooler, *besides.get("spare", ()))
    word: dict[str, Any] = {"kind": kind, "roberta": roberta}
    names = both_parts({ours: f"{prefix}{theirs}" for ours, theirs in BODY.items()} | head)
    return Family(
        architecture, model_type, names | besides.pop("names", {}), partial(_read, **word), partial(_write, **word),
        partial(_holds, **word), KEYS, fixed=fixed, older=OLDER, idle=COUNTS, tied=True,
        **besides,
    )  # fmt: skip


BERT = (
    _family(
        "BertForMaskedLM", "masked",
        {
            "heads.masked.transform.dense": "cls.predictions.transform.dense",
            "heads.masked.transform.norm": "cls.predictions.transform.LayerNorm",
            "heads.masked.out": "cls.predictions.decoder",
        },
        names={"heads.masked.out.bias": "cls.predictions.bias"},
        twins={"cls.predictions.decoder.bias": "cls.predictions.bias"},
        # whether two texts follow each other, which pretraining asked besides
        spare=(r"cls\.seq_relationship\.(weight|bias)",),
    ),
    _family(
        "BertForSequenceClassification", "classify",
        {"heads.classify.transform.dense": "bert.pooler.dense", "heads.classify.out": "classifier"},
    ),
    _family("BertForTokenClassification", "tokens", TOKENS),
    _family("BertModel", "", {}),
    _family(
        "RobertaForMaskedLM", "masked",
        {
            "heads.masked.transform.dense": "lm_head.dense",
            "heads.masked.transform.norm": "lm_head.layer_norm",
            "heads.masked.out": "lm_head.decoder",
        },
        names={"heads.masked.out.bias": "lm_head.bias"},
        twins={"lm_head.decoder.bias": "lm_head.bias"},
    ),
    _family(
        "RobertaForSequenceClassification", "classify",
        {"heads.classify.transform.dense": "classifier.dense", "heads.classify.out": "classifier.out_proj"},
    ),
    _family("RobertaForTokenClassification", "tokens", TOKENS),
    _family("RobertaModel", "", {}),
)  # fmt: skip
