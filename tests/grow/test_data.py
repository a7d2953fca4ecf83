"""A life that begins with raw files."""

import json

import pytest

from instar.config import InputError
from instar.config.recipe import read_recipe
from instar.grow.life import Life

pytest.importorskip("datatrove")

TEXTS = [
    f"The {one} stands beside the {other}, and the {other} is old. " * 3
    for one in ("tower", "well")
    for other in ("gate", "mill")
]


@pytest.fixture
def recipe(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS), encoding="utf-8")
    source = {"name": "rows", "data": [str(rows)], "rules": ["repair"]}
    return read_recipe({"data": {"sources": [source], "executor": {"workers": 1}}, "tokenizer": {"vocab_size": 320}})


def life(recipe, tmp_path):
    return Life(recipe, tmp_path / "out", device="cpu", quiet=True, say=lambda text: None, counting=None)


def begin(one):
    """The stages before pretraining, and what pretraining reads."""
    one._claim()
    first = one._refined()
    one._tokenizer()
    return first, one._refined(one.out / "tokenizer")


def test_a_life_refines_its_texts_before_anything_is_learnt(recipe, tmp_path, monkeypatch):
    """The tokenizer is made of the refined documents and pretraining reads their tokens; all of it only once."""
    read = []
    monkeypatch.setattr("instar.grow.life.stages.pretrain", lambda options, *, say: read.append(options.data) or {})
    first, second = begin(life(recipe, tmp_path))
    assert first["documents"] == second["documents"] == len(TEXTS)
    assert first["tokens"] == 0 < second["tokens"]
    out = tmp_path / "out" / "data"
    times = {path: path.stat().st_mtime_ns for path in out.glob("*.safetensors")}
    assert times
    one = life(recipe, tmp_path)
    begin(one)
    one._pretrain()
    assert read == [(str(out),)]
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.safetensors")} == times


def test_other_raw_files_are_refined_anew(recipe, tmp_path):
    """A file that changed makes a new folder, and the old one is kept."""
    begin(life(recipe, tmp_path))
    with (tmp_path / "rows.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"text": "A fifth text about a boat. " * 4}) + "\n")
    _, told = begin(life(recipe, tmp_path))
    assert told["documents"] == len(TEXTS) + 1
    assert (tmp_path / "out" / "data.1").is_dir()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "data: sources is missing"),
        ({"sources": [{"kind": "web"}]}, r"data: sources\[0\].data is missing"),
        ("nowhere.yaml", "no such file: nowhere.yaml"),
        (None, "tokenizer.data is missing"),
    ],
)
def test_recipes_without_anything_to_read(data, message):
    """Told before any work, with the path of what is missing."""
    with pytest.raises(InputError, match=message):
        read_recipe({"data": data} if data is not None else {})
