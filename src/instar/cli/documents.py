"""`instar data prepare | preview`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from ..config import InputError, load_yaml, to_dict
from ..config.data import DataRecipe, read_data_recipe
from ..config.flags import merge, parse
from ..config.options import PrepareOptions, PreviewOptions
from .screen import Screen, table

# How a token that counts is shown, by whose it is.
SHADES = {"text": "black on green3", "chosen": "black on green3", "rejected": "black on indian_red1"}


def prepare(arguments: list[str]) -> None:
    """Turn raw files into refined documents and token shards."""
    options = parse(PrepareOptions, arguments, program="instar data prepare")
    from ..data.refine import report, run

    recipe, screen = _recipe(options), Screen(options)
    tokenizer = None
    if options.tokenizer:
        from ..adapt.folders import load_tokenizer

        tokenizer = load_tokenizer(options.tokenizer)
    with screen.measuring() as progress:
        told = run.prepare(
            recipe, tokenizer, options.out, screen.say, progress, sample=options.sample, keep_work=options.keep_work
        )
    folder = Path(options.out) / (run.SAMPLE if options.sample else "")
    columns = ["source", "documents", "kept", "MB", "kept", "tokens", "went most for"]
    rows = list(report.rows(told))
    screen.show(table(f"{told['name']}: what was read, and what is kept", columns, rows, sums=len(rows) > 1))
    screen.show(f"why, and examples: {folder / run.PAGE}")
    screen.finish(told)


def _recipe(options: PrepareOptions) -> DataRecipe:
    """The recipe that is named, or one of plain texts, with what was said about its executor."""
    if bool(options.recipe) == bool(options.data):
        found = "both RECIPE.yaml and --data" if options.recipe else "neither RECIPE.yaml nor --data"
        raise InputError(f"found {found}, wanted one of them; see --help")
    if options.sample < 0:
        raise InputError(f"--sample {options.sample}; wanted how many documents are tried, or 0 for the whole run")
    plain = {"sources": [{"data": list(options.data)}], "duplicates": {"exact": False, "near": False}}
    changes = {name: value for name, value in to_dict(options.executor).items() if value is not None}
    said = load_yaml(options.recipe) if options.recipe else plain
    return read_data_recipe(merge(said, {"executor": changes}) if changes else said)


def preview(arguments: list[str]) -> None:
    """Print tokens coloured by what they teach, of pairs of answers by which of the two they are of."""
    options = parse(PreviewOptions, arguments, program="instar data preview")
    from rich.text import Text

    from ..adapt.folders import load_tokenizer
    from ..data.corpus import read
    from ..data.preview import preview as look
    from ..text.show import visible

    screen = Screen(options)
    left_out: list[str] = []
    documents, counts = look(
        read(options.data),
        load_tokenizer(options.model),
        records=options.records,
        context=options.context,
        teach=options.teach,
        say=left_out.append,
    )
    if not documents:
        raise InputError(f"{', '.join(options.data)}: no document to show; found {counts}")
    for note in left_out:
        screen.say(note)
    for document in documents:
        line, before = Text(), document[0].part
        for number, token in enumerate(document):
            if token.part != before:  # each answer of a pair begins a line
                line.append("\n")
                before = token.part
            shade = SHADES[token.part] if token.teaches else "dim"
            line.append(visible(token.piece), style=shade if number % 2 else f"{shade} underline")
        screen.show(line)
        screen.show("")
    tokens = [token for document in documents for token in document]
    taught = sum(token.teaches for token in tokens)
    if any(token.part == "prompt" for token in tokens):
        screen.show(f"{taught} of {len(tokens)} tokens count: chosen green, rejected red; prompts are only read")
    else:
        screen.show(f"{taught} of {len(tokens)} tokens teach (green); the others are only read")
    shown = [[asdict(token) for token in document] for document in documents]
    screen.finish({"documents": shown, "counts": counts, "left_out": left_out})
