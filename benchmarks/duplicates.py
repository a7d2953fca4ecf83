"""How many planted copies are found, by how much they were edited, and how many planted evaluation lines.

    python benchmarks/duplicates.py [--data data] [--documents 10000] [--ngrams-han 5] [--json FILE]

Half of the documents are English, half Chinese, cut from real texts; half of each are copies of others in which words,
or Chinese characters, were replaced, inserted and deleted, or sentences put in another order. Beside ours stand plain
datatrove with the same settings, and the exact Jaccard similarity of all runs of words at the threshold that MinHash
approximates. A copy is found when it is in one cluster with its original; a removed document is rightly removed when an
original or copy of the same text stays. Each system runs in a process of its own. Without the folder of data the
documents are stories of the built-in world, in English only, and evaluation lines are sentences of other stories.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console

from instar.cli.screen import table
from instar.config.data import DuplicateOptions, EvaluationTextOptions
from instar.data.sources import read

EDITS = (0, 2, 5, 10, 15, 20, 25, 30)
SHUFFLED = "sentences"
TASKS = 8
TEXTS = {
    "en": ("pretrain/en/wikitext2.valid.txt", "pretrain/en/speeches.jsonl", "pretrain/en/books/*.txt"),
    "zh": (
        "pretrain/zh/luxun.jsonl",
        "pretrain/zh/d2l_zh.jsonl",
        "pretrain/zh/oi_wiki.jsonl",
        "pretrain/zh/books/*.txt",
    ),
}
LENGTHS = {"en": (100, 500), "zh": (200, 1000)}  # words; Chinese characters, and words of Latin letters between them
UNITS = {"en": re.compile(r"\S+\s*"), "zh": re.compile(r"[A-Za-z0-9_]+\s*|.", re.S)}
SENTENCES = re.compile(r"[^.!?。！？\n]*[.!?。！？\n]+\s*|[^.!?。！？\n]+")
EVALUATION = ("arc_*", "boolq", "cmmlu", "hellaswag", "lambada", "mmlu.*", "openbook_qa", "piqa", "winogrande")


def corpora(data: Path) -> dict[str, list[list[str]]]:
    """Real texts by language, each as its words or characters with what follows them."""
    if not (data / "pretrain").is_dir():
        stories = (document.text for document in read(["world:stories"]))
        text = "\n".join(islice(filter(str.isascii, stories), 60_000))
        return {"en": [UNITS["en"].findall(text)]}
    found = {}
    for language, names in TEXTS.items():
        texts = [document.text for document in read([str(data / name) for name in names])]
        found[language] = [UNITS[language].findall(text) for text in texts]
    return found


def originals(texts: list[list[str]], language: str, count: int, draw: random.Random) -> list[list[str]]:
    """Stretches of the texts, none of which overlap, drawn from all of them."""
    low, high = LENGTHS[language]
    found = []
    for text in texts:
        start = 0
        while (stop := start + draw.randrange(low, high)) <= len(text):
            found.append(text[start:stop])
            start = stop
    if len(found) < count:
        print(f"{language}: the texts give {len(found):,} documents, not {count:,}", file=sys.stderr)
    return draw.sample(found, min(count, len(found)))


def edited(units: list[str], share: float, others: list[str], draw: random.Random) -> list[str]:
    """A share of the units replaced, deleted, or another one put before them."""
    found = []
    for unit in units:
        if draw.random() >= share:
            found.append(unit)
            continue
        kind = draw.randrange(3)
        found += [[draw.choice(others)], [], [draw.choice(others), unit]][kind]
    return found


def shuffled(text: str, draw: random.Random) -> str:
    """The same sentences in another order."""
    parts = SENTENCES.findall(text)
    draw.shuffle(parts)
    return "".join(parts)


def documents(data: Path, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of text, language, family, and how a copy was made ("" for an original)."""
    draw, rows = random.Random(seed), []
    found = corpora(data)
    for language, texts in found.items():
        half = count // len(found) // 2
        vocabulary = [unit for text in texts for unit in text]
        kinds = [*EDITS, SHUFFLED]
        for number, units in enumerate(originals(texts, language, half, draw)):
            family, kind, text = f"{language}{number}", kinds[number % len(kinds)], "".join(units)
            rows.append({"text": text, "language": language, "family": family, "copy": ""})
            if kind == SHUFFLED:
                text = shuffled(text, draw)
            else:
                text = "".join(edited(units, float(kind) / 100, vocabulary, draw))
            rows.append({"text": text, "language": language, "family": family, "copy": str(kind)})
    draw.shuffle(rows)
    return rows


def by_instar(folder: Path, work: Path, options: DuplicateOptions) -> dict[int, int]:
    """Copy -> the document that stays, both as numbers of all documents."""
    from instar.data.refine.duplicates import Removed, Signer, find_steps

    counts = []
    for rank in range(TASKS):
        signer = Signer(options, work, rank)
        for text in texts_of(folder, rank):
            signer.add(text)
        signer.close()
        counts.append(signer.documents)
    for stage in find_steps(options, work):
        for rank in range(stage.tasks):
            stage.pipeline[0].run(None, rank, stage.tasks)
    found = {}
    for rank, size in enumerate(counts):
        removed = Removed(options, work, rank)
        for index in range(size):
            if copy := removed.get(index):
                found[sum(counts[:rank]) + index] = sum(counts[: copy.task]) + copy.index
    return found


