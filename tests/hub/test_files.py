"""Folders are read strictly and written whole."""

import json
import os
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from instar.config import InputError, ModelConfig
from instar.hub import files
from instar.hub.files import Weights, load_model, read_json, save_model
from instar.hub.folders import load
from instar.hub.places import resolve
from instar.model.transformer import Transformer

CONFIG = ModelConfig(vocab_size=61, d_model=16, layers=2, heads=2, max_positions=32, tied=False)


@pytest.fixture
def folder(tmp_path):
    """A folder of ours, of two layers and an untied head."""
    save_model(Transformer(CONFIG), tmp_path)
    return tmp_path


def edit(folder, change):
    """Change the tensors of a folder in place."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def shard(folder, names=("model-1.safetensors", "model-2.safetensors")):
    """Divide a folder's weights over two files and write their index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    chosen = {name: names[number % 2] for number, name in enumerate(sorted(tensors))}
    for file in names:
        save_file({name: tensor for name, tensor in tensors.items() if chosen[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": chosen}))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_round_trip_is_exact(tmp_path, tied, dtype):
    """Every weight comes back bit for bit in its dtype, the config with it, and the model is ready to be trained."""
    model = Transformer(replace(CONFIG, tied=tied)).to(dtype)
    save_model(model, tmp_path)
    again = load_model(tmp_path, dtype=dtype)
    assert again.config == model.config
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    assert all(weight.dtype == dtype and weight.requires_grad for weight in again.parameters())


def test_saves_bf16_of_fp32_weights(tmp_path):
    """dtype=bfloat16 halves the file, says so in config.json, and rounds each weight once."""
    model = Transformer(CONFIG)
    save_model(model, tmp_path, dtype=torch.bfloat16)
    stored = load_file(tmp_path / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    assert read_json(tmp_path / "config.json", "")["dtype"] == "bfloat16"
    assert torch.equal(load_model(tmp_path).embed.weight, model.embed.weight.bfloat16().float())


def test_generation_config_holds_only_known_ids(tmp_path):
    """Token ids are written to both JSON files; one that is None is left out."""
    save_model(Transformer(CONFIG), tmp_path, tokens={"eos_token_id": [3, 4], "pad_token_id": None})
    assert read_json(tmp_path / "generation_config.json", "") == {"eos_token_id": [3, 4]}
    assert read_json(tmp_path / "config.json", "")["eos_token_id"] == [3, 4]


def test_shards_are_one_model(folder):
    """Two files and an index load as one."""
    wanted = load_model(folder).state_dict()
    shard(folder)
    found = load_model(folder).state_dict()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "absent.safetensors", ".", 3])
def test_index_names_only_files_of_its_folder(folder, name):
    """An index that points elsewhere, or nowhere, is refused before anything is opened."""
    shard(folder)
    save_file({"x": torch.zeros(1)}, folder.parent / "outside.safetensors")
    index = read_json(folder / files.INDEX, "")
    index["weight_map"]["lm_head.weight"] = name
    (folder / files.INDEX).write_text(json.dumps(index))
    with pytest.raises(InputError, match="no file of this folder"):
        load_model(folder)


def test_a_name_in_two_shards_is_refused(folder):
    """Which of the two was meant, nobody can know."""
    shard(folder)
    edit_path = folder / "model-1.safetensors"
    tensors = load_file(edit_path) | load_file(folder / "model-2.safetensors")
    save_file(tensors, edit_path)
    with pytest.raises(InputError, match=r"model-2\.safetensors"):
        load_model(folder)


@pytest.mark.parametrize("head", ["right", "other"])
def test_tied_folder_with_a_head_of_its_own(tmp_path, head):
    """A copy of the embedding may stand there as head; another head under tie_word_embeddings is a contradiction."""
    save_model(Transformer(replace(CONFIG, tied=True)), tmp_path)
    edit(tmp_path, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone() + (head == "other")}))
    if head == "right":
        assert load_model(tmp_path).config.tied
    else:
        with pytest.raises(InputError, match=r"lm_head\.weight.*tie_word_embeddings"):
            load_model(tmp_path)


