"""Handmade raw files, a tokenizer, and recipes about them."""

import gzip
import json
import random

import pytest

from instar.config.data import read_data_recipe
from instar.text.tokenizer import Tokenizer

WORDS = "the a dog cat river house tree and but over under runs sings falls green old quick bright loud small".split()


def story(number):
    """A text of its own for each number."""
    draw = random.Random(number)
    sentences = [" ".join(draw.choices(WORDS, k=draw.randint(6, 12))).capitalize() + "." for _ in range(8)]
    return f"Story {number}. " + " ".join(sentences)


def rows(*texts):
    return "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)


@pytest.fixture(scope="session")
def raw(tmp_path_factory):
    """A folder of two sources: rows with copies and faults among them, and plain texts with files that are none."""
    folder = tmp_path_factory.mktemp("raw")
    for name in ("rows", "texts"):
        (folder / name).mkdir()
    (folder / "rows" / "a.jsonl").write_text(rows(*map(story, range(30))), encoding="utf-8")
    faults = "{cut\n" + rows("") + '["no", "fields"]\n' + '{"text": "half a \\ud800 character stands here"}\n'
    (folder / "rows" / "b.jsonl").write_text(rows(story(3), story(40)) + faults + rows(story(41)), encoding="utf-8")
    (folder / "rows" / "cut.jsonl.gz").write_bytes(gzip.compress(rows(*map(story, range(50, 90))).encode())[:-30])
    (folder / "rows" / "notes.pdf").write_bytes(b"%PDF")
    (folder / "texts" / "one.txt").write_text(story(100) + "\n\n" + story(101), encoding="utf-8")
    (folder / "texts" / "two.txt").write_text(story(40), encoding="utf-8")
    (folder / "texts" / "picture.txt").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)))
    return folder


@pytest.fixture(scope="session")
def tokens(tmp_path_factory):
    """The folder of a small tokenizer."""
    folder = tmp_path_factory.mktemp("tokenizer")
    Tokenizer.train([story(number) for number in range(200, 230)], 400).save(folder)
    return folder


@pytest.fixture(scope="session")
def recipe_of(raw):
    """recipe_of(changes...): a recipe of both sources, in tasks of a few documents, one after the other."""

    def make(**changes):
        sources = [
            {"name": "rows", "data": [str(raw / "rows")], "rules": ["repair"]},
            {"name": "texts", "data": [str(raw / "texts")]},
        ]
        usual = {"sources": sources, "task_mb": 0.006, "duplicates": {"buckets": 2}, "executor": {"workers": 1}}
        return read_data_recipe(usual | changes)

    return make
