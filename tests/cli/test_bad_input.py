"""A table of bad input: each is told in one sentence with its remedy and status 2, and nothing that existed changes."""

import gzip
import hashlib
import json
import math
import shutil

import pytest
import torch
from safetensors.torch import save_file

from instar.cli import run

LINE = b'{"text": "Anna has a ball."}\n'
TALK = b'{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}\n'


@pytest.fixture
def model(grown, tmp_path):
    """A copy of a small model with its tokenizer, to be spoilt."""
    shutil.copytree(grown.out / "sft", tmp_path / "model", ignore=shutil.ignore_patterns("checkpoints"))
    return tmp_path / "model"


def state(folder):
    """Every file below a folder with its digest, and every folder."""
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def refuse(capsys, tmp_path):
    """refuse(words...) -> the sentence, once everything that a refusal promises was checked."""

    def call(*words):
        before = state(tmp_path)
        capsys.readouterr()
        status = run([str(word) for word in words])
        out, err = capsys.readouterr()
        assert status == 2, err
        assert out == ""
        assert "Traceback" not in err
        assert err.startswith("instar: ")
        assert err.count("\n") == 1, err
        assert {path: digest for path, digest in state(tmp_path).items() if path in before} == before
        return err.removeprefix("instar: ").strip()

    return call


# What is wrong with data -> the name of the file, its bytes (None: there is none), what names the mistake, the remedy.
DATA = {
    "missing": ("x.jsonl", None, "no such file or folder", "give a file, a folder"),
    "no lines": ("x.jsonl", b"\n\n", "of", ""),
    "not JSON": ("x.jsonl", LINE + b'{"text": \n', "line 2: not JSON", "every line of .jsonl is one object"),
    "a line that is no object": ("x.jsonl", LINE * 2 + b"[3]\n", "line 3: found list", "wanted an object such as"),
    "a number without end": ("x.jsonl", LINE + b"9" * 5000 + b"\n", "line 2: not JSON", "one object"),
    "nested without end": ("x.jsonl", LINE + b"[" * 99_999, "line 2: not JSON", "one object"),
    "no field": ("x.jsonl", LINE + TALK + b'{"body": "x"}\n', "record", "wanted one of"),
    "half a character": (
        "x.jsonl",
        LINE + b'{"prompt": "\\ud800", "completion": "x"}\n',
        "",
        "half of a surrogate pair; ",
    ),
    "cut gzip": ("x.jsonl.gz", gzip.compress(LINE * 99)[:-12], "cannot be read to its end", "is the file whole"),
    "no gzip": ("x.jsonl.gz", LINE, "cannot be read to its end", "is the file whole"),
    "spoilt gzip": ("x.jsonl.gz", gzip.compress(LINE)[:14] + b"\xff" * 40, "cannot be read", "is the file whole"),
    "binary": ("x.txt", b"\x89PNG\r\n\x1a\n\0\0", "is not UTF-8", "convert the file"),
    "NUL": ("x.txt", b"a\0b", "NUL byte", "remove it"),
    "another kind": ("x.pdf", b"%PDF", "no reader", "known: .txt"),
    "no table": ("x.parquet", b"PAR1", "not a readable Parquet file", ""),
}
READERS = {
    "tokenizer train": ["--out", "OUT"],
    "data prepare": ["--tokenizer", "MODEL", "--out", "OUT"],
    "pretrain": ["--tokenizer", "MODEL", "--out", "OUT"],
    "sft": ["--model", "MODEL", "--out", "OUT", "--bad-records", "0"],
    "data preview": ["--model", "MODEL"],
    "eval": ["--model", "MODEL"],
}


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("command", ["tokenizer train", "sft"])
def test_data(name, command, grown, refuse, tmp_path):
    """Data that cannot be learnt from: the file and the line are named."""
    file, raw, words, remedy = DATA[name]
    if command == "sft" and raw is not None and file.startswith("x.jsonl") and "gz" not in file:
        raw = raw.replace(LINE, TALK)
    if raw is not None:
        (tmp_path / file).write_bytes(raw)
    known = {"OUT": tmp_path / "out", "MODEL": grown.out / "sft"}
    said = refuse(*command.split(), *[known.get(w, w) for w in READERS[command]], "--data", tmp_path / file)
    assert file in said or name == "no lines"
    assert words in said
    assert remedy in said
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize("name", [name for name in DATA if name not in ("missing", "no lines", "another kind")])
def test_raw_data(name, cli, tmp_path):
    """`data prepare` gives up what it cannot read, counts and names it, and goes on with the rest; what it can read of
    these, it reads."""
    file, raw, _, _ = DATA[name]
    (tmp_path / file).write_bytes(raw)
    (tmp_path / "fine.jsonl").write_bytes(LINE)
    report = cli("data", "prepare", "--out", tmp_path / "out", "--data", tmp_path, "--quiet", "--json").json
    (source,) = report["sources"].values()
    broken = [place["where"] for fault in source["broken"] for place in fault["first"]]
    assert source["flow"]["read"]["documents"][1] >= 1
    assert any(file in where for where in broken) or name in READ, report["sources"]