def by_datatrove(folder: Path, work: Path, options: DuplicateOptions) -> dict[int, int]:
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupSignature
    from datatrove.pipeline.readers import JsonlReader

    from instar.data.refine.shingles import datatrove_config
    from instar.data.refine.words import Words

    config = datatrove_config(options)
    steps = {
        TASKS: [JsonlReader(str(folder)), MinhashDedupSignature(str(work / "s"), config=config, language=Words())],
        options.buckets: [MinhashDedupBuckets(str(work / "s"), str(work / "p"), config=config)],
        1: [MinhashDedupCluster(str(work / "p"), str(work / "r"), config=config, save_cluster_id=True)],
    }
    for tasks, pipeline in steps.items():
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=str(work / "logs" / str(tasks))).run()
    counts = [sum(1 for _ in texts_of(folder, rank)) for rank in range(TASKS)]
    clusters, gone = defaultdict(list), set()
    for rank in range(TASKS):
        before = sum(counts[:rank])
        if (path := work / "r" / f"{rank:06d}.clusters").exists():
            numbers = iter(
                int.from_bytes(path.read_bytes()[n : n + 4], "little") for n in range(0, path.stat().st_size, 4)
            )
            for document, cluster in zip(numbers, numbers):
                clusters[cluster].append(before + document)
        if (path := work / "r" / f"{rank:06d}.remove").exists():
            raw = path.read_bytes()
            gone |= {before + int.from_bytes(raw[n : n + 4], "little") for n in range(0, len(raw), 4)}
    return {
        one: next(other for other in found if other not in gone)
        for found in clusters.values()
        for one in found
        if one in gone
    }


def by_jaccard(folder: Path, work: Path, options: DuplicateOptions) -> dict[int, int]:
    """Every pair that shares a run of words is compared in full."""
    from instar.data.refine.shingles import hashed, normalised
    from instar.data.refine.words import unspaced

    least = (1 / options.buckets) ** (1 / options.hashes)
    roots: list[int] = []
    sizes: list[int] = []
    seen: dict[int, list[int]] = defaultdict(list)

    def root(one: int) -> int:
        while roots[one] != one:
            one = roots[one]
        return one

    for number, text in enumerate(text for rank in range(TASKS) for text in texts_of(folder, rank)):
        runs = set(hashed(normalised(text), options.ngrams_han if unspaced(text) else options.ngrams).tolist())
        roots.append(number)
        sizes.append(len(runs))
        for other, common in Counter(other for run in runs for other in seen[run]).items():
            if common >= least * (len(runs) + sizes[other] - common):
                one, other = sorted((root(number), root(other)))
                roots[other] = one
        for run in runs:
            seen[run].append(number)
    return {number: root(number) for number in range(len(roots)) if root(number) != number}


SYSTEMS: dict[str, Callable[[Path, Path, DuplicateOptions], dict[int, int]]] = {
    "instar": by_instar, "datatrove": by_datatrove, "jaccard": by_jaccard,
}  # fmt: skip


def texts_of(folder: Path, rank: int) -> Iterator[str]:
    for line in (folder / f"{rank:05d}.jsonl").open(encoding="utf-8"):
        yield json.loads(line)["text"]


