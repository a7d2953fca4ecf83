"""Tokenizers and token shards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tyro.conf import Positional

from .screen import REQUIRED, SHORT, Screen


@dataclass(frozen=True)
class TokenizerTrainOptions(Screen):
    """Train a byte-level BPE tokenizer."""

    # files, folders, globs, world:NAME or hf:org/name
    data: tuple[str, ...] = field(default=(), metadata=REQUIRED)
    # folder that is written
    out: str = field(default="", metadata=REQUIRED)
    # keys of a record that hold its texts, en and de for one; none takes the usual ones
    fields: tuple[str, ...] = ()
    # rows of the embedding; padded up to a multiple of 64
    vocab_size: int = 8192
    # longest token in bytes; a cap keeps a small corpus from turning whole phrases into tokens
    max_token_bytes: int = 16
    # qwen2 (single digits) or llama-bpe (up to three): split patterns that llama.cpp knows by these names
    split: Literal["qwen2", "llama-bpe"] = "qwen2"
    # no token reaches over the edge of a Chinese character
    single_han: bool = False
    # documents that list words, one a line: nor over the edge of a Chinese word among them
    words: tuple[str, ...] = ()
    # control tokens of a chat: chatml, as most models have it, or brief, one token for each turn
    markup: Literal["chatml", "brief"] = "chatml"
    # a mask, and a begin token before every document: what an encoder needs
    masks: bool = False
    # marks for the holes of span corruption; a row of 512 tokens takes up to 27
    sentinels: int = 0
    # bytes of text learnt from at most, drawn evenly from all of it; 0 takes everything. Memory grows with them: these
    # take 1 GB of English, and up to 5 GB of Chinese, which has no blanks between words
    max_bytes: int = 64_000_000


@dataclass(frozen=True)
class TokenizerShowOptions(Screen):
    """Show how a text becomes tokens: bytes, merges, ids."""

    # run folder, Hugging Face folder or hf:org/name
    model: str = field(default="", metadata=REQUIRED)
    # the text
    text: Positional[str] = field(default="", metadata={"positional": True, "required": True})
    # show every merge, step by step
    merges: bool = False


@dataclass(frozen=True)
class TokenizerCompareOptions(Screen):
    """Vocabulary sizes against bytes per token, per language: what a larger vocabulary buys."""

    # files, folders, globs, world:NAME or hf:org/name
    data: tuple[str, ...] = field(default=(), metadata=REQUIRED)
    # sizes to train and compare
    sizes: tuple[int, ...] = (512, 1024, 2048, 4096, 8192)
    # existing tokenizers to put beside them
    models: tuple[str, ...] = ()
    # share of the documents that is kept for evaluation, chosen by hash
    held_out: float = 0.05


@dataclass(frozen=True)
class ExecutorChangeOptions:
    """Who runs the tasks, where not as the recipe says. What is written is the same with any of them."""

    # local processes, a Slurm cluster, or a Ray cluster
    kind: Literal["local", "slurm", "ray"] | None = None
    # tasks at a time; 0: as many as this machine has cores
    workers: int | None = None
    # ray: address of the cluster
    address: str | None = None
    # slurm: partition
    partition: str | None = None
    # slurm: longest time of a task
    time: str | None = None
    # slurm and ray: gigabytes for each task
    memory_gb: float | None = None


@dataclass(frozen=True)
class PrepareOptions(Screen):
    """Turn raw files into refined documents and token shards, by a recipe or as they are."""

    # YAML file of a data recipe
    recipe: Positional[str] = field(default="", metadata={"positional": True})
    # in place of a recipe, without rules: files, folders, globs, fsspec addresses, world:NAME or hf:org/name
    data: tuple[str, ...] = ()
    # folder of the tokenizer; none writes documents alone, and the same command with one goes on
    tokenizer: str = ""
    # folder that is written
    out: str = field(default="", metadata=REQUIRED)
    # try so many documents, and write OUT/sample/report.html alone
    sample: int = 0
    # leave OUT/work: logs, ledgers and signatures
    keep_work: bool = False

    executor: ExecutorChangeOptions = field(default_factory=ExecutorChangeOptions, metadata=SHORT)


@dataclass(frozen=True)
class PreviewOptions(Screen):
    """Print tokens coloured by what they teach, before any training: of texts, dialogues, or pairs of answers."""

    # run folder, Hugging Face folder or hf:org/name
    model: str = field(default="", metadata=REQUIRED)
    # files, folders, globs, world:NAME or hf:org/name
    data: tuple[str, ...] = field(default=(), metadata=REQUIRED)
    # records shown
    records: int = 3
    # tokens in one row; of pairs, of a prompt with one answer
    context: int = 256
    # assistant teaches only the replies; all teaches every token
    teach: Literal["assistant", "all"] = "assistant"
