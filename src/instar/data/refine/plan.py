"""Which task reads what: decided once, before the first byte is read, and by the data alone.

A task reads pieces of one source, about `task_mb` of them. The plan does not know of workers or executors, so nor does
anything that comes of it. Its key says what it was made for: the recipe, every file by name, size and time, and our
version. A folder whose plan has another key holds other data, and is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from ... import __version__
from ...config import InputError, to_dict
from ...config.data import DataRecipe, SourceOptions
from ..disk import write_whole
from ..raw.piece import Piece
from ..sources import PLAN, WORLD, fingerprint, resolve

FORMAT = 1
MB = 1_000_000
# what decides who works, or how often what was written is read: none of the documents depends on it
BESIDE = ("executor", "tokens")
BESIDE_OF_SOURCE = ("weight", "epochs")
TOLD = 3  # differences that a message names


@dataclass(frozen=True)
class Plan:
    """tasks: the pieces that each reads; skipped: of each source, what was found and not read, by suffix with counts;
    facts: what the key is made of."""

    tasks: tuple[tuple[Piece, ...], ...]
    skipped: Mapping[str, Mapping[str, int]]
    facts: Mapping[str, Any]

    @property
    def key(self) -> str:
        return sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()

    @property
    def sizes(self) -> list[int]:
        """Stored bytes of each task."""
        return [sum(piece.size for piece in task) for task in self.tasks]

    def files(self, source: str) -> int:
        return len({piece.address for task in self.tasks for piece in task if piece.source == source})

    def bytes(self, source: str) -> int:
        return sum(piece.size for task in self.tasks for piece in task if piece.source == source)

    def save(self, out: Path) -> None:
        """plan.json, for the next run and for whoever looks."""
        tasks = [[_row(piece) for piece in task] for task in self.tasks]
        sources = [task[0].source for task in self.tasks]
        data = {"key": self.key, "facts": self.facts, "skipped": self.skipped, "sources": sources, "tasks": tasks}
        write_whole(out / PLAN, json.dumps(data) + "\n")  # a name of a file may be no UTF-8, and comes back so

    def spread(self, folder: Path) -> None:
        """A small file for each task, so that none reads the whole plan."""
        folder.mkdir(parents=True, exist_ok=True)
        for number, task in enumerate(self.tasks):
            rows = [piece.__dict__ for piece in task]
            (folder / f"{number:05d}.json").write_text(json.dumps(rows), encoding="utf-8")


def pieces_of(folder: Path, rank: int) -> list[Piece]:
    """The pieces of one task, as `spread` wrote them."""
    rows = json.loads((folder / f"{rank:05d}.json").read_text(encoding="utf-8"))
    return [Piece(**row | {"fields": tuple(row["fields"])}) for row in rows]


def make(recipe: DataRecipe) -> Plan:
    """Look every source up and divide it. Raises InputError where one has nothing to read."""
    from ..raw.places import find

    tasks: list[tuple[Piece, ...]] = []
    skipped: dict[str, dict[str, int]] = {}
    files: dict[str, list[Any]] = {}
    task_bytes = max(1, round(recipe.task_mb * MB))
    for source in recipe.sources:
        places = find(source, task_bytes)
        tasks += divide(places.pieces, task_bytes)
        skipped[source.name] = _by_suffix(places.skipped)
        for piece in places.pieces:
            if piece.address not in files:
                files[piece.address] = stamp(piece.address)
    if not tasks:
        raise InputError("no file of any source can be read, and nothing would be written; name others")
    return Plan(tuple(tasks), skipped, facts(recipe, files))


def facts(recipe: DataRecipe, files: Mapping[str, list[Any]]) -> dict[str, Any]:
    """What the documents depend on, as plain data. files: address -> [size, what changes with its content]."""
    said = {name: value for name, value in to_dict(recipe).items() if name not in BESIDE}
    said["sources"] = [
        {name: value for name, value in source.items() if name not in BESIDE_OF_SOURCE} for source in said["sources"]
    ]
    examined = resolve(recipe.evaluation.data).places if recipe.evaluation.data else ()
    asked = {str(place): stamp(str(place)) for place in examined}
    return {"format": FORMAT, "version": __version__, "recipe": said, "files": dict(files), "evaluation": asked}


def divide(pieces: Iterable[Piece], task_bytes: int) -> Iterator[tuple[Piece, ...]]:
    """Neighbours together until they are about as many bytes as a task has; a larger one alone, and a world, which has
    no bytes before it is told."""
    task: list[Piece] = []
    size = 0
    for piece in pieces:
        more = piece.size or (task_bytes if piece.address.startswith(WORLD) else 0)
        if task and size + more > task_bytes:
            yield tuple(task)
            task, size = [], 0
        task.append(piece)
        size += more
    if task:
        yield tuple(task)


def stamp(address: str) -> list[Any]:
    """[size, what changes with the content]: time of a local file, tag of one elsewhere, code of a world."""
    if address.startswith(WORLD):
        return [0, fingerprint([address])]
    if "://" not in address:
        found = Path(address).stat()
        return [found.st_size, found.st_mtime_ns]
    import fsspec

    system, path = fsspec.core.url_to_fs(address)
    info = system.info(path)
    tags = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created")
    return [info.get("size"), next((str(info[tag]) for tag in tags if info.get(tag)), "")]


def load(out: Path) -> dict[str, Any] | None:
    """What stands in a folder's plan.json; None where there is none. Raises InputError for a damaged one."""
    path = out / PLAN
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return {"key": str(data["key"]), "facts": dict(data["facts"])}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged ({error}); remove {out}, or name another folder") from None


