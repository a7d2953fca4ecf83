"""`instar data prepare | preview`."""

from __future__ import annotations

from dataclasses import asdict

from ..config import InputError
from ..config.flags import parse
from ..config.options import PrepareOptions, PreviewOptions
from .screen import Screen, table

# How a token that counts is shown, by whose it is.
SHADES = {"text": "black on green3", "chosen": "black on green3", "rejected": "black on indian_red1"}


def prepare(arguments: list[str]) -> None:
    """Turn documents into token shards."""
    options = parse(PrepareOptions, arguments, program="instar data prepare")
    from ..adapt.folders import load_tokenizer
    from ..data.corpus import prepare as write

    screen = Screen(options)
    report = write(options.data, load_tokenizer(options.tokenizer), options.out, options.shard_tokens)
    cells = [[name.replace("_", " "), value] for name, value in report.items() if isinstance(value, (int, str))]
    screen.show(table(options.out, ["", "value"], cells))
    screen.finish(report)


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
