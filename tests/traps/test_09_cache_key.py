"""Trap 9, axolotl-ai-cloud/axolotl#1265, #1136: tokens cached for one tokenizer were used with another, and the loss
was 10 instead of 4. Here prepared data carries a key over everything that shaped it, and is refused where that
changed."""

import json
import shutil

import pytest

from instar.config import InputError
from instar.data.corpus import data_key, load_tokens, prepare
from instar.text.tokenizer import Tokenizer

SETTINGS = {"context": 64, "teach": "assistant"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A data file, a tokenizer, the same tokenizer with another template, and another tokenizer."""
    root = tmp_path_factory.mktemp("key")
    (root / "data.jsonl").write_text(json.dumps({"text": "the cat sat on the mat"}) + "\n")
    Tokenizer.train(["the cat sat on the mat"], 320).save(root / "first")
    shutil.copytree(root / "first", root / "template")
    template = root / "template" / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    Tokenizer.train(["another text altogether"], 320).save(root / "second")
    return root


def key(folders, data="data.jsonl", tokenizer="first", **settings):
    return data_key([str(folders / data)], Tokenizer.load(folders / tokenizer), **(SETTINGS | settings))


def test_the_same_inputs_have_the_same_key(folders):
    """Equal data, tokenizer and settings, loaded anew."""
    assert key(folders) == key(folders)


@pytest.mark.parametrize(
    "change", [{"context": 65}, {"teach": "all"}, {"tokenizer": "second"}, {"tokenizer": "template"}]
)
def test_each_input_changes_the_key(folders, change):
    """Tokenizer, chat template, context, what teaches."""
    assert key(folders, **change) != key(folders)


def test_one_byte_of_data_changes_the_key(folders):
    """A file of the same name, length and time with one other byte is other data."""
    before = key(folders)
    path = folders / "data.jsonl"
    text = path.read_text()
    path.write_text(text.replace("cat", "bat"))
    after = key(folders)
    path.write_text(text)
    assert after != before == key(folders)


def test_tokens_of_another_tokenizer_are_not_trained_on(folders, tmp_path):
    """Shards made with one tokenizer are refused by another, with both fingerprints, and not overwritten."""
    first, second = (Tokenizer.load(folders / name) for name in ("first", "second"))
    prepare([str(folders / "data.jsonl")], first, tmp_path / "out")
    with pytest.raises(InputError, match=f"{first.fingerprint[:12]}, and this run uses {second.fingerprint[:12]}"):
        load_tokens([str(tmp_path / "out")], second)
    with pytest.raises(InputError, match="holds data prepared with the key"):
        prepare([str(folders / "data.jsonl")], second, tmp_path / "out")
    assert load_tokens([str(tmp_path / "out")], first)[1]["documents"] == 1
