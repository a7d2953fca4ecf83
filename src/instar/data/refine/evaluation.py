"""Rule "evaluation": text that models are examined with is looked for in every document, and goes.

Every run of 13 words of an evaluation text is looked for, as for GPT-3 (Brown et al. 2020, https://arxiv.org/abs/2005.14165,
appendix C), and a shorter text as a whole; of Chinese and Japanese runs of characters, more of them, because two say
about what one word says. Hashes of 64 bits stand for runs: among 10 million runs of evaluation text one in 10^12 runs
of a document is taken for another.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import regex

from ...config import InputError
from ..disk import write_whole
from ..sources import read
from .arrays import mapped
from .characters import BLOCK, blocks
from .rule import Verdict
from .windows import ENDING, ESCAPED, JOINTS, Sums, Words, words_of

if TYPE_CHECKING:
    from ...config.data import DataRecipe, EvaluationTextOptions, SourceOptions

FOLDER = "evaluation"
ARRAYS = {"keys": "<u8", "origins": "<u8", "anchors": "u1"}
# keys of a row that hold no text of the examination, but say where it is from and what it is about
BESIDE = frozenset(
    "id uid qid task_id source url link subject category topic tags split date language lang license licence paradigm "
    "term field entry_point label labels answerKey author file path".split()
)
# a question by itself, in a template
QUESTION = regex.compile(r"^[ \t]*(?:question|q|problem|问题|问|题目|题)[ \t]*[:：][ \t]*(\S.*)$", regex.M | regex.I)
APART = "\n|\n"  # between two texts: no word and no hyphen goes on after it
BATCH = 1 << 18  # characters of texts whose words are found at a time
MARGIN = 200  # characters that go on each side of what is found, and of the shortest piece that stays
PIECES = 10  # a document in more of them is dropped
TURNS = (np.uint64(0), np.uint64(32))
BITS = np.uint8(1) << np.arange(8, dtype=np.uint8)


class Found(NamedTuple):
    """A run in a document: where it starts and stops in the text, and file and row of the evaluation text."""

    start: int
    stop: int
    file: int
    row: int


@dataclass(frozen=True)
class Index:
    """The runs that are looked for. keys (K,) uint64: their hashes, sorted; origins (K,): file << 32 | row of each;
    anchors: a bit for each hash of the first `anchor` words of a run; sizes: how many words runs have."""

    keys: np.ndarray
    origins: np.ndarray
    anchors: np.ndarray
    anchor: int
    sizes: tuple[int, ...]
    files: tuple[str, ...]
    texts: int = 0
    short: int = 0  # texts that are not looked for: too short, or only numbers

    def save(self, folder: Path) -> None:
        """The arrays first: where the facts are, all of it is."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, dtype in ARRAYS.items():
            getattr(self, name).astype(dtype, copy=False).tofile(folder / name)
        facts = {name: getattr(self, name) for name in ("anchor", "sizes", "files", "texts", "short")}
        write_whole(folder / "index.json", json.dumps(facts, ensure_ascii=False, indent=1) + "\n")

    @staticmethod
    def load(folder: Path) -> Index:
        """The arrays stay in the files, which all workers of a machine share."""
        facts = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        keys, origins, anchors = (mapped(folder / name, dtype) for name, dtype in ARRAYS.items())
        sizes, files = tuple(facts.pop("sizes")), tuple(facts.pop("files"))
        return Index(keys, origins, anchors, sizes=sizes, files=files, **facts)

    def find(self, text: str) -> list[Found]:
        """All runs in a text, by their start; of those that start together the longest first."""
        found = self._look(text, other=False)
        if ENDING.search(text) or ("\\" in text and ESCAPED.search(text)):
            found |= self._look(text, other=True)
        return sorted(found, key=lambda one: (one.start, -one.stop, one.file, one.row))

    def _look(self, text: str, *, other: bool) -> set[Found]:
        """All runs where hyphens join words, or in the other reading of hyphens and of \\n; of a long text in parts."""
        if len(text) <= BLOCK:
            return set(self._find(words_of(text, apart=other, escaped=other)))
        found, words = set[Found](), words_of("")
        for start, stop in blocks(text):
            words = words_of(text[start:stop], apart=other, escaped=other).after(words, start, self.sizes[-1])
            found.update(self._find(words))
        return found

    def _find(self, words: Words) -> Iterator[Found]:
        sums = Sums(words.hashes)
        starts = _marked(self.anchors, sums.windows(self.anchor))
        for size in self.sizes if len(starts) else ():
            inside = starts[starts + size <= len(words.hashes)]
            hashes = sums.windows(size, inside)
            places = np.minimum(np.searchsorted(self.keys, hashes), len(self.keys) - 1)
            for hit in np.flatnonzero(self.keys[places] == hashes):
                first, origin = int(inside[hit]), int(self.origins[places[hit]])
                span = int(words.starts[first]), int(words.stops[first + size - 1])
                yield Found(*span, origin >> 32, origin & 0xFFFFFFFF)


