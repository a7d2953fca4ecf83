"""One Transformer: what it is, is written in its config.

Letters: B batch, T queries, S keys, D model, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..batch import View
from ..config import InputError, ModelConfig
from .attention import Attention
from .cache import Cache, KVCache
from .experts import Experts
from .heads import HEADS, TIED, pool
from .layers import Embedding, entry
from .positions import frequencies_of
from .stack import Block, Stack

__all__ = ["Block", "Transformer"]

# How heads begin that look back, block by block: (offset in tokens, radians a position and their shares). Fast waves
# make a sharp peak at the offset, slow ones a broad hill round it.
SHARP, BROAD = {1.0: 0.55, 0.56: 0.27, 0.32: 0.18}, {0.18: 1.0, 0.1: 1.0, 0.056: 1.0}
LOOK_BACK = (((1, SHARP), (2, SHARP), (3, SHARP), (5, BROAD)), ((5, BROAD), (10, BROAD)))
# An encoder looks ahead as well, at negative offsets.
LOOK_BOTH_WAYS = (((1, SHARP), (2, SHARP), (-1, SHARP), (-2, SHARP)), ((5, BROAD), (-5, BROAD)))
# the first channel of every embedding in units of their std, and what is left of the rest of such a head's weights
SIGN, DIMMED = 4.0, 0.3


def check_look_back(config: ModelConfig) -> None:
    """Raises InputError where heads cannot begin by looking back, for they must know how an offset turns them."""
    kind, share = config.rope_scaling.kind, config.rotary_share
    if config.positions != "rotary" or kind != "none" or share != 1.0 or config.window_theta:
        raise InputError(
            f"look_back=true needs model.positions=rotary, whole and unstretched; found {config.positions}, "
            f"rotary_share={share}, rope_scaling.kind={kind}, window_theta={config.window_theta}; set one of them"
        )


class Transformer(Stack):
    """Tokens -> hidden states -> what the heads say about them (Vaswani et al. 2017).

    Its own blocks are the decoder's, or the only stack's; an encoder-decoder has a second stack in `encoder`.
    """

    def __init__(self, config: ModelConfig, *, seed: int | None = 0) -> None:
        """Raises InputError for a shape or a name that does not exist. seed None leaves the weights unset, for a
        file to fill."""
        if config.vocab_size < 1:
            raise InputError("vocab_size=0: a Transformer needs the tokenizer's vocabulary size")
        super().__init__(config)
        self.encoder: Stack | None = None
        if config.encoder_layers:
            self.encoder = Stack(config.encoder(), embeds=config.source_vocab_size > 0)
        self.heads = nn.ModuleDict({name: entry(HEADS, "heads_of", name)(config) for name in config.heads_of})
        self.experts = [module for module in self.modules() if isinstance(module, Experts)]
        # adapters: name -> what was attached, and the names of those that are heeded now
        self.attached: dict[str, Any] = {}
        self.active: tuple[str, ...] = ()
        # parts of names of weights -> how fast they learn, in the learning rates of the others
        self.paces: dict[str, float] = {}
        self.tie()
        if seed is not None:
            self.initialise(seed)

    @property
    def device(self) -> torch.device:
        return self.embed.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of activations and products."""
        return self.compute or self.embed.weight.dtype

    def size(self) -> int:
        """How many weights there are; shared ones count once."""
        return sum(weight.numel() for weight in self.parameters())

    def all_blocks(self) -> list[Block]:
        """The blocks of both stacks."""
        stacks = [self] if self.encoder is None else [self.encoder, self]
        return [cast(Block, block) for stack in stacks for block in stack.blocks]

    def crossings(self) -> list[Attention]:
        """What looks at the source, in each layer of a decoder with an encoder."""
        return [block.cross for block in cast("list[Block]", list(self.blocks)) if block.cross is not None]

    def tied(self) -> list[str]:
        """The names of the weights that are the embedding's."""
        return [name for name in TIED if self.config.tied and name.split(".")[1] in self.heads]

    def tie(self) -> None:
        """Make a tied head and the embedding one parameter, as they must be again after parameters are replaced."""
        for name in self.tied():
            owner, _, weight = name.rpartition(".")
            setattr(self.get_submodule(owner), weight, self.embed.weight)

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Every weight anew, so that the stream keeps one scale and the first loss is ln V.

        A matrix keeps the variance of what it is given (std 1/sqrt(in)); the two of a block that write to the stream
        are smaller by sqrt(2 layers), so the sum does not grow with depth (Radford et al. 2019). Embeddings have unit
        variance: smaller ones drown in the first block's output, and with them which token stands where
        (`docs/log.md`). A tied embedding is also the head and must be small; all that is written to the stream then
        begins as small as it, unless embeddings are scaled up on their way there. Distances of t5 begin alike.
        """
        generator = torch.Generator(device=self.device).manual_seed(seed)
        config = self.config
        head = min(0.02, 0.5 / math.sqrt(config.d_model))
        scale = math.sqrt(config.d_model) if config.scaled_embed else 1.0
        embedding = config.d_model**-0.5 if config.scaled_embed else head if config.tied else 1.0
        stream = embedding * scale
        for full, weight in self.named_parameters():
            name = full.removeprefix("encoder.")
            layers = config.encoder_layers if name != full else config.layers
            if weight.ndim < 2:
                weight.fill_(1.0 if name.endswith("weight") and config.norm != "rms_one" else 0.0)
                continue
            std = weight.shape[1] ** -0.5
            if name.startswith("positions") and config.positions == "t5":
                weight.zero_()
                continue
            if name.startswith("embed."):
                std = embedding
            elif name.startswith(("types.", "positions")):
                std = stream
            elif name.startswith("heads"):
                std = head
            elif name.endswith(("out.weight", "down.weight")):
                std *= stream / math.sqrt((3 if config.encoder_layers else 2) * layers)
            nn.init.trunc_normal_(weight, std=std, a=-3 * std, b=3 * std, generator=generator)
        self.forget()

    @torch.no_grad()
    def look_back(self) -> None:
        """Let heads of the first two blocks begin by attending to the tokens just before theirs (`LOOK_BACK`), in an
        encoder to those on both sides.

        A head that matches needs one below it that says what stood before, and neither earns anything without the
        other: a model waits long for both (Olsson et al. 2022). With the one given, matching forms at once
        (`benchmarks/recall.py`). Each embedding holds the same number in its first channel, from which queries and
        keys make a vector of their own, turned by the offset. Nothing is fixed: training may undo it.
        Raises InputError where positions are not rotary, which alone tell offsets.
        """
        config = self.config
        check_look_back(config)
        size, groups = config.head_size, config.heads // config.kv_heads
        self.embed.weight[:, 0] = SIGN * float(self.embed.weight.std())
        frequencies = frequencies_of(size, config.rope_theta)
        # normalised queries and keys may be drowned in the sign; others must not be large
        strength = SIGN if config.qk_norm else math.sqrt(size) / SIGN
        for block, kinds in zip(self.blocks, LOOK_BACK if config.causal else LOOK_BOTH_WAYS):
            attention = cast(Block, block).attention
            q, k = attention.q.weight, attention.k.weight
            for head, (offset, kind) in zip(range(config.kv_heads), kinds):
                wave = torch.zeros_like(frequencies)
                for wanted, share in kind.items():
                    wave[(frequencies.log() - math.log(wanted)).abs().argmin()] += share
                wave = (wave / wave.sum()).sqrt() * strength
                key = torch.cat((wave * (frequencies * offset).cos(), wave * (frequencies * offset).sin()))
                k[head * size : (head + 1) * size] *= DIMMED
                k[head * size : (head + 1) * size, 0] = key
                q[head * groups * size : (head + 1) * groups * size] *= DIMMED
                q[head * groups * size : (head + 1) * groups * size, 0] = torch.cat((wave, 0 * wave)).repeat(groups)

    def encode(self, source: Tensor, view: View | None = None) -> Tensor:
        """source (B, S) -> (B, S, D), what the decoder attends to. Raises InputError where there is no encoder."""
        if self.encoder is None:
            raise InputError("found a source, and a model without an encoder; set encoder_layers, or leave it out")
        self.encoder.compute, self.encoder.recompute = self.compute, self.recompute
        return self.encoder.states(source, cast(Embedding, getattr(self.encoder, "embed", self.embed)), view=view)

    def hidden(
        self,
        tokens: Tensor,
        *,
        view: View | None = None,
        source: Tensor | None = None,
        source_view: View | None = None,
        memory: Tensor | None = None,
        cache: Cache | None = None,
        places: Tensor | None = None,
    ) -> Tensor:
        """tokens (B, T) -> (B, T, D) after the last norm; with places (B, R), the only ones that are wanted,
        (B, R, D).

        source (B, S): what an encoder-decoder is to read, padded on the right where source_view says so; memory: the
        same, encoded already. With a cache the tokens stand behind those already in it, it is extended, and the keys
        of a source are computed once: later calls leave it out. Raises InputError where the cache is full, the text
        longer than positions were learned, or a source missing or not wanted.
        """
        if source is not None:
            memory = self.encode(source, source_view)
        if memory is not None and self.encoder is None:
            raise InputError("found a memory, and a model without an encoder; leave it out")
        if isinstance(cache, KVCache) and memory is not None:
            cache.attend_to(_lengths(memory, source_view))
        elif memory is None and self.encoder is not None and (cache is None or not min(cache.source_lengths)):
            raise InputError("an encoder-decoder was given no source; pass source, or a cache that knows one")
        return self.states(
            tokens, self.embed, view=view, cache=cache, memory=memory, memory_view=source_view, places=places
        )

    def pool(self, hidden: Tensor, view: View | None = None) -> Tensor:
        """hidden (B, T, D) -> (B, D), one vector a text, as config.pooling says."""
        return pool(hidden, view, self.config.pooling)

    def forward(
        self,
        tokens: Tensor,
        *,
        view: View | None = None,
        source: Tensor | None = None,
        source_view: View | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """tokens (B, T) -> what the model's own head says: logits (B, T, V) of a language model, (B, labels) of a
        classifier; of a model without a head one vector a text (B, D)."""
        hidden = self.hidden(tokens, view=view, source=source, source_view=source_view, cache=cache)
        own = next(iter(self.config.heads_of), None)
        if own is None:
            pooled = self.pool(hidden, view)
            return F.normalize(pooled, dim=-1) if self.config.normalised else pooled
        return self.heads[own](self.pool(hidden, view) if own == "classify" else hidden)

    def imbalance(self) -> Tensor | None:
        """The auxiliary loss of the last forward pass in training, the mean over layers with experts; None where there
        are none, or where they are balanced without a loss."""
        if not self.experts or self.config.balance_by == "bias" or not self.config.balance:
            return None
        return torch.stack([experts.imbalance for experts in self.experts if experts.imbalance is not None]).mean()

    def settle(self, add: Callable[[list[Tensor]], None] = lambda tensors: None) -> None:
        """After an optimizer step: balance experts by their bias. add: sums tensors over all ranks, in place."""
        loads = [experts.load for experts in self.experts if experts.load is not None]
        if loads:
            add(loads)
        for experts in self.experts:
            experts.settle(self.config.balance)

    def forget(self) -> None:
        """Drop what forward passes left behind that were no part of a step: a trial, a measurement, a step skipped."""
        for experts in self.experts:
            experts.forget()


def _lengths(memory: Tensor, view: View | None) -> list[int]:
    """Real tokens of each source. Raises InputError where padding does not stand on the right."""
    if view is None or view.keep is None:
        return [memory.shape[1]] * len(memory)
    lengths = view.keep.sum(1).tolist()
    if not torch.equal(view.keep.cummin(1).values, view.keep):
        raise InputError("a source is padded on the left or inside; with a cache wanted padding on the right")
    return [int(length) for length in lengths]
