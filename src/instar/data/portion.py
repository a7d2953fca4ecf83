"""So many bytes of texts, drawn evenly from all of them: what a capped reading sees of any amount of data.

The first bytes of a large corpus are its first files, one source or one language. Here every source gives its share and
every long text some of its sections, chosen by hash, so the same data gives the same portion whatever the order of the
files. The data is read twice, to measure it and to draw; what fits into `HOLD` is read once. Memory does not grow with
the data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..config import InputError
from ..config.data import SourceOptions
from .corpus import sections
from .records import texts_of
from .refine.mixture import balance
from .sources import DOCUMENTS, PLAN, RECIPE, read

HOLD = 1 << 26  # bytes of text kept while measuring
BITS = 16  # of a hash: a portion is cut between two of so many classes

Name = tuple[str, str]  # the folder of refined documents and the source there; both empty for any other data


class Rate(NamedTuple):
    """How often each section of a source is given: times, and once more where its class is below bound."""

    times: int
    bound: int


class Portion:
    """Iterates over texts. After that, documents and bytes say what was given, and `of` the bytes that there were."""

    def __init__(self, sources: Sequence[str], fields: Sequence[str] = (), most: int = 0) -> None:
        """fields: as `texts_of` has them; most: bytes, 0 for all. Of a folder of refined documents the weights and
        epochs of its recipe count, by bytes: a source with 2.5 epochs is given twice, and half of its sections once
        more. Raises InputError for what cannot be read."""
        self.sources, self.fields, self.most = sources, fields, most
        self.recipes = dict(_recipes(sources))
        self.documents = self.bytes = self.of = 0

    def __iter__(self) -> Iterator[str]:
        self.documents = self.bytes = self.of = 0
        if not self.most and not self.recipes:
            return self._all((texts for _, texts in self._read()))
        classes: dict[Name, np.ndarray] = {}
        held: list[list[str]] | None = None if self.recipes else []
        for name, texts in self._read():
            sizes = classes.setdefault(name, np.zeros(1 << BITS, np.int64))
            for raw in _raw(texts):
                sizes[_class(raw)] += len(raw)
                self.of += len(raw)
            if held is not None:
                held.append(texts)
                held = held if self.of <= HOLD else None
        if held is not None and self.of <= self.most:
            return self._all(held)
        return self._drawn(self._rates(classes))

    def _read(self) -> Iterator[tuple[Name, list[str]]]:
        for document in read(self.sources):
            home = str(Path(document.source).parent) if self.recipes else ""
            name = (home, str(document.record.get("source", ""))) if home in self.recipes else ("", "")
            yield name, document.read(lambda record: texts_of(record, self.fields))

    def _all(self, documents: Iterable[list[str]]) -> Iterator[str]:
        """Every text as it is."""
        for texts in documents:
            self.documents += 1
            self.bytes += sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
            self.of = max(self.of, self.bytes)
            yield from texts

    def _drawn(self, rates: Mapping[Name, Rate]) -> Iterator[str]:
        """The sections that fall into the portion, as often as they stand in it; whole texts where all do, once."""
        for name, texts in self._read():
            times, bound = rates[name]
            if (times, bound) == (1, 0):
                yield from self._all([texts])
                continue
            before = self.bytes
            for raw in _raw(texts):
                for _ in range(times + (_class(raw) < bound)):
                    self.bytes += len(raw)
                    yield raw.decode()
            self.documents += self.bytes > before

    def _rates(self, classes: Mapping[Name, np.ndarray]) -> dict[Name, Rate]:
        """How often the sections of each source are given. classes: the bytes of each class of hashes."""
        amounts = {name: int(sizes.sum()) for name, sizes in classes.items()}
        epochs = dict.fromkeys(classes, 1.0)
        for home, options in self.recipes.items():
            own = {source.name: amounts.get((home, source.name), 0) for source in options}
            epochs |= {(home, source): times for source, times in balance(options, own).items()}
        whole = sum(epochs[name] * amount for name, amount in amounts.items())
        scale = min(1.0, self.most / whole) if self.most and whole else 1.0
        rates = {}
        for name, sizes in classes.items():
            times, rest = divmod(epochs[name] * scale, 1.0)
            bound = np.searchsorted(np.cumsum(sizes), rest * amounts[name], side="right") if rest else 0
            rates[name] = Rate(int(times), int(bound))
        return rates


def _raw(texts: Sequence[str]) -> Iterator[bytes]:
    return (part.encode() for text in texts for part in sections(text))


def _class(raw: bytes) -> int:
    """Other bits than those that decide what is held out: a portion is no likelier to hold what will be."""
    return int.from_bytes(sha256(raw).digest()[8:10], "big") >> (16 - BITS)


def _recipes(sources: Sequence[str]) -> Iterator[tuple[str, list[SourceOptions]]]:
    """Folders of refined documents among the sources, and the sources of their recipes."""
    for source in sources:
        folder = Path(source).expanduser()
        folder = folder.parent if folder.name == DOCUMENTS else folder
        if (folder / PLAN).is_file() and (folder / RECIPE).is_file():
            yield str(folder / DOCUMENTS), _named(folder / RECIPE)


def _named(path: Path) -> list[SourceOptions]:
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        return [
            SourceOptions(name=one["name"], weight=float(one.get("weight", 0.0)), epochs=float(one.get("epochs", 1.0)))
            for one in data["sources"]
        ]
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: damaged ({type(error).__name__}: {error}); run instar data prepare again") from None
