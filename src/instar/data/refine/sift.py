"""The phases "read" and "write" of one task: pieces -> documents that pass the rules -> those that are no copies.

Both go through a task document by document and hold no more than one. What they write appears complete or not at all,
and is the same however often a task is begun again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import orjson
import zstandard
from datatrove.pipeline.base import PipelineStep

from ...config import InputError
from ...config.data import DataRecipe
from ..disk import DRAFT, sync
from ..raw.piece import Broken, Piece, Raw
from ..sources import DOCUMENTS
from .ledger import PROBED, READ, Ledger, key_of, whole
from .plan import pieces_of, source_of
from .rule import Rule, Verdict

if TYPE_CHECKING:
    from .duplicates import Copy

WORK, WRITE = "work", "write"
EXACT, NEAR, COPY = "exact", "near", "copy"
LEVEL = 3  # of zstd
SECOND = 1.0  # between two words about progress
BATCH = 256  # sections tokenised at a time, when tokens are only counted

Count = Callable[[str, str], "int | None"]  # (id, text) -> its tokens, where this document is looked at
Some = Callable[[Iterator["Raw | Broken"]], Iterator["Raw | Broken"]]


@dataclass(frozen=True)
class Job:
    """What every task knows. out: the folder that is written; tokenizer: its folder, or ""; every: one of so many
    documents is tokenised at every step for the report."""

    out: str
    recipe: DataRecipe
    tokenizer: str = ""
    every: int = PROBED

    @property
    def work(self) -> Path:
        return Path(self.out) / WORK

    def ledger(self, phase: str, rank: int) -> Path:
        return self.work / "ledger" / f"{phase}-{rank:05d}.json"

    def read(self, rank: int) -> Path:
        """Documents that passed the rules."""
        return self.work / READ / f"{rank:05d}.jsonl.zst"

    def documents(self, rank: int) -> Path:
        """Documents that stay."""
        return Path(self.out) / DOCUMENTS / f"{rank:05d}.jsonl.zst"

    def removes(self) -> list[str]:
        """The steps that remove copies."""
        return [step for step in (EXACT, NEAR) if getattr(self.recipe.duplicates, step)]


class Step(PipelineStep):
    """A phase as datatrove runs it: task r does what `do`, which is `sift` or `write`, does with its documents."""

    type = "documents"

    def __init__(self, name: str, do: Callable[[Job, int], None], job: Job) -> None:
        self.name = name
        super().__init__()
        self.do, self.job = do, job

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        self.do(self.job, rank)
        yield from data or ()


def sift(job: Job, rank: int, some: Some = iter) -> None:
    """The phase "read" of one task. some: what is taken of the documents of a piece."""
    from .rules import build

    pieces = pieces_of(job.work / "tasks", rank)
    source = source_of(job.recipe, pieces[0].source)
    rules = build(job.recipe, source, job.work)
    ledger, count = Ledger(), counter(job.tokenizer, job.every)
    with storing(job.read(rank)) as keep, _signing(job, rank) as sign:
        for document in _documents(pieces, job, rank, some):
            row = judged(document, rules, ledger, count)
            if row is not None:
                sign(row["text"])
                keep(row)
    ledger.account(source.name).step(READ)  # also where there was nothing
    ledger.save(job.ledger(READ, rank))


def _documents(pieces: Sequence[Piece], job: Job, rank: int, some: Some) -> Iterator[tuple[Piece, Raw | Broken]]:
    from ..raw.reading import read

    meter, done = Meter(job.work, READ, rank, sum(piece.size for piece in pieces)), 0
    for piece in pieces:
        given = 0
        for item in some(read(piece, job.recipe.limits)):
            yield piece, item
            given += len(item.text) if isinstance(item, Raw) else item.size
            meter.tell(done + min(given, piece.size))
        done += piece.size


def judged(
    document: tuple[Piece, Raw | Broken], rules: Sequence[Rule], ledger: Ledger, count: Count
) -> dict[str, Any] | None:
    """What is kept of one document as a row, after all rules; None where nothing is."""
    piece, item = document
    if isinstance(item, Broken):
        ledger.broken(piece.source, item.reason, whole(piece.address), item.number, whole(item.detail), item.size)
        return None
    id, meta = f"{whole(piece.address)}#{item.number}", {**item.meta, "source": piece.source, "kind": piece.kind}
    text = whole(item.text)
    mended = Verdict(text, *(("surrogates", "halves of characters became U+FFFD") if text is not item.text else ()))
    tokens = count(id, text)
    ledger.judge(piece.source, READ, id, item.text, mended, (tokens, tokens))
    for rule in rules:
        verdict = _applied(rule, text, meta)
        after = verdict.text
        left = None if after is None else tokens if after == text else count(id, after)
        ledger.judge(piece.source, rule.name, id, text, verdict, (tokens, left))
        if after is None:
            return None
        text, tokens = after, left
    return {**meta, "text": text, "id": id, "source": piece.source}


def _applied(rule: Rule, text: str, meta: dict[str, Any]) -> Verdict:
    """What a rule says. Where it fails on a document, that one is dropped and the failure named: one strange text among
    millions does not end a run."""
    try:
        verdict = rule(text, meta)
    except (InputError, ImportError, OSError):  # these are about the run, not about the document
        raise
    except Exception as error:
        return Verdict(None, "crash", f"the rule failed: {type(error).__name__}: {error}"[:300])
    if verdict.text is not None and not verdict.text.strip():
        return Verdict(None, "empty", "no text was left")
    return verdict


def write(job: Job, rank: int) -> None:
    """The phase "write" of one task: documents that are copies of others are left out."""
    from .tokens import stored

    ledger, count, removes = Ledger(), counter(job.tokenizer, job.every), job.removes()
    copy_at = _copies(job, rank)
    with storing(job.documents(rank)) as keep:
        for number, document in enumerate(stored(job.read(rank))):
            row = document.record
            if _stays(row, removes, copy_at(number), ledger, count(row["id"], row["text"])):
                keep(row)
                account = ledger.account(row["source"])
                if language := row.get("language"):
                    account.languages[language] = account.languages.get(language, 0) + 1
                ledger.keep_sample(row["source"], "", "kept", "", "", row["id"], row["text"], None)
    ledger.save(job.ledger(WRITE, rank))


def _stays(
    row: Mapping[str, Any], removes: Sequence[str], copy: Copy | None, ledger: Ledger, tokens: int | None
) -> bool:
    """Whether a document is no copy."""
    for step in removes:
        gone = copy is not None and copy.reason == step
        verdict = Verdict(None, COPY, f"{copy.task}:{copy.index}") if copy and gone else Verdict(row["text"])
        ledger.judge(row["source"], step, row["id"], row["text"], verdict, (tokens, tokens))
        if gone:
            return False
    return True


@contextmanager
def _signing(job: Job, rank: int) -> Iterator[Callable[[str], None]]:
    """What is told of every document kept, in order, so that copies can be found."""
    if not job.removes():
        yield lambda text: None
        return
    from .duplicates import Signer

    signer = Signer(job.recipe.duplicates, job.work, rank)
    try:
        yield signer.add
        signer.close()
    except BaseException:
        signer.abandon()
        raise


def _copies(job: Job, rank: int) -> Callable[[int], Copy | None]:
    """What a task's document at an index is a copy of, if it is one."""
    if not job.removes():
        return lambda index: None
    from .duplicates import Removed

    return Removed(job.recipe.duplicates, job.work, rank).get


