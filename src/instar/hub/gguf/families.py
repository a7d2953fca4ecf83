"""All we know of llama.cpp's architectures: for each of transformers' its names of weights, its keys, and its limits.

One entry an architecture, as in `hub/families`. Ours: `blocks.{n}.attention.q.weight` and so on. What llama.cpp cannot
be told is refused by name: a file that it reads and computes otherwise would be worse than none.
"""

from __future__ import annotations

from ...config import ModelConfig, RopeScaling
from .arch import Arch, Unwritable, reach
from .decoders import DECODERS
from .encoders import ENCODERS

ARCHS = DECODERS | ENCODERS


def arch_of(architecture: str, config: ModelConfig) -> Arch:
    """The entry of a class of transformers. Raises Unwritable where there is none, or where llama.cpp would compute
    something else than this config says."""
    if architecture not in ARCHS:
        raise Unwritable(f"llama.cpp has no architecture for {architecture} that we write; known: {', '.join(ARCHS)}")
    arch = ARCHS[architecture]
    for name, values in arch.computes.items():
        if (found := getattr(config, name)) not in values:
            raise Unwritable(f"{name}={found!r}; llama.cpp computes {arch.name} with {values[0]!r} alone")
    if reason := arch.also(config):
        raise Unwritable(f"{reason}: otherwise llama.cpp does not compute {arch.name}")
    if config.positions == "rotary":
        _check_rope(config, arch)
    return arch


def _check_rope(config: ModelConfig, arch: Arch) -> None:
    scaling = config.rope_scaling
    if scaling.kind not in arch.ropes:
        raise Unwritable(
            f"rope_scaling.kind={scaling.kind}; llama.cpp computes {arch.name} with {', '.join(arch.ropes)}"
        )
    if scaling.kind == "yarn" and (scaling.fast, scaling.slow) != (RopeScaling.fast, RopeScaling.slow):
        raise Unwritable(
            f"rope_scaling.fast={scaling.fast} and slow={scaling.slow}; llama.cpp computes yarn with "
            f"{RopeScaling.fast} and {RopeScaling.slow} alone"
        )


def notes_of(config: ModelConfig, arch: Arch) -> list[str]:
    """In what llama.cpp differs although it reads the file."""
    notes = []
    if (longest := reach(config, arch)) < config.max_positions:
        notes.append(
            f"llama.cpp computes {arch.name} without windows or dynamic stretching: the same up to {longest} tokens, "
            f"and context_length says so (the model is meant for {config.max_positions})"
        )
    if config.act == "gelu":
        notes.append("llama.cpp has gelu by its approximation alone; logits differ by some thousandths")
    return notes
