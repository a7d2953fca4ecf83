"""What it costs an answer to be held to a schema: the engine's own seconds per token, free and constrained in turns.

The weights are random, so that a grammar is led everywhere it can go, and the schemas have no end before the answers
do. Prints one table; every figure is measured in this run.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from rich.console import Console

from instar.cli.screen import table
from instar.config.options import SamplingOptions
from instar.config.presets import preset
from instar.infer import constrain
from instar.infer.engine import Engine
from instar.model.transformer import Transformer
from instar.serve.structured import constraint_of
from instar.text.tokenizer import Tokenizer

ITEM = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "year": {"type": "integer"},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}},
        "place": {"type": "object", "properties": {"名字": {"type": "string"}, "size": {"type": "number"}}},
    },
    "required": ["title", "year", "tags", "place"],
    "additionalProperties": False,
}
MANY = {
    "type": "object", "properties": {"items": {"type": "array", "items": ITEM, "minItems": 1000}},
    "required": ["items"], "additionalProperties": False,
}  # fmt: skip
TOOL = {"type": "function", "function": {"name": "store", "parameters": MANY, "strict": True}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "items", "schema": MANY}}
WORDS = "([A-Z][a-z]{2,9} |[\\u4e00-\\u9fff]{2,6}，){900}"
REQUESTS: dict[str, dict[str, Any]] = {
    "JSON schema": {"response_format": SCHEMA},
    "call of a tool": {"tools": [TOOL], "tool_choice": "required"},
    "regular expression": {"response_format": {"type": "regex", "regex": WORDS}},
}  # fmt: skip


def seconds(
    engine: Engine, prompt: list[int], fields: Mapping[str, Any], grammar: Any, rows: int, tokens: int
) -> float:
    """For one token of so many answers at a time, each of so many tokens."""
    options = SamplingOptions(max_new_tokens=tokens, **fields)
    requests = [
        engine.submit(prompt, options, seed=row, constraint=None if grammar is None else grammar.start())
        for row in range(rows)
    ]
    engine.step()  # the prompts
    begun = time.perf_counter()
    engine.run()
    spent = time.perf_counter() - begun
    if any(len(request.ids) != tokens for request in requests):
        raise RuntimeError(f"an answer ended early: {[request.error for request in requests]}")
    return spent / (tokens - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--tokenizer", help="a folder; without it one is learnt from this package's own sources")
    parser.add_argument("--vocab-size", type=int, default=8192)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.tokenizer:
        tokenizer = Tokenizer.load(given.tokenizer)
    else:
        sources = Path(__file__).parents[1].glob("src/**/*.py")
        tokenizer = Tokenizer.train([path.read_text() for path in sorted(sources)], given.vocab_size)
    model = Transformer(preset(given.preset, vocab_size=tokenizer.vocab_size)).eval()
    prompt = tokenizer.encode("def answer(text: str) -> dict[str, Any]:")
    engine = Engine(model, slots=max(given.rows), capacity=512)
    seconds(engine, prompt, {}, None, max(given.rows), 8)  # memory is reserved at first
    found = []
    for name, request in REQUESTS.items():
        fields = constraint_of(SimpleNamespace(**request), "{{ tools }}<tool_call>")
        grammar = constrain.compile(tokenizer, SamplingOptions(**fields), tokenizer.vocab_size)
        for rows in given.rows:
            times = []
            for _ in range(given.rounds):
                free = seconds(engine, prompt, {}, None, rows, given.tokens)
                times.append((free, seconds(engine, prompt, fields, grammar, rows, given.tokens)))
            free, held = (1e3 * statistics.median(column) for column in zip(*times))
            extra = statistics.median(held / free - 1 for free, held in times)
            found.append([name, rows, f"{free:.2f}", f"{held:.2f}", f"{extra:+.1%}"])
    title = f"{given.preset}: {model.size() / 1e6:.0f} M weights, {tokenizer.vocab_size:,} ids, {given.threads} threads"
    Console(width=100).print(table(title, ["held to", "rows", "free (ms a step)", "constrained", "extra"], found))


if __name__ == "__main__":
    main()
