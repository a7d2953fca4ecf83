"""Is refined text worth more? Two models of one shape, the same number of tokens: one reads the raw text, one the
refined.

    python benchmarks/refined.py [--data data] [--steps 300] [--mixtures planted natural] [--json FILE]

`planted`: real prose of the kind that the rules of the web are for, with boilerplate, copies and broken text among it,
made here. `natural`: web pages, books, papers and dialogues as they lie in the folder of data, only read. Held out are
real documents that neither model reads: a hash of their text keeps a tenth aside before anything is planted. Every step
is the command that a user would type.
"""

from __future__ import annotations

import argparse
import json
import random
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from instar.cli.screen import table
from instar.data.corpus import read, sections, text_key

CLEAN = (
    "pretrain/en/wikitext2.valid.txt", "pretrain/en/tinystories.txt", "pretrain/en/speeches.jsonl",
    "pretrain/zh/luxun.jsonl",
)  # fmt: skip
NATURAL = (
    {"name": "web", "kind": "web", "data": ["web/aeb/html", "web/zh/html", "web/trafilatura/html"],
     "languages": ["en", "zh"]},
    {"name": "books", "kind": "books",
     "data": ["sources/books", "pretrain/en/books/lewis*", "pretrain/zh/books/xiyouji.txt"]},
    {"name": "papers", "kind": "papers", "data": ["papers/arxiv_sample.jsonl", "papers/jats_xml", "papers/joss_md"]},
    {"name": "dialogues", "kind": "dialogues", "data": ["dialogue"]},
)  # fmt: skip
BOILERPLATE = (
    "Home | About | Contact | Login\nHome | About | Contact | Login\nSubscribe now\nShare this\nShare this\n",
    "We use cookies to improve this site.\nAccept all\nReject all\nPrivacy policy\nTerms of use\nRead more\n",
    "首页 | 新闻 | 登录 | 注册\n首页 | 新闻 | 登录 | 注册\n上一篇\n下一篇\n点击这里\n点击这里\n版权所有\n",
    "cheap flights cheap flights cheap flights best price cheap flights best price cheap flights now\n",
)
HELD_OUT = 0.1


def instar(*words: str | Path) -> dict[str, Any]:
    """Run one command with --json and return what it reports."""
    command = [str(word) for word in words]
    print(f"$ instar {shlex.join(command)}", file=sys.stderr, flush=True)
    code = "from instar.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *command, "--json"], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def kept_aside(text: str) -> bool:
    """Whether a document is of the held-out tenth."""
    return text_key(text) < HELD_OUT * (1 << 53)


def clean(data: Path) -> list[str]:
    """Real documents, long ones in sections."""
    found = (document.text for document in read([str(data / name) for name in CLEAN]))
    return [part.strip() for text in found for part in sections(text) if len(part.strip()) > 200]


def planted(texts: list[str], draw: random.Random) -> Iterator[tuple[str, str]]:
    """(what it is, text): every document once, and beside it pages of boilerplate, text that lost its encoding, and a
    twentieth of the documents fifteen times more with a few words changed."""
    for text in texts:
        yield "documents", text
        for _ in range(3):
            part = "".join(draw.choices(BOILERPLATE, k=draw.randrange(4, 12)))
            yield "boilerplate", part + draw.choice(texts)[:120] + part
        if draw.random() < 0.25:
            yield "broken", draw.choice(texts).encode("utf-8").decode("latin-1")
    for text in draw.sample(texts, len(texts) // 20):
        for _ in range(15):
            words = text.split(" ")
            for _ in range(max(1, len(words) // 100)):
                words[draw.randrange(len(words))] = draw.choice(words)
            yield "copies", " ".join(words)


def write_planted(path: Path, texts: list[str]) -> dict[str, int]:
    """Write them; the bytes of each kind."""
    found = list(planted(texts, random.Random(0)))
    write_rows(path, [text for _, text in found])
    sizes: dict[str, int] = {}
    for kind, text in found:
        sizes[kind] = sizes.get(kind, 0) + len(text.encode())
    return sizes


def write_rows(path: Path, texts: list[str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)


def recipes(sources: list[dict[str, Any]], work: Path) -> dict[str, Path]:
    """The same sources twice: only read, and refined."""
    raw = [{**source, "rules": ["none"], "languages": []} for source in sources]
    off = {"exact": False, "near": False}
    found = {
        "raw": {"name": "raw", "sources": raw, "duplicates": off},
        "refined": {"name": "refined", "sources": sources},
    }
    paths = {name: work / f"{name}.yaml" for name in found}
    for name, recipe in found.items():
        paths[name].write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
    return paths


def bits(name: str, recipe: Path, tokenizer: Path, held_out: Path, work: Path, steps: int) -> dict[str, Any]:
    """Prepare, pretrain, and measure the surprise at the held-out documents."""
    prepared = instar("data", "prepare", recipe, "--tokenizer", tokenizer, "--out", work / f"{name}-data")
    trained = instar(
        "pretrain", "--data", work / f"{name}-data", "--tokenizer", tokenizer, "--out", work / f"{name}-model",
        "--preset", "nano", "--held-out", "0.01", "--train.steps", str(steps), "--train.optimizer", "muon",
        "--train.lr", "3e-3", "--train.muon-lr", "0.01", "--train.decay", "0.5", "--train.compile",
    )  # fmt: skip
    found = instar("eval", "--model", work / f"{name}-model", "--data", held_out)
    tokens = sum(shard["tokens"] for shard in prepared["shards"])
    return {"tokens": tokens, "read": trained["tokens"], "bits_per_byte": found["bits_per_byte"]}


def compared(sources: list[dict[str, Any]], held_out: Path, work: Path, steps: int) -> dict[str, dict[str, Any]]:
    """Both models, with a tokenizer that was made of the raw text."""
    paths = recipes(sources, work)
    instar("data", "prepare", paths["raw"], "--out", work / "texts")
    tokenizer = work / "tokenizer"
    instar("tokenizer", "train", "--data", work / "texts", "--vocab-size", "4096", "--out", tokenizer)
    return {name: bits(name, path, tokenizer, held_out, work, steps) for name, path in paths.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--mixtures", nargs="+", choices=["planted", "natural"], default=["planted", "natural"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, Any] = {}
    texts = clean(options.data)
    for mixture in options.mixtures:
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            write_rows(work / "held-out.jsonl", [text for text in texts if kept_aside(text)])
            if mixture == "planted":
                rows = work / "planted.jsonl"
                sizes = write_planted(rows, [text for text in texts if not kept_aside(text)])
                print(f"planted, bytes: {sizes}", flush=True)
                sources = [{"name": "texts", "kind": "web", "data": [str(rows)]}]
            else:
                sources = [
                    {**source, "data": [str((options.data / name).absolute()) for name in source["data"]]}
                    for source in NATURAL
                ]
            found[mixture] = compared(sources, work / "held-out.jsonl", work, options.steps)
        cells = [[name, row["tokens"], row["read"], row["bits_per_byte"]] for name, row in found[mixture].items()]
        title = f"{mixture}: surprise at real documents that neither model read"
        Console().print(table(title, ["text", "tokens in it", "tokens read", "bits per byte"], cells))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
