"""Mixing the bits of numbers: draws that no library's random stream can change."""

from __future__ import annotations

import numpy as np


def mix(word: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser: every bit of the input touches every bit of the output."""
    with np.errstate(over="ignore"):
        word = np.asarray(word + np.uint64(0x9E3779B97F4A7C15), np.uint64)
        word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return word ^ (word >> np.uint64(31))
