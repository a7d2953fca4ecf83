"""Sentences whose grammar is known: CoNLL-U files, as Universal Dependencies has them (Nivre et al. 2020)."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from ..config import InputError
from .readers import lines_of

FIELDS = 10  # of a line: number, form, lemma, two kinds of word class, features, head, relation, and two more


@dataclass(frozen=True)
class Sentence:
    """words: their forms; heads: the number of the word, from 0, that each depends on, -1 for the root; relations:
    how, such as nsubj or acl:relcl; classes: the universal word class of each; places: the characters [start, end) of
    the text that each is, shared by the words of a contraction that does not spell them, such as French "du"."""

    text: str
    words: tuple[str, ...]
    heads: tuple[int, ...]
    relations: tuple[str, ...]
    classes: tuple[str, ...]
    places: tuple[tuple[int, int], ...]


def read_treebank(path: Path | str) -> Iterator[Sentence]:
    """Every sentence of a CoNLL-U file (or .gz, .zst). Empty words, such as 8.1, are left out.

    Raises InputError with the line for one that is not of the format, a head that does not exist, words that are no
    tree with one root, a text that the words do not spell, and a file without a sentence.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no such file: {path}; give a CoNLL-U file of a treebank")
    try:
        yield from _sentences(path)
    except (EOFError, zlib.error, OSError) as error:
        raise InputError(f"{path}: cannot be read to its end ({error}); is the file whole?") from None


def _sentences(path: Path) -> Iterator[Sentence]:
    started: _Sentence | None = None
    found = 0
    for number, line in lines_of(path):
        line = line.rstrip("\n")
        if not line.strip():
            if started is not None:
                found += 1
                yield started.done(path)
            started = None
            continue
        started = started or _Sentence(number)
        if line.startswith("#"):
            name, _, value = line[1:].partition("=")
            if name.strip() == "text":
                started.text = value.strip()
        else:
            started.add(line.split("\t"), f"{path}, line {number}")
    if started is not None:
        found += 1
        yield started.done(path)
    if not found:
        raise InputError(f"{path}: has no sentence; wanted a CoNLL-U file with words")


@dataclass
class _Sentence:
    """One sentence in the reading; it began at line `first`."""

    first: int
    text: str | None = None
    words: list[str] = field(default_factory=list)
    heads: list[int] = field(default_factory=list)
    relations: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    spaced: list[bool] = field(default_factory=list)  # whether a blank stands behind the word
    joined: list[tuple[int, int, str, bool]] = field(default_factory=list)  # words [from, to) written as one

    def add(self, fields: list[str], where: str) -> None:
        if len(fields) != FIELDS:
            raise InputError(f"{where}: found {len(fields)} fields, wanted {FIELDS} with tabs between them")
        number, form, head, relation = fields[0], fields[1], fields[6], fields[7]
        spaced = "SpaceAfter=No" not in fields[9].split("|")
        if "." in number:  # an empty word, which nobody wrote
            return
        first, dash, last = number.partition("-")
        if not first.isdecimal() or int(first) != len(self.words) + 1 or (dash and not last.isdecimal()):
            raise InputError(f"{where}: found word {number}, wanted {len(self.words) + 1}")
        if not form:
            raise InputError(f"{where}: word {number} is empty")
        if dash:
            if int(last) <= int(first):
                raise InputError(f"{where}: found words {number}, wanted the lower number first")
            self.joined.append((int(first) - 1, int(last), form, spaced))
            return
        if not head.isdecimal():
            raise InputError(f"{where}: the head is {head!r}, wanted the number of a word, or 0 for the root")
        self.words.append(form)
        self.heads.append(int(head) - 1)
        self.relations.append(relation)
        self.classes.append(fields[3])
        self.spaced.append(spaced)

    def done(self, path: Path) -> Sentence:
        where = f"{path}, the sentence from line {self.first}"
        if not self.words:
            raise InputError(f"{where}: has no words")
        if (worst := max(self.heads)) >= len(self.words):
            raise InputError(f"{where}: depends on word {worst + 1}, and has {len(self.words)}")
        if -1 not in self.heads:
            raise InputError(f"{where}: has no root; wanted a head of 0")
        if (roots := self.heads.count(-1)) > 1:
            raise InputError(f"{where}: has {roots} roots; wanted one head of 0")
        if looping := self._looping():
            raise InputError(f"{where}: word {looping} depends on itself, at once or by others; wanted a tree")
        if any(one[1] > other[0] for one, other in pairwise(self.joined)):
            raise InputError(f"{where}: contractions overlap")
        if self.joined and self.joined[-1][1] > len(self.words):
            raise InputError(f"{where}: a contraction ends with word {self.joined[-1][1]}, of {len(self.words)}")
        text, places = self._spelt(where)
        return Sentence(
            text, tuple(self.words), tuple(self.heads), tuple(self.relations), tuple(self.classes), tuple(places)
        )

    def _looping(self) -> int:
        """The number of a word, from 1, that never leads to the root; 0 of a tree."""
        rooted = {-1}
        for word in range(len(self.heads)):
            way: list[int] = []
            while word not in rooted:
                if word in way:
                    return word + 1
                way.append(word)
                word = self.heads[word]
            rooted.update(way)
        return 0

    def _spelt(self, where: str) -> tuple[str, list[tuple[int, int]]]:
        """The text and where each word stands in it: that of the comment, or the forms with their blanks."""
        said = [form + " " * spaced for _, _, form, spaced in self._written()]
        text = "".join(said).rstrip() if self.text is None else self.text
        places: list[tuple[int, int]] = []
        at = 0
        for first, last, form, _ in self._written():
            while at < len(text) and text[at].isspace():
                at += 1
            if not text.startswith(form, at):
                raise InputError(f"{where}: the text goes on with {text[at : at + 20]!r}, and the words with {form!r}")
            places += _inside(self.words[first:last], form, at)
            at += len(form)
        if rest := text[at:].strip():
            raise InputError(f"{where}: the words end before {rest[:20]!r} of the text")
        return text, places

    def _written(self) -> Iterable[tuple[int, int, str, bool]]:
        """(first, last, form, blank behind) of what was written, contractions as one."""
        at = 0
        for joined in self.joined:
            yield from ((n, n + 1, self.words[n], self.spaced[n]) for n in range(at, joined[0]))
            yield joined
            at = joined[1]
        yield from ((n, n + 1, self.words[n], self.spaced[n]) for n in range(at, len(self.words)))


def _inside(words: list[str], form: str, at: int) -> list[tuple[int, int]]:
    """Where words stand that are written as `form`, which begins at `at`: each by itself where they spell it."""
    if "".join(words) != form:
        return [(at, at + len(form))] * len(words)
    ends = [at]
    for word in words:
        ends.append(ends[-1] + len(word))
    return list(pairwise(ends))
