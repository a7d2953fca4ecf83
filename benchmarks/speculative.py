"""What guessing ahead gains and costs: one stream, with n-grams, with a draft model and without, taking turns.

    python benchmarks/speculative.py [--shape A] [--dtype bf16] [--tokens 256] [--rounds 5] [--device cuda]

The models have random weights and do all the work of trained ones, but what they say is prescribed, so that it is known
how much of it can be guessed: a loop; tokens of chance, from a large vocabulary or from eight; and the source of this
package, word by word. The draft model is right about --right of the tokens. `gain` is the speed over that without
guesses, the median of rounds; `true` the share of guessed tokens that came true; `guess us` the time that n-grams or
the draft model take in a step. The goals: 1.5 on a loop, and at least 0.95 on tokens of chance, for n-grams.
"""

from __future__ import annotations

import argparse
import itertools
import random
import re
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from instar.config import ModelConfig
from instar.config.options import SamplingOptions
from instar.infer.draft import Draft, proposer
from instar.infer.engine import Engine
from instar.infer.speculative import Proposer
from instar.model.transformer import Transformer

SHAPES: dict[str, dict[str, Any]] = {
    "A": dict(d_model=768, layers=12, heads=12, d_ff=2048, vocab_size=32000),
    "small": dict(d_model=512, layers=8, heads=8, vocab_size=8192),
    "tiny": dict(d_model=64, layers=2, heads=4, vocab_size=8192),
}
DRAFT = dict(d_model=256, layers=2, heads=4)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
BYTE = 256  # a whole number up to this is exact in bf16
PROMPT = 128


class Prescribed(Transformer):
    """A model that computes what it would say, and says the next token of `text` instead."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, seed=0)
        self.text = torch.zeros(0, dtype=torch.int64)
        self.heads["lm"] = Said(self.heads["lm"])

    def hidden(self, tokens: Tensor, **rest: Any) -> Tensor:
        """As ever, with the next id in the first two numbers."""
        next_ids = self.text[rest["cache"].positions(tokens.shape[1]) + 1]
        hidden = super().hidden(tokens, **rest)
        hidden[..., 0], hidden[..., 1] = next_ids // BYTE, next_ids % BYTE
        return hidden


class Said(nn.Module):
    """A head that computes its logits and puts the prescribed id first."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, hidden: Tensor) -> Tensor:
        ids = hidden[..., 0].long() * BYTE + hidden[..., 1].long()
        return self.head(hidden).clamp_(-9, 9).scatter_(-1, ids[..., None], 30.0)


def texts(size: int, vocabulary: int) -> dict[str, list[int]]:
    """Prompt and answer of each kind."""
    draw = random.Random(0)
    words: dict[str, int] = {}
    sources = sorted((Path(__file__).parents[1] / "src" / "instar" / "infer").glob("*.py"))
    code = re.findall(r"\w+|\s+|\W", "".join(path.read_text(encoding="utf-8") for path in sources))
    loop = [draw.randrange(vocabulary) for _ in range(23)]
    return {
        "a loop": list(itertools.islice(itertools.cycle(loop), size)),
        "code": [words.setdefault(word, len(words)) % vocabulary for word in code[:size]],
        "chance": [draw.randrange(vocabulary) for _ in range(size)],
        "chance, of 8": [draw.randrange(8) for _ in range(size)],
    }


class Timed:
    """A proposer, with the time it takes."""

    def __init__(self, inner: Proposer) -> None:
        self.inner, self.seconds, self.steps = inner, 0.0, 0

    def propose(self, requests: Sequence[Any], most: int) -> list[list[int]]:
        begin = time.perf_counter()
        guesses = self.inner.propose(requests, most)
        self.seconds += time.perf_counter() - begin
        self.steps += 1
        return guesses

    def told(self, request: Any, drafted: int, accepted: int) -> None:
        self.inner.told(request, drafted, accepted)

    def forget(self, request: Any) -> None:
        self.inner.forget(request)


def answer(model: Prescribed, text: list[int], propose: Timed | None, new: int) -> dict[str, float]:
    """One answer, behind a prompt that is already read."""
    engine = Engine(model, slots=1, capacity=len(text), chunk=PROMPT, propose=propose)
    request = engine.submit(text[:PROMPT], SamplingOptions(strategy="greedy", max_new_tokens=new))
    engine.step()
    begin, steps = time.perf_counter(), 0
    while engine.busy:
        engine.step()
        steps += 1
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    took = time.perf_counter() - begin
    assert request.ids == text[PROMPT : PROMPT + new], "an answer has changed"
    return {
        "speed": (new - 1) / took,
        "steps": (new - 1) / steps,
        "drafted": request.drafted,
        "accepted": request.accepted,
        "guess": 0.0 if propose is None else propose.seconds / max(1, propose.steps),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--right", type=float, default=0.8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--texts", nargs="+", help="kinds of text that contain one of these words; all by default")
    parser.add_argument("--guesses", nargs="+", default=["ngram", "draft"])
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    longest = PROMPT + options.tokens + 32

    def build(**shape: Any) -> Prescribed:
        config = ModelConfig(**{**SHAPES[options.shape], "max_positions": longest, "tied": False, **shape})
        return Prescribed(config).to(options.device, DTYPES[options.dtype]).eval()

    model, small = build(), build(**DRAFT)
    draw = random.Random(1)
    print(f"{options.shape}, {options.dtype}, {options.device}, {torch.get_num_threads()} threads")
    print(f"{'text':14}{'guesses':9}{'tokens/s':>10}{'gain':>8}{'spread':>14}{'a step':>9}{'true':>7}{'guess us':>10}")
    for kind, text in texts(longest, model.config.vocab_size).items():
        if options.texts and not any(word in kind for word in options.texts):
            continue
        wrong = [id if draw.random() < options.right else (id + 1) % 8 for id in text]
        model.text, small.text = (torch.tensor(ids, device=options.device) for ids in (text, wrong))
        found: dict[str, list[dict[str, float]]] = {"off": [], **{name: [] for name in options.guesses}}
        for round in range(options.rounds + 1):
            for name, results in found.items():
                inner = proposer(model, None, speculate="ngram") if name == "ngram" else None
                inner = Draft(small, model, slots=1, capacity=longest) if name == "draft" else inner
                result = answer(model, text, None if inner is None else Timed(inner), options.tokens)
                if round:  # the first warms up
                    results.append(result)
        for name, results in found.items():
            gains = sorted(result["speed"] / off["speed"] for result, off in zip(results, found["off"]))
            middle = {key: statistics.median(result[key] for result in results) for key in results[0]}
            true = f"{middle['accepted'] / middle['drafted']:.2f}" if middle["drafted"] else "-"
            print(
                f"{kind:14}{name:9}{middle['speed']:10.1f}{statistics.median(gains):8.2f}"
                f"{f'{gains[0]:.2f}-{gains[-1]:.2f}':>14}{middle['steps']:9.2f}{true:>7}{middle['guess'] * 1e6:10.0f}"
            )


if __name__ == "__main__":
    main()
