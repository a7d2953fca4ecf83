"""ModelConfig: the shape of one Transformer, whatever its family."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from .errors import InputError

# Far above anything real: a larger figure is a mistake, or meant to fill the memory.
MOST_POSITIONS = 1 << 24
MOST = {
    "vocab_size": 4_000_000, "d_model": 1 << 16, "layers": 1024, "encoder_layers": 1024, "heads": 1024,
    "kv_heads": 1024, "head_size": 1 << 16, "d_ff": 1 << 20, "max_positions": MOST_POSITIONS,
}  # fmt: skip


@dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies are stretched for a context longer than the one trained on."""

    kind: Literal["none", "linear", "llama3"] = "none"
    # how many times longer the context is
    factor: float = 1.0
    # llama3: wavelengths above original_positions / low_factor are stretched in full
    low_factor: float = 1.0
    # llama3: wavelengths below original_positions / high_factor are left alone
    high_factor: float = 4.0
    # llama3: the context before stretching
    original_positions: int = 8192

    def __post_init__(self) -> None:
        for name in ("factor", "low_factor", "high_factor"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise InputError(f"rope_scaling.{name}={getattr(self, name)}, wanted a number above 0")
        if self.kind == "llama3" and self.low_factor >= self.high_factor:
            raise InputError(
                f"rope_scaling.low_factor={self.low_factor} is not below high_factor={self.high_factor}; exchange them"
            )
        if not 0 < self.original_positions <= MOST_POSITIONS:
            raise InputError(
                f"rope_scaling.original_positions={self.original_positions}, wanted 1 to {MOST_POSITIONS:,}"
            )


@dataclass(frozen=True)
class ModelConfig:
    """Encoder, decoder and encoder-decoder are values of this one class; strings are keys of tables in `model`.

    Zero means "derive": kv_heads = heads, head_size = d_model / heads, d_ff = 4 d_model (8/3 when gated, rounded
    up to a multiple of 32), vocab_size = the tokenizer's.
    """

    # number of embedding rows, padded; 0 takes the tokenizer's
    vocab_size: int = 0
    # width of the residual stream, D
    d_model: int = 256
    # number of decoder blocks (of the only stack, where there is one)
    layers: int = 4
    # query heads, H
    heads: int = 4
    # key-value heads, K; fewer than heads is grouped-query attention
    kv_heads: int = 0
    # size of one head, E
    head_size: int = 0
    # inner width of the feed-forward layer
    d_ff: int = 0
    # rms, rms_one (its weights are stored as what they are more than one) or layer
    norm: str = "rms"
    # added to the mean square or variance
    norm_eps: float = 1e-6
    # where norms stand round a sublayer: pre, post, inside (on its output, before the sum), both, none (no residual)
    residual: str = "pre"
    # gated (SwiGLU-like) or plain
    mlp: str = "gated"
    # silu, gelu, gelu_tanh, relu
    act: str = "silu"
    # rotary, learned, sinusoidal, none
    positions: str = "rotary"
    # longest sequence the model is meant for
    max_positions: int = 1024
    # base of the rotary wavelengths
    rope_theta: float = 10000.0
    # stretching for long contexts
    rope_scaling: RopeScaling = field(default_factory=RopeScaling)
    # normalise queries and keys per head
    qk_norm: bool = False
    # normalise them over all heads together instead
    qk_norm_whole: bool = False
    # how many tokens back each layer looks, its own counted, 0 for all; one value a layer, none where all are 0
    windows: tuple[int, ...] = ()
    # base of the rotary wavelengths in layers with a window, which are not stretched then; 0 takes rope_theta
    window_theta: float = 0.0
    # scores are divided by the root of this; 0 takes head_size
    score_size: float = 0.0
    # scores are squeezed into (-cap, cap) by tanh; 0 leaves them
    score_cap: float = 0.0
    # logits are squeezed in the same way
    logit_cap: float = 0.0
    # embeddings are multiplied by the root of d_model
    scaled_embed: bool = False
    # biases of the query, key and value projections
    qkv_bias: bool = False
    # biases of the output projection and the feed-forward layer
    bias: bool = False
    # the lm head shares the embedding's weights
    tied: bool = True
    # share of activations dropped in training
    dropout: float = 0.0
    # the heads on top: lm, and from later stages masked, score, value, classify
    heads_of: tuple[str, ...] = ("lm",)
    # encoder blocks; 0 means there is no encoder
    encoder_layers: int = 0
    # False makes the only stack bidirectional
    causal: bool = True

    def __post_init__(self) -> None:
        def derive(name: str, value: int) -> None:
            object.__setattr__(self, name, value)

        for name in ("d_model", "layers", "heads", "max_positions"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} must be at least 1")
        for name, most in MOST.items():
            if not 0 <= getattr(self, name) <= most:
                raise InputError(f"{name}={getattr(self, name)}, wanted at most {most:,} and nothing negative")
        if not self.kv_heads:
            derive("kv_heads", self.heads)
        if not self.head_size:
            if self.d_model % self.heads:
                raise InputError(f"d_model={self.d_model} is not a multiple of heads={self.heads}; set head_size")
            derive("head_size", self.d_model // self.heads)
        if not self.d_ff:
            wide = 8 * self.d_model / 3 if self.mlp == "gated" else 4 * self.d_model
            derive("d_ff", -(-int(wide) // 32) * 32)
        if self.heads % self.kv_heads:
            raise InputError(f"heads={self.heads} is not a multiple of kv_heads={self.kv_heads}")
        if self.positions == "rotary" and self.head_size % 2:
            raise InputError(f"head_size={self.head_size} is odd; rotary positions turn pairs of channels")
        if not any(self.windows):
            object.__setattr__(self, "windows", ())
        if len(self.windows) not in (0, self.layers):
            raise InputError(f"windows has {len(self.windows)} values, wanted one for each of layers={self.layers}")
        if self.windows and (min(self.windows) < 0 or not self.causal):
            raise InputError(f"windows={self.windows} with causal={self.causal}; wanted 0 or more, and causal=true")
        if max(self.windows, default=0) > MOST_POSITIONS:
            raise InputError(f"windows holds {max(self.windows)}, wanted at most {MOST_POSITIONS:,}")
        for name in ("window_theta", "score_size", "score_cap", "logit_cap"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name}={getattr(self, name)}; wanted a number that is not negative")
        if not 0.0 <= self.norm_eps < 1.0:
            raise InputError(f"norm_eps={self.norm_eps} is outside [0, 1)")
        if not 0.0 < self.rope_theta < math.inf:
            raise InputError(f"rope_theta={self.rope_theta}, wanted a number above 0")
        if not 0.0 <= self.dropout < 1.0:
            raise InputError(f"dropout={self.dropout} is outside [0, 1)")
