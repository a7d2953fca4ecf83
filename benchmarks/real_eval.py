"""Real tests for a real checkpoint: minimal pairs, multiple choice and the last word of a story.

    python benchmarks/real_eval.py FOLDER_OF_DATA [--model FOLDER] [--limit 0]

Every line of the table is an `instar eval` command that a user would type, and is printed before it runs. Where
FOLDER_OF_DATA/REFERENCE.json knows the figure of this checkpoint from another program, it stands beside ours.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from instar.cli.screen import table
from real import CHECKPOINT, instar

# name, file, metric, what stands between question and choice
TESTS = (
    ("BLiMP, en", "blimp", "pairs", " "),
    ("SLING, zh", "sling_zh", "pairs", " "),
    ("HellaSwag", "hellaswag", "choices", " "),
    ("ARC easy", "arc_easy", "choices", "\nAnswer: "),
    ("ARC challenge", "arc_challenge", "choices", "\nAnswer: "),
    ("PIQA", "piqa", "choices", "Answer: "),  # its questions end with a newline
    ("LAMBADA", "lambada", "cloze", " "),
)


def reference(data: Path, model: Path, name: str) -> str:
    """The figure that another program found for this checkpoint, where one is known."""
    known = json.loads((data / "REFERENCE.json").read_text(encoding="utf-8")).get(name, {})
    return f"{known['accuracy']:.5f}" if (data / known.get("model", "none")).resolve() == model.resolve() else ""


def row(data: Path, model: Path, limit: int, test: tuple[str, str, str, str]) -> list[Any]:
    """Run one test; its line of the table."""
    title, name, metric, between = test
    started = time.perf_counter()
    found = instar(
        "eval", "--model", model, "--data", data / "eval" / f"{name}.jsonl", "--metric", metric,
        f"--between={between}", "--limit", str(limit),
    )  # fmt: skip
    guess = found.get("guessing", 0.5 if metric == "pairs" else "")
    known = "" if limit else reference(data, model, name)
    seconds = int(time.perf_counter() - started)
    return [
        title, found["records"], f"{found['acc']:.5f}", known, found.get("acc_norm", ""), guess,
        found.get("same", ""), found.get("token_perplexity", ""), seconds,
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--limit", type=int, default=0)
    options = parser.parse_args()
    model = options.model or options.data / CHECKPOINT
    rows = [row(options.data, model, options.limit, test) for test in TESTS]
    columns = [
        "test",
        "records",
        "acc",
        "elsewhere",
        "acc_norm",
        "guessing",
        "same tokens",
        "token perplexity",
        "seconds",
    ]
    Console(width=100).print(table(model.name, columns, rows))


if __name__ == "__main__":
    main()
