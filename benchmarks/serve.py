"""Servers of OpenAI's API beside each other: ours, transformers serve and llama.cpp's, and ours beside its bare engine.

    make bench-serve                                     the whole, on two idle cores: an hour
    python benchmarks/serve.py --systems instar engine --precisions fp32
    python benchmarks/serve.py --quick                   a tiny model and short texts: whether every path works

All serve the same random weights, of the shape of a small Llama, with the same tokenizer and chat template. Clients
stream chat completions in a closed loop: as many requests are open as there are clients, and where one has ended the
next is sent. Prompts are new in every round and the same for everybody; answers are the likeliest tokens and have all
the same length. Systems take turns in every round, and those that wait are stopped. Rates are medians of rounds, which
the first of is not counted; percentiles are of all answers of the counted rounds. fp32 is asked of everybody; bf16 is
what models are saved in, and everybody does by default with it what it does.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from instar.serve.load import WORDS, Reply, summary
from instar.text.tokenizer import Tokenizer
from peers.served import SYSTEMS, Contestant, start
from peers.worker import HERE, Place

ROOT = Path(__file__).parents[1]
SHAPES: dict[str, dict[str, Any]] = {
    # 110M weights
    "A": dict(d_model=768, layers=12, heads=12, d_ff=2048, vocab_size=32000),
    "tiny": dict(d_model=64, layers=2, heads=4, kv_heads=2, d_ff=128, vocab_size=2048),
}
WARMUP = 8  # tokens of answers that are not counted
# what was asked for: ours, theirs, at how many clients (the most of the run), at least; None: printed alone
GOALS: tuple[tuple[str, tuple[str, ...], float | None], ...] = (
    ("instar", ("engine",), 0.95),
    ("instar", ("transformers", "transformers batching"), 1.5),
    ("instar", ("llama.cpp",), None),
    ("instar", ("llama.cpp batch",), None),
)


@dataclass
class Result:
    """One system at one precision. rounds: by clients, the replies of each counted round; note: why there are none."""

    system: str
    precision: str
    rounds: dict[int, list[list[Reply]]] = field(default_factory=dict)
    note: str = ""

    def row(self, streams: int) -> dict[str, Any]:
        """rate: the median of rounds; everything else of all their replies."""
        rounds = self.rounds.get(streams, [])
        if not rounds:
            return {}
        rates = [summary(replies)["rate"] for replies in rounds]
        return summary([reply for replies in rounds for reply in replies]) | {"rate": median(rates), "rates": rates}


def texts_of(tokenizer: Tokenizer, options: argparse.Namespace) -> Iterator[str]:
    """Prompts that have, with what the template puts around them, about as many tokens as are wanted."""
    luck = random.Random(options.seed)

    def length(words: int) -> int:
        text = " ".join(luck.choices(WORDS, k=words))
        return len(tokenizer.chat([{"role": "user", "content": text}], add_generation_prompt=True).ids)

    around = length(0)
    words = max(1, round(100 * (options.prompt - around) / (length(100) - around)))
    while True:
        yield " ".join(luck.choices(WORDS, k=words))


def measure(running: Sequence[tuple[Result, Contestant]], texts: Iterator[str], options: argparse.Namespace) -> None:
    """Rounds of all numbers of clients, everybody taking turns with the same texts; the first warms up."""
    for number in range(options.rounds + 1):
        for streams in options.streams:
            count = streams * (options.each if number else 1)
            asked = [next(texts) for _ in range(count)]
            for result, contestant in running:
                if result.note:
                    continue
                say(f"  round {number} of {options.rounds}, {streams} clients: {result.system} {result.precision}")
                contestant.go_on()
                replies = contestant.loop(asked, streams, options.new if number else min(WARMUP, options.new))
                contestant.pause()
                if faults := summary(replies)["faults"]:
                    first = next(reply.said for reply in replies if reply.fault)
                    result.note = f"{streams} clients: {faults} {first}".replace("|", "/")[:200]
                elif number:
                    result.rounds.setdefault(streams, []).append(replies)


def benchmark(place: Place, precision: str, tokenizer: Tokenizer, options: argparse.Namespace) -> list[Result]:
    """Everybody at one precision."""
    texts = texts_of(tokenizer, options)
    sample = tokenizer.chat([{"role": "user", "content": next(texts)}], add_generation_prompt=True).ids
    results, running = [Result(system, precision) for system in options.systems], []
    with ExitStack() as stack:
        for result in results:
            say(f"  {result.system} {precision} starts")
            found = start(result.system, precision, place, len(sample), options.timeout)
            if isinstance(found, str):
                result.note = found
                continue
            stack.callback(found.close)
            found.pause()
            running.append((result, found))
        measure(running, texts, options)
    return results


def make(place: Place, shape: dict[str, Any], precisions: Sequence[str]) -> dict[str, Any]:
    """The folders and files that everybody reads -> {"missing", "cpu"}."""
    place.folder.mkdir(parents=True, exist_ok=True)
    words = [place.python, str(HERE / "talker.py"), str(place.folder), json.dumps(shape), *precisions]
    ran = subprocess.run(words, check=True, text=True, stdout=subprocess.PIPE, env=place.environment())
    return json.loads(ran.stdout.splitlines()[-1])


def markdown(results: Sequence[Result], cpu: str, options: argparse.Namespace) -> str:
    """The table of docs/results.md, what was asked for, and notes."""
    most = max(options.streams)
    clients = [f"{streams} client{'s' * (streams > 1)}" for streams in options.streams]
    heads = [f"{who}, tokens/s | ours / theirs | first token, ms | gap, ms" for who in clients]
    lines = [
        f"### Servers: model {options.model}, prompts of {options.prompt} tokens, answers of {options.new}",
        "",
        f"{cpu}, {options.threads} threads; {versions()}. Medians of {options.rounds} rounds of {options.each} answers "
        "for each client; of first tokens and gaps p50 / p99 of all rounds.",
        "",
        f"| | {' | '.join(heads)} |",
        "|---" * (1 + 4 * len(options.streams)) + "|",
    ]
    ours = {result.precision: result for result in results if result.system == "instar"}
    for result in results:
        mine = ours.get(result.precision, result)
        cells = [cell for streams in options.streams for cell in _cells(result.row(streams), mine.row(streams))]
        lines.append(f"| {SYSTEMS[result.system]}, {result.precision} | {' | '.join(cells)} |")
    lines += ["", f"| asked for, {most} clients | ours | theirs | ratio | at least |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(goal)} |" for goal in goals(results, most)]
    notes = [f"{SYSTEMS[result.system]}, {result.precision}: {result.note}" for result in results if result.note]
    return "\n".join([*lines, *(["", f"Left out: {'; '.join(notes)}."] if notes else [])]) + "\n"


def _cells(row: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    if not row:
        return [""] * 4
    ratio = f"{ours['rate'] / row['rate']:.2f}" if ours and ours != row and row["rate"] else ""
    return [f"{row['rate']:,.1f}", ratio, _pair(row["first"]), _pair(row["gap"])]


def _pair(found: dict[str, float]) -> str:
    return f"{1000 * found['p50']:,.0f} / {1000 * found['p99']:,.0f}" if found else ""


def goals(results: Sequence[Result], streams: int) -> list[list[str]]:
    """What was asked for and what was found, a row for each and each precision; the best of theirs counts."""
    rates = {(result.system, result.precision): result.row(streams).get("rate", 0.0) for result in results}
    rows = []
    for precision in dict.fromkeys(result.precision for result in results):
        for ours, theirs, least in GOALS:
            mine = rates.get((ours, precision), 0.0)
            best = max(theirs, key=lambda name: rates.get((name, precision), 0.0))
            other = rates.get((best, precision), 0.0)
            if mine and other:
                rows.append([
                    precision, f"{SYSTEMS[ours]}: {mine:,.1f}", f"{SYSTEMS[best]}: {other:,.1f}", f"{mine / other:.2f}",
                    f"{least:.2f}" if least else "",
                ])  # fmt: skip
    return rows


def versions() -> str:
    pinned = (ROOT / "benchmarks" / "peers.txt").read_text(encoding="utf-8").splitlines()
    names = ("torch", "transformers", "llama-cpp-python")
    found = [line.replace("==", " ") for line in pinned if line.partition("[")[0].partition("==")[0] in names]
    return ", ".join([f"instar {version('instar')}", *found])


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def read_options(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=SHAPES, default="A")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    parser.add_argument("--streams", nargs="+", type=int, default=[1, 16], help="clients at a time")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--each", type=int, default=2, help="answers for each client in a round")
    parser.add_argument("--prompt", type=int, default=128, help="tokens of a prompt")
    parser.add_argument("--new", type=int, default=64, help="tokens of an answer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of every system")
    parser.add_argument("--timeout", type=float, default=900, help="seconds that one answer may take")
    parser.add_argument("--peers", default=str(ROOT / ".venv-peers" / "bin" / "python"), help="the peers' interpreter")
    parser.add_argument("--folder", default="", help="keep the models here, and take them from here")
    parser.add_argument("--json", default="", help="write every figure to this file too")
    parser.add_argument("--quick", action="store_true", help="a tiny model and short texts: whether every path works")
    options = parser.parse_args(words)
    if options.quick:
        options.model, options.rounds, options.each, options.prompt, options.new = "tiny", 1, 1, 24, 12
        options.streams = [1, 3]
    return options


def main(words: Sequence[str] | None = None) -> None:
    options = read_options(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers of this run end with it
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary) / options.model
        place = Place(folder.resolve(), sys.executable, Path(options.peers), options.threads)
        made = make(place, SHAPES[options.model], options.precisions)
        for name, why in made["missing"].items():
            say(f"{name} was not made: {why}")
        tokenizer = Tokenizer.load(folder / options.precisions[0])
        results: list[Result] = []
        for precision in options.precisions:
            say(precision)
            results += benchmark(place, precision, tokenizer, options)
            if options.json:  # after each, for the next takes long
                rows = [
                    {"system": r.system, "precision": r.precision, "note": r.note}
                    | {"rows": {streams: r.row(streams) for streams in options.streams}}
                    for r in results
                ]
                found = {"cpu": made["cpu"], "versions": versions(), "options": vars(options), "results": rows}
                Path(options.json).write_text(json.dumps(found), encoding="utf-8")
        print(markdown(results, made["cpu"], options), flush=True)


if __name__ == "__main__":
    main()
