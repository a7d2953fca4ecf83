"""How often each source is seen in one pass over prepared shards: mixture.json beside them.

A source has a weight or epochs. Epochs say it outright: 2 is twice in every pass. A weight is a share among all
sources that have one: they divide among them the tokens of a pass that sources with epochs leave, or, where the recipe
asks for no number of tokens, as many as they have together. What has a fixed place keeps it, and the rest is weighed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...config import InputError
from ...config.data import SourceOptions
from ..disk import write_whole

MIXTURE = "mixture.json"
MANY = 4.0  # passes up to which repeated text is about as good as new: https://arxiv.org/abs/2305.16264
MOST = 10_000.0  # a number of epochs that nobody means


@dataclass(frozen=True)
class Part:
    """One source: epochs in a pass, the weight that asked for them or None, tokens that it has, and its shards."""

    epochs: float
    weight: float | None
    tokens: int
    shards: tuple[str, ...]


@dataclass(frozen=True)
class Mixture:
    """All sources of a folder of shards, in the order of the recipe."""

    sources: Mapping[str, Part]

    @property
    def tokens(self) -> int:
        """Of one pass, before anything is held out."""
        return round(sum(part.epochs * part.tokens for part in self.sources.values()))

    def rows(self) -> list[dict[str, Any]]:
        """source, epochs, tokens that it has, and its share of one pass."""
        whole = self.tokens or 1
        return [
            {"source": name, "epochs": part.epochs, "tokens": part.tokens, "share": part.epochs * part.tokens / whole}
            for name, part in self.sources.items()
        ]

    def epochs_of(self, paths: Sequence[Path]) -> list[float]:
        """For each shard of a folder how often it is seen. Raises InputError where these are not the mixture's."""
        epochs = {shard: part.epochs for part in self.sources.values() for shard in part.shards}
        names = [path.name for path in paths]
        if odd := sorted(set(names) ^ epochs.keys()):
            where = "is missing" if odd[0] in epochs else f"is not in its {MIXTURE}"
            raise InputError(
                f"{paths[0].parent}: {odd[0]} {where} ({len(odd)} such); run instar data prepare again, which goes on"
            )
        return [epochs[name] for name in names]

    def save(self, folder: Path) -> None:
        data = {"sources": {name: asdict(part) for name, part in self.sources.items()}, "tokens": self.tokens}
        write_whole(folder / MIXTURE, json.dumps(data, ensure_ascii=False, indent=1) + "\n")


def read_mixture(folder: Path) -> Mixture | None:
    """The mixture of a folder of shards; None where it has none. Raises InputError for a damaged one."""
    path = folder / MIXTURE
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        mixture = Mixture({name: _part(part) for name, part in data["sources"].items()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: damaged ({type(error).__name__}: {error}); run instar data prepare again") from None
    for name, part in mixture.sources.items():
        if not 0.0 <= part.epochs <= MOST:
            raise InputError(f"{path}: {part.epochs} epochs of {name}; wanted 0 to {MOST:,.0f}")
    return mixture


def _part(data: Mapping[str, Any]) -> Part:
    weight = data["weight"]
    shards = tuple(str(name) for name in data["shards"])
    return Part(float(data["epochs"]), None if weight is None else float(weight), int(data["tokens"]), shards)


def make_mixture(sources: Sequence[SourceOptions], shards: Iterable[Mapping[str, Any]], tokens: int = 0) -> Mixture:
    """The mixture of a folder. shards: facts of each (`data.shards.shard_facts`); tokens: of one pass, 0 for what there
    is. Raises InputError as `balance` does."""
    files: dict[str, list[Mapping[str, Any]]] = {source.name: [] for source in sources}
    for facts in shards:
        files[facts["source"]].append(facts)
    amounts = {name: sum(facts["tokens"] for facts in found) for name, found in files.items()}
    epochs = balance(sources, amounts, tokens)
    names = {name: tuple(sorted(facts["file"] for facts in found)) for name, found in files.items()}
    return Mixture(
        {
            name: Part(epochs[name], source.weight or None, amounts[name], names[name])
            for name, source in ((source.name, source) for source in sources)
        }
    )


def balance(sources: Sequence[SourceOptions], amounts: Mapping[str, int], total: int = 0) -> dict[str, float]:
    """Epochs of each source by name. amounts: what each has, tokens or bytes; total: of one pass in the same unit.

    A source of which nothing is left has no share; the others divide it. Raises InputError where `total` leaves nothing
    to the sources with weights, or is asked for where none has a weight.
    """
    weighted = [source for source in sources if source.weight]
    fixed = sum(source.epochs * amounts[source.name] for source in sources if not source.weight)
    room = total - fixed if total else sum(amounts[source.name] for source in weighted)
    if total and not weighted:
        raise InputError(f"tokens={total:,} and no source has a weight; give weights, or leave the number out")
    if total and room <= 0:
        raise InputError(
            f"tokens={total:,}, of which the sources with epochs take {round(fixed):,}: nothing is left for those with "
            "weights; ask for more tokens or give fewer epochs"
        )
    whole = sum(source.weight for source in weighted if amounts[source.name])
    return {source.name: _epochs(source, amounts[source.name], room, whole) for source in sources}


def _epochs(source: SourceOptions, amount: int, room: float, whole: float) -> float:
    if not source.weight:
        return source.epochs
    return source.weight / whole * room / amount if amount else 0.0


def repeats(mixture: Mixture) -> list[str]:
    """Sources that are seen so often that it is worth a word: beyond about four passes text teaches little more
    (Muennighoff et al. 2023, https://arxiv.org/abs/2305.16264)."""
    return [
        f"{name} is seen {part.epochs:,.1f} times in one pass; beyond about {MANY:.0f} it teaches little more "
        "(arXiv:2305.16264): lower its weight, or find more of it"
        for name, part in mixture.sources.items()
        if part.epochs > MANY
    ]


def in_words(rows: Sequence[Mapping[str, Any]]) -> str:
    """A mixture in one line, the largest share first."""
    ordered = sorted(rows, key=lambda row: (-row["share"], row["source"]))
    return ", ".join(f"{row['source']} {row['share']:.1%} ({_times(row['epochs'])})" for row in ordered)


def _times(epochs: float) -> str:
    exact = math.isclose(epochs, round(epochs))
    return f"{round(epochs)} epoch{'s' if round(epochs) != 1 else ''}" if exact else f"{epochs:.2f} epochs"
