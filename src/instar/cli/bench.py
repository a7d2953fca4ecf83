"""`instar bench decode`, `instar bench serve`."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from rich.table import Table

from ..config import InputError
from ..config.errors import Failed
from ..config.flags import parse
from ..config.options import BenchDecodeOptions, BenchServeOptions
from .screen import Screen, table

LEAST = {"prompt": 1, "new": 2, "repeats": 1}
LEAST_SERVED = {"prompt": 1, "new": 1, "requests": 0}
VOCABULARY = 32000  # of a preset that takes its tokenizer's, where there is none


def decode(arguments: list[str]) -> None:
    """How fast a model reads prompts and answers."""
    options = parse(BenchDecodeOptions, arguments, program="instar bench decode")
    _check(options)
    import torch

    from ..adapt.quantize import bytes_of
    from ..eval.limits import measure_limits, peak_bytes
    from ..eval.speed import measure_speed, precision, shares
    from ..infer.tune import tune
    from ..train.machine import describe

    screen = Screen(options)
    model = _model(options)
    if options.tune and not options.compile:  # which tunes by itself
        tune(model)
    with screen.counting("rounds", len(options.streams) * (options.repeats + 1)) as done:
        speeds = [
            measure_speed(
                model, streams, prompt=options.prompt, new=options.new, repeats=options.repeats,
                seed=options.seed, compile=options.compile, done=lambda: done(1),
            )
            for streams in options.streams
        ]  # fmt: skip
    peak = peak_bytes(model.device)  # before the limits are measured, which takes memory too
    limits = measure_limits(model.device)
    report = {
        "model": options.model or options.preset,
        "dtype": precision(model),
        "machine": describe(model.device),
        "torch": torch.__version__,
        "prompt": options.prompt,
        "new": options.new,
        "repeats": options.repeats,
        "compiled": options.compile,
        "weights": model.size(),
        "weight_bytes": bytes_of(model),
        "peak_bytes": peak,
        "limits": {"bandwidth": limits.bandwidth, "products": limits.products[precision(model)]},
        "speeds": [
            asdict(speed) | dict(zip(("prompt_share", "rate_share"), shares(model, limits, speed))) for speed in speeds
        ],
    }
    screen.show(speed_table(report))
    screen.finish(report)


def speed_table(report: dict[str, Any]) -> Table:
    """A row for each number of streams."""
    machine, limits, peak = report["machine"], report["limits"], report["peak_bytes"]
    where = machine["device"] if machine["device"] != "cpu" else f"{machine['cpu']}, {machine['threads']} threads"
    rows = [
        [
            f"{speed['streams']}", 1000 * speed["first"], speed["prompt_rate"], _percent(speed["prompt_share"]),
            speed["rate"], _percent(speed["rate_share"]), speed["answer_rate"],
        ]
        for speed in report["speeds"]
    ]  # fmt: skip
    title = f"{report['model']} in {report['dtype']}, {report['prompt']} + {report['new']} tokens; {where}"
    note = (
        f"limits: {limits['bandwidth'] / 1e9:.1f} GB/s read, {limits['products'] / 1e9:,.0f} GFLOP/s in products; "
        f"weights {_megabytes(report['weight_bytes'])}"
        + (f", memory at most {_megabytes(peak)}" if peak is not None else "")
        + "; tokens/s of all streams, while all speak and over the whole"
    )
    columns = ["streams", "first token, ms", "prompt tokens/s", "of limit", "tokens/s", "of limit", "over the whole"]
    return table(title, columns, rows, note=note)


def serve(arguments: list[str]) -> None:
    """How fast a server answers, whichever it is."""
    options = parse(BenchServeOptions, arguments, program="instar bench serve")
    _check_numbers(options, LEAST_SERVED)
    if not options.timeout > 0:
        raise InputError(f"timeout={options.timeout}, wanted seconds above 0")
    import asyncio

    from ..serve.load import EACH, bench

    screen = Screen(options)
    key = options.api_key or next(iter(os.environ.get("INSTAR_API_KEY", "").split()), "")
    with screen.counting("answers", sum(options.requests or EACH * streams for streams in options.streams)) as done:
        report = asyncio.run(bench(options, key, lambda reply: done(1)))
    report |= {"prompt": options.prompt, "new": options.new, "kind": options.kind}
    screen.show(load_table(report))
    screen.finish(report)
    if not any(row["whole"] for row in report["rows"]):
        raise Failed(f"{report['url']} gave no whole answer")


def load_table(report: dict[str, Any]) -> Table:
    """A row for each number of streams, and below what came of the requests that failed."""
    rows = [
        [
            f"{row['streams']}", row["rate"], f"{row['tokens']:.0f}", _spread(row["first"], 1000),
            _spread(row["gap"], 1000), _spread(row["total"], 1),
        ]
        for row in report["rows"]
    ]  # fmt: skip
    faults = [
        f"{count} of {row['requests']} failed with {row['streams']} streams: {fault}"
        for row in report["rows"]
        for fault, count in row["faults"].items()
    ]
    prompt = max((row["prompt"] for row in report["rows"]), default=0.0)
    notes = [
        "p50 / p90 / p99; tokens/s of all streams together, while prompts are read too",
        f"prompts of {prompt:.0f} tokens" if prompt else "the server does not tell tokens: texts are counted instead",
        *(f"the server does not take {name}" for name in report["refused"]),
        *faults,
    ]
    columns = ["streams", "tokens/s", "tokens", "first token, ms", "gap, ms", "answer, s"]
    title = f"{report['model']} at {report['url']}"
    return table(title, columns, rows, note="\n".join(notes))


def _spread(found: dict[str, float], scale: float) -> str:
    """Two digits at least: 0.67 / 8.1 / 1,250."""
    values = [scale * seconds for seconds in found.values()]
    return " / ".join(f"{value:.2g}" if value < 10 else f"{value:,.0f}" for value in values)


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share:.0%}"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"


def _check(options: BenchDecodeOptions) -> None:
    """Raise InputError where there is nothing to measure."""
    if bool(options.model) == bool(options.preset):
        found = "both --model and --preset" if options.model else "neither --model nor --preset"
        raise InputError(f"found {found}, wanted one of them: a folder, or a named shape with random weights")
    _check_numbers(options, LEAST)


def _check_numbers(options: BenchDecodeOptions | BenchServeOptions, least: dict[str, int]) -> None:
    for name, number in least.items():
        if getattr(options, name) < number:
            raise InputError(f"{name}={getattr(options, name)}, wanted at least {number}")
    if min(options.streams, default=0) < 1:
        raise InputError(f"streams={options.streams}, wanted numbers of 1 or more; say --streams 1 16")


def _model(options: BenchDecodeOptions) -> Any:
    """The model of a folder, or one of a named shape. Raises InputError where it does not fit into memory."""
    import torch

    from ..adapt.folders import load_model
    from ..train.machine import DTYPES, pick_device

    device = pick_device(options.device)
    automatic = torch.bfloat16 if device.type == "cuda" else torch.float32
    dtype = (DTYPES | {"fp16": torch.float16}).get(options.dtype, automatic)
    if options.model:
        return load_model(options.model, dtype=dtype, device=device)
    return _drawn(options).to(device, dtype).eval()


def _drawn(options: BenchDecodeOptions) -> Any:
    """A named shape with random weights."""
    import torch

    from ..config.presets import PRESETS, preset
    from ..hub.memory import free_bytes
    from ..model.transformer import Transformer

    shape = PRESETS.get(options.preset, {})
    begins = {"start": 0} if shape.get("encoder_layers") else {}
    config = preset(options.preset, **begins, vocab_size=shape.get("vocab_size") or VOCABULARY)
    with torch.device("meta"):
        wanted = 4 * Transformer(config, seed=None).size()
    free = free_bytes(torch.device("cpu"))
    if free is not None and wanted > free:
        raise InputError(
            f"preset {options.preset} takes {wanted / 1e9:.1f} GB while its weights are drawn, and only "
            f"{free / 1e9:.1f} GB are free; name a smaller one"
        )
    return Transformer(config, seed=options.seed)
