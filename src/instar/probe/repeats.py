"""Random tokens that are said twice: what heads match is seen apart from what they know of a language.

Letters: B batch, T queries, S keys.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer
from ..text.words import Words
from .panel import Unfit
from .panel import Words as Said

Array = np.ndarray


def probe_set(
    model: Transformer, tokenizer: Tokenizer | None = None, *, length: int = 32, samples: int = 4, seed: int = 0
) -> tuple[Tensor | None, Tensor, Tensor]:
    """What `profile` reads: source (B, S) of an encoder-decoder, or None, tokens (B, T), and the sinks (S,) of the
    text, or of the source."""
    config = model.config
    sizes = [config.vocab_size, config.source_vocab_size or config.vocab_size]
    drawn_of = [np.arange(size) for size in sizes]
    before: list[int] = []
    after: list[int] = []
    if tokenizer is not None:
        before = tokenizer.prompt("")
        after = [] if config.causal and not config.encoder_layers else tokenizer.document("")[len(before) :]
        drawn_of = [Words(tokenizer).ordinary for _ in sizes]
    drawn_of = [ids[ids < size] for ids, size in zip(drawn_of, sizes)]
    # of an encoder-decoder what stands before the target is `start`, and one place is left for it
    room = config.max_positions - max(1, len(before)) - len(after)
    length = min(length, room // 2)
    if length < 2 or samples < 1 or min(map(len, drawn_of)) < 1:
        found = f"length={length}, samples={samples}, max_positions={config.max_positions}"
        raise Unfit(Said(
            f"{found}: wanted room for 2 tokens said twice, and at least 1 sample",
            f"{found}：需要容得下把 2 个词元说两遍，且至少 1 个样本",
        ))  # fmt: skip
    chance = np.random.default_rng(seed)
    repeats = [max(2, length - sample * max(1, length // 8)) for sample in range(samples)]
    # the token at whose place a begin would stand comes first where there is none
    rows = [twice(chance, drawn_of[0], length, n) for n in repeats]
    texts = torch.tensor(np.array([row if before else [_other(chance, drawn_of[0], row), *row] for row in rows]))
    framed = torch.cat([_repeated(before, samples), texts, _repeated(after, samples)], dim=1)
    if not config.encoder_layers:
        sinks = torch.ones(framed.shape[1], dtype=torch.bool)
        sinks[max(1, len(before)) : framed.shape[1] - len(after)] = False
        return None, framed, sinks
    source = [row if sizes[0] == sizes[1] else twice(chance, drawn_of[1], length, n) for row, n in zip(rows, repeats)]
    read = torch.cat([_repeated(before, samples), torch.tensor(np.array(source)), _repeated(after, samples)], dim=1)
    sinks = torch.ones(read.shape[1], dtype=torch.bool)
    sinks[len(before) : read.shape[1] - len(after)] = False
    if not bool(sinks.any()):
        sinks[0] = True
    tokens = torch.tensor(np.array(rows))
    begin = [config.start] if config.start >= 0 else before[:1] or [int(drawn_of[0][0])]
    return read, torch.cat([_repeated(begin, samples), tokens], dim=1), sinks


def twice(chance: np.random.Generator, ids: Array, length: int, repeat: int) -> list[int]:
    """2 length ids: `repeat` of them, the same again, then fresh ones. Nothing else is said twice, where there are ids
    enough."""
    count = 2 * length - repeat
    drawn = chance.permutation(ids)[:count] if len(ids) >= count else chance.choice(ids, count)
    found: list[int] = drawn.tolist()
    return [*found[:repeat], *found[:repeat], *found[repeat:]]


def _repeated(ids: list[int], samples: int) -> Tensor:
    return torch.tensor(ids, dtype=torch.long).expand(samples, -1)


def _other(chance: np.random.Generator, ids: Array, row: list[int]) -> int:
    """An id that is not in the row, where there is one."""
    rest = np.setdiff1d(ids, row)
    return int(chance.choice(rest if len(rest) else ids))
