"""LoRA beside full fine-tuning: one DPO, once of all weights and once of adapters of rank 4.

    python benchmarks/lora.py --model runs/aligned/sft [--rank 4] [--steps 60] [--seed 0]

The model is the one that `instar grow recipes/aligned.yaml --out runs/aligned` leaves behind SFT: it mixes manners.
Printed are the share of the weights that learn, and of answers to questions about held-out facts those in a preferred
manner, the right ones, and those that are both; greedy, then drawn.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from instar.adapt.folders import load
from instar.config.options import DpoOptions, LoraOptions, SamplingOptions, TrainOptions
from instar.data.world import PREFERRED, records
from instar.eval.manner import judge
from instar.train import stages

WORLD = "lang=en&threads=1&events=2,3&kinds=colour"
TAUGHT = f"world:preferences?{WORLD}&count=3000&seed=11"
ASKED = f"world:prompts?split=test&{WORLD}&count=800&seed=6"
RATES = {"all weights": 0.0005, "LoRA": 0.005}


def figures(folder: str | Path) -> list[float]:
    """Preferred, right and both: of greedy answers, then of drawn ones."""
    model, tokenizer = load(folder)
    asked = list(records(ASKED))
    found = []
    for strategy in ("greedy", "sample"):
        options = SamplingOptions(strategy=strategy, max_new_tokens=64)
        judged = judge(model, tokenizer, asked, options, batch=128)
        preferred = [one.manner in PREFERRED for one in judged]
        right = [one.reward > 0 for one in judged]
        both = [one and other for one, other in zip(preferred, right)]
        found += [sum(hits) / len(judged) for hits in (preferred, right, both)]
    return found


def tuned(name: str, model: str, out: Path, rank: int, steps: int, seed: int) -> float:
    """Tune, and return the share of the weights that learnt."""
    train = TrainOptions(
        steps=steps, context=128, batch_tokens=4096, lr=RATES[name], weight_decay=0.0, warmup=0.1, decay=0.9
    )
    lora = LoraOptions(rank=rank if name == "LoRA" else 0)
    options = DpoOptions(
        model=model, data=(TAUGHT,), out=str(out), nll=0.2, train=train, lora=lora, seed=seed, quiet=True
    )
    report = stages.dpo(options)
    return report["trained"] / report["parameters"] if "trained" in report else 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", default="runs/aligned/sft")
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"DPO of {options.model}, {options.steps} steps; 800 questions on held-out facts, greedy and drawn")
    columns = ("learning", "preferred", "right", "both", "drawn", "right", "both")
    print(" " * 12 + "".join(f"{column:>11}" for column in columns))
    shown("before", 0.0, figures(options.model))
    with tempfile.TemporaryDirectory() as folder:
        for name in RATES:
            out = Path(folder) / name.replace(" ", "-")
            share = tuned(name, options.model, out, options.rank, options.steps, options.seed)
            shown(name, share, figures(out))


def shown(name: str, share: float, found: list[float]) -> None:
    print(f"{name:<12}{100 * share:>10.1f}%" + "".join(f"{value:>11.3f}" for value in found), flush=True)


if __name__ == "__main__":
    main()
