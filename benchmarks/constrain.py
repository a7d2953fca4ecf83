"""What a constraint costs beside a model's step: masks are made in a thread while the model computes.

Free and constrained steps take turns on the same model, at the same length; the logits are those of random weights, so
that the grammars are led everywhere they can go. Prints one table; every figure is measured in this run.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Sequence

import torch
from rich.console import Console
from torch import Tensor

from instar.cli.screen import table
from instar.config import ModelConfig
from instar.config.options import SamplingOptions
from instar.infer import constrain
from instar.infer.constrain import Constraint, Grammar, Masks
from instar.infer.sampling import draw
from instar.model.cache import KVCache
from instar.model.transformer import Transformer
from instar.text.tokenizer import Tokenizer

SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "year": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "place": {"type": "object", "properties": {"名字": {"type": "string"}, "size": {"type": "number"}}},
    },
    "required": ["title", "year", "tags", "place"],
}
CONSTRAINTS = {
    "any JSON object": {"json_schema": '{"type":"object"}'},
    "JSON schema": {"json_schema": json.dumps(SCHEMA)},
    "200 properties": {
        "json_schema": json.dumps({"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(200)}})
    },
    "regex": {"regex": r"([A-Z][a-z]{2,9} |[\u4e00-\u9fff]{2,6}，){3,60}\."},
    "choice of 1,000": {"choice": tuple(f"the answer number {n} of a thousand" for n in range(1000))},
    "Lark": {
        "grammar": 'start: sum\nsum: part (("+" | "-") part)*\npart: NUMBER | "(" sum ")"\nNUMBER: /[0-9]{1,9}/'
    },
}  # fmt: skip


def followed(constraints: list[Constraint], grammar: Grammar, ids: Sequence[int]) -> list[Constraint]:
    """Constraints after these ids; an answer that has ended gives way to the next."""
    for constraint, id in zip(constraints, ids):
        constraint.advance(id)
        if constraint.error is not None:
            raise RuntimeError(constraint.error)
    return [grammar.start() if constraint.ended else constraint for constraint in constraints]


def mask_times(grammar: Grammar, masks: Masks, count: int) -> list[float]:
    """Seconds for the mask of one row and for its advance, along answers drawn from what is allowed."""
    constraints, times, luck = [grammar.start()], [], random.Random(0)
    for _ in range(count):
        begun = time.perf_counter()
        (row,) = masks.of(constraints)
        halted = time.perf_counter()
        id = luck.choice(row.nonzero().flatten().tolist())
        resumed = time.perf_counter()
        constraints = followed(constraints, grammar, [id])
        times.append(time.perf_counter() - resumed + halted - begun)
    return times


def step(model: Transformer, cache: KVCache, ids: Tensor, luck: Tensor, handle: object = None) -> Tensor:
    """One more token of each row (R, 1) -> (R, 1)."""
    logits = model(ids, cache=cache)[:, -1].float()
    if handle is not None:
        logits = logits.masked_fill(~handle.result(), -torch.inf)  # type: ignore[attr-defined]
    return draw(logits, luck)[:, None]


def step_times(model: Transformer, grammar: Grammar, masks: Masks, rows: int, count: int) -> tuple[float, float, float]:
    """Median seconds of a free step and of a constrained one, and the median of their differences."""
    caches = [KVCache(model.config, rows, count, dtype=model.embed.weight.dtype) for _ in range(2)]
    free = held = torch.zeros(rows, 1, dtype=torch.long)
    constraints = [grammar.start() for _ in range(rows)]
    generator = torch.Generator().manual_seed(0)
    times: list[tuple[float, float]] = []
    for _ in range(count):
        luck = torch.rand(rows, dtype=torch.float64, generator=generator)
        begun = time.perf_counter()
        free = step(model, caches[0], free, luck)
        free.tolist()
        between = time.perf_counter()
        held = step(model, caches[1], held, luck, masks.begin(constraints))
        constraints = followed(constraints, grammar, held.flatten().tolist())
        times.append((between - begun, time.perf_counter() - between))
    del times[:3]  # the first steps reserve memory
    return (*map(statistics.median, zip(*times)), statistics.median(b - a for a, b in times))  # type: ignore[return-value]


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizer", required=True, help="a folder; one of 32,768 ids for the figure of the docs")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--d-model", type=int, default=768)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--masks", type=int, default=500)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tokenizer = Tokenizer.load(options.tokenizer)
    size = tokenizer.vocab_size
    shape = ModelConfig(
        vocab_size=size, d_model=options.d_model, layers=options.layers, heads=options.d_model // 64, tied=False
    )
    model = Transformer(shape).bfloat16().eval()
    masks, found = Masks(size), []
    constrain.compile(tokenizer, SamplingOptions(regex="a"), size)  # the first one starts a process
    for name, rules in CONSTRAINTS.items():
        begun = time.perf_counter()
        grammar = constrain.compile(tokenizer, SamplingOptions(**rules), size)  # type: ignore[arg-type]
        compiling = time.perf_counter() - begun
        assert grammar is not None
        alone = sorted(mask_times(grammar, masks, options.masks))
        for rows in options.rows:
            free, held, extra = step_times(model, grammar, masks, rows, options.steps)
            mean, worst = statistics.mean(alone), alone[int(0.99 * len(alone))]
            figures = [1e3 * compiling, 1e6 * mean, 1e6 * worst, 1e3 * free, 1e3 * held]
            found.append([name, rows, *(f"{figure:,.1f}" for figure in figures), f"{extra / free:+.1%}"])
    title = f"{model.size() / 1e6:.0f} M weights in bf16, {size:,} ids, {options.threads} threads"
    columns = ["constraint", "rows", "compile (ms)", "mask (µs)", "p99", "free step (ms)", "constrained", "extra"]
    Console(width=120).print(table(title, columns, found))


if __name__ == "__main__":
    main()
