"""What `instar inspect` is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tyro.conf import Positional

from .asking import SamplingOptions, usual_sampling
from .screen import REQUIRED, SHORT, Machine

View = Literal[
    "tokens", "position", "attention", "heads", "lens", "next", "attribution", "effects", "kv", "beam", "generation",
    "probes", "all",
]  # fmt: skip


@dataclass(frozen=True)
class InspectOptions(Machine):
    """See inside a model: what it computes of a text, drawn, and the checks that prove it. --sampling.x may be said as
    --x."""

    # run folder, Hugging Face folder or hf:org/name
    model: str = field(default="", metadata=REQUIRED)
    # the text; of an encoder-decoder the source
    text: Positional[str] = field(default="", metadata={"positional": True})
    # instead of a text its ids, where there is no tokenizer
    ids: tuple[int, ...] = ()
    # what is shown, one or several: tokens, position, attention, heads, lens, next, attribution, effects, kv, beam,
    # generation, probes; all takes those that apply to the model
    view: tuple[View, ...] = ("attention",)
    # of an encoder-decoder: what is said of the source; none takes what the model says
    target: str = ""
    # the same as ids
    target_ids: tuple[int, ...] = ()
    # the text is a user's message
    chat: bool = False
    # block, counted from 0; -1 the last
    layer: int = -1
    # query head, counted from 0; -1 the mean of all, where a view has such
    head: int = -1
    # which stack or attention: auto, the encoder's or decoder's own, or the decoder's to its source
    side: Literal["auto", "encoder", "decoder", "cross"] = "auto"
    # attention as it is, without its sink, weighted by the norm of what is moved, or rolled out over all layers
    kind: Literal["raw", "sinkless", "norm", "rollout"] = "raw"
    # one row and column a token, or a word
    level: Literal["token", "word"] = "token"
    # the token that is asked about, counted from 0; -1 the last
    at: int = -1
    # attribution and effects: the token that is explained, as text; none takes the likeliest
    explain: str = ""
    # how tokens are credited: direct (logit attribution), gradient-attention, gradient-input, integrated, occlusion
    method: Literal["direct", "gradient-attention", "gradient-input", "integrated", "occlusion"] = "integrated"
    # heads: words of the text whose share is measured, with commas between them; none takes numbers, names and rare
    # words
    entities: str = ""
    # effects: a head that is left out says nothing, or its mean over the text
    ablation: Literal["zero", "mean"] = "zero"
    # effects: a second text of as many tokens, whose states are put into this one's pass; of an encoder-decoder another
    # source
    other: str = ""
    # the same as ids
    other_ids: tuple[int, ...] = ()
    # likeliest tokens that are listed
    top: int = 5
    # next, generation and beam: how tokens are chosen, unless told otherwise as `instar generate` does
    sampling: SamplingOptions = field(default_factory=usual_sampling, metadata=SHORT)
    # a second model or stage that this one is held against, in every view; base: this one with its adapter off
    vs: str = ""
    # how it is written: text, json, html, svg, png or safetensors; text means as the output's ending says
    format: Literal["text", "json", "html", "svg", "png", "safetensors"] = "text"
    # file that is written; with several pictures a number is put before its ending
    output: str = ""
    # language of titles and notes
    language: Literal["en", "zh"] = "en"
    # show the checks alone, and exit with 1 where one is red
    check: bool = False