@dataclass
class Collected:
    """Runs of many texts on their way into an index."""

    options: EvaluationTextOptions
    keys: list[np.ndarray] = field(default_factory=list)
    origins: list[np.ndarray] = field(default_factory=list)
    anchors: list[np.ndarray] = field(default_factory=list)
    sizes: set[int] = field(default_factory=set)
    texts: int = 0
    short: int = 0

    @property
    def anchor(self) -> int:
        return min(self.options.shortest, self.options.shortest_han)

    def add(self, texts: list[str], origins: list[int]) -> None:
        """Texts of about BATCH characters, and where each is from."""
        told = self._add(texts, np.array(origins, np.uint64), apart=False)
        self.texts += len(texts)
        self.short += int((~told).sum())
        if joined := [number for number, text in enumerate(texts) if JOINTS.search(text)]:
            self._add([texts[number] for number in joined], np.array(origins, np.uint64)[joined], apart=True)

    def _add(self, texts: list[str], origins: np.ndarray, *, apart: bool) -> np.ndarray:
        """Their runs in one reading of apostrophes and hyphens; (T,) of which texts there were any."""
        joined, options = APART.join(texts), self.options
        words = words_of(joined, apart=apart)
        ends = np.cumsum([len(text) + len(APART) for text in texts])
        text_of = np.searchsorted(ends, words.starts, side="right")  # (W,) which text a word is of
        counts = np.bincount(text_of, minlength=len(texts))
        han = 2 * np.bincount(text_of, words.alone, minlength=len(texts)) > counts
        sizes = np.minimum(counts, np.where(han, options.ngram_han, options.ngram))
        sizes[counts < np.where(han, options.shortest_han, options.shortest)] = 0
        numbers = np.cumsum([0, *(joined[start:stop].isnumeric() for start, stop in zip(words.starts, words.stops))])
        sums, firsts, told = Sums(words.hashes), np.cumsum(counts) - counts, np.zeros(len(texts), bool)
        for size in np.unique(sizes[sizes > 0]).tolist():
            runs = np.where(sizes == size, counts - size + 1, 0)
            text = np.repeat(np.arange(len(texts)), runs)
            starts = np.arange(len(text)) + np.repeat(firsts - (np.cumsum(runs) - runs), runs)
            # a row of numbers is no text
            kept = 2 * (numbers[starts + size] - numbers[starts]) <= size
            text, starts = text[kept], starts[kept]
            self.keys.append(sums.windows(size, starts))
            self.anchors.append(sums.windows(self.anchor, starts))
            self.origins.append(origins[text])
            self.sizes.add(size)
            told[text] = True
        return told

    def index(self, files: tuple[str, ...]) -> Index:
        """All of it; a run that stands in several texts is of the first."""
        keys, origins = (np.concatenate([np.zeros(0, np.uint64), *part]) for part in (self.keys, self.origins))
        order = np.lexsort((origins, keys))
        keys, origins = keys[order], origins[order]
        new = np.append(True, keys[1:] != keys[:-1])[: len(keys)]
        anchors = _marks(np.concatenate([np.zeros(0, np.uint64), *self.anchors]))
        sizes = tuple(sorted(self.sizes))
        return Index(keys[new], origins[new], anchors, self.anchor, sizes, files, self.texts, self.short)


@dataclass
class EvaluationText:
    """The rule. folder: where the index lies, which is opened when the first document comes."""

    folder: Path
    action: str = "cut"
    name: str = "evaluation"

    @cached_property
    def index(self) -> Index:
        return Index.load(self.folder)

    def __call__(self, text: str, meta: dict[str, Any]) -> Verdict:
        found = self.index.find(text)
        if not found:
            return Verdict(text)
        places = merged((one.start, one.stop) for one in found)
        said = self._said(text, found[0], len(places))
        if self.action == "drop":
            return Verdict(None, "contaminated", said)
        pieces = cut(text, places)
        if len(pieces) > PIECES:
            return Verdict(None, "contaminated", f"{said}; in {len(pieces)} pieces, at most {PIECES} wanted")
        left = "\n\n".join(piece for piece in pieces if len(piece) >= MARGIN)
        if not left:
            return Verdict(None, "contaminated", f"{said}; no piece of {MARGIN} characters is left")
        return Verdict(left, "cut", said, len(places))

    def _said(self, text: str, first: Found, places: int) -> str:
        words = " ".join(text[first.start : first.stop].split())
        words = words if len(words) <= 120 else words[:119] + "…"
        more = f", and {places - 1} more places" if places > 1 else ""
        return f'{self.index.files[first.file]}, row {first.row}: "{words}"{more}'


