"""`instar quantize` and `instar merge`."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from ..config import InputError
from ..config.flags import parse
from ..config.options import MergeOptions, QuantizeOptions
from .screen import Screen, table
from .speak import load_here


def quantize(arguments: list[str]) -> None:
    """Round the weights of a model."""
    options = parse(QuantizeOptions, arguments, program="instar quantize")
    out = Path(options.out)
    if out.exists():
        raise InputError(f"--out {out} is there already; name another place, or remove it")
    if options.limit < 2:
        raise InputError(f"limit={options.limit}, wanted at least 2: one document to look at and one to measure with")
    from ..adapt import quantize as adapt
    from ..adapt.folders import whole
    from ..hub.files import Weights, write_json
    from ..hub.folders import save
    from ..model.grid import Grid
    from ..model.quantized import kernels_of

    group = adapt.GROUP.get(options.bits, 0) if options.group is None else options.group
    grid = Grid(options.bits, group, not options.asymmetric)
    screen = Screen(options)
    with whole(options.model) as place:  # of an adapter with its base
        stored = Weights(place)
        model, tokenizer = load_here(options, place)
    looked, measured, read = _reading(options, model)
    before = read(model, tokenizer, measured)
    with screen.counting("layers") as each:
        done = adapt.quantize(model, grid, lambda: read(model, tokenizer, looked), each=each)
    after = read(model, tokenizer, measured)
    save(model, tokenizer, out, dtype=stored.dtype)
    report = {
        "model": options.model, "bits": grid.bits, "group": grid.group, "symmetric": grid.symmetric,
        "layers": done.layers, "left": done.left, "weights": done.weights, "documents": len(measured),
        "perplexity_before": before, "perplexity_after": after,
        "change": None if before is None or after is None else after / before - 1,
        "bytes_before": stored.bytes, "bytes_after": (out / "model.safetensors").stat().st_size,
        "kernels": kernels_of(model), "notes": _notes(model, grid, done),
    }  # fmt: skip
    write_json(out / "report.json", report)
    _show(screen, options.out, report)
    screen.finish(report)


def merge(arguments: list[str]) -> None:
    """Make a model of an adapter and its base."""
    options = parse(MergeOptions, arguments, program="instar merge")
    out = Path(options.out)
    if out.exists():
        raise InputError(f"--out {out} is there already; name another place, or remove it")
    from ..adapt.folders import load
    from ..hub.folders import save
    from ..hub.places import holds_adapter, resolve
    from ..train.machine import DTYPES

    if not holds_adapter(folder := resolve(options.model)):
        raise InputError(
            f"{folder} holds no adapter, or a whole model beside it, so there is nothing to merge; name a folder that "
            "holds an adapter alone"
        )
    screen = Screen(options)
    model, tokenizer = load(folder, base=options.base or None)
    save(model, tokenizer, out, dtype=DTYPES[options.dtype])
    report = {"model": options.model, "path": str(out), "parameters": model.size(), "dtype": options.dtype}
    screen.show(table(options.out, ["", "value"], [[name, value] for name, value in report.items()]))
    screen.finish(report)


def _reading(options: QuantizeOptions, model: Any) -> tuple[Any, Any, Any]:
    """Documents that show layers what to be exact about, others that measure, and how the model reads them."""
    from ..data.sources import read
    from ..eval.reading import reading_of, usual_data

    documents = list(islice(read(options.data or usual_data(model)), options.limit))
    if len(documents) < 2:
        raise InputError(
            f"{', '.join(options.data)} has {len(documents)} documents, wanted at least 2: one to measure with"
        )
    return documents[::2], documents[1::2], reading_of(model)


def _notes(model: Any, grid: Any, done: Any) -> list[str]:
    """What somebody who takes the folder elsewhere should know."""
    from ..hub.families import OWN, layout_of

    notes = []
    if done.left:
        notes.append(f"{len(done.left)} layers stay as they are, whose rows do not divide into groups of {grid.group}")
    if layout_of(model.config, packed=True) is OWN:
        notes.append(
            "no other program reads this folder: no family of transformers has this shape with rows of weights"
        )
    elif not grid.symmetric:
        notes.append("transformers 5 does not read zero points of this layout; compressed-tensors and vLLM do")
    return notes


def _show(screen: Screen, out: str, report: dict[str, Any]) -> None:
    pairs = [[name, report[f"{name}_before"], report[f"{name}_after"]] for name in ("perplexity", "bytes")]
    change = (
        "" if report["change"] is None else f"perplexity {report['change']:+.2%} on {report['documents']} documents"
    )
    screen.show(table(out, ["", "before", f"{report['bits']} bits"], pairs, note=change))
    rows = [
        [f"{one['layers']} of {one['out']} x {one['in']}", *(one["kernels"] or ["", "", ""])]
        for one in report["kernels"]
    ]  # fmt: skip
    screen.show(table("products here", ["layers", "one row", "few", "many"], rows))
    for note in report["notes"]:
        screen.say(f"note: {note}")
