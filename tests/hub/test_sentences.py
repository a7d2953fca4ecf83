"""A folder of sentence-transformers says how one vector is made of a text, and we say it in the same files."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from instar.batch import View
from instar.config import InputError
from instar.config.presets import preset
from instar.hub.files import load_model, save_model
from instar.hub.folders import load, load_tokenizer
from instar.hub.sentences import read_pooling
from instar.infer.vectors import embed
from instar.model.transformer import Transformer

BARE = preset("bert-nano", vocab_size=61, d_model=32, layers=2, heads=4, max_positions=64, heads_of=(), head_bias=False)
SHAPES = {
    "first": BARE,
    "mean of length one": replace(BARE, pooling="mean", normalised=True),
    "last": replace(BARE, pooling="last"),
}


@pytest.fixture
def folder(tmp_path):
    """A model whose vectors are means of length one."""
    save_model(Transformer(SHAPES["mean of length one"], seed=3), tmp_path)
    return tmp_path


def change(path, edit):
    data = json.loads(path.read_text())
    path.write_text(json.dumps(edit(data) or data))


@pytest.mark.parametrize("name", SHAPES)
def test_pooling_survives_the_way_there_and_back(tmp_path, name):
    """What config.json has no word for stands in modules.json and 1_Pooling/config.json."""
    save_model(Transformer(SHAPES[name], seed=3), tmp_path)
    assert load_model(tmp_path).config == SHAPES[name]


@torch.no_grad()
def test_vectors_are_those_of_transformers_states(folder, text):
    """The mean over real tokens, brought to length one, of what BertModel computes."""
    transformers = pytest.importorskip("transformers")
    tokens, keep, types = text
    theirs = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False)
    states = theirs(tokens, attention_mask=keep.long(), token_type_ids=types).last_hidden_state
    wanted = torch.stack([row[real].mean(0) / row[real].mean(0).norm() for row, real in zip(states, keep)])
    found = load_model(folder)(tokens, view=View(keep=keep, types=types))
    assert (found - wanted).abs().max() < 1e-6
    assert (states.mean(1) / states.mean(1).norm(dim=1, keepdim=True) - wanted).abs().max() > 1e-3


def test_as_newer_versions_write_it(folder):
    """Classes in other places, and the pooling as one word."""
    moved = "sentence_transformers.base.modules.somewhere."
    change(
        folder / "modules.json", lambda steps: [step | {"type": moved + step["type"].split(".")[-1]} for step in steps]
    )
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"embedding_dimension": 32, "pooling_mode": "lasttoken", "include_prompt": True})
    )
    assert read_pooling(folder, 32) == {"pooling": "last", "normalised": True}


def test_a_model_with_a_head_has_no_such_files(tmp_path):
    """Only a model whose answer is one vector a text says how it is made."""
    save_model(Transformer(replace(BARE, heads_of=("masked",), head_bias=True), seed=3), tmp_path)
    assert not (tmp_path / "modules.json").exists()
    assert read_pooling(tmp_path, 32) == {}


MAX = {"word_embedding_dimension": 32, "pooling_mode_max_tokens": True}


@pytest.mark.parametrize(
    ("file", "edit", "message"),
    [
        ("1_Pooling/config.json", lambda data: MAX, "unknown pooling in .* pooling_mode_max_tokens"),
        ("1_Pooling/config.json", lambda data: data | {"pooling_mode_cls_token": True}, "unknown pooling in"),
        ("1_Pooling/config.json", lambda data: {"pooling_mode": ["mean", "max"]}, "unknown pooling in"),
        ("1_Pooling/config.json", lambda data: {"pooling_mode": 3}, "unknown pooling in"),
        ("1_Pooling/config.json", lambda data: {"word_embedding_dimension": 32}, "unknown pooling in"),
        ("1_Pooling/config.json", lambda data: data | {"include_prompt": False}, "include_prompt=False"),
        (
            "1_Pooling/config.json", lambda data: data | {"word_embedding_dimension": 64},
            "word_embedding_dimension=64, and the model has d_model=32",
        ),
        ("1_Pooling/config.json", lambda data: [1], "found list, wanted a JSON object"),
        ("modules.json", lambda steps: steps[::-1], "'Normalize', 'Pooling', 'Transformer'"),
        ("modules.json", lambda steps: [*steps, {"type": "x.Dense"}], "'Dense'"),
        ("modules.json", lambda steps: ["Transformer", "Pooling"], "'no step', 'no step'"),
        ("modules.json", lambda steps: {"a": 1}, "we compute Transformer and then Pooling"),
        ("modules.json", lambda steps: [steps[0], steps[1] | {"path": ".."}], "no folder beside it"),
        ("modules.json", lambda steps: [steps[0], steps[1] | {"path": "/etc"}], "no folder beside it"),
        ("modules.json", lambda steps: [steps[0], steps[1] | {"path": "a/../.."}], "no folder beside it"),
        ("modules.json", lambda steps: [steps[0], steps[1] | {"path": "2_Pooling"}], "config.json is missing"),
    ],
)  # fmt: skip
def test_what_is_not_computed_is_refused(folder, file, edit, message):
    """Another step, another pooling or a path that leads elsewhere is an error that names the file."""
    change(folder / file, edit)
    with pytest.raises(InputError, match=message):
        load_model(folder)


MINILM = "INSTAR_MINILM"
TEXTS = ["A cat sits on the mat.", "Le chat est assis sur le tapis et regarde la lune toute la nuit.", "走吧", ""]


@pytest.mark.skipif(MINILM not in os.environ, reason=f"{MINILM} names no folder of all-MiniLM-L6-v2")
@pytest.mark.filterwarnings("ignore:.*holds 2 weights that we compute BertModel without")
@torch.no_grad()
def test_the_real_minilm():
    """all-MiniLM-L6-v2 itself, its ids and its vectors, as transformers computes them."""
    transformers = pytest.importorskip("transformers")
    folder = Path(os.environ[MINILM])
    theirs = transformers.AutoModel.from_pretrained(folder)
    asked = transformers.AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    keep = asked["attention_mask"].bool()
    ids = [row[real].tolist() for row, real in zip(asked["input_ids"], keep)]
    assert load_tokenizer(folder).documents(TEXTS) == ids
    states = theirs(**asked).last_hidden_state
    mean = (states * keep[..., None]).sum(1) / keep.sum(1, keepdim=True)
    found = load_model(folder)(asked["input_ids"], view=View(keep=keep))
    assert (found - mean / mean.norm(dim=1, keepdim=True)).abs().max() < 1e-6
    assert (embed(*load(folder), TEXTS) - found).abs().max() < 1e-6
    assert found.norm(dim=1).sub(1).abs().max() < 1e-6
