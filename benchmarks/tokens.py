"""Documents -> token shards beside `tokenizers` alone and datatrove's DocumentTokenizer: megabytes of text a second.

    python benchmarks/tokens.py [--data data] [--mb 60] [--vocab-size 32000] [--rounds 5] [--json FILE]

Real texts in English and Chinese become the refined documents of eight tasks. Measured are the phase "tokens" of `data
prepare` (read, cut into sections, hash, tokenise, write, sync), the encode_batch and encode_batch_fast of `tokenizers`
on the same texts in memory, whose ids nobody looks at, and the DocumentTokenizer of datatrove from the same files; each
with one and with two threads or workers. A single worker has all threads of the machine. Every measurement is a process
of its own, whose clock starts when its imports and texts are loaded; systems take turns, and medians are told.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from instar.cli.screen import table
from instar.data.corpus import read

TEXTS = ("pretrain/en/books/*.txt", "pretrain/en/*.jsonl", "pretrain/zh/books/*.txt", "pretrain/zh/*.jsonl")
TASKS = 8
SYSTEMS = ("encode_batch", "encode_batch_fast", "instar", "datatrove")


def write_documents(data: Path, out: Path, size: int) -> int:
    """Refined documents as `data prepare` leaves them, about `size` bytes in all; the bytes of their texts."""
    import zstandard

    (out / "documents").mkdir(parents=True)
    texts, total = [], 0
    while total < size:
        for document in read([str(data / pattern) for pattern in TEXTS]):
            texts.append(document.text)
            total += len(texts[-1].encode())
    for task in range(TASKS):
        lines = [
            json.dumps({"text": text, "id": f"{number}", "source": "texts"}, ensure_ascii=False) + "\n"
            for number, text in enumerate(texts[task::TASKS], 1)
        ]
        path = out / "documents" / f"{task:05d}.jsonl.zst"
        path.write_bytes(zstandard.compress("".join(lines).encode()))
    return total


def by_library(how: str, out: Path, tokenizer: Path) -> Callable[[], object]:
    """The library alone, on texts in memory."""
    from tokenizers import Tokenizer

    from instar.data.refine.tokens import stored

    library = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    texts = [document.text for path in sorted((out / "documents").iterdir()) for document in stored(path)]
    return lambda: getattr(library, how)(texts, add_special_tokens=False)


def by_instar(out: Path, tokenizer: Path, workers: int, scratch: Path) -> Callable[[], object]:
    """The phase as `data prepare` runs it: one worker with a thread for each core, or several with one each."""
    from instar.data.refine.tokens import Tokenize

    (scratch / "documents").symlink_to(out.absolute() / "documents")
    return _pipeline([Tokenize(str(tokenizer), str(scratch), alone=workers == 1)], workers, scratch)


def by_datatrove(out: Path, tokenizer: Path, workers: int, scratch: Path) -> Callable[[], object]:
    """DocumentTokenizer as its examples use it, without shuffling."""
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer

    from instar.text.controls import END_OF_TEXT

    steps = [
        JsonlReader(str(out / "documents"), compression="zstd"),
        DocumentTokenizer(
            str(scratch / "tokens"), str(tokenizer / "tokenizer.json"), eos_token=END_OF_TEXT,
            shuffle_documents=False,
        ),
    ]  # fmt: skip
    return _pipeline(steps, workers, scratch)


def _pipeline(steps: list[Any], workers: int, scratch: Path) -> Callable[[], object]:
    from datatrove.executor import LocalPipelineExecutor

    return LocalPipelineExecutor(steps, tasks=TASKS, workers=workers, logging_dir=str(scratch / "logs")).run


def child(system: str, out: str, tokenizer: str, threads: int) -> None:
    """One measurement: prints its seconds."""
    pipelines = {"instar": by_instar, "datatrove": by_datatrove}
    with tempfile.TemporaryDirectory(dir=Path(out).parent) as scratch:
        if system in pipelines:
            run = pipelines[system](Path(out), Path(tokenizer), threads, Path(scratch))
        else:
            run = by_library(system, Path(out), Path(tokenizer))
        started = time.perf_counter()
        run()
        print(time.perf_counter() - started)


def measured(system: str, out: Path, tokenizer: Path, threads: int) -> float:
    """Seconds of one run. The library alone gets its threads by the environment, and so does datatrove with one worker;
    more workers have a thread each."""
    single = threads == 1 if system.startswith("encode") else threads > 1
    env = os.environ | {"TOKENIZERS_PARALLELISM": "false" if single else "true", "RAYON_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, __file__, "--child", system, str(out), str(tokenizer), str(threads)],
        env=env, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{system} failed:\n{done.stderr[-3000:]}")
    return float(done.stdout.split()[-1])


def main() -> None:
    if "--child" in sys.argv:
        system, out, tokenizer, threads = sys.argv[sys.argv.index("--child") + 1 :]
        return child(system, out, tokenizer, int(threads))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--mb", type=int, default=60, help="megabytes of text, at least")
    parser.add_argument("--vocab-size", type=int, default=32000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    from instar.text.tokenizer import Tokenizer

    seconds: dict[str, list[float]] = {f"{system} {count}": [] for system in SYSTEMS for count in (1, 2)}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        texts = (document.text for document in read([str(options.data / pattern) for pattern in TEXTS]))
        Tokenizer.train(texts, options.vocab_size).save(work / "tokenizer")
        size = write_documents(options.data, work / "out", options.mb * 1_000_000)
        for turn in range(options.rounds):
            for name in list(seconds)[:: 1 if turn % 2 == 0 else -1]:
                system, count = name.split()
                seconds[name].append(measured(system, work / "out", work / "tokenizer", int(count)))
                print(f"{name}: {seconds[name][-1]:.2f} s", file=sys.stderr, flush=True)
    rates = {name: size / 1e6 / statistics.median(found) for name, found in seconds.items()}
    wanted = rates["encode_batch 2"]
    rows = [[name, rate, rate / wanted] for name, rate in rates.items()]
    note = f"{size / 1e6:.1f} MB of text, medians of {options.rounds} rounds"
    columns = ["threads of tokenizers, workers of the others", "MB/s", "of encode_batch 2"]
    Console().print(table("tokenising", columns, rows, note=note))
    if options.json:
        options.json.write_text(json.dumps({"bytes": size, "seconds": seconds, "rates": rates}, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
