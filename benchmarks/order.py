"""What positions are for: who did it, in pairs of sentences that are the same words in another order.

    python benchmarks/order.py [--steps 400] [--seed 0]

A bidirectional encoder of two layers reads a sentence of `world:order` about a person and an animal and says whether
the person is the one who acted. The two sentences of a pair are the same bag of words with different answers, so that
without the order one gets exactly half. Asked are pairs that training never holds. The columns: sentences, active and
passive, English and Chinese, behind a start token; three English words, whose pair is their mirror image, behind a
start token; and the same without it, where what is alike on both sides (none, ALiBi) cannot tell mirror images apart.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from instar.batch import Batch, View
from instar.config import ModelConfig
from instar.config.options import TrainOptions
from instar.data.world import records
from instar.model.transformer import Transformer
from instar.text import Tokenizer
from instar.train.objectives import cross_entropy
from instar.train.optim import Optimizer

SCHEMES = ("none", "sinusoidal", "learned", "rotary", "t5", "alibi")
SENTENCES, MIRRORED = "&mixed=1", "&mixed=1&lang=en&mirror=1"
# heading, address, whether a start token stands before
COLUMNS = (
    ("sentences", SENTENCES, True),
    ("mirror images", MIRRORED, True),
    ("without a start token", MIRRORED, False),
)
TAUGHT, ASKED, ROWS, STEPS, WARMUP = 16_000, 2_000, 64, 400, 20


def tokenizer_for() -> Tokenizer:
    """A Chinese character is never merged with its neighbour: the tokens of a pair are the same."""
    texts = [record["text"] for extra in (SENTENCES, MIRRORED) for record in records(f"world:order?count=4000{extra}")]
    return Tokenizer.train(texts, 1024, single_han=True, masks=True)


def told(tokenizer: Tokenizer, address: str, start: bool) -> Batch:
    """All texts of an address, padded: tokens (N, T), targets (N, 1)."""
    made = list(records(address))
    before = [tokenizer.bos] if start else []
    rows = [[*before, *ids] for ids in tokenizer.encode_batch([record["text"] for record in made])]
    width = max(map(len, rows))
    tokens = torch.tensor([row + [tokenizer.pad] * (width - len(row)) for row in rows])
    keep = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in rows])
    return Batch(tokens, torch.tensor([[record["label"]] for record in made]), View(keep=keep))


def chosen(texts: Batch, rows: Tensor) -> Batch:
    return Batch(texts.tokens[rows], texts.targets[rows], View(keep=texts.view.keep[rows]))


def draws(texts: Batch, generator: torch.Generator) -> Iterator[Batch]:
    """Endless batches, each text once an epoch."""
    while True:
        for rows in torch.randperm(len(texts.targets), generator=generator).split(ROWS):
            yield chosen(texts, rows)


def accuracy(scheme: str, taught: Batch, asked: Batch, vocabulary: int, steps: int, seed: int) -> float:
    """Share of right answers to pairs that training never held, after some steps."""
    config = ModelConfig(
        vocab_size=vocabulary, d_model=64, layers=2, heads=4, max_positions=32, positions=scheme, causal=False,
        heads_of=("classify",), labels=2, pooling="mean", tied=False,
    )  # fmt: skip
    model = Transformer(config, seed=seed)
    optimizer = Optimizer(model, TrainOptions(optimizer="muon", muon_lr=0.02, lr=5e-3, weight_decay=0.01))
    batches = draws(taught, torch.Generator().manual_seed(seed))
    for step in range(1, steps + 1):
        total, count = cross_entropy(model, next(batches), head="classify").terms["loss"]
        (total / count).backward()
        optimizer.step(min(step / WARMUP, 1.0, 2 * (1 - step / (steps + 1))))
        optimizer.zero()
    model.eval()
    with torch.inference_mode():
        right, count = cross_entropy(model, asked, head="classify").metrics["accuracy"]
    return float(right) / count


def measure(schemes: Iterable[str] = SCHEMES, steps: int = STEPS, seed: int = 0) -> Iterator[tuple[str, list[float]]]:
    """(scheme, the accuracy of each column), one scheme after the other."""
    tokenizer = tokenizer_for()
    columns = [
        [
            told(tokenizer, f"world:order?{part}{extra}", start)
            for part in (f"count={TAUGHT}", f"split=test&count={ASKED}")
        ]
        for _, extra, start in COLUMNS
    ]
    for scheme in schemes:
        yield scheme, [accuracy(scheme, *column, tokenizer.vocab_size, steps, seed) for column in columns]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.perf_counter()
    print(f"who did it, in pairs never taught; a bag of words gets 0.500; {options.steps} steps")
    print(f"{'positions':<12}" + "".join(f"{heading:>24}" for heading, _, _ in COLUMNS) + f"{'seconds':>10}")
    for scheme, row in measure(steps=options.steps, seed=options.seed):
        seconds = time.perf_counter() - started
        print(f"{scheme:<12}" + "".join(f"{share:24.3f}" for share in row) + f"{seconds:10.0f}", flush=True)


if __name__ == "__main__":
    main()
