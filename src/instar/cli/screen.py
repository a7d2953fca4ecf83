"""Where a command's words go: results to stdout, everything else to stderr; with --json one object on stdout."""

from __future__ import annotations

import html
import io
import json
import math
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ..config.options import Screen as ScreenOptions


class Screen:
    """The two consoles of a command. --quiet leaves errors, and the text that a command is asked to write."""

    def __init__(self, options: ScreenOptions) -> None:
        self.json, self.quiet = options.json, options.quiet
        self.notes = Console(stderr=True, highlight=False)
        self.results = Console(highlight=False)

    def say(self, text: str) -> None:
        """One line about what is going on."""
        if not self.quiet:
            self.notes.print(text, markup=False, soft_wrap=True)

    def show(self, drawing: Any) -> None:
        """A table, or a line that the terminal may wrap but we do not, so that a path in it can be copied."""
        if not (self.json or self.quiet):
            self.results.print(drawing, markup=False, soft_wrap=isinstance(drawing, (str, Text)))

    def write(self, text: str) -> None:
        """Text of a model, as it comes."""
        if not self.json:
            self.results.file.write(text)
            self.results.file.flush()

    def finish(self, report: dict[str, Any]) -> None:
        """The same result for machines."""
        if self.json:
            sys.stdout.write(json.dumps(finite(report), ensure_ascii=False) + "\n")

    def picture(self, drawings: Sequence[Any], path: Path, title: str) -> None:
        """What a terminal of 84 columns shows of these drawings, as SVG."""
        console = Console(record=True, width=84, file=io.StringIO(), highlight=False)
        for drawing in drawings:
            console.print(drawing, markup=False)
        path.write_text(widen(console.export_svg(title=title)), encoding="utf-8")

    @contextmanager
    def counting(self, what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """A bar on stderr while somebody watches; gives what is to be called with how many more are done."""
        if self.quiet or not self.notes.is_terminal:
            yield lambda done: None
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.notes, transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.advance(task, done)

    @contextmanager
    def measuring(self) -> Iterator[Callable[[Measured], None]]:
        """A bar on stderr while somebody watches, else a line every ten seconds; gives what is to be called with how
        far the work is."""
        if self.quiet:
            yield lambda state: None
            return
        pace = Pace()
        if not self.notes.is_terminal:
            yield lambda state: pace.tell(state, self.say)
            return
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}"))
        with Progress(*columns, console=self.notes, transient=True) as bar:
            task = bar.add_task("", total=None, figures="")

            def show(state: Measured) -> None:
                title = f"{state.phase} ({state.number} of {state.phases})"
                figures = pace.figures(state)
                bar.update(task, description=title, total=state.total, completed=state.done, figures=figures)

            yield show


class Measured(Protocol):
    """How far work is: a phase of several, and what of it is done, in bytes or in another unit."""

    @property
    def phase(self) -> str: ...
    @property
    def number(self) -> int: ...
    @property
    def phases(self) -> int: ...
    @property
    def done(self) -> int: ...
    @property
    def total(self) -> int: ...
    @property
    def unit(self) -> str: ...


class Pace:
    """How fast a phase goes, and how long it will take."""

    def __init__(self) -> None:
        self._phase, self._began, self._first, self._spoken = "", 0.0, 0, time.perf_counter()

    def figures(self, state: Measured) -> str:
        """Example: 12.5 of 800.0 MB, 2.10 MB/s, 6:15 left"""
        now = time.perf_counter()
        if state.phase != self._phase:
            self._phase, self._began, self._first = state.phase, now, state.done
        scale, unit = (1e6, "MB") if state.unit == "bytes" else (1, state.unit)
        form = ",.1f" if unit == "MB" else ",.0f"
        words = [f"{state.done / scale:{form}} of {state.total / scale:{form}} {unit}"]
        done, seconds = state.done - self._first, now - self._began
        if done > 0 and seconds > 0 and state.done < state.total:
            left = round((state.total - state.done) * seconds / done)
            words += [f"{done / scale / seconds:.2f} {unit}/s", f"{timedelta(seconds=left)} left"]
        return ", ".join(words)

    def tell(self, state: Measured, say: Callable[[str], None]) -> None:
        """Say it in a line, now and then."""
        words = self.figures(state)
        if time.perf_counter() - self._spoken >= PLAIN_SECONDS:
            self._spoken = time.perf_counter()
            say(f"{state.phase}: {words}")


PLAIN_SECONDS = 10.0
_DRAWN = re.compile(r'textLength="([\d.]+)"([^>]*)>([^<]*)</text>')


def widen(svg: str) -> str:
    """rich gives every character of an SVG one cell; Chinese takes two, and would be drawn over itself."""

    def line(match: re.Match[str]) -> str:
        text = html.unescape(match[3])
        length = float(match[1]) * cell_len(text) / max(1, len(text))
        return f'textLength="{length:g}"{match[2]}>{match[3]}</text>'

    return _DRAWN.sub(line, svg)


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, note: str = "", sums: bool = False
) -> Table:
    """A table whose first column is words and whose others are figures; `sums`: the last row is the sum of all."""
    drawing = Table(
        title=title, title_justify="left", title_style="bold", caption=note or None, caption_justify="left",
        caption_style="dim", header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True,
    )  # fmt: skip
    for number, column in enumerate(columns):
        drawing.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    for number, row in enumerate(rows):
        last = sums and number == len(rows) - 1
        drawing.add_row(*[Text(figure(value)) for value in row], style="bold" if last else None)
    return drawing


def figure(value: Any) -> str:
    """A number as people read it: 0.934, 1,234, 12.3."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 100 else f"{value:,.1f}"
    return str(value)


def finite(value: Any) -> Any:
    """JSON knows no NaN and no infinity: such a figure is written as null."""
    if isinstance(value, dict):
        return {name: finite(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
