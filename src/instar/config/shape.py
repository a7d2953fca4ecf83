"""ModelConfig: the shape of one Transformer, whatever its family."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from .errors import InputError

# Far above anything real: a larger figure is a mistake, or meant to fill the memory.
MOST_POSITIONS = 1 << 24
MOST_EXPERTS = 1 << 15  # of all layers: each is a module, so their number alone fills memory
MOST = {
    "vocab_size": 4_000_000, "d_model": 1 << 16, "layers": 1024, "encoder_layers": 1024, "heads": 1024,
    "kv_heads": 1024, "head_size": 1 << 16, "d_ff": 1 << 20, "max_positions": MOST_POSITIONS,
    "experts": 4096, "experts_used": 4096, "d_expert": 1 << 20, "token_types": 1 << 16, "labels": 1 << 20,
    "source_vocab_size": 4_000_000, "position_start": 1 << 16, "relative_buckets": 1 << 16,
    "relative_distance": MOST_POSITIONS,
}  # fmt: skip


@dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies are stretched for a context longer than the one trained on."""

    kind: Literal["none", "linear", "llama3", "yarn", "dynamic"] = "none"
    # how many times longer the context is; dynamic: the longest, reached where a text is longer than original_positions
    factor: float = 1.0
    # llama3: wavelengths above original_positions / low_factor are stretched in full
    low_factor: float = 1.0
    # llama3: wavelengths below original_positions / high_factor are left alone
    high_factor: float = 4.0
    # llama3, yarn, dynamic: the context before stretching
    original_positions: int = 8192
    # yarn: waves that turn more often than this within original_positions are left alone
    fast: float = 32.0
    # yarn: waves that turn less often than this are stretched in full
    slow: float = 1.0
    # yarn: queries and keys are multiplied by this; 0 takes 0.1 ln(factor) + 1
    temper: float = 0.0

    def __post_init__(self) -> None:
        for name in ("factor", "low_factor", "high_factor", "fast", "slow"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise InputError(f"rope_scaling.{name}={getattr(self, name)}, wanted a number above 0")
        if not 0.0 <= self.temper < math.inf:
            raise InputError(f"rope_scaling.temper={self.temper}, wanted a number that is not negative")
        if self.kind == "yarn" and self.slow >= self.fast:
            raise InputError(f"rope_scaling.slow={self.slow} is not below fast={self.fast}; exchange them")
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
    # key-value heads, K; fewer than heads is grouped-query attention, 1 multi-query
    kv_heads: int = 0
    # size of one head, E
    head_size: int = 0
    # inner width of the feed-forward layer
    d_ff: int = 0
    # rms, rms_one (its weights are stored as what they are more than one), layer, or layer_plain (without bias)
    norm: str = "rms"
    # added to the mean square or variance
    norm_eps: float = 1e-6
    # where norms stand round a sublayer: pre, post, inside (on its output, before the sum), both (sandwich), parallel
    # (pre, attention and feed-forward layer at once), none (no residual)
    residual: str = "pre"
    # a norm between embeddings and blocks
    embed_norm: bool = False
    # False leaves out the norm before the first attention, which an embed_norm makes idle
    first_norm: bool = True
    # gated (SwiGLU, GeGLU) or plain
    mlp: str = "gated"
    # silu, gelu, gelu_tanh, relu
    act: str = "silu"
    # experts of a feed-forward layer, of which each token takes a few; 0 is one layer for all
    experts: int = 0
    # experts that a token takes
    experts_used: int = 2
    # inner width of one expert; 0 takes d_ff
    d_expert: int = 0
    # shares of the experts taken add up to one
    expert_norm: bool = True
    # blocks, counted from 0, that keep one layer for all
    dense_layers: tuple[int, ...] = ()
    # how experts are kept equally busy: loss (an auxiliary one) or bias (added to the router's choice alone)
    balance_by: Literal["loss", "bias"] = "loss"
    # weight of the auxiliary loss, or how far the bias moves a step
    balance: float = 0.01
    # rotary, learned, sinusoidal (the paper's), sinusoidal_halves, sinusoidal_t2t, t5, alibi, none
    positions: str = "rotary"
    # longest sequence the model is meant for
    max_positions: int = 1024
    # learned: rows that stand before that of the first position
    position_start: int = 0
    # base of the rotary wavelengths
    rope_theta: float = 10000.0
    # share of each head that is turned
    rotary_share: float = 1.0
    # stretching for long contexts
    rope_scaling: RopeScaling = field(default_factory=RopeScaling)
    # t5: distances that are told apart, logarithmically beyond half of them
    relative_buckets: int = 32
    # t5: distances from here on are one
    relative_distance: int = 128
    # normalise queries and keys per head
    qk_norm: bool = False
    # normalise them over all heads together instead
    qk_norm_whole: bool = False
    # how many tokens back each layer looks, its own counted, 0 for all; one value a layer, none where all are 0.
    # Without a causal mask it looks as far ahead too
    windows: tuple[int, ...] = ()
    # base of the rotary wavelengths in layers with a window, which are not stretched then; 0 takes rope_theta
    window_theta: float = 0.0
    # scores are divided by the root of this; 0 takes head_size
    score_size: float = 0.0
    # scores are squeezed into (-cap, cap) by tanh; 0 leaves them
    score_cap: float = 0.0
    # logits are squeezed in the same way
    logit_cap: float = 0.0
    # hidden states are multiplied by this before the lm head
    head_scale: float = 1.0
    # embeddings are multiplied by the root of d_model
    scaled_embed: bool = False
    # rows of a second embedding that says which of several texts a token belongs to; 0 for none
    token_types: int = 0
    # biases of the query, key and value projections
    qkv_bias: bool = False
    # biases of the output projection and the feed-forward layer
    bias: bool = False
    # bias of the lm head and the masked head
    head_bias: bool = False
    # the lm head shares the embedding's weights
    tied: bool = True
    # share of activations dropped in training
    dropout: float = 0.0
    # share of attention weights dropped in training
    attention_dropout: float = 0.0
    # the heads on top: lm, masked, score, value, classify, tokens
    heads_of: tuple[str, ...] = ("lm",)
    # classes that classify and tokens tell apart
    labels: int = 2
    # their names, in order; none calls them by their numbers
    label_names: tuple[str, ...] = ()
    # what stands for a text: the first token, the last, or the mean of all
    pooling: Literal["first", "last", "mean"] = "first"
    # a model without a head brings that vector to length one
    normalised: bool = False
    # what classify does before its last layer: none, tanh (a square layer and tanh), norm (as the masked head does)
    pooled: Literal["none", "tanh", "norm"] = "none"
    # encoder blocks; 0 means there is no encoder
    encoder_layers: int = 0
    # embedding rows of the source, where it has a vocabulary of its own
    source_vocab_size: int = 0
    # the id that decoding begins with, of an encoder-decoder; -1 where there is none
    start: int = -1
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
        if self.experts and not self.d_expert:
            derive("d_expert", self.d_ff)
        if self.positions == "rotary" and (not 0.0 < self.rotary_share <= 1.0 or self.rotary_size % 2):
            share = f" with rotary_share={self.rotary_share}" if self.rotary_share != 1.0 else " is odd"
            raise InputError(f"head_size={self.head_size}{share}; rotary positions turn pairs of channels")
        if not any(self.windows):
            object.__setattr__(self, "windows", ())
        if len(self.windows) not in (0, self.layers):
            raise InputError(f"windows has {len(self.windows)} values, wanted one for each of layers={self.layers}")
        if self.windows and (min(self.windows) < 0 or self.encoder_layers):
            raise InputError(
                f"windows={self.windows} with encoder_layers={self.encoder_layers}; wanted 0 or more, and one stack"
            )
        if self.positions == "rotary" and self.rope_scaling.kind == "dynamic" and self.rotary_size < 4:
            raise InputError(f"rope_scaling.kind=dynamic with {self.rotary_size} turned channels of a head; wanted 4")
        self._check_experts()
        self._check_stacks()
        if max(self.windows, default=0) > MOST_POSITIONS:
            raise InputError(f"windows holds {max(self.windows)}, wanted at most {MOST_POSITIONS:,}")
        for name in ("window_theta", "score_size", "score_cap", "logit_cap", "balance"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name}={getattr(self, name)}; wanted a number that is not negative")
        if not 0.0 <= self.norm_eps < 1.0:
            raise InputError(f"norm_eps={self.norm_eps} is outside [0, 1)")
        if not 0.0 < self.rope_theta < math.inf:
            raise InputError(f"rope_theta={self.rope_theta}, wanted a number above 0")
        if not 0.0 < self.head_scale < math.inf:
            raise InputError(f"head_scale={self.head_scale}, wanted a number above 0")
        for name in ("dropout", "attention_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise InputError(f"{name}={getattr(self, name)} is outside [0, 1)")

    def _check_experts(self) -> None:
        if not self.experts:
            if self.dense_layers:
                raise InputError(f"dense_layers={self.dense_layers} with experts=0, where every layer is one for all")
            return
        if not 1 <= self.experts_used <= self.experts:
            raise InputError(f"experts_used={self.experts_used}, wanted 1 to experts={self.experts}")
        if (total := self.experts * self.layers) > MOST_EXPERTS:
            raise InputError(
                f"experts={self.experts} in layers={self.layers} are {total:,} experts in all, "
                f"wanted at most {MOST_EXPERTS:,}"
            )
        if self.encoder_layers or self.mlp != "gated" or self.bias:
            raise InputError(
                f"experts={self.experts} with encoder_layers={self.encoder_layers}, mlp={self.mlp}, bias={self.bias}; "
                "experts are gated layers without bias of a model with one stack"
            )
        if not set(self.dense_layers) <= set(range(self.layers)):
            raise InputError(f"dense_layers={self.dense_layers}, wanted numbers from 0 to {self.layers - 1}")

    def _check_stacks(self) -> None:
        if self.encoder_layers and not self.causal:
            raise InputError(
                f"encoder_layers={self.encoder_layers} with causal=false: the decoder of an encoder-decoder is causal; "
                "for an encoder alone set layers and leave encoder_layers at 0"
            )
        if not self.encoder_layers and (self.source_vocab_size or self.start >= 0):
            raise InputError(
                f"source_vocab_size={self.source_vocab_size} and start={self.start} need an encoder; set encoder_layers"
            )
        if self.encoder_layers and self.residual == "parallel":
            raise InputError("residual=parallel has no place for attention to a source; set encoder_layers=0")
        if self.vocab_size and self.start >= self.vocab_size:
            raise InputError(f"start={self.start}, wanted an id below vocab_size={self.vocab_size}")
        if self.positions == "t5" and self.relative_buckets < 4:
            raise InputError(f"relative_buckets={self.relative_buckets}, wanted at least 4")
        if self.positions == "t5" and self.relative_distance <= self.relative_buckets:
            raise InputError(
                f"relative_distance={self.relative_distance} is not above relative_buckets={self.relative_buckets}"
            )
        if self.label_names and len(self.label_names) != self.labels:
            raise InputError(
                f"label_names has {len(self.label_names)} names, wanted one for each of {self.labels} labels"
            )
        if self.labels < 1 or len(set(self.heads_of)) < len(self.heads_of):
            raise InputError(f"labels={self.labels} and heads_of={self.heads_of}; wanted a class, and each head once")

    @property
    def rotary_size(self) -> int:
        """Channels of a head that are turned."""
        return int(self.head_size * self.rotary_share)

    def encoder(self) -> ModelConfig:
        """The shape of the encoder of an encoder-decoder, as a model of one stack."""
        return replace(
            self, vocab_size=self.source_vocab_size or self.vocab_size, layers=self.encoder_layers, encoder_layers=0,
            source_vocab_size=0, start=-1, causal=False, heads_of=(),
        )  # fmt: skip
