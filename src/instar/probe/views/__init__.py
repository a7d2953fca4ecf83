"""The views of a model by name, in the order in which a text goes through it: each a pure function of a look, which
gives a panel."""

from __future__ import annotations

from collections.abc import Callable

from ..look import Look
from ..panel import Panel
from . import attention, attribution, beam, effects, generation, heads, kv, lens, position, probes, tokens
from . import next as following

VIEWS: dict[str, Callable[[Look], Panel]] = {
    "tokens": tokens.tokens,
    "position": position.position,
    "attention": attention.attention,
    "heads": heads.heads,
    "lens": lens.lens,
    "next": following.next,
    "attribution": attribution.attribution,
    "effects": effects.effects,
    "kv": kv.kv,
    "beam": beam.beam,
    "generation": generation.generation,
    "probes": probes.probes,
}
