"""One pass over T tokens against T single steps: the same logits, and how much longer the steps take.

A Transformer reads a whole text at once where a recurrent network reads word by word. Prints one table; every figure
is measured in this run.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console

from instar.cli.screen import table
from instar.config.presets import preset
from instar.model.cache import KVCache
from instar.model.transformer import Transformer


def one_pass(model: Transformer, tokens: torch.Tensor) -> torch.Tensor:
    """Every position in one forward pass."""
    return model(tokens)


def cached_steps(model: Transformer, tokens: torch.Tensor) -> torch.Tensor:
    """A token at a time over the keys and values of those before."""
    cache = KVCache(model.config, len(tokens), tokens.shape[1])
    return torch.cat([model(tokens[:, t : t + 1], cache=cache) for t in range(tokens.shape[1])], dim=1)


def uncached_steps(model: Transformer, tokens: torch.Tensor) -> torch.Tensor:
    """A token at a time, reading everything again."""
    return torch.cat([model(tokens[:, : t + 1])[:, -1:] for t in range(tokens.shape[1])], dim=1)


def seconds(work: Callable[[], torch.Tensor], repeats: int) -> float:
    """The median time, after one warm-up."""
    work()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--lengths", type=int, nargs="+", default=[32, 128, 512])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    model = Transformer(preset(options.preset, vocab_size=2048)).eval()
    rows = []
    for length in options.lengths:
        tokens = torch.randint(0, 2048, (1, length), generator=torch.Generator().manual_seed(0))
        whole = one_pass(model, tokens)
        base = seconds(lambda tokens=tokens: one_pass(model, tokens), options.repeats)
        for name, way in (("with a cache", cached_steps), ("without", uncached_steps)):
            gap = float((way(model, tokens) - whole).abs().max())
            taken = seconds(lambda tokens=tokens, way=way: way(model, tokens), options.repeats)
            rows.append([name, length, f"{gap:.1e}", 1000 * base, 1000 * taken, f"{taken / base:.0f}x"])
    title = f"{options.preset}: one pass over T tokens, and T single steps"
    columns = ["steps", "T", "largest logit gap", "one pass (ms)", "steps (ms)", "ratio"]
    Console(width=100).print(table(title, columns, rows))


if __name__ == "__main__":
    main()