def name_copies(ledger: Ledger, job: Job) -> None:
    """Say in the samples of copies by id what each is a copy of; so far it was said by task and index."""
    wanted: dict[int, set[int]] = {}
    samples = [sample for sample in ledger.samples if sample.reason == COPY]
    for sample in samples:
        task, _, index = sample.detail.partition(":")
        wanted.setdefault(int(task), set()).add(int(index))
    ids = {f"{task}:{index}": id for task, indices in wanted.items() for index, id in _ids(job, task, indices)}
    for sample in samples:
        ledger.put(replace(sample, detail=f"{sample.step} copy of {ids[sample.detail]}"))


def _ids(job: Job, task: int, indices: set[int]) -> Iterator[tuple[int, str]]:
    from .tokens import stored

    for index, document in enumerate(islice(stored(job.read(task)), max(indices) + 1)):
        if index in indices:
            yield index, document.record["id"]


@contextmanager
def storing(path: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Write rows as compressed JSON lines that appear complete or not at all, also across a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}{DRAFT}{uuid4().hex[:8]}")
    try:
        with draft.open("wb") as file:
            with zstandard.ZstdCompressor(LEVEL).stream_writer(file, closefd=False) as packed:
                yield lambda row: _write_line(packed, row)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync(path.parent)


def _write_line(file: Any, row: Mapping[str, Any]) -> None:
    first = {"text": row["text"], "id": row["id"], "source": row["source"]}
    line = first | {name: value for name, value in row.items() if name not in first}
    try:
        packed = orjson.dumps(line)
    except TypeError:  # numbers of more than 64 bits, halves of characters in what is known about it
        packed = json.dumps(line, ensure_ascii=False, default=str).encode("utf-8", "replace")
    file.write(packed + b"\n")


def counter(tokenizer: str, every: int) -> Count:
    """Counts the tokens of one of `every` documents, chosen by the hash of its id; of none without a tokenizer."""
    if not tokenizer:
        return lambda id, text: None
    tokens = _tokens_of(tokenizer)
    return lambda id, text: tokens(text) if key_of(id) % every == 0 else None


@lru_cache(1)
def _tokens_of(folder: str) -> Callable[[str], int]:
    """How many tokens a text becomes in a shard; memory holds a few sections of it as tokens."""
    from ...text.tokenizer import Tokenizer
    from ..corpus import frame, sections

    tokenizer = Tokenizer.load(folder)
    around = sum(map(len, frame(tokenizer)))

    def count(text: str) -> int:
        parts = sections(text)
        chunks = (parts[start : start + BATCH] for start in range(0, len(parts), BATCH))
        return around + sum(len(ids) for chunk in chunks for ids in tokenizer.encode_batch(chunk))

    return count


class Meter:
    """Tells others at most once a second which share of a task is done, in a small file."""

    def __init__(self, work: Path, phase: str, rank: int, whole: int) -> None:
        self.path, self.whole = progress_of(work, phase, rank), whole
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._told = time.monotonic()

    def tell(self, done: int) -> None:
        if time.monotonic() - self._told >= SECOND:
            self._told = time.monotonic()
            self.path.write_text(f"{min(1.0, done / max(1, self.whole)):.4f}")


def progress_of(work: Path, phase: str, rank: int) -> Path:
    return work / "progress" / f"{phase}-{rank:05d}"
