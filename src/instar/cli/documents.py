"""`instar data prepare | preview`."""

from __future__ import annotations

from dataclasses import asdict

from ..config import InputError
from ..config.flags import parse
from ..config.options import PrepareOptions, PreviewOptions
from .screen import Screen, table


def prepare(arguments: list[str]) -> None:
    """Turn documents into token shards."""
    options = parse(PrepareOptions, arguments, program="instar data prepare")
    from ..data.corpus import prepare as write
    from ..hub.folders import load_tokenizer

    screen = Screen(options)
    report = write(options.data, load_tokenizer(options.tokenizer), options.out, options.shard_tokens)
    cells = [[name.replace("_", " "), value] for name, value in report.items() if isinstance(value, (int, str))]
    screen.show(table(options.out, ["", "value"], cells))
    screen.finish(report)


def preview(arguments: list[str]) -> None:
    """Print tokens coloured by what they teach."""
    options = parse(PreviewOptions, arguments, program="instar data preview")
    from rich.text import Text

    from ..data.corpus import read
    from ..data.preview import preview as look
    from ..hub.folders import load_tokenizer
    from ..text.show import visible

    screen = Screen(options)
    documents, counts = look(
        read(options.data),
        load_tokenizer(options.model),
        records=options.records,
        context=options.context,
        teach=options.teach,
    )
    if not documents:
        raise InputError(f"{', '.join(options.data)}: no document to show; found {counts}")
    for document in documents:
        line = Text()
        for number, token in enumerate(document):
            shade = "black on green3" if token.teaches else "dim"
            line.append(visible(token.piece), style=shade if number % 2 else f"{shade} underline")
        screen.show(line)
        screen.show("")
    taught = sum(token.teaches for document in documents for token in document)
    total = sum(map(len, documents))
    screen.show(f"{taught} of {total} tokens teach (green); the others are only read")
    screen.finish({"documents": [[asdict(token) for token in document] for document in documents], "counts": counts})
