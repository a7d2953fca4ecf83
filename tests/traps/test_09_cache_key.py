"""Trap 9, axolotl-ai-cloud/axolotl#1265, #1136: tokens cached for one tokenizer were used with another, and the loss
was 10 instead of 4. Here a shard carries the fingerprint of its tokenizer, a prepared folder the key of its data, and
both are refused where they are another's."""

import json
import os
import shutil

import pytest

from instar.config import InputError
from instar.config.data import read_data_recipe
from instar.data.corpus import fingerprint, load_tokens
from instar.data.refine.run import prepare
from instar.text.tokenizer import Tokenizer


@pytest.fixture
def folders(tmp_path):
    """A data file, a tokenizer, the same tokenizer with another template, and another tokenizer."""
    (tmp_path / "data.jsonl").write_text(json.dumps({"text": "the cat sat on the mat"}) + "\n")
    Tokenizer.train(["the cat sat on the mat"], 320).save(tmp_path / "first")
    shutil.copytree(tmp_path / "first", tmp_path / "template")
    template = tmp_path / "template" / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    Tokenizer.train(["another text altogether"], 320).save(tmp_path / "second")
    return tmp_path


def made(folders, tokenizer):
    """The data as token shards."""
    source = {"data": [str(folders / "data.jsonl")], "rules": ["none"]}
    recipe = {"sources": [source], "duplicates": {"exact": False, "near": False}, "executor": {"workers": 1}}
    return prepare(read_data_recipe(recipe), folders / tokenizer, folders / "out")


def test_a_tokenizer_is_identified_by_all_that_makes_ids(folders):
    """Loaded anew it is the same; another vocabulary or another chat template is another."""
    names = ("first", "first", "template", "second")
    first, again, template, second = (Tokenizer.load(folders / name).fingerprint for name in names)
    assert first == again
    assert len({first, template, second}) == 3


def test_one_byte_of_data_changes_what_identifies_it(folders):
    """A file of the same name, length and time with one other byte is other data."""
    path = folders / "data.jsonl"
    before, status = fingerprint([str(path)]), path.stat()
    path.write_text(path.read_text().replace("cat", "bat"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert fingerprint([str(path)]) != before


@pytest.mark.parametrize("other", ["template", "second"])
def test_tokens_of_another_tokenizer_are_not_trained_on(folders, other):
    """Shards made with one tokenizer are refused by another, with both fingerprints, and not overwritten."""
    made(folders, "first")
    first, second = (Tokenizer.load(folders / name) for name in ("first", other))
    with pytest.raises(InputError, match=f"{first.fingerprint[:12]}, and this run uses {second.fingerprint[:12]}"):
        load_tokens([str(folders / "out")], second)
    with pytest.raises(InputError, match=f"{first.fingerprint[:12]}, wanted {second.fingerprint[:12]}"):
        made(folders, other)
    assert load_tokens([str(folders / "out")], first)[1]["documents"] == 1


def test_tokens_of_other_data_are_not_used_again(folders):
    """Prepared once, the folder is left as it is; with other data it is refused, not believed."""
    made(folders, "first")
    assert made(folders, "first")["reused"]
    (folders / "data.jsonl").write_text(json.dumps({"text": "a dog stood under the mat"}) + "\n")
    with pytest.raises(InputError, match=r"out .*name another folder"):
        made(folders, "first")
