"""Measuring how fast a model is."""

from __future__ import annotations

from dataclasses import dataclass

from .screen import Machine


@dataclass(frozen=True)
class BenchDecodeOptions(Machine):
    """How fast the engine reads prompts and answers on this machine, beside what the machine can do at most. Prompts
    are ids drawn by --seed, new ones in every round; answers are greedy and have no end."""

    # run folder, Hugging Face folder or hf:org/name
    model: str = ""
    # a named shape with random weights instead, which are as fast
    preset: str = ""
    # requests that are answered side by side; one row of the table each
    streams: tuple[int, ...] = (1, 16)
    # tokens of each prompt
    prompt: int = 128
    # tokens of each answer
    new: int = 128
    # rounds of each row, of which the median counts
    repeats: int = 3
    # measure which way each large product is computed fastest on this CPU
    tune: bool = True
    # compile the decoding step, before anything is measured
    compile: bool = False
