"""A token store of its own for data that needs no files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from .shards import BRANCH, Part, Section, TokenStore, token_dtype


def store_in_memory(sections: Iterable[Section], vocab_size: int) -> TokenStore:
    """All sections as one part in memory."""
    dtype = token_dtype(vocab_size)
    ids: list[np.ndarray] = []
    teaches: list[np.ndarray] = []
    branches: list[np.ndarray | None] = []
    evidence: list[np.ndarray | None] = []
    index: list[tuple[int, int, bool]] = []
    for section in sections:
        ids.append(np.asarray(section.ids, dtype))
        if section.teaches is not None:
            teaches.append(np.asarray(section.teaches, bool))
        branches.append(section.branches)
        evidence.append(section.evidence)
        index.append((section.key, section.size, section.continues))
    tokens = np.concatenate([np.empty(0, dtype), *ids])
    keys, sizes, continues = zip(*index) if index else ((), (), ())
    part = Part(
        tokens,
        np.cumsum([0, *map(len, ids)], dtype=np.int64),
        np.array(keys, np.uint64),
        np.array(sizes, np.int64),
        np.array(continues, bool),
        np.concatenate(teaches) if teaches else None,
        _filled(branches, ids, BRANCH),
        _filled(evidence, ids, np.dtype(np.int32), 2),
    )
    return TokenStore([part])


def _filled(
    values: list[np.ndarray | None], ids: list[np.ndarray], dtype: np.dtype[Any], *shape: int
) -> np.ndarray | None:
    """What some sections have, end to end, with zeros for the others; None where none has it."""
    if all(each is None for each in values):
        return None
    return np.concatenate(
        [np.zeros((len(own), *shape), dtype) if each is None else each for each, own in zip(values, ids)]
    )