def refuse_other(out: Path, held: Mapping[str, Any], wanted: Plan) -> None:
    """Raises InputError where a folder was made for another plan: both keys, and what differs."""
    if held["key"] == wanted.key:
        return
    found = list(differences(held["facts"], wanted.facts))
    more = f" and {len(found) - TOLD} more" if len(found) > TOLD else ""
    raise InputError(
        f"{out} holds data prepared with the key {held['key'][:12]}, wanted {wanted.key[:12]}: "
        f"{'; '.join(found[:TOLD])}{more}; name another folder or remove this one"
    )


def differences(before: Any, now: Any, path: str = "") -> Iterator[str]:
    """What is not as it was, one by one, in words. Example: "recipe.limits.depth was 512 and is 64"."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in sorted({*before, *now}, key=lambda name: (name == "files", name)):
            inner = f"{path}.{name}" if path and path not in ("files", "evaluation") else name
            yield from differences(before.get(name), now.get(name), inner)
    elif _rows(before) and _rows(now) and len(before) == len(now):
        for number, (old, new) in enumerate(zip(before, now)):
            yield from differences(old, new, f"{path}[{number}]")
    elif before != now:
        yield f"{path} {_change(before, now)}"


def _change(before: Any, now: Any) -> str:
    if before is None or now is None:
        return "is new" if before is None else "is gone"
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now) == 2 and before[0] == now[0]:
        return "was written anew"  # a file of the same size
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now) == 2:
        return f"had {before[0]} bytes and has {now[0]}" if isinstance(before[0], int) else f"was {before} and is {now}"
    return f"was {_short(before)} and is {_short(now)}"


def _rows(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, Mapping) for item in value)


def _short(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= 60 else f"{shown[:60]}..."


def _row(piece: Piece) -> list[Any]:
    return [piece.address, piece.size, piece.start, piece.stop]


def _by_suffix(skipped: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in skipped:
        suffix = Path(name).suffix or Path(name).name
        counts[suffix] = counts.get(suffix, 0) + 1
    return dict(sorted(counts.items()))


def source_of(recipe: DataRecipe, name: str) -> SourceOptions:
    """The source with this name."""
    return next(source for source in recipe.sources if source.name == name)
