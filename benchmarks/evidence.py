"""Lessons with and without being told where to look: the demo's own, from its pretrained model.

    python benchmarks/evidence.py [--model runs/demo/pretrain] [--steps 400]

The table has the accuracy of the targets of lessons by steps, and then how many of 600 questions about facts never told
are answered exactly right, on stories of one thread that are longer than those of the lessons. Data, seed and optimizer
are the same in both rows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

EVERY = 50
EXAM = "world:dialogues?split=test&kinds=main&threads=1&count=600&seed=6"


def instar(*words: str) -> dict[str, Any]:
    """What the command prints as JSON."""
    command = [Path(sys.executable).with_name("instar"), *words, "--json", "--quiet"]
    told = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(told.stdout)
    return found


def lessons(recipe: dict[str, Any], model: str, evidence: float, steps: int, out: Path) -> tuple[list[float], float]:
    """Accuracy every EVERY steps, and the share of the exam that is right."""
    train = recipe["train"] | {"steps": steps, "minutes": 0}
    flags = [word for key, value in train.items() for word in flag(f"--train.{key.replace('_', '-')}", value)]
    instar(
        "sft", "--model", model, "--out", str(out), "--data", *recipe["data"], "--evidence", str(evidence),
        "--seed", "1", "--evaluate.samples", "0", *flags,
    )  # fmt: skip
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps_told = [line["accuracy"] for line in lines if "accuracy" in line and "targets" in line]
    parts = [steps_told[start : start + EVERY] for start in range(0, steps, EVERY)]
    exam = instar("eval", "--model", str(out), "--metric", "exact", "--batch", "128", "--data", EXAM)
    return [sum(part) / len(part) for part in parts], exam["exact"]


def flag(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [name] if value else []
    return [name, str(value)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="runs/demo/pretrain")
    parser.add_argument("--steps", type=int, default=400)
    options = parser.parse_args()
    recipe = yaml.safe_load(Path("recipes/demo.yaml").read_text(encoding="utf-8"))["lessons"]
    print("evidence " + "".join(f"{step:>7}" for step in range(EVERY, options.steps + 1, EVERY)) + "   exam  seconds")
    for evidence in (0.0, recipe["evidence"]):
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            seen, right = lessons(recipe, options.model, evidence, options.steps, Path(folder) / "lessons")
        shares = "".join(f"{share:7.3f}" for share in seen)
        print(f"{evidence:<9}{shares}{right:7.3f}{time.perf_counter() - started:9.0f}")


if __name__ == "__main__":
    main()
