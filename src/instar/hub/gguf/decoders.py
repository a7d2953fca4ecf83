"""Decoders as llama.cpp knows them, one entry for each of transformers' architectures that is one."""

from __future__ import annotations

from torch import Tensor

from ...config import ModelConfig
from .arch import BLOCK, NAMES, Arch, Change, Keys, blocks, layer_norm, rms, rope

JOINED = NAMES | blocks({f"attention.{name}": "attn_qkv" for name in "qkv"})
ROUTER = f"{BLOCK}feed_forward.router.weight"
EXPERTS = NAMES | {
    ROUTER: "blk.{n}.ffn_gate_inp.weight",
    f"{BLOCK}feed_forward.bias": "blk.{n}.exp_probs_b.bias",
    **{
        f"{BLOCK}feed_forward.experts.{{e}}.{part}.weight": f"blk.{{n}}.ffn_{part}_exps.weight"
        for part in ("gate", "up", "down")
    },
}


def _experts(config: ModelConfig) -> Keys:
    counts = {"expert_count": config.experts, "expert_used_count": config.experts_used}
    return rms(config) | counts | {"expert_feed_forward_length": config.d_expert}


def _mixtral(config: ModelConfig) -> Keys:
    return _experts(config) | {"feed_forward_length": config.d_expert}


def _ernie(config: ModelConfig) -> Keys:
    return _experts(config) | {"interleave_moe_layer_step": 1, "leading_dense_block_count": len(config.dense_layers)}


def _windowed(config: ModelConfig) -> Keys:
    if not config.windows:
        return rms(config)
    pattern = [window > 0 for window in config.windows]
    return rms(config) | {
        "attention.sliding_window": max(config.windows),
        "attention.sliding_window_pattern": pattern,
        "rope.freq_base_swa": float(config.window_theta or config.rope_theta),
    }


def _gemma2(config: ModelConfig) -> Keys:
    caps = {"attn_logit_softcapping": config.score_cap, "final_logit_softcapping": config.logit_cap}
    return _windowed(config) | {name: float(cap) for name, cap in caps.items()}


def _gemma3(config: ModelConfig) -> Keys:
    return _windowed(config) | ({"final_logit_softcapping": float(config.logit_cap)} if config.logit_cap else {})


def _neox(config: ModelConfig) -> Keys:
    return layer_norm(config) | rope(config) | {"use_parallel_residual": config.residual == "parallel"}


# --- what weights become --------------------------------------------------------------------------------------------


def paired(tensor: Tensor, config: ModelConfig) -> Tensor:
    """Rows of q or k: the two channels of a head that are turned together, side by side; ours lie half a head apart."""
    return tensor.unflatten(0, (-1, 2, config.head_size // 2)).transpose(1, 2).flatten(0, 2)


def _plus_one(tensor: Tensor, config: ModelConfig) -> Tensor:
    """Norms stored as what they are more than one."""
    return tensor.float() + 1


def _score_scale(config: ModelConfig, large: int) -> float:
    """Their scores are divided by the root of the size of a head, or in the model of `large` layers of D / H; ours by
    that of score_size. The queries bear the difference."""
    theirs = config.d_model // config.heads if config.layers == large else config.head_size
    return (theirs / (config.score_size or config.head_size)) ** 0.5


def _scaled_queries(tensor: Tensor, config: ModelConfig) -> Tensor:
    scale = _score_scale(config, 46)
    return tensor if scale == 1 else (tensor.float() * scale).to(tensor.dtype)


def _scaled_query_norm(tensor: Tensor, config: ModelConfig) -> Tensor:
    return _plus_one(tensor, config) * _score_scale(config, 62)


PAIRED: dict[str, Change] = {f"{BLOCK}attention.{name}.{part}": paired for name in "qk" for part in ("weight", "bias")}
AFTER = blocks({"attention_after": "post_attention_norm", "feed_forward_after": "post_ffw_norm"})
PLUS_ONE: dict[str, Change] = {
    name: _plus_one for name in (*NAMES, *AFTER) if "norm.weight" in name or "after.weight" in name
}

# --- what must be so ------------------------------------------------------------------------------------------------

SILU = {"act": ("silu",)}
GELU = {"act": ("gelu_tanh",)}
# they have gelu by its approximation alone, and so has everybody who runs these models there; it is told
EITHER_GELU = {"act": ("gelu_tanh", "gelu")}


def _square(config: ModelConfig) -> str:
    inner = config.heads * config.head_size
    return "" if inner == config.d_model else f"heads times head_size is {inner} and d_model {config.d_model}"


def _leading(config: ModelConfig) -> str:
    first = tuple(range(len(config.dense_layers)))
    return "" if config.dense_layers == first else f"dense_layers={config.dense_layers}; wanted the first ones, or none"


DECODERS: dict[str, Arch] = {
    "LlamaForCausalLM": Arch(
        "llama", NAMES, rms, SILU, changes=PAIRED, ropes=("none", "linear", "llama3", "yarn", "dynamic")
    ),
    "MixtralForCausalLM": Arch(
        "llama", EXPERTS, _mixtral, SILU, changes=PAIRED, keep=frozenset({ROUTER}),
        ropes=("none", "linear", "llama3", "yarn", "dynamic"),
    ),
    "Qwen2ForCausalLM": Arch("qwen2", NAMES, rms, SILU, also=_square),
    "Qwen3ForCausalLM": Arch("qwen3", NAMES, rms, SILU),
    "Qwen3MoeForCausalLM": Arch(
        "qwen3moe", EXPERTS, _experts, SILU | {"dense_layers": ((),), "expert_norm": (True,)}, keep=frozenset({ROUTER}),
    ),
    "Ernie4_5_MoeForCausalLM": Arch(
        "ernie4_5-moe", EXPERTS, _ernie, SILU, also=_leading, changes=PAIRED, keep=frozenset({ROUTER}),
    ),
    "Olmo2ForCausalLM": Arch(
        "olmo2",
        NAMES | blocks({"attention_norm": "post_attention_norm", "feed_forward_norm": "post_ffw_norm"}),
        rms, SILU, also=_square, own_head=True,
    ),
    "Gemma2ForCausalLM": Arch(
        "gemma2", NAMES | AFTER, _gemma2, GELU | {"tied": (True,)},
        also=lambda config: "" if config.windows and config.score_cap and config.logit_cap else (
            f"windows={config.windows}, score_cap={config.score_cap} and logit_cap={config.logit_cap}; "
            "wanted a window in a layer, and both caps"
        ),
        ropes=("none", "linear"), windows=True,
        changes=PLUS_ONE | {f"{BLOCK}attention.q.weight": _scaled_queries},
    ),
    "Gemma3ForCausalLM": Arch(
        "gemma3", NAMES | AFTER, _gemma3, GELU | {"score_cap": (0.0,)}, ropes=("none", "linear"), windows=True,
        changes=PLUS_ONE | {f"{BLOCK}attention.q_norm.weight": _scaled_query_norm},
    ),
    "Phi3ForCausalLM": Arch(
        "phi3", JOINED | blocks({"feed_forward.gate": "ffn_up"}), rms, SILU, also=_square, ropes=("none", "dynamic"),
    ),
    "GPTNeoXForCausalLM": Arch("gptneox", JOINED, _neox, EITHER_GELU, own_head=True),
    "GPT2LMHeadModel": Arch(
        "gpt2", JOINED | {"positions.weight": "position_embd.weight"}, layer_norm, EITHER_GELU,
    ),
}  # fmt: skip
DECODERS["MistralForCausalLM"] = DECODERS["LlamaForCausalLM"]
