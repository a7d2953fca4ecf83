"""`instar inspect`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..config import InputError
from ..config.flags import parse
from ..config.options import InspectOptions
from .screen import Screen
from .speak import load_here, start_of


def inspect(arguments: list[str]) -> int:
    """See inside a model -> with --check 1 where a check is red."""
    options = parse(InspectOptions, arguments, program="instar inspect", start=start_of(InspectOptions))
    _check_words(options)
    from ..probe import inspection as seeing

    format, output = _place(options)
    views = seeing.check_views(options.view, options)
    seeing.check_numbers(options)
    _check_folders(options)
    screen = Screen(options)
    one, other = _load(options)
    names, count = (_name(options.model), _name(options.vs)), len(seeing.VIEWS if seeing.ALL in views else views)
    with screen.counting("views", count * (1 if other is None else 2)) as done:
        found = seeing.look_at(one, options, views, other, names, done)
    files = [] if output is None else found.save(output, format, screen.say)
    for view, why in found.left_out.items():
        screen.say(f"{view} is left out: {why.of(options.language)}")
    for file in files:
        screen.say(f"written: {file}")
    if options.check:
        screen.write(_chips(found))
    elif output is None:
        _show(screen, options, found, format)
    screen.finish(_report(options, found, files))
    return int(options.check and not found.green)


def _check_words(options: InspectOptions) -> None:
    """Raises InputError for words that do not go together, before anything is read."""
    if bool(options.text) == bool(options.ids):
        found = "both TEXT and --ids" if options.text else "neither TEXT nor --ids"
        took = f"; --view took {' '.join(options.view)}, so that a text that is such a word goes before it"
        raise InputError(
            f"found {found}; wanted a text, or of a model without a tokenizer ids"
            + (took if not options.text and len(options.view) > 1 else "; see --help")
        )
    if options.ids and (options.chat or options.target):
        raise InputError("found --ids with --chat or --target, which are texts; wanted --target-ids, or TEXT")
    if options.target_ids and not options.ids:
        raise InputError("found --target-ids and no --ids; wanted both, or --target")
    if options.other_ids and not options.ids:
        raise InputError("found --other-ids and no --ids; wanted both, or --other")
    if options.other and options.ids:
        raise InputError("found --other with --ids; wanted --other-ids")
    if options.check and not options.output and options.format != "text":
        raise InputError(f"--check shows the checks, and --format {options.format} has no --output; give one")


def _place(options: InspectOptions) -> tuple[str, Path | None]:
    """How it is written, and where: None to the screen. Raises InputError where it cannot be."""
    from ..probe.inspection import BINARY, SINGLE, format_for

    if not options.output:
        if options.format in (*BINARY, *SINGLE):
            raise InputError(f"--format {options.format} is not for a screen; name a file with --output")
        return options.format, None
    output = Path(options.output)
    if output.is_dir():
        raise InputError(f"--output {output} is a folder; name a file in it")
    if not output.parent.is_dir():
        raise InputError(f"--output {output}: there is no folder {output.parent}; make it, or name another")
    if not os.access(output.parent, os.W_OK):
        raise InputError(f"--output {options.output}: nothing can be written to the folder {output.parent}")
    return format_for(output, "" if options.format == "text" else options.format), output


def _check_folders(options: InspectOptions) -> None:
    """Raises InputError for what the shapes of the models tell already, before their weights are read."""
    from ..adapt.folders import base_folder, peft
    from ..hub.configs import read_config
    from ..hub.places import holds_adapter, resolve
    from ..probe.inspection import BASE, check_shape

    for name in (options.model, options.vs):
        if not name or name == BASE:
            continue
        folder = resolve(name)
        if holds_adapter(folder):
            folder = base_folder(peft.read(folder))
        elif options.vs == BASE:
            raise InputError(
                f"--vs base, and {folder} holds no adapter, or a whole model beside it; name another folder to compare "
                "with"
            )
        check_shape(read_config(folder)[1], options)


def _load(options: InspectOptions) -> tuple[Any, Any]:
    """The models with their tokenizers; for --vs base the same one twice, with its adapter apart."""
    from ..adapt.folders import load_adapted, load_model
    from ..probe.inspection import BASE
    from ..train.machine import pick_device, weights_dtype

    device = pick_device(options.device)
    how: dict[str, Any] = {"dtype": weights_dtype(options.dtype, device), "device": device}
    if options.vs == BASE:
        model, tokenizer = load_adapted(options.model, **how)
        one = (model, None if options.ids else tokenizer)
        return one, one
    loaded: list[Any] = [
        (load_model(name, **how), None) if options.ids else load_here(options, name)
        for name in (options.model, options.vs) if name
    ]  # fmt: skip
    return loaded[0], loaded[1] if len(loaded) > 1 else None


def _name(folder: str) -> str:
    """The last two parts of a path. Example: runs/demo/sft -> demo/sft"""
    return "/".join(part for part in Path(folder).parts[-2:] if part.strip("/.\\"))


def _show(screen: Screen, options: InspectOptions, found: Any, format: str) -> None:
    """On stdout, in colours where that is a terminal."""
    if format != "text":
        content = found.written(format)
        screen.write(content if content.endswith("\n") else content + "\n")
    elif not options.json:
        from ..probe.draw import text

        screen.results.print(text(found.panels, options.language), soft_wrap=True, end="")


def _chips(found: Any) -> str:
    """A line for each check, red ones first: its sign, where it was made, what it found, and how much it may be."""
    from ..probe.draw.labels import chip

    rows = [
        ("✓" if check.green else "✗", view, chip(check.gap, check.limit), check.about.of(found.language))
        for view, check in sorted(found.checks, key=lambda one: one[1].green)
    ]
    wide = [max((len(row[column]) for row in rows), default=0) for column in (1, 2)]
    lines = [f"{sign} {view:<{wide[0]}}  {gap:<{wide[1]}}  {about}" for sign, view, gap, about in rows]
    red = sum(not check.green for _, check in found.checks)
    return "\n".join([*lines, f"{len(rows) - red} of {len(rows)} checks are green"]) + "\n"


def _report(options: InspectOptions, found: Any, files: list[Path]) -> dict[str, Any]:
    if not options.json:
        return {}
    shown = found.record()
    said = {"model": options.model, "vs": options.vs, "text": options.text, "ids": list(options.ids)}
    if files:
        shown["panels"] = [{name: panel[name] for name in ("view", "data", "checks")} for panel in shown["panels"]]
    return {**shown, **said, "files": [str(file) for file in files]}