def test_tied_folder_that_holds_only_the_head(tmp_path):
    """Some files keep the shared matrix under the head's name."""
    model = Transformer(replace(CONFIG, tied=True))
    save_model(model, tmp_path)
    edit(tmp_path, lambda t: t.update({"lm_head.weight": t.pop("model.embed_tokens.weight")}))
    assert torch.equal(load_model(tmp_path).embed.weight, model.embed.weight)


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth"])
def test_pickled_folder_names_a_converter(folder, suffix):
    """A folder that holds only pickles is told how to become a safe one."""
    (folder / "model.safetensors").rename(folder / f"pytorch_model{suffix}")
    with pytest.raises(InputError, match=rf"pytorch_model{suffix}, a pickle.*save_file"):
        load_model(folder)


def test_damaged_file_is_told(folder):
    """A file that ends early is no whole safetensors file."""
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="no whole safetensors file"):
        load_model(folder)


@pytest.mark.parametrize("text", ["{", "[1]", "NaN", '{"a": ' + "[" * 100_000])
def test_damaged_config_is_told(folder, text):
    """config.json that is not a JSON object names the file."""
    (folder / "config.json").write_text(text)
    with pytest.raises(InputError, match=r"config\.json"):
        load_model(folder)


def test_huge_config_is_not_read(folder):
    """A config.json of more than a megabyte is refused by its size."""
    (folder / "config.json").write_text(" " * (files.LIMIT + 1))
    with pytest.raises(InputError, match="wanted at most 1,048,576"):
        load_model(folder)


@pytest.mark.parametrize(("name", "message"), [("absent", "no such folder"), (".", "config.json is missing")])
def test_folder_that_is_none(tmp_path, name, message):
    """A path that is no folder, or a folder without a model, is told apart."""
    with pytest.raises(InputError, match=message):
        load_model(tmp_path / name)


def test_resolve_downloads_only_data(monkeypatch):
    """hf:org/name@revision asks for JSON, safetensors and text, never for code or pickles."""
    import huggingface_hub

    asked = {}
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda name, **options: asked.update(options, name=name) or "/there"
    )
    assert str(resolve("hf:org/model@v2")) == "/there"
    assert (asked["name"], asked["revision"]) == ("org/model", "v2")
    assert not {"*.py", "*.bin", "*.pt", "*"} & set(asked["allow_patterns"])


