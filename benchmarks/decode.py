"""Decoding beside transformers, CTranslate2 and llama.cpp: tokens a second, shares of the machine's limits, memory.

    make bench-decode                                          the whole, on two idle cores: hours for model B
    python benchmarks/decode.py --models A --systems instar transformers --precisions bf16 int8
    python benchmarks/decode.py --quick                        a tiny model: whether every path works

Every system is a process of its own that keeps one model at one precision; all take turns in every round, and medians
of rounds are told. Where they do not fit into memory together they are measured in several groups, and the first of all
in each of them again, so that the groups can be compared. Models have random weights: as fast as trained ones, and
written by us in the layout that the peers read or convert. Prompts are drawn anew for every round and are the same for
everybody; all answers are greedy, or found by beam search, and have the full length. A figure is left out, with a note,
where one round would take longer than --patience.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from instar.config import ModelConfig
from instar.eval.limits import Limits, measure_limits, multiplied
from instar.hub.memory import free_bytes
from instar.train.machine import describe, pick_dtype
from peers.figures import BYTES, Results, Setting, agreement, goals
from peers.tables import markdown
from peers.worker import SCRIPTS, Contender, Place, Worker

ROOT = Path(__file__).parents[1]
SHAPES: dict[str, dict[str, Any]] = {
    "A": dict(d_model=768, layers=12, heads=12, d_ff=2048, vocab_size=32000),
    "B": dict(d_model=2048, layers=22, heads=32, kv_heads=4, d_ff=5632, vocab_size=32000),
    "tiny": dict(d_model=64, layers=2, heads=4, kv_heads=2, d_ff=128, vocab_size=512),
}
OFFERED = {
    "instar": ("bf16", "fp32", "int8", "int4"),
    "transformers": ("bf16", "fp32"),
    "ctranslate2": ("bf16", "fp32", "int8"),
    "llama.cpp": ("bf16", "fp32", "int8", "int4"),
}
# what is loaded besides one copy of the weights: packed copies of compiled steps, or a little
ROOM = {"transformers": 2.2}
APART = 600 << 20  # bytes of a process that are no weights
WARMUP, TRIAL = 16, (16, 3)  # tokens of the round that is not counted; prompt and answer of a first look
# seconds between two turns: threads of the one before may spin for a while
REST = 0.3
FLAGS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8")


def contenders(options: argparse.Namespace) -> list[Contender]:
    """Everybody, the narrow precisions first and ours before the others."""
    return [
        Contender(system, precision)
        for precision in options.precisions
        for system in options.systems
        if precision in OFFERED[system]
    ]


def groups(wanted: Sequence[Contender], config: ModelConfig, room: float) -> Iterator[list[Contender]]:
    """As many at a time as fit into so many bytes; every group after the first begins with the first of all."""
    weights = sum(multiplied(config)) + config.vocab_size * config.d_model

    def size(contender: Contender) -> float:
        return weights * BYTES[contender.precision][0] * ROOM.get(contender.system, 1.2) + APART

    group: list[Contender] = []
    for contender in wanted:
        if len(group) > 1 and sum(map(size, group)) + size(contender) > room:
            yield group
            group = [wanted[0]]
        group.append(contender)
    if group:
        yield group


def tasks(options: argparse.Namespace) -> dict[str, dict[str, int]]:
    """What is asked of each."""
    whole = {"prompt": options.prompt, "new": options.new, "room": options.prompt + options.new, "beams": 0}
    return {
        "prompt": whole | {"streams": 1, "new": 1},
        "one": whole | {"streams": 1},
        "many": whole | {"streams": options.streams},
        "beam": whole | {"streams": 1, "beams": options.beams},
    }


def too_long(worker: Worker, asked: dict[str, dict[str, int]], patience: float) -> dict[str, str]:
    """Which tasks would take longer than that, judged by a short text: some precisions have no instructions on some
    CPUs, and are a thousand times slower there."""
    prompt, new = TRIAL
    request = {"do": "answer", "seed": 0, "prompt": prompt, "new": new, "room": prompt + new, "beams": 0, "streams": 1}
    worker.ask(request)
    told = worker.ask(request | {"seed": 1})
    if "first" not in told:
        return {"": told.get("failed") or told["skipped"]}
    token, step = told["first"] / prompt, (told["total"] - told["first"]) / (new - 1)
    found = {}
    for task, what in asked.items():
        rows = max(what["streams"], what["beams"], 1)
        seconds = what["streams"] * what["prompt"] * token + what["new"] * max(step, rows * token)
        if seconds > patience:
            found[task] = f"a round would take about {seconds:,.0f} s"
    return found


def measure(
    place: Place, group: Sequence[Contender], results: dict[Contender, Results], options: argparse.Namespace
) -> None:
    """Rounds of all tasks, everybody taking turns."""
    workers = []
    asked = tasks(options)
    try:
        for contender in group:
            result = results[contender]
            if "" in result.notes:
                continue
            say(f"  {contender}")
            workers.append(worker := Worker(contender, place))
            result.loaded = worker.loaded
            if why := worker.why_not:
                result.notes[""] = why
            else:
                result.notes |= too_long(worker, asked, options.patience)
        for number in range(options.repeats + 1):
            say(f"  round {number} of {options.repeats}")
            for task, what in asked.items():
                for worker in workers:
                    _turn(worker, results[worker.contender], task, what, number, 0.0 if options.quick else REST)
    finally:
        for worker in workers:
            worker.close()


def _turn(worker: Worker, result: Results, task: str, what: dict[str, int], number: int, rest: float) -> None:
    """One task for one system; round 0 warms up, with short answers, and is not counted."""
    if task in result.notes or "" in result.notes:
        return
    new = what["new"] if number else min(what["new"], WARMUP)
    for again in range(3 if task == "prompt" and number else 1):
        time.sleep(rest)
        told = worker.ask({"do": "answer", "seed": 100 * number + again} | what | {"new": new})
        if "total" not in told:
            result.notes[task] = told.get("skipped") or told["failed"]
            return
        if number:
            result.samples.setdefault(task, []).append(told)


def benchmark(name: str, place: Place, options: argparse.Namespace) -> dict[str, Any]:
    """One model: everybody's figures."""
    say(f"model {name}")
    shape = SHAPES[name]
    config = ModelConfig(tied=False, max_positions=2048, **shape)
    limits = limits_of(options)
    wanted = contenders(options)
    absent = place.make(shape, wanted)
    results = {contender: Results(contender) for contender in wanted}
    for contender, why in absent.items():
        results[contender].notes[""] = why
    able = [contender for contender in wanted if contender not in absent]
    for group in groups(able, config, options.memory * 1e9):
        measure(place, group, results, options)
    limits = better(limits, limits_of(options))
    setting = Setting(config, limits, options.prompt, options.new, options.streams, options.beams)
    figures = [setting.figures(result) for result in results.values()]
    return {
        "model": name, "weights": sum(multiplied(config)) + config.vocab_size * config.d_model,
        "read": sum(multiplied(config)), "limits": {"bandwidth": limits.bandwidth, "products": limits.products},
        "figures": figures, "goals": goals(figures), "same_tokens": agreement(list(results.values())),
        "samples": {str(contender): result.samples for contender, result in results.items()},
    }  # fmt: skip


