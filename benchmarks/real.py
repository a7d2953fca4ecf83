"""Real input: a real English and a real Chinese text, a real instruction file, a real checkpoint.

    python benchmarks/real.py FOLDER_OF_DATA [--steps 300]

Pretrains on each text and prints bits per byte on the held-out part beside what xz needs for the whole text; teaches
the English model a real instruction file; continues a story with a real checkpoint. Every step is the command that a
user would type, and is printed before it runs.
"""

from __future__ import annotations

import argparse
import json
import lzma
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from instar.cli.screen import table

TEXTS = {"English": "pretrain/en/tinyshakespeare.txt", "Chinese": "pretrain/zh/books/hongloumeng.txt"}
INSTRUCTIONS = "instruct/dolly_hhrlhf_small.jsonl"
CHECKPOINT = "weights/TinyStories-656K"


def instar(*words: str | Path) -> dict[str, Any]:
    """Run one command with --json and return what it reports."""
    command = [str(word) for word in words]
    print(f"$ instar {shlex.join(command)}", flush=True)
    done = subprocess.run(
        [sys.executable, "-c", "from instar.cli import main; main()", *command, "--json"],
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout)


def xz_bits_per_byte(path: Path) -> float:
    """What xz -9e makes of the whole text."""
    data = path.read_bytes()
    return 8 * len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)) / len(data)


def pretrain(text: Path, out: Path, steps: int) -> dict[str, Any]:
    """A tokenizer and a base model of one text, then its surprise at the held-out part."""
    instar("tokenizer", "train", "--data", text, "--vocab-size", "2048", "--out", out / "tokenizer")
    instar(
        "pretrain", "--data", text, "--tokenizer", out / "tokenizer", "--out", out / "base", "--preset", "nano",
        "--held-out", "0.1", "--train.steps", str(steps), "--train.optimizer", "muon", "--train.lr", "3e-3",
        "--train.muon-lr", "0.01", "--model.dropout", "0.1", "--train.decay", "0.5",
    )  # fmt: skip
    return instar("eval", "--model", out / "base", "--data", text, "--split", "held-out", "--held-out", "0.1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("runs/real"))
    options = parser.parse_args()
    rows = []
    for name, path in TEXTS.items():
        text = options.data / path
        found = pretrain(text, options.out / name.lower(), options.steps)
        xz = xz_bits_per_byte(text)
        verdict = "below" if found["bits_per_byte"] < xz else "above"
        rows.append([f"{name}: {text.name}", found["perplexity"], found["bits_per_byte"], xz, verdict])
    taught = instar(
        "sft", "--model", options.out / "english" / "base", "--data", options.data / INSTRUCTIONS,
        "--out", options.out / "english" / "sft", "--train.lr", "3e-4", "--train.epochs", "1",
    )  # fmt: skip
    told = instar(
        "generate", "--model", options.data / CHECKPOINT, "--prompt", "Once upon a time",
        "--sampling.strategy", "greedy", "--sampling.max-new-tokens", "60",
    )  # fmt: skip
    console = Console(width=100)
    columns = ["text", "held-out perplexity", "bits per byte", "xz", "the model is"]
    console.print(table(f"{options.steps} steps on real texts", columns, rows))
    console.print(f"SFT on {INSTRUCTIONS}: held-out loss {taught['held_out_loss']:.3f}, data {taught['data']}")
    console.print(f"{CHECKPOINT} says: Once upon a time{told['answers'][0]['text']}")


if __name__ == "__main__":
    main()
