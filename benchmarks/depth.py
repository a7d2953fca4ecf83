"""What residuals and norms are for: 24 thin layers with and without them, trained alike on the world's stories.

Prints one table: the loss at the start and at the end, and the size of the gradient in the first and the last block at
the first step. A model that does not fall below the loss of guessing by frequency alone has learnt nothing of order.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from functools import partial
from typing import Any

import torch
from rich.console import Console

from instar.cli.screen import table
from instar.config.options import TrainOptions
from instar.config.presets import preset
from instar.data.collate import Collate
from instar.data.corpus import load_tokens, read
from instar.data.loader import Loader
from instar.data.packing import windows
from instar.model.transformer import Transformer
from instar.text.tokenizer import Tokenizer
from instar.train.machine import pick_dtype
from instar.train.objectives import cross_entropy
from instar.train.trainer import Diverged, Trainer

VARIANTS: dict[str, dict[str, Any]] = {
    "residual, norm": {},
    "residual, no norm": {"norm": "none", "qk_norm": False},
    "no residual, norm": {"residual": "none"},
    "no residual, no norm": {"residual": "none", "norm": "none", "qk_norm": False},
}


def gradient(block: torch.nn.Module) -> float:
    """The norm of a block's gradient."""
    return math.sqrt(sum(float(w.grad.norm()) ** 2 for w in block.parameters() if w.grad is not None))


def frequency_loss(tokens: list[int]) -> float:
    """The entropy of single tokens, in nats: what can be had without reading."""
    counts = Counter(tokens)
    return -sum(n / len(tokens) * math.log(n / len(tokens)) for n in counts.values())


def train(variant: dict[str, Any], tokenizer: Tokenizer, store: Any, options: TrainOptions) -> list[Any]:
    """One variant from the same seed on the same batches; its row of the table."""
    model = Transformer(preset("deep", vocab_size=tokenizer.vocab_size, **variant))
    model.compute = pick_dtype("auto", torch.device("cpu"))
    rows = windows(store.lengths, options.context)
    source = Loader(rows, Collate(store, options.context), batch_rows=options.batch_tokens // options.context)
    cross_entropy(model, next(source)).terms["loss"][0].backward()
    first, last = gradient(model.blocks[0]), gradient(model.blocks[-1])
    model.zero_grad()
    losses: list[float] = []
    trainer = Trainer(
        model, partial(cross_entropy, chunk=options.loss_chunk), source, options,
        on_step=[lambda _, record: losses.append(record["loss"])],
    )  # fmt: skip
    try:
        trainer.fit()
    except Diverged:
        return [losses[0], "diverged", f"{first:.1e}", f"{last:.1e}", "no"]
    end = sum(losses[-10:]) / len(losses[-10:])
    return [losses[0], end, f"{first:.1e}", f"{last:.1e}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=150)
    steps = parser.parse_args().steps
    sources = ["world:stories?count=3000&facts=0"]
    tokenizer = Tokenizer.train((document.text for document in read(sources)), 1024, max_token_bytes=12)
    store, _ = load_tokens(sources, tokenizer)
    guess = frequency_loss([int(token) for number in range(len(store)) for token in store.tokens(number)])
    options = TrainOptions(steps=steps, context=128, batch_tokens=1024, optimizer="adamw", lr=1e-3, warmup=0.1)
    rows = []
    for name, variant in VARIANTS.items():
        row = train(variant, tokenizer, store, options)
        learnt = isinstance(row[1], float) and row[1] < 0.75 * guess
        rows.append([name, *row[:4], "yes" if learnt else "no"])
    title = f"preset deep, {steps} steps; guessing by frequency alone costs {guess:.2f} nats"
    columns = ["24 layers with", "loss at first", "at last", "gradient, block 1", "block 24", "it trains"]
    Console(width=110).print(table(title, columns, rows))


if __name__ == "__main__":
    main()