def limits_of(options: argparse.Namespace) -> Limits:
    """The machine's, with as many threads as everybody has."""
    small = dict(megabytes=16, size=128) if options.quick else dict(megabytes=1024, size=2048)
    return measure_limits(torch.device("cpu"), **small)


def better(one: Limits, other: Limits) -> Limits:
    """The larger of each: what a machine did once is within its limits."""
    products = {name: max(rate, other.products[name]) for name, rate in one.products.items()}
    return Limits(max(one.bandwidth, other.bandwidth), products)


def machine(options: argparse.Namespace) -> dict[str, Any]:
    """What the table's heading says."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    known = next((set(line.split()) for line in lines if line.startswith("flags")), set())
    pinned = (ROOT / "benchmarks" / "peers.txt").read_text(encoding="utf-8").splitlines()
    versions = [f"instar {version('instar')}", *(line.replace("==", " ") for line in pinned if "==" in line)]
    return {
        "cpu": describe(torch.device("cpu"))["cpu"],
        "flags": " ".join(flag for flag in FLAGS if flag in known) or "none of the wide instructions",
        "versions": ", ".join(versions),
        **{
            name: getattr(options, name) for name in ("threads", "flow", "repeats", "prompt", "new", "streams", "beams")
        },
    }


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def read_options(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=["A", "B"])
    parser.add_argument("--systems", nargs="+", choices=SCRIPTS, default=list(SCRIPTS))
    parser.add_argument("--precisions", nargs="+", choices=list(BYTES), default=["bf16", "int8", "int4", "fp32"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--prompt", type=int, default=128, help="tokens of a prompt")
    parser.add_argument("--new", type=int, default=128, help="tokens of an answer")
    parser.add_argument("--streams", type=int, default=16, help="of the task with many")
    parser.add_argument("--beams", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2, help="of every system, one at a time")
    parser.add_argument("--patience", type=float, default=300, help="seconds that one task of one round may take")
    parser.add_argument("--memory", type=float, default=0, help="GB for all systems; 0: four fifths of what is free")
    parser.add_argument("--peers", default=str(ROOT / ".venv-peers" / "bin" / "python"), help="the peers' interpreter")
    parser.add_argument(
        "--flow", choices=("auto", "fp32", "bf16"), default="auto", help="between our quantised weights"
    )
    parser.add_argument("--folder", default="", help="keep the models here, and take them from here")
    parser.add_argument("--json", default="", help="write every sample to this file too")
    parser.add_argument("--quick", action="store_true", help="a tiny model and short texts: whether every path works")
    options = parser.parse_args(words)
    if options.quick:
        options.models, options.repeats, options.prompt, options.new, options.streams = ["tiny"], 1, 8, 12, 2
    if options.flow == "auto":
        options.flow = "bf16" if pick_dtype("auto", torch.device("cpu")) is torch.bfloat16 else "fp32"
    options.memory = options.memory or 0.8 * (free_bytes(torch.device("cpu")) or 8e9) / 1e9
    return options


def main(words: Sequence[str] | None = None) -> None:
    options = read_options(words)
    torch.set_num_threads(options.threads)
    setting = machine(options)
    reports = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.models:
            folder = Path(options.folder or temporary) / name
            place = Place(folder.resolve(), sys.executable, Path(options.peers), options.threads, options.flow)
            reports.append(benchmark(name, place, options))
            print(markdown(reports[-1], setting), flush=True)
            if options.json:  # after each model, for the next takes long
                Path(options.json).write_text(json.dumps(setting | {"models": reports}), encoding="utf-8")


if __name__ == "__main__":
    main()
