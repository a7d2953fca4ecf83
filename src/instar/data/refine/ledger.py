"""What happened to the documents: counts for each source and step, why they went, and a few of them to look at.

Every task keeps a ledger of its own. Merging adds them up, and samples are those whose id has the smallest hash, so
that the result is the same in any order and however the documents were divided among tasks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..disk import write_whole
from .rule import Verdict

READ, TOKENS = "read", "tokens"
SAMPLES = 4  # of each source, step and reason, and of the documents kept
FIRST = 3  # places told of each kind of broken file
SHOWN = 2000  # characters of a text in a sample
LEAD = 300  # characters shown before the first change
PROBED = 32  # every so manyth document is tokenised at every step

Pair = list[int]


def key_of(id: str) -> int:
    """The hash that decides whether a document is looked at: the first 64 bits of the sha256 of its id."""
    return int.from_bytes(sha256(id.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def size_of(text: str) -> int:
    """UTF-8 bytes of a text."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def whole(text: str) -> str:
    """Text that can be written as UTF-8: pairs of surrogates joined, a half of one replaced by U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


@dataclass
class Reason:
    """Documents that were dropped or changed for one reason, and their bytes before."""

    documents: int = 0
    bytes: int = 0
    changed: bool = False


@dataclass
class Flow:
    """What goes into one step and out of it, each as [in, out]; changed: documents that a rule changed, in so many
    places. probed: bytes and tokens of those documents that were tokenised here: all or every 32nd."""

    documents: Pair = field(default_factory=lambda: [0, 0])
    bytes: Pair = field(default_factory=lambda: [0, 0])
    probed_bytes: Pair = field(default_factory=lambda: [0, 0])
    probed_tokens: Pair = field(default_factory=lambda: [0, 0])
    changed: int = 0
    places: int = 0
    reasons: dict[str, Reason] = field(default_factory=dict)

    def enter(self, size: int, tokens: int | None) -> None:
        self._pass(0, size, tokens)

    def leave(self, size: int, tokens: int | None) -> None:
        self._pass(1, size, tokens)

    def _pass(self, side: int, size: int, tokens: int | None) -> None:
        self.documents[side] += 1
        self.bytes[side] += size
        if tokens is not None:
            self.probed_bytes[side] += size
            self.probed_tokens[side] += tokens

    def because(self, reason: str, size: int, *, changed: bool) -> None:
        found = self.reasons.setdefault(reason, Reason(changed=changed))
        found.documents += 1
        found.bytes += size

    def add(self, other: Flow) -> None:
        for name in ("documents", "bytes", "probed_bytes", "probed_tokens"):
            mine, its = getattr(self, name), getattr(other, name)
            mine[0], mine[1] = mine[0] + its[0], mine[1] + its[1]
        self.changed += other.changed
        self.places += other.places
        for name, reason in other.reasons.items():
            found = self.reasons.setdefault(name, Reason(changed=reason.changed))
            found.documents += reason.documents
            found.bytes += reason.bytes

    def tokens(self) -> Pair | None:
        """Tokens in and out, exact where every document was probed, else what the probed ones make likely; None where
        none was."""
        if not self.probed_bytes[0]:
            return None
        rate = self.probed_tokens[0] / self.probed_bytes[0]
        rates = [rate, self.probed_tokens[1] / self.probed_bytes[1] if self.probed_bytes[1] else rate]
        return [
            tokens if probed == size else round(size * each)
            for size, probed, tokens, each in zip(self.bytes, self.probed_bytes, self.probed_tokens, rates)
        ]

    @property
    def estimated(self) -> bool:
        return self.probed_bytes != self.bytes


@dataclass
class Faults:
    """What could not be read for one reason; first: the first places, as [address, number, detail]."""

    count: int = 0
    bytes: int = 0
    first: list[tuple[str, int, str]] = field(default_factory=list)

    def add(self, other: Faults) -> None:
        self.count += other.count
        self.bytes += other.bytes
        self.first = sorted({*self.first, *other.first})[:FIRST]


@dataclass
class Account:
    """All that is known about one source."""

    flow: dict[str, Flow] = field(default_factory=dict)
    broken: dict[str, Faults] = field(default_factory=dict)
    languages: dict[str, int] = field(default_factory=dict)

    def step(self, name: str) -> Flow:
        return self.flow.setdefault(name, Flow())


@dataclass(frozen=True, order=True)
class Sample:
    """One document to look at. before: its text where it entered the step; after: where it left, if it was changed."""

    key: int
    source: str
    step: str
    verdict: str  # dropped, changed or kept
    reason: str
    detail: str
    where: str
    before: str
    after: str | None

    @property
    def drawer(self) -> tuple[str, ...]:
        return self.source, self.step, self.verdict, self.reason


class Ledger:
    """The accounts of all sources and the samples of all steps."""

    def __init__(self) -> None:
        self.sources: dict[str, Account] = {}
        self._samples: dict[tuple[str, ...], list[Sample]] = {}

    def account(self, source: str) -> Account:
        return self.sources.setdefault(source, Account())

    @property
    def samples(self) -> list[Sample]:
        """By source, step, verdict and reason, then by hash."""
        return [sample for _, samples in sorted(self._samples.items()) for sample in samples]

    def broken(self, source: str, reason: str, address: str, number: int, detail: str, size: int) -> None:
        """Something that could not be read."""
        account = self.account(source)
        account.broken.setdefault(reason, Faults()).add(Faults(1, size, [(address, number, detail)]))
        flow = account.step(READ)
        flow.documents[0] += 1
        flow.because(reason, size, changed=False)

    def judge(
        self, source: str, step: str, id: str, before: str, verdict: Verdict, tokens: tuple[int | None, int | None]
    ) -> None:
        """What a step made of a document. tokens: of its text before and after, where they were counted."""
        flow, after = self.account(source).step(step), verdict.text
        size = size_of(before)
        flow.enter(size, tokens[0])
        if after is not None:
            flow.leave(size if after is before else size_of(after), tokens[1])
            if after == before:
                return
            flow.changed += 1
            flow.places += verdict.count
        flow.because(verdict.reason or step, size, changed=after is not None)
        word = "dropped" if after is None else "changed"
        self.keep_sample(source, step, word, verdict.reason or step, verdict.detail, id, before, after)

    def keep_sample(
        self, source: str, step: str, verdict: str, reason: str, detail: str, where: str, before: str, after: str | None
    ) -> None:
        """Remember this document if its hash is among the smallest of its kind."""
        key, drawer = key_of(where), self._samples.setdefault((source, step, verdict, reason), [])
        if len(drawer) == SAMPLES and key >= drawer[-1].key:
            return
        start = 0 if after is None else max(0, _first_difference(before, after) - LEAD)
        shown = None if after is None else after[start : start + SHOWN]
        begun, detail = whole(before[start : start + SHOWN]), whole(detail)
        self.put(Sample(key, source, step, verdict, reason, detail, where, begun, shown))

    def put(self, sample: Sample) -> None:
        """Keep a sample if its hash is among the smallest of its kind; another one of the same document goes."""
        drawer = [each for each in self._samples.get(sample.drawer, ()) if each.where != sample.where]
        drawer = sorted([*drawer, sample], key=lambda each: (each.key, each.where))
        self._samples[sample.drawer] = drawer[:SAMPLES]

    def add(self, other: Ledger) -> None:
        """Merge another one into this."""
        for name, account in other.sources.items():
            mine = self.account(name)
            for step, flow in account.flow.items():
                mine.step(step).add(flow)
            for reason, faults in account.broken.items():
                mine.broken.setdefault(reason, Faults()).add(faults)
            for language, count in account.languages.items():
                mine.languages[language] = mine.languages.get(language, 0) + count
        for sample in other.samples:
            self.put(sample)

    def to_json(self) -> dict[str, Any]:
        return {
            "sources": {name: asdict(account) for name, account in self.sources.items()},
            "samples": [asdict(sample) for sample in self.samples],
        }

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(self.to_json(), ensure_ascii=False))


def from_json(data: Mapping[str, Any]) -> Ledger:
    """What `to_json` wrote."""
    ledger = Ledger()
    for name, account in data["sources"].items():
        flow = {
            step: Flow(**each | {"reasons": {word: Reason(**reason) for word, reason in each["reasons"].items()}})
            for step, each in account["flow"].items()
        }
        broken = {
            reason: Faults(each["count"], each["bytes"], [(at, number, detail) for at, number, detail in each["first"]])
            for reason, each in account["broken"].items()
        }
        ledger.sources[name] = Account(flow, broken, dict(account["languages"]))
    for sample in data["samples"]:
        ledger.put(Sample(**sample))
    return ledger


def merged(paths: Iterable[Path]) -> Ledger:
    """The ledgers of many tasks as one."""
    whole = Ledger()
    for path in paths:
        whole.add(from_json(json.loads(path.read_text(encoding="utf-8"))))
    return whole


def _first_difference(one: str, other: str) -> int:
    """Where two texts part, by halving: comparing long stretches is quick, characters are many."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle - 1)
    return low
