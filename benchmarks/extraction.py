"""How much of a page's main text comes out, and how little else: ours beside trafilatura's own defaults.

    python benchmarks/extraction.py [--data data] [--sets aeb zh] [--repeats 3] [--json FILE]

Pages whose main text people marked. `aeb` and `readability` have the whole text: F1 of tokens, the mean over pages
(a Chinese or Japanese character is a token), and for `aeb` that of runs of four tokens from mean precision and mean
recall, which is the figure that its authors publish. `trafilatura` and `zh` have phrases that must be in the text and
others that must not: F1 of phrases, white space left out. Every language of every set has a line. Both are given the
bytes of a page. Ours is asked as the readers ask it, with its second process; milliseconds are the fastest of some
repeats, the mean over pages. A page crashed if anything but a text or a refusal with a reason came of it.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from instar.cli.screen import table
from instar.config.data import LimitOptions
from instar.data.raw.pages import text_of_page
from instar.data.raw.piece import Refused
from instar.data.refine.languages import identify

SETS = ("aeb", "trafilatura", "zh", "readability")
TOKEN = re.compile(r"[぀-ヿ㐀-鿿]|[^\W぀-ヿ㐀-鿿]+")
WORD = re.compile(r"\w+")  # of the published figure
RUN = 4
FATAL = ("crash",)  # reasons of a refusal that count as a crash all the same


@dataclass
class Page:
    """A page and what people marked: its whole text, or phrases that must and must not be in it."""

    set: str
    name: str
    data: bytes
    text: str = ""
    wanted: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()
    language: str = ""


@dataclass
class Column:
    """What one extractor made of some pages."""

    scores: list[float] = field(default_factory=list)
    runs: list[tuple[float, float]] = field(default_factory=list)  # precision, recall
    phrases: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    crashed: int = 0
    nothing: int = 0  # pages without a text, whatever the reason

    def f1(self) -> float:
        if self.scores:
            return statistics.fmean(self.scores)
        right, missing, wrong = (self.phrases[name] for name in ("right", "missing", "wrong"))
        return 2 * right / max(1, 2 * right + missing + wrong)

    def runs_f1(self) -> float | str:
        if not self.runs:
            return ""
        precision, recall = (statistics.fmean(values) for values in zip(*self.runs, strict=True))
        return 2 * precision * recall / max(1e-9, precision + recall)


def pages(data: Path, sets: list[str]) -> Iterator[Page]:
    for name in sets:
        if name == "readability":
            for folder in sorted((data / "web" / name).iterdir()):
                expected = folder / "expected.html"
                yield Page(name, folder.name, (folder / "source.html").read_bytes(), plain(expected.read_bytes()))
            continue
        for line in (data / "web" / name / "ground_truth.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            content = (data / "web" / name / row["file"]).read_bytes()
            phrases = tuple(tuple(map(squeezed, row.get(key, ()))) for key in ("with", "without"))
            yield Page(name, row["file"], content, row.get("article_body", ""), *phrases)


def plain(html: bytes) -> str:
    """All the text of a cleaned page, blocks apart."""
    from lxml.html import HTMLParser, fromstring

    tree = fromstring(b"<div>" + html + b"</div>", parser=HTMLParser(encoding="utf-8"))
    for element in tree.iter("script", "style"):
        element.clear(keep_tail=True)
    return " ".join(tree.itertext())


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def ours(data: bytes) -> str:
    return text_of_page(data, LimitOptions())[0]


def theirs(data: bytes) -> str:
    from trafilatura import extract

    return extract(data) or ""


EXTRACTORS: dict[str, Callable[[bytes], str]] = {"ours": ours, "trafilatura": theirs}


def extracted(page: Page, extract: Callable[[bytes], str], column: Column) -> str:
    """The text that comes out; its time goes into the column, and a crash."""
    started = time.perf_counter()
    text = ""
    try:
        text = extract(page.data)
    except Refused as refused:
        column.crashed += refused.reason in FATAL
    except Exception as error:  # whatever it is, it is what this counts
        print(f"{page.set}/{page.name}: {type(error).__name__}: {error}")
        column.crashed += 1
    column.seconds.append(time.perf_counter() - started)
    return text


def overlap(wanted: Counter[Any], found: Counter[Any]) -> tuple[float, float]:
    """Precision and recall of two bags."""
    both = (wanted & found).total()
    return both / max(1, found.total()), both / max(1, wanted.total())


def runs(text: str) -> Counter[tuple[str, ...]]:
    words = WORD.findall(text)
    return Counter(tuple(words[at : at + RUN]) for at in range(max(1, len(words) - RUN + 1))) if words else Counter()


def judge(page: Page, text: str, column: Column) -> None:
    """Compare a text with what people marked."""
    column.nothing += not text.strip()
    if page.text:
        precision, recall = overlap(Counter(TOKEN.findall(page.text)), Counter(TOKEN.findall(text)))
        column.scores.append(2 * precision * recall / max(1e-9, precision + recall))
        if page.set == "aeb":
            column.runs.append(overlap(runs(page.text), runs(text)))
        return
    bare = squeezed(text)
    for phrase in page.wanted:
        column.phrases["right" if phrase in bare else "missing"] += 1
    column.phrases["wrong"] += sum(phrase in bare for phrase in page.unwanted)
    column.phrases["unwanted"] += len(page.unwanted)


def measure(data: Path, sets: list[str], repeats: int) -> dict[tuple[str, str], dict[str, Column]]:
    """(set, language or "all") -> what each extractor made of its pages."""
    found: dict[tuple[str, str], dict[str, Column]] = defaultdict(lambda: {name: Column() for name in EXTRACTORS})
    for page in pages(data, sets):
        each = {name: Column() for name in EXTRACTORS}
        texts = dict.fromkeys(EXTRACTORS, "")
        for _ in range(repeats):
            for name, extract in EXTRACTORS.items():
                texts[name] = extracted(page, extract, each[name])
        language = identify(page.text or texts["trafilatura"])[0]
        for group in ("all", language):
            for name, column in found[page.set, group].items():
                column.seconds.append(min(each[name].seconds))
                column.crashed += each[name].crashed > 0
                judge(page, texts[name], column)
    return found


def line(group: tuple[str, str], columns: dict[str, Column]) -> list[Any]:
    """A row of the table, and of the JSON under the names of COLUMNS."""
    mine, other = columns["ours"], columns["trafilatura"]
    phrases = mine.phrases
    marked = f"{phrases['right']}/{phrases['right'] + phrases['missing']}, {phrases['wrong']}/{phrases['unwanted']}"
    theirs = f"{other.phrases['right']}, {other.phrases['wrong']}"
    return [
        " ".join(group), len(mine.seconds), mine.f1(), other.f1(), mine.runs_f1(), other.runs_f1(),
        *((marked, theirs) if phrases else ("", "")), mine.nothing, mine.crashed,
        *(1000 * statistics.fmean(column.seconds) for column in (mine, other)),
    ]  # fmt: skip


COLUMNS = (
    "set, language", "pages", "F1", "trafilatura's", "F1 of runs", "trafilatura's runs", "phrases had, wrong",
    "trafilatura's phrases", "no text", "crashed", "ms a page", "trafilatura's ms",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    logging.disable(logging.ERROR)  # trafilatura tells of every page without a text
    for extract in EXTRACTORS.values():  # what is imported once is no page's time
        extract(b"<html><body><p>A page with a sentence in it.</p></body></html>")
    found = measure(options.data, options.sets, options.repeats)
    order = sorted(found, key=lambda group: (SETS.index(group[0]), group[1] != "all", group[1]))
    rows = [line(group, found[group]) for group in order]
    Console(width=170).print(table("main text of pages", COLUMNS, rows))
    lower = [" ".join(group) for group in order if found[group]["ours"].f1() < found[group]["trafilatura"].f1()]
    print(f"lower than trafilatura's defaults: {', '.join(lower) or 'nowhere'}")
    if options.json:
        options.json.write_text(
            json.dumps([dict(zip(COLUMNS, row, strict=True)) for row in rows], indent=1), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
