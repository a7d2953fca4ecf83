"""Recall, the smallest test of reading: pairs of key and value, then the keys again; what was the value of each?

    python benchmarks/recall.py [--steps 300] [--gap 0]

A model that cannot match gets 0.34 by elimination: with eight values, 1/8, 1/7 .. 1/1 of the answers. The table
compares beginnings (`look_back`) under the same optimizer, data and seed. Between key and value may stand --gap words
that mean nothing, as many between a key and the place of its answer.
"""

from __future__ import annotations

import argparse
import time

import torch

from instar.batch import IGNORE, Batch
from instar.config.options import TrainOptions
from instar.config.presets import preset
from instar.model.transformer import Transformer
from instar.train.objectives import cross_entropy
from instar.train.optim import Optimizer

PAIRS, ROWS, WORDS = 8, 64, 100
ASK = 3 * WORDS
WARMUP, EVERY = 20, 50


def lesson(generator: torch.Generator, gap: int) -> Batch:
    """Keys 0..99, values 100..199, filling 200..299 and the sign ASK before each answer; only answers teach."""

    def draw(low: int, width: int) -> torch.Tensor:
        return torch.randint(low, low + WORDS, (ROWS, width), generator=generator)

    def shuffled(size: int) -> torch.Tensor:
        return torch.stack([torch.randperm(size, generator=generator)[:PAIRS] for _ in range(ROWS)])

    keys, values, order = shuffled(WORDS), draw(WORDS, PAIRS), shuffled(PAIRS)
    parts, targets = [], []

    def say(tokens: torch.Tensor, target: torch.Tensor | None = None) -> None:
        parts.append(tokens)
        targets.append(torch.full_like(tokens, IGNORE))
        if target is not None:
            targets[-1][:, -1:] = target

    for at in range(PAIRS):
        say(torch.cat((keys[:, at : at + 1], draw(2 * WORDS, gap), values[:, at : at + 1]), 1))
    sign = torch.full((ROWS, 1), ASK)
    for at in range(PAIRS):
        which = order[:, at : at + 1]
        answer = values.gather(1, which)
        say(torch.cat((keys.gather(1, which), draw(2 * WORDS, gap), sign), 1), answer)
        say(answer)
    return Batch(torch.cat(parts, 1), torch.cat(targets, 1))


def run(look_back: bool, steps: int, gap: int) -> list[float]:
    """Accuracy of the answers, on fresh lessons, every EVERY steps."""
    generator = torch.Generator().manual_seed(0)
    model = Transformer(preset("nano", vocab_size=320))
    model.compute = torch.bfloat16
    if look_back:
        model.look_back()
    optimizer = Optimizer(model, TrainOptions(optimizer="muon", muon_lr=0.02, lr=0.003, weight_decay=0.0))
    right, asked, seen = 0.0, 0.0, []
    for step in range(1, steps + 1):
        loss = cross_entropy(model, lesson(generator, gap))
        total, count = loss.terms["loss"]
        (total / count).backward()
        optimizer.step(min(1.0, step / WARMUP))
        optimizer.zero()
        right += float(loss.metrics["accuracy"][0])
        asked += count
        if step % EVERY == 0:
            seen.append(right / asked)
            right = asked = 0.0
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--gap", type=int, default=0)
    options = parser.parse_args()
    chance = sum(1 / left for left in range(1, PAIRS + 1)) / PAIRS
    print(f"accuracy by steps, {PAIRS} pairs, gap {options.gap}; without matching at most {chance:.2f}")
    print("look_back  " + "".join(f"{step:>7}" for step in range(EVERY, options.steps + 1, EVERY)) + "  seconds")
    for look_back in (False, True):
        started = time.perf_counter()
        seen = run(look_back, options.steps, options.gap)
        print(
            f"{look_back!s:<11}" + "".join(f"{share:7.2f}" for share in seen) + f"{time.perf_counter() - started:9.0f}"
        )


if __name__ == "__main__":
    main()