def build_index(options: EvaluationTextOptions, work: Path) -> Index:
    """Read all evaluation text and write what the rule looks up to work/evaluation. Raises InputError for what cannot
    be read, for fields that no row has, and where every text is too short."""
    collected, numbers = Collected(options), dict[str, int]()
    texts: list[str] = []
    origins: list[int] = []
    size, missing = 0, set(options.fields)
    for document in read(options.data):
        file = numbers.setdefault(document.source, len(numbers))
        missing -= set(document.record)
        for text in texts_of(document.record, options.fields):
            texts.append(text)
            origins.append(file << 32 | document.number)
            size += len(text)
        if size > BATCH:
            collected.add(texts, origins)
            texts, origins, size = [], [], 0
    if texts:
        collected.add(texts, origins)
    if missing:
        raise InputError(f"evaluation.fields: no row has {', '.join(sorted(missing))}; name keys of the rows")
    if not collected.keys:
        raise InputError(
            f"evaluation.data: of {collected.texts} texts none has {options.shortest} words or {options.shortest_han} "
            "characters of Han, and nothing would be looked for; name other files, or lower evaluation.shortest"
        )
    index = collected.index(tuple(numbers))
    index.save(work / FOLDER)
    return index


def rule(recipe: DataRecipe, source: SourceOptions, work: Path) -> EvaluationText:
    """The rule on the index that `build_index` wrote."""
    return EvaluationText(work / FOLDER, recipe.evaluation.action)


def texts_of(record: Mapping[str, Any], fields: Iterable[str] = ()) -> Iterator[str]:
    """The texts of a row that would give an examination away: those of the fields, or all but names and addresses; of a
    question in a template also the question alone."""
    chosen = [record[name] for name in fields if name in record] if fields else [record]
    for text in (text for value in chosen for text in _strings(value)):
        yield text
        yield from (match[1] for match in QUESTION.finditer(text))


def _strings(value: Any) -> Iterator[str]:
    """All strings in plain data, whatever its shape."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, Mapping):
            waiting += [inner for name, inner in reversed(list(one.items())) if name not in BESIDE]
        elif isinstance(one, (list, tuple)):
            waiting += reversed(one)


def merged(spans: Iterable[tuple[int, int]], margin: int = 0) -> list[tuple[int, int]]:
    """Spans, sorted by their start and widened on both sides, as few as cover the same."""
    found: list[tuple[int, int]] = []
    for start, stop in spans:
        start, stop = max(0, start - margin), stop + margin
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], stop)
        else:
            found.append((start, stop))
    return found


def cut(text: str, places: Iterable[tuple[int, int]]) -> list[str]:
    """What is left of a text without these places and MARGIN characters on both sides, without broken words."""
    pieces, start = [], 0
    for first, last in [*merged(places, MARGIN), (len(text), len(text))]:
        piece = text[start:first]
        if start:
            piece = regex.sub(r"^[^\W\p{Han}]{1,40}\s", "", piece)
        if first < len(text):
            piece = regex.sub(r"\s[^\W\p{Han}]{1,40}\Z", "", piece)
        if piece.strip():
            pieces.append(piece.strip())
        start = last
    return pieces


def _marks(hashes: np.ndarray) -> np.ndarray:
    """(B,) uint8: bits, about 32 for each hash, of which those are set that the hashes point to, two
    each (Bloom 1970)."""
    bits = max(16, (32 * len(hashes) - 1).bit_length())
    table = np.zeros(1 << (bits - 3), np.uint8)
    for turn in TURNS:
        places = (hashes << turn) >> np.uint64(64 - bits)
        np.bitwise_or.at(table, places >> np.uint64(3), np.uint8(1) << (places & np.uint64(7)).astype(np.uint8))
    return table


def _marked(table: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """(M,) places of the hashes (N,) for which all bits are set; those that set them are always among them."""
    shift, kept = np.uint64(64 - (len(table) * 8 - 1).bit_length()), np.arange(len(hashes))
    for turn in TURNS:
        places = (hashes[kept] << turn) >> shift
        kept = kept[table[places >> np.uint64(3)] & BITS[places & np.uint64(7)] > 0]
    return kept
