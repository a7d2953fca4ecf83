"""`instar tokenizer ...` and `instar data ...`."""

import json

import pytest
from rich.cells import cell_len

from instar.config import dump_yaml
from instar.text import Tokenizer

STORIES = "world:stories?count=60"


def test_tokenizer_train(cli, tmp_path):
    """The tokenizer is written, and its size told; training it again gives the same one."""
    words = ["tokenizer", "train", "--data", STORIES, "--vocab-size", "400", "--out", tmp_path / "t"]
    first = cli(*words, "--json").json
    assert (first["vocab_size"], first["documents"]) == (448, 60)
    assert cli(*words, "--json").json["fingerprint"] == first["fingerprint"]
    assert "fingerprint" in cli(*words).out


def test_tokenizer_train_for_encoders(cli, tmp_path):
    """The command adds a mask, a begin token and sentinels where they are asked for."""
    words = ["tokenizer", "train", "--data", STORIES, "--vocab-size", "400", "--masks", "--sentinels", "5"]
    assert cli(*words, "--out", tmp_path).status == 0
    tokenizer = Tokenizer.load(tmp_path)
    assert (tokenizer.mask, tokenizer.document("a")[0]) == (tokenizer.specials["<|mask|>"], tokenizer.bos)
    assert len(tokenizer.sentinels) == 5


def test_tokenizer_show(grown, cli):
    """Pieces, bytes and ids, with the merges on demand; text that looks like markup is text."""
    folder = grown.out / "tokenizer"
    plain = cli("tokenizer", "show", "--model", folder, "The [b]ball[/b] 球")
    assert plain.status == 0
    assert "]ball" in plain.out
    assert "<E7" in plain.out
    merges = cli("tokenizer", "show", "--model", folder, "The ball", "--merges")
    assert len(merges.out) > len(plain.out) / 2
    assert cli("tokenizer", "show", "--model", folder, "The ball", "--json").json["text"] == "The ball"


def test_tokenizer_compare(grown, cli):
    """A table for each script within 80 columns, and the same rows for machines."""
    words = ["tokenizer", "compare", "--data", STORIES, "world:stories?count=60&lang=zh", "--sizes", "320", "384"]
    words += ["--models", grown.out / "tokenizer", "--held-out", "0.2"]
    rows = cli(*words, "--json").json["rows"]
    assert {row["vocab_size"] for row in rows} == {320, 384, 512}
    lines = [line for line in cli(*words).out.splitlines() if line]
    assert max(map(cell_len, lines)) <= 80


def test_data_prepare_and_preview(grown, cli, tmp_path):
    """Shards that pretraining can read; and the tokens that teach, before any training."""
    result = cli("data", "prepare", "--data", STORIES, "--tokenizer", grown.out / "tokenizer", "--out", tmp_path / "s")
    assert result.status == 0
    assert list((tmp_path / "s").glob("*.tokens.safetensors"))
    words = ["data", "preview", "--model", grown.sft, "--data", "world:dialogues?count=2", "--records", "2"]
    report = cli(*words, "--json").json
    assert len(report["documents"]) == 2
    taught = sum(token["teaches"] for document in report["documents"] for token in document)
    assert f"{taught} of {sum(map(len, report['documents']))} tokens teach" in cli(*words).out


def test_data_preview_of_pairs(grown, cli, tmp_path):
    """Of pairs of answers the prompt is only read; each answer has a line and a colour; bad records are named."""
    pair = {"prompt": "Where?", "chosen": "There.", "rejected": "No"}
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(map(json.dumps, [pair, pair | {"rejected": "There."}])))
    words = ["data", "preview", "--model", grown.sft, "--data", file]
    report = cli(*words, "--json").json
    (tokens,) = report["documents"]
    assert {(token["part"], token["teaches"]) for token in tokens} == {
        ("prompt", False), ("chosen", True), ("rejected", True),
    }  # fmt: skip
    assert (report["counts"]["identical"], len(report["left_out"])) == (1, 1)
    result = cli(*words)
    taught = sum(token["teaches"] for token in tokens)
    assert f"{taught} of {len(tokens)} tokens count: chosen green, rejected red" in result.out
    assert "record 2: chosen and rejected are the same answer" in result.err
    first, second, third = result.out.splitlines()[-5:-2]
    assert "There." in "".join(second.split()) or "There." in "".join(first.split())
    assert "No" in "".join(third.split()) or "No" in "".join(second.split())


@pytest.fixture
def refined(tmp_path):
    """A recipe of two sources, with a row at fault and a copy."""
    rows = ["Anna has a ball. She likes it.", "Ben has a kite. He likes it.", "Anna has a ball. She likes it."]
    lines = [json.dumps({"text": text}) for text in rows]
    (tmp_path / "a.jsonl").write_text("\n".join([*lines, "{cut"]) + "\n")
    (tmp_path / "b.txt").write_text("A story of a dog.")
    sources = [{"name": "rows", "data": [str(tmp_path / "a.jsonl")], "epochs": 2}, {"data": [str(tmp_path / "b.txt")]}]
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_yaml({"name": "small", "sources": sources, "executor": {"workers": 1}}))
    return path


def test_data_prepare_from_a_recipe(cli, grown, refined, tmp_path):
    """First a sample, then documents, then tokens in the same folder: each says what went in and out and why, in 80
    columns, and where its page is."""
    out = tmp_path / "out"
    words = ["data", "prepare", refined, "--out", out]
    sample = cli(*words, "--sample", 4)
    assert f"why, and examples: {out / 'sample' / 'report.html'}" in sample.out.splitlines()
    assert [path.name for path in out.iterdir()] == ["sample"]
    documents = cli(*words)
    assert documents.status == 0
    lines = documents.out.splitlines()[:-1]
    assert next(line.split() for line in lines if line.strip().startswith("rows"))[:3] == ["rows", "4", "2"]
    assert next(line.split() for line in lines if line.strip().startswith("all"))[:3] == ["all", "5", "3"]
    assert max(map(cell_len, lines)) <= 80
    assert "read: json 1" in documents.out
    report = cli(*words, "--tokenizer", grown.out / "tokenizer", "--keep-work", "--json").json
    assert [(shard["source"], shard["documents"]) for shard in report["shards"]] == [("rows", 2), ("text", 1)]
    assert report["sources"]["rows"]["epochs"] == 2
    assert (out / "work" / "ledger").is_dir()


def test_data_prepare_is_told_what_is_wrong(cli, refined, tmp_path):
    """Neither a recipe nor data, both, a recipe that is none, an executor that is none."""
    out = tmp_path / "out"
    for words, said in (
        ([], "neither RECIPE.yaml nor --data"),
        ([refined, "--data", STORIES], "both RECIPE.yaml and --data"),
        ([tmp_path / "none.yaml"], "no such file"),
        ([refined, "--sample", "-1"], "--sample -1"),
        ([refined, "--executor.kind", "lcoal"], "did you mean local"),
        ([refined, "--workers", "-1"], "executor.workers=-1"),
        ([refined, "--executor.kind", "slurm"], "slurm"),
    ):
        result = cli("data", "prepare", *words, "--out", out)
        assert (result.status, said in result.err) == (2, True), result.err
    assert not out.exists()
