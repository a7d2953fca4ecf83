"""T5: norms before, no biases, distances for positions, scores that are not divided. v1.1 gates its feed-forward
layers and has a head of its own."""

from __future__ import annotations

from ...config import InputError, ModelConfig
from . import bart
from .family import Family, Foreign, act_name, act_of, computes

SUBLAYERS = {  # ours -> theirs, the number of the sublayer apart
    "attention.q": "SelfAttention.q",
    "attention.k": "SelfAttention.k",
    "attention.v": "SelfAttention.v",
    "attention.out": "SelfAttention.o",
    "attention_norm": "layer_norm",
    "cross.q": "EncDecAttention.q",
    "cross.k": "EncDecAttention.k",
    "cross.v": "EncDecAttention.v",
    "cross.out": "EncDecAttention.o",
    "cross_norm": "layer_norm",
    "feed_forward.gate": "DenseReluDense.wi_0",
    "feed_forward.up": "DenseReluDense.wi",
    "feed_forward.down": "DenseReluDense.wo",
    "feed_forward_norm": "layer_norm",
}
ORDER = {"encoder.": ("attention", "feed_forward"), "": ("attention", "cross", "feed_forward")}
STACKS = {"encoder.": "encoder", "": "decoder"}


def _names() -> dict[str, str]:
    names = {"embed.weight": "shared.weight", "heads.lm.weight": "lm_head.weight"}
    for ours, kinds in ORDER.items():
        first = f"{STACKS[ours]}.block.0.layer.0.SelfAttention"  # whose distances are those of all blocks
        names[f"{ours}positions.weight"] = f"{first}.relative_attention_bias.weight"
        names[f"{ours}norm.weight"] = f"{STACKS[ours]}.final_layer_norm.weight"
        for number, kind in enumerate(kinds):
            for part, theirs in SUBLAYERS.items():
                if part.startswith(kind):
                    full = f"{STACKS[ours]}.block.{{n}}.layer.{number}.{theirs}.weight"
                    names[f"{ours}blocks.{{n}}.{part}.weight"] = full
    return names


NAMES = _names()
GATED = {
    f"{ours}blocks.{{n}}.feed_forward.gate.weight": {name: NAMES[name].replace(".wi.", ".wi_1.")}
    for ours in ORDER
    for name in [f"{ours}blocks.{{n}}.feed_forward.up.weight"]
}
KEYS = frozenset(
    "d_model d_kv d_ff num_layers num_decoder_layers num_heads relative_attention_num_buckets dropout_rate "
    "relative_attention_max_distance layer_norm_epsilon feed_forward_proj dense_act_fn is_gated_act "
    "scale_decoder_outputs n_positions decoder_start_token_id pad_token_id".split()
)
POSITIONS = 512  # tokens of the texts that T5 was trained on


def _read(data: Foreign) -> Foreign:
    tied, scaled = _head(data)
    mlp, act = _feed_forward(data)
    start = data.get("decoder_start_token_id")
    dropout = data.get("dropout_rate", 0.1)
    return {
        "d_model": data["d_model"],
        "layers": data["num_layers"] if data.get("num_decoder_layers") is None else data["num_decoder_layers"],
        "encoder_layers": data["num_layers"],
        "heads": data["num_heads"],
        "head_size": data["d_kv"],
        "d_ff": data["d_ff"],
        "max_positions": data.get("n_positions") or POSITIONS,
        "norm_eps": data.get("layer_norm_epsilon", 1e-6),
        "mlp": mlp,
        "act": act,
        "positions": "t5",
        "relative_buckets": data.get("relative_attention_num_buckets", 32),
        "relative_distance": data.get("relative_attention_max_distance", 128),
        "score_size": 1.0,
        "tied": tied,
        "head_scale": data["d_model"] ** -0.5 if scaled else 1.0,
        "dropout": dropout,
        "attention_dropout": dropout,
        # of a config.json that does not say it, padding
        "start": data.get("pad_token_id", 0) if start is None else start,
    }


def _head(data: Foreign) -> tuple[bool, bool]:
    """Whether the head is the embedding, and whether it is given states scaled down. transformers 5 writes
    tie_word_embeddings=true in every case and keeps what was said in scale_decoder_outputs."""
    tied = bool(data.get("tie_word_embeddings", True))
    scaled = bool(data.get("scale_decoder_outputs", tied))
    return tied and scaled, scaled


def _feed_forward(data: Foreign) -> tuple[str, str]:
    """mlp and act. Raises InputError where the keys that transformers derives say something else."""
    said = data.get("feed_forward_proj", "relu")
    gate, _, name = said.rpartition("-")
    if gate not in ("", "gated"):
        raise InputError(f"config.json says feed_forward_proj={said!r}; wanted an activation, or gated- and one")
    if said == "gated-gelu":  # the approximation is meant
        name = "gelu_new"
    for key, meant in {"dense_act_fn": name, "is_gated_act": bool(gate)}.items():
        if data.get(key, meant) != meant:
            raise InputError(f"config.json says feed_forward_proj={said!r} and {key}={data[key]!r}; wanted {meant!r}")
    act = act_of({"feed_forward_proj": name}, "feed_forward_proj", name)
    return "gated" if gate else "plain", act


def _write(config: ModelConfig) -> Foreign:
    act = act_name(config)
    return {
        "is_encoder_decoder": True,
        "d_model": config.d_model,
        "d_kv": config.head_size,
        "d_ff": config.d_ff,
        "num_layers": config.encoder_layers,
        "num_decoder_layers": config.layers,
        "num_heads": config.heads,
        "n_positions": config.max_positions,
        "relative_attention_num_buckets": config.relative_buckets,
        "relative_attention_max_distance": config.relative_distance,
        "layer_norm_epsilon": config.norm_eps,
        "feed_forward_proj": f"gated-{act}" if config.mlp == "gated" else act,
        "scale_decoder_outputs": config.head_scale != 1.0,
        "dropout_rate": config.dropout,
        **bart.begins(config),
    }


def _is_t5(config: ModelConfig) -> bool:
    scales = {config.d_model**-0.5} | (set() if config.tied else {1.0})
    parts = computes(
        config, positions="t5", mlp=None, encoder_layers=None, score_size=1.0, head_scale=None, qkv_bias=False,
        bias=False,
    )  # fmt: skip
    return parts and config.encoder_layers > 0 and config.kv_heads == config.heads and config.head_scale in scales


T5 = Family(
    "T5ForConditionalGeneration", "t5", NAMES, _read, _write, _is_t5, KEYS | bart.SAID | {"initializer_factor"},
    fixed={"is_encoder_decoder": (True,), "is_decoder": (False,)},
    instead=GATED,
    twins=dict.fromkeys(("encoder.embed_tokens.weight", "decoder.embed_tokens.weight"), "shared.weight"),
    idle=("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",), tied=True,
)  # fmt: skip
