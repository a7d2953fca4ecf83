"""Encoders and T5 as llama.cpp knows them. Of an encoder it computes states, and no head."""

from __future__ import annotations

from torch import Tensor

from ...config import ModelConfig
from .arch import BLOCK, Arch, Keys, blocks, both, layer_norm, rms, rope

# they have gelu by its approximation alone; it is told
GELU = {"act": ("gelu_tanh", "gelu")}
POOLINGS = {"mean": 1, "first": 2, "last": 3}
BERT_NAMES = both(
    {
        "embed": "token_embd", "positions": "position_embd", "types": "token_types", "embed_norm": "token_embd_norm",
    }
) | blocks(
    {
        **{f"attention.{name}": f"attn_{name}" for name in "qkv"},
        "attention.out": "attn_output",
        "attention_norm": "attn_output_norm",
        "feed_forward.up": "ffn_up",
        "feed_forward.down": "ffn_down",
        "feed_forward_norm": "layer_output_norm",
    }
)  # fmt: skip
MODERNBERT_NAMES = both({"embed": "token_embd", "embed_norm": "token_embd_norm", "norm": "output_norm"}) | blocks(
    {
        **{f"attention.{name}": "attn_qkv" for name in "qkv"},
        "attention.out": "attn_output",
        "attention_norm": "attn_norm",
        # gate, then up
        "feed_forward.gate": "ffn_up",
        "feed_forward.up": "ffn_up",
        "feed_forward.down": "ffn_down",
        "feed_forward_norm": "ffn_norm",
    }
)


def _t5_names() -> dict[str, str]:
    names = {"embed": "token_embd", "heads.lm": "output"}
    for ours, theirs in (("encoder.", "enc"), ("", "dec")):
        names |= {f"{ours}norm": f"{theirs}.output_norm", f"{ours}positions": f"{theirs}.blk.0.attn_rel_b"}
        for part, name in {"attention": "attn", "cross": "cross_attn"}.items():
            names |= {f"{ours}{BLOCK}{part}.{letter}": f"{theirs}.blk.{{n}}.{name}_{letter}" for letter in "qkv"}
            names |= {
                f"{ours}{BLOCK}{part}.out": f"{theirs}.blk.{{n}}.{name}_o",
                f"{ours}{BLOCK}{part}_norm": f"{theirs}.blk.{{n}}.{name}_norm",
            }
        names |= {f"{ours}{BLOCK}feed_forward.{part}": f"{theirs}.blk.{{n}}.ffn_{part}" for part in ("gate", "up")}
        names |= {
            f"{ours}{BLOCK}feed_forward.down": f"{theirs}.blk.{{n}}.ffn_down",
            f"{ours}{BLOCK}feed_forward_norm": f"{theirs}.blk.{{n}}.ffn_norm",
        }
    return {f"{ours}.weight": f"{theirs}.weight" for ours, theirs in names.items()}


def _encoder(config: ModelConfig) -> Keys:
    return layer_norm(config) | {"attention.causal": False, "pooling_type": POOLINGS[config.pooling]}


def _bert(config: ModelConfig) -> Keys:
    return _encoder(config) | {"tokenizer.ggml.token_type_count": config.token_types}


def _modernbert(config: ModelConfig) -> Keys:
    """Their window counts both sides together, ours one side and the token itself."""
    keys = _encoder(config) | rope(config)
    if config.windows:
        keys |= {
            "attention.sliding_window": 2 * (max(config.windows) - 1),
            "attention.sliding_window_pattern": [window > 0 for window in config.windows],
            "rope.freq_base_swa": float(config.window_theta or config.rope_theta),
        }
    return keys


def _t5(config: ModelConfig) -> Keys:
    keys = {name: value for name, value in rms(config).items() if not name.startswith("rope.")}
    return keys | {
        "block_count": config.encoder_layers,
        "decoder_block_count": config.layers,
        "decoder_start_token_id": config.start,
        "attention.relative_buckets_count": config.relative_buckets,
    }


def _from_start(tensor: Tensor, config: ModelConfig) -> Tensor:
    """Rows before that of the first position are no position's."""
    return tensor[config.position_start :]


def _scaled_head(tensor: Tensor, config: ModelConfig) -> Tensor:
    return tensor.float() * config.head_scale if config.head_scale != 1 else tensor


def _t5_demands(config: ModelConfig) -> str:
    """llama.cpp takes the activation from the kind of layer, and has room for as many decoder blocks as encoder's."""
    act = {"gated": "gelu_tanh", "plain": "relu"}[config.mlp]
    if config.act != act:
        return f"act={config.act} with mlp={config.mlp}; wanted {act}"
    if config.layers > config.encoder_layers:
        return f"layers={config.layers} and encoder_layers={config.encoder_layers}; wanted no more of the first"
    return ""


_BERT = Arch(
    "bert", BERT_NAMES, _bert, GELU, changes={"positions.weight": _from_start}, whole=True,
)  # fmt: skip

ENCODERS: dict[str, Arch] = {
    "BertModel": _BERT,
    "RobertaModel": _BERT,
    "ModernBertModel": Arch(
        "modern-bert", MODERNBERT_NAMES, _modernbert, GELU | {"norm": ("layer_plain",)}, ropes=("none",), windows=True,
        whole=True,
    ),
    "T5ForConditionalGeneration": Arch(
        "t5", _t5_names(), _t5, {"relative_distance": (128,)}, also=_t5_demands, own_head=True,
        changes={"heads.lm.weight": _scaled_head}, whole=True,
    ),
}  # fmt: skip