def test_failed_save_leaves_what_was_there(folder, monkeypatch):
    """A save that dies half-way through the weights leaves the old file and no draft."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def die(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(files, "save_file", die)
    with pytest.raises(OSError, match="disk full"):
        save_model(Transformer(CONFIG, seed=9), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_save_is_flushed_before_it_gets_its_name(folder, monkeypatch):
    """Each file is on the disk before the rename, and no draft stays behind."""
    steps = []
    monkeypatch.setattr(os, "fsync", lambda number: steps.append("flush"))
    old = type(folder).replace
    monkeypatch.setattr(type(folder), "replace", lambda self, to: steps.append("name") or old(self, to))
    save_model(Transformer(CONFIG), folder)
    assert steps == ["flush", "name"] * 3
    assert sorted(path.name for path in folder.iterdir()) == sorted((files.CONFIG, files.WEIGHTS, files.GENERATION))


def test_shards_outside_the_folder_are_not_read(folder, tmp_path_factory):
    """A link out of the folder is refused; the links of the hub, from a snapshot to its blobs, are not."""
    shard(folder)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (folder / "model-1.safetensors").rename(elsewhere / "secret")
    (folder / "model-1.safetensors").symlink_to(elsewhere / "secret")
    with pytest.raises(InputError, match=r"model-1\.safetensors is a link that leads out of its folder; put a copy"):
        load_model(folder)
    (folder / "model-1.safetensors").unlink()
    snapshot = elsewhere / "snapshots" / "0123"
    snapshot.parent.mkdir()
    folder.rename(snapshot)
    (elsewhere / "blobs").mkdir()
    (elsewhere / "secret").rename(elsewhere / "blobs" / "abc")
    (snapshot / "model-1.safetensors").symlink_to("../../blobs/abc")
    load_model(snapshot)


@pytest.mark.parametrize("left", ["index", "shards", "both"])
def test_pickles_in_many_files_name_a_converter(folder, left):
    """An index of pickles, or its parts, is told like a pickle in one file."""
    (folder / "model.safetensors").unlink()
    if left != "shards":
        (folder / "pytorch_model.bin.index.json").write_text("{}")
    if left != "index":
        (folder / "pytorch_model-00001-of-00002.bin").write_bytes(b"")
    with pytest.raises(InputError, match=r"pytorch_model.*, a pickle.*save_file"):
        load_model(folder)


def test_an_index_that_names_pickles_names_a_converter(folder):
    """No suffix of an index makes a pickle a safetensors file."""
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    (folder / files.INDEX).write_text('{"weight_map": {"x": "pytorch_model.bin"}}')
    with pytest.raises(InputError, match=r"pytorch_model\.bin, a pickle.*save_file"):
        load_model(folder)


@pytest.mark.parametrize("map", ["[]", "null", "{}", "3"])
def test_an_index_without_a_map(folder, map):
    """An index that names nothing is told."""
    (folder / "model.safetensors").unlink()
    (folder / files.INDEX).write_text('{"weight_map": ' + map + "}")
    with pytest.raises(InputError, match="has no weight_map"):
        load_model(folder)


@pytest.mark.parametrize("read", [load_model, load])
def test_a_folder_with_an_adapter_alone_says_so(tmp_path, read):
    """What a LoRA run leaves is no model where a whole one is wanted; the way to make it one is named."""
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"holds an adapter and no model.*instar merge"):
        read(tmp_path)


def test_an_adapter_beside_a_model_changes_nothing(folder):
    """A folder that holds both is a model."""
    (folder / "adapter_config.json").write_text("{}")
    load_model(folder)


APART = {
    "as they are": {},
    "in one, the other way round": dict(
        norm="layer", mlp="plain", act="gelu_tanh", positions="learned", qkv_bias=True, bias=True
    ),
    "woven head by head": dict(norm="layer", mlp="plain", residual="parallel", qkv_bias=True, bias=True),
    "side by side": dict(experts=2, balance_by="bias"),
}


@pytest.mark.parametrize("case", APART)
def test_weights_one_by_one(tmp_path, case):
    """Each by our name, however a family lays it, and from several files; a tied head is the embedding."""
    model = Transformer(replace(CONFIG, tied=True, **APART[case]), seed=1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += torch.randn(weight.shape)
    save_model(model, tmp_path)
    shard(tmp_path)
    weights = Weights(tmp_path)
    state = {name: value for name, value in model.state_dict().items() if name != "heads.lm.weight"}
    assert weights.shapes == {name: list(value.shape) for name, value in state.items()}
    assert all(torch.equal(weights.read(name), value) for name, value in state.items())
    assert weights.dtype == torch.float32


def test_the_widest_dtype_of_a_folder_is_told(folder):
    """One tensor of fp32 among bf16; each is read as it is stored."""
    edit(folder, lambda tensors: tensors.update({n: t.bfloat16() for n, t in tensors.items() if "norm" not in n}))
    weights = Weights(folder)
    assert weights.dtype == weights.read("norm.weight").dtype == torch.float32
    assert weights.read("embed.weight").dtype == torch.bfloat16


def test_weights_are_checked_as_a_model_is(folder):
    """A missing one is named before anything is read."""
    edit(folder, lambda tensors: tensors.pop("model.norm.weight"))
    with pytest.raises(InputError, match=r"missing: model.norm.weight"):
        Weights(folder)