# what strict readers refuse and a reader of raw data can make sense of
READ = {"half a character", "not UTF-8", "no text"}


def config(**values):
    """A change of config.json."""
    return lambda folder: rewrite(folder / "config.json", lambda data: data.update(values))


def tokenizer(change):
    """A change of tokenizer.json."""
    return lambda folder: rewrite(folder / "tokenizer.json", change)


def rewrite(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def weights(change):
    """A change of model.safetensors: (header, its length, data) -> the same."""

    def spoil(folder):
        path = folder / "model.safetensors"
        raw = path.read_bytes()
        end = 8 + int.from_bytes(raw[:8], "little")
        header, data = change(json.loads(raw[8:end]), raw[end:])
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + data)

    return spoil


def first(header, **values):
    """The header with its first tensor changed."""
    name = next(name for name in header if name != "__metadata__")
    return header | {name: header[name] | values}


def moved(header, by):
    """The header with the last tensor elsewhere."""
    name = max((n for n in header if n != "__metadata__"), key=lambda n: header[n]["data_offsets"])
    return first({name: header[name]} | header, data_offsets=[place + by for place in header[name]["data_offsets"]])


def tensor(start, dtype, shape):
    """A tensor of single bytes that begins here."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, start + math.prod(shape)]}


def to_pickle(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def to_shards(*names):
    """Only an index that names these files is left of the weights."""

    def spoil(folder):
        index = {"weight_map": {f"w{n}": name for n, name in enumerate(names)}}
        (folder / "model.safetensors").rename(folder / "part.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return spoil


def to_adapter(folder):
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        (folder / name).unlink()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "no/such/base"}')
    save_file({"base_model.model.x.lora_A.weight": torch.zeros(2, 2)}, folder / "adapter_model.safetensors")


HUGE = {
    "hidden_size": 32_768, "num_hidden_layers": 80, "intermediate_size": 131_072, "num_attention_heads": 256,
    "num_key_value_heads": 256, "head_dim": 128,
}  # fmt: skip
FETCH = "fetch or save it again"
# What is wrong with a model -> how to spoil one, what names the mistake, the remedy.
MODELS = {
    "heads that do not divide": (config(num_attention_heads=3, num_key_value_heads=2), "heads=3 is not a multiple", ""),
    "a trillion weights": (config(**HUGE, layer_types=None), "bytes are free", "take a smaller model"),
    "a trillion layers": (config(num_hidden_layers=10**12), "num_hidden_layers=1,000,000,000,000", "up to 1,024"),
    "config key twice": (
        lambda f: (f / "config.json").write_text('{"vocab_size": 1, "vocab_size": 2}'), "stands twice", "keep one",
    ),
    "config not finite": (lambda f: (f / "config.json").write_text('{"a": NaN}'), "found the number NaN", "wanted a"),
    "large config": (lambda f: (f / "config.json").write_text(" " * (1 << 21)), "2,097,152 bytes", "is it the right"),
    "unknown family": (config(architectures=["XForCausalLM"]), "unknown architecture XForCausalLM", "did you mean"),
    "smaller vocabulary": (config(vocab_size=64), "", ""),
    "pickle": (to_pickle, "pytorch_model.bin, a pickle", "save_file"),
    "pickles in an index": (to_shards("pytorch_model-1.bin"), "pytorch_model-1.bin, a pickle", "save_file"),
    "index out of the folder": (to_shards("../part.safetensors"), "is no file of this folder", "fetch"),
    "index without a map": (
        lambda f: (to_shards()(f), (f / "model.safetensors.index.json").write_text("{}")), "no weight_map", "fetch",
    ),
    "adapter": (to_adapter, "was made for no/such/base, which is not there", "instar merge --base"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "holds no model.safetensors", "name a folder"),
    "huge header": (
        lambda f: (f / "model.safetensors").write_bytes((10**12).to_bytes(8, "little") + b"{}"),
        "1,000,000,000,000 bytes", FETCH,
    ),
    "cut short": (weights(lambda h, d: (h, d[:-1])), "is cut short", FETCH),
    "trailing byte": (weights(lambda h, d: (h, d + b"\0")), "goes on after its last tensor", FETCH),
    "overlap": (weights(lambda h, d: (moved(h, -4), d)), "overlaps", FETCH),
    "hole": (weights(lambda h, d: (moved(h, 4), d + bytes(4))), "leaves a hole", FETCH),
    "key twice": (weights(lambda h, d: (b'{"a": {}, "a": {}}', d)), "stands twice", FETCH),
    "overflow": (weights(lambda h, d: (first(h, shape=[1 << 32, 1 << 32, 1 << 32]), d)), "wanted", FETCH),
    "nothing times very much": (
        weights(lambda h, d: (h | {"z": tensor(len(d), "F32", [0, 1 << 50])}, d)),
        "whole numbers up to", FETCH,
    ),
    "bad dtype": (weights(lambda h, d: (first(h, dtype="F31"), d)), "unknown dtype", FETCH),
    "a name that is a path": (
        weights(lambda h, d: (h | {"../../x": tensor(len(d), "U8", [1])}, d + b"\0")),
        "unclaimed: ../../x", "take both from one model",
    ),
    "header that is no UTF-8": (weights(lambda h, d: (b'{"\xff": {}}', d)), "not UTF-8", FETCH),
    "padding": (
        tokenizer(lambda spec: spec.update(padding={"strategy": {"Fixed": 50_000_000}})), "50000000 ids",
        "set its padding to null",
    ),
    "endless pattern": (
        tokenizer(
            lambda spec: spec.update(
                pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
            )
        ),
        "can take for ever", "write it without",
    ),
    "id past the model": (
        tokenizer(lambda spec: spec["added_tokens"][-1].update(id=3_000_000)), "3000001", "",
    ),
    "large tokenizer": (
        lambda f: (f / "tokenizer.json").open("r+b").truncate((64 << 20) + 1), "wanted at most 67,108,864", "is it",
    ),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "holds no tokenizer.json", "wanted that"),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_models(name, model, refuse):
    """A model that is no model, or one meant to hurt: the file is named, whatever the command."""
    spoil, words, remedy = MODELS[name]
    spoil(model)
    said = refuse("generate", "--model", model, "--prompt", "x")
    assert model.name in said or ".json" in said or "the tokenizer has" in said
    assert words in said
    assert remedy in said


@pytest.mark.parametrize("command", ["eval", "sft", "chat"])
@pytest.mark.parametrize("name", ["a trillion weights", "trailing byte", "padding", "adapter"])
def test_every_command_refuses_them(name, command, model, refuse, tmp_path):
    """The same from other commands."""
    MODELS[name][0](model)
    words = {"eval": ["--data", "world:dialogues?count=2"], "chat": []}.get(
        command, ["--data", "world:dialogues?count=2", "--out", tmp_path / "out"]
    )
    assert MODELS[name][1] in refuse(command, "--model", model, *words)


def test_a_prompt_longer_than_the_context(model, refuse):
    """How long it is, how much is read, and what to do."""
    said = refuse("generate", "--model", model, "--quiet", "--prompt", "Anna has a ball. " * 400)
    assert "but the model reads" in said
    assert said.endswith("; shorten the prompt")


@pytest.mark.parametrize("command", ["tokenizer train", "data prepare", "pretrain", "sft"])
def test_a_folder_that_is_not_ours(command, model, refuse, tmp_path):
    """A folder with something else in it stays as it is."""
    (tmp_path / "OUT").mkdir()
    (tmp_path / "OUT" / "thesis.tex").write_text("years of work")
    known = {"OUT": tmp_path / "OUT", "MODEL": model}
    data = "world:dialogues?count=5" if command == "sft" else "world:stories?count=5"
    said = refuse(*command.split(), *[known.get(w, w) for w in READERS[command]], "--data", data)
    assert "name another folder" in said
