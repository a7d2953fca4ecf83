"""`instar tokenizer train | show | compare`."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from pathlib import Path

from ..config import InputError
from ..config.flags import parse
from ..config.options import TokenizerCompareOptions, TokenizerShowOptions, TokenizerTrainOptions
from .screen import Screen, table

FILES = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}


def train(arguments: list[str]) -> None:
    """Train a byte-level BPE tokenizer."""
    options = parse(TokenizerTrainOptions, arguments, program="instar tokenizer train")
    _claim(Path(options.out))
    from ..grow.tokens import train_tokenizer

    screen = Screen(options)
    report = train_tokenizer(options)
    screen.show(table(options.out, ["", "value"], [[name.replace("_", " "), value] for name, value in report.items()]))
    screen.finish(report)


def show(arguments: list[str]) -> None:
    """Show how a text becomes tokens."""
    options = parse(TokenizerShowOptions, arguments, program="instar tokenizer show")
    from rich.text import Text

    from ..adapt.folders import load_tokenizer
    from ..text.show import show as take_apart

    screen = Screen(options)
    shown = take_apart(load_tokenizer(options.model), options.text)
    for line in shown.lines(merges=options.merges):
        screen.show(Text(line))
    screen.finish(asdict(shown))


def compare(arguments: list[str]) -> None:
    """Vocabulary sizes against bytes per token, per script."""
    options = parse(TokenizerCompareOptions, arguments, program="instar tokenizer compare")
    from ..adapt.folders import load_tokenizer
    from ..data.corpus import read
    from ..text.compare import compare as measure

    screen = Screen(options)
    others = {name: load_tokenizer(name) for name in options.models}
    texts = (document.text for document in read(options.data))
    rows = measure(texts, options.sizes, held_out=options.held_out, others=others)
    columns = ["tokenizer", "rows", "used", "held-out texts", "bytes", "tokens", "bytes per token"]
    for script, group in groupby(sorted(rows, key=lambda row: row.script), key=lambda row: row.script):
        cells = [[r.name, r.vocab_size, r.used, r.texts, r.bytes, r.tokens, r.bytes_per_token] for r in group]
        screen.show(table(f"{script} script", columns, cells))
    screen.finish({"rows": [asdict(row) | {"bytes_per_token": row.bytes_per_token} for row in rows]})


def _claim(folder: Path) -> None:
    """Refuse, before any work, a folder that holds anything but a tokenizer; a model's tokenizer must not change."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {folder} is a file; name a folder")
    if found := ({entry.name for entry in folder.iterdir()} - FILES if folder.is_dir() else set()):
        raise InputError(f"--out {folder} holds {min(found)}, which is no part of a tokenizer; name another folder")