def measured(system: str, folder: Path, options: DuplicateOptions) -> dict[str, Any]:
    """What one system finds, its seconds and the peak memory of its process."""
    with tempfile.TemporaryDirectory() as work:
        words = ["--child", system, str(folder), work, str(options.ngrams_han)]
        done = subprocess.run(
            [sys.executable, __file__, *words], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        return json.loads(done.stdout.splitlines()[-1])


def child(system: str, folder: str, work: str, ngrams_han: str) -> None:
    started = time.perf_counter()
    found = SYSTEMS[system](Path(folder), Path(work), DuplicateOptions(ngrams_han=int(ngrams_han)))
    seconds = time.perf_counter() - started
    # not ru_maxrss: a child inherits that of the process that started it
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    print(json.dumps({"seconds": seconds, "peak": peak, "found": sorted(found.items())}))


def judged(rows: list[dict[str, Any]], found: list[list[int]], language: str) -> dict[str, Any]:
    """Recall for each way of making a copy, and precision."""
    root = {number: number for number in range(len(rows))} | dict(found)
    family = {row["family"]: number for number, row in enumerate(rows) if not row["copy"]}
    hits: dict[str, list[bool]] = defaultdict(list)
    for number, row in enumerate(rows):
        if row["copy"] and row["language"] == language:
            hits[row["copy"]].append(root[number] == root[family[row["family"]]])
    right = [rows[one]["family"] == rows[other]["family"] for one, other in found if rows[one]["language"] == language]
    recall = {kind: sum(one) / len(one) for kind, one in sorted(hits.items(), key=lambda item: item[0].zfill(9))}
    return {"recall": recall, "removed": len(right), "precision": sum(right) / max(1, len(right))}


def copies(options: argparse.Namespace) -> dict[str, Any]:
    """Recall and precision of all systems."""
    rows = documents(options.data, options.documents)
    asked = DuplicateOptions(ngrams_han=options.ngrams_han)
    with tempfile.TemporaryDirectory() as name:
        folder, size = Path(name), -(-len(rows) // TASKS)
        for rank in range(TASKS):
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows[rank * size : (rank + 1) * size])
            (folder / f"{rank:05d}.jsonl").write_text("".join(lines), encoding="utf-8")
        runs = {system: measured(system, folder, asked) for system in SYSTEMS}
    languages = sorted({row["language"] for row in rows})
    return {
        system: {language: judged(rows, run["found"], language) for language in languages}
        | {"seconds": run["seconds"], "peak": run["peak"]}
        for system, run in runs.items()
    }


def without_signs(text: str) -> str:
    """Blanks in place of punctuation; of other signs some are letters, such as the radicals of Chinese."""
    return "".join(" " if unicodedata.category(sign)[0] == "P" else sign for sign in text)


def disguised(line: str, draw: random.Random) -> str:
    """The same line as others write it."""
    ways: list[Callable[[str], str]] = [
        str, str.upper, str.title, without_signs,
        lambda text: text.replace(" ", "\n"), lambda text: text.replace(" ", " ** "),
        lambda text: re.sub("(.{40})", "\\1\u200b", text),
        lambda text: "".join(chr(ord(one) + 0xFEE0) if "!" <= one <= "~" else one for one in text),
    ]  # fmt: skip
    return draw.choice(ways)(line)


def planted(data: Path, seed: int = 0) -> dict[str, Any]:
    """Lines of real evaluation sets in other texts: how many are found, and in how many other texts any."""
    from instar.data.refine.evaluation import build_index
    from instar.data.refine.windows import words_of

    draw, found = random.Random(seed), corpora(data)
    carriers = {
        language: ["".join(one) for one in originals(texts, language, 2000, draw)] for language, texts in found.items()
    }
    with tempfile.TemporaryDirectory() as name:
        files = [str(data / "eval" / f"{pattern}.jsonl") for pattern in EVALUATION]
        if not (data / "eval").is_dir():
            lines = SENTENCES.findall(carriers["en"].pop())
            files = [f"{name}/lines.jsonl"]
            Path(files[0]).write_text("".join(json.dumps({"q": line}) + "\n" for line in lines), encoding="utf-8")
        options = EvaluationTextOptions(data=tuple(files))
        started = time.perf_counter()
        index = build_index(options, Path(name))
        built, result = time.perf_counter() - started, {}
        lines = [row.record.get("query") or row.record.get("context") or row.record.get("q") for row in read(files)]
        told: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for line in filter(None, lines):
            words = words_of(line)
            told["zh" if 2 * int(words.alone.sum()) > len(words) else "en"].append((line, len(words)))
        for language, texts in carriers.items():
            least = options.shortest_han if language == "zh" else options.shortest
            long = [line for line, size in told[language] if size >= least]
            short = len(told[language]) - len(long)
            hits = 0
            for line in long:
                text = draw.choice(texts)
                place = draw.randrange(len(text))
                hits += bool(index.find(f"{text[:place]}\n{disguised(line, draw)}\n{text[place:]}"))
            started = time.process_time()
            clean = sum(bool(index.find(text)) for text in texts)
            seconds = time.process_time() - started
            size = sum(len(text.encode()) for text in texts)
            result[language] = {
                "planted": len(long), "found": hits, "too_short": short,
                "clean": len(texts), "false": clean, "rate": size / 1e6 / seconds,
            }  # fmt: skip
        return {"runs": len(index.keys), "seconds": built, "languages": result}


def main() -> None:
    if "--child" in sys.argv:
        return child(*sys.argv[sys.argv.index("--child") + 1 :])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--ngrams-han", type=int, default=DuplicateOptions().ngrams_han)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    console = Console()
    found: dict[str, Any] = {"copies": copies(options)}
    for language in [name for name in found["copies"]["instar"] if name in TEXTS]:
        rows = []
        for system, run in found["copies"].items():
            said = run[language]
            rows.append([system, *said["recall"].values(), said["precision"], said["removed"]])
        kinds = [kind if kind == SHUFFLED else f"{kind} %" for kind in said["recall"]]
        console.print(table(f"{language}: copies found, by share edited", ["", *kinds, "precision", "removed"], rows))
    costs = [[system, run["seconds"], run["peak"] / 1e6] for system, run in found["copies"].items()]
    console.print(table("cost, both languages, one process", ["", "seconds", "peak MB"], costs))
    found["evaluation"] = planted(options.data)
    rows = [
        [name, one["planted"], one["found"], one["too_short"], f"{one['false']} of {one['clean']:,}", one["rate"]]
        for name, one in found["evaluation"]["languages"].items()
    ]
    columns = ["", "planted", "found", "too short", "clean, and found in", "MB/s"]
    console.print(table("evaluation lines in other texts", columns, rows))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
