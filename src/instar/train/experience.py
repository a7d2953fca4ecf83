"""Answers that were sampled -> rows -> batches, and batches as plain data that a checkpoint can hold.

Answers to one prompt share it in a row, as [trunk | answer | answer ...]: the trunk is the prompt without its last
token, and each branch begins with that token, which has to say the first of its answer. Of an answer the last token is
said and never read. Rows are filled best-fit, and answers of which a row cannot take all go to several.
"""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..batch import IGNORE, Answers, View
from ..data.packing import best_fit

D = TypeVar("D")
DTYPES = {str(kind).removeprefix("torch."): kind for kind in (torch.int64, torch.float32, torch.float64, torch.bool)}


class Bundle(NamedTuple):
    """Answers of one group that stand in one row, by number, and the tokens they take with their prompt."""

    group: int
    answers: list[int]
    size: int


def bundles_of(group: int, prompt: int, lengths: dict[int, int], context: int) -> list[Bundle]:
    """The answers of a group, number -> tokens, to a prompt of so many tokens, in as few rows as the longest-first rule
    finds."""
    room = context - (prompt - 1)
    free: list[int] = []
    rows: list[list[int]] = []
    for number in sorted(lengths, key=lambda number: (-lengths[number], number)):
        place = next((n for n, left in enumerate(free) if left >= lengths[number]), len(rows))
        if place == len(rows):
            free.append(room)
            rows.append([])
        free[place] -= lengths[number]
        rows[place].append(number)
    return [Bundle(group, sorted(row), context - left) for row, left in zip(rows, free)]


def rows_of(bundles: Sequence[Bundle], context: int) -> list[list[Bundle]]:
    """Bundles in as few rows as best-fit finds."""
    filled = best_fit(np.array([bundle.size for bundle in bundles], np.int64), context)
    return [[bundles[piece] for piece, _, _ in row] for row in filled]


def lay(
    rows: Sequence[Sequence[Bundle]],
    prompts: Mapping[int, Sequence[int]],
    answers: Sequence[Sequence[int]],
    *,
    context: int,
    pad: int = 0,
) -> tuple[Answers, list[int]]:
    """Rows -> a batch, and the numbers of its answers in the order in which they stand there. prompts: group -> ids;
    answers: number -> ids. The width is that of the longest row rounded up to 16, at most the context."""
    used = [sum(bundle.size for bundle in row) for row in rows]
    width = min(context, -(-max(used) // 16) * 16)
    shape = (len(rows), width)
    tokens, targets = np.full(shape, pad, np.int64), np.full(shape, IGNORE, np.int64)
    answer = np.full(shape, -1, np.int64)
    positions, segments, branches = (np.zeros(shape, np.int64) for _ in range(3))
    order: list[int] = []
    last: list[int] = []
    for line, row in enumerate(rows):
        place = 0
        for segment, bundle in enumerate(row):
            *trunk, asks = prompts[bundle.group]
            stop = place + len(trunk)
            tokens[line, place:stop], positions[line, place:stop] = trunk, np.arange(len(trunk))
            segments[line, place : place + bundle.size] = segment
            for branch, number in enumerate(bundle.answers, 1):
                ids = answers[number]
                here = slice(stop, stop + len(ids))
                tokens[line, here], targets[line, here] = [asks, *ids[:-1]], ids
                positions[line, here] = len(trunk) + np.arange(len(ids))
                branches[line, here], answer[line, here] = branch, len(order)
                order.append(number)
                stop += len(ids)
                last.append(line * width + stop - 1)
            place = stop
        segments[line, place:] = len(row)
    keep = np.arange(width) < np.array(used)[:, None]
    shares = any(len(bundle.answers) > 1 for row in rows for bundle in row)
    packed = any(len(row) > 1 for row in rows)
    view = View(
        positions=torch.from_numpy(positions) if shares or packed else None,
        segments=torch.from_numpy(segments) if shares or packed else None,
        keep=None if keep.all() else torch.from_numpy(keep),
        branches=torch.from_numpy(branches) if shares else None,
    )
    return Answers(
        torch.from_numpy(tokens), torch.from_numpy(targets), view, answer=torch.from_numpy(answer),
        last=torch.tensor(last),
    ), order  # fmt: skip


def table(parts: Sequence[Tensor], answers: int, places: Sequence[Sequence[int]], lengths: Tensor) -> Tensor:
    """Numbers of tokens, batch by batch in the order of their targets, -> (N, L), 0 at padding. places: of each batch,
    which answers they are of; lengths (N,)."""
    filled = parts[0].new_zeros(answers, int(lengths.max()))
    for part, order in zip(parts, places):
        for number, values in zip(order, part.split([int(lengths[number]) for number in order])):
            filled[number, : len(values)] = values
    return filled


def flat(filled: Tensor, order: Sequence[int], lengths: Tensor) -> Tensor:
    """The other way: of (N, L) the numbers of these answers, one after the other."""
    return torch.cat([filled[number, : int(lengths[number])] for number in order])


def plain(value: Any) -> Any:
    """A batch, with all that is in it, as what JSON can hold; tensors exactly."""
    if isinstance(value, Tensor):
        array = value.detach().cpu().contiguous()
        packed = zlib.compress(array.view(torch.uint8).numpy().tobytes() if array.numel() else b"", 1)
        return {
            "tensor": b64encode(packed).decode(), "dtype": str(array.dtype).removeprefix("torch."),
            "shape": list(array.shape),
        }  # fmt: skip
    if isinstance(value, (Answers, View)):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return value


def restored(kind: type[D], data: dict[str, Any]) -> D:
    """What `plain` made of a value of this kind."""
    return kind(**{name: _restored(name, value) for name, value in data.items()})


def _restored(name: str, value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "tensor" not in value:
        return restored(View, value)
    packed = bytearray(zlib.decompress(b64decode(value["tensor"])))
    dtype = DTYPES[value["dtype"]]
    tensor = torch.frombuffer(packed, dtype=torch.uint8).view(dtype) if packed else torch.empty(0, dtype=dtype)
    return tensor.view(value["shape"])
