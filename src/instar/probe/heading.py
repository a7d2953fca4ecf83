"""What panels are of, for the head of a page and the top of a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from ..config.options import InspectOptions
from ..model.transformer import Transformer
from .panel import Heading, Words
from .subject import Subject

# what is said elsewhere, or is no matter of what was seen
BESIDE = {
    "model", "vs", "text", "ids", "target", "target_ids", "view", "format", "output", "language", "check", "json",
    "quiet", "device",
}  # fmt: skip


def heading_of(subject: Subject, ask: InspectOptions, left_out: dict[str, Words], model: str, vs: str = "") -> Heading:
    return Heading(
        model, vs, shape_of(subject.model), subject.text, subject.source_text,
        [(token.id, token.piece) for token in subject.tokens], [(token.id, token.piece) for token in subject.source],
        dict(unusual(ask)), left_out,
    )  # fmt: skip


def unusual(ask: Any, usual: Any = None, before: str = "") -> Iterator[tuple[str, Any]]:
    """The options that are not as they are where nobody says otherwise. Example: ("sampling.top_k", 20)"""
    usual = InspectOptions() if usual is None else usual
    for each in fields(ask):
        value, plain = getattr(ask, each.name), getattr(usual, each.name)
        if not before and each.name in BESIDE:
            continue
        if is_dataclass(value):
            yield from unusual(value, plain, f"{before}{each.name}.")
        elif value != plain:
            yield before + each.name, list(value) if isinstance(value, tuple) else value


def shape_of(model: Transformer) -> Words:
    """Example: decoder · 4 layers · 4 heads · D = 256 · 3,215,104 parameters"""
    config, size = model.config, f"{model.size():,}"
    layers = f"{config.encoder_layers} + {config.layers}" if config.encoder_layers else f"{config.layers}"
    kind = Words("decoder", "解码器") if config.causal else Words("encoder", "编码器")
    if config.encoder_layers:
        kind = Words("encoder-decoder", "编码器-解码器")
    return Words(
        f"{kind.en} · {layers} layers · {config.heads} heads · D = {config.d_model} · {size} parameters",
        f"{kind.zh} · {layers} 层 · {config.heads} 头 · D = {config.d_model} · {size} 个参数",
    )
