"""Which models and runs there are, and by what names."""

import json

import pytest

from instar.config import InputError
from instar.config.options import GlassOptions, ServeOptions
from instar.hub import headers
from instar.hub.configs import read_config
from instar.hub.files import load_model
from instar.serve.glass.index import Index, facts_of
from instar.serve.glass.trouble import Trouble


@pytest.fixture(scope="module")
def root(build, tokenizer, tmp_path_factory):
    """A life of two stages, a model in a folder, and beside them what is none or damaged."""
    root = tmp_path_factory.mktemp("index") / "runs"
    for stage in ("pretrain", "sft"):
        folder = build(tokenizer, root / "life" / stage)
        (folder / "metrics.jsonl").write_text('{"step": 1}\n')
        (folder / "report.json").write_text(json.dumps({"stage": stage}))
        build(tokenizer, folder / "checkpoints" / "step-1")
    (root / "life" / "grow.json").write_text('{"recipe": {}}')
    (root / "life" / "report.json").write_text('{"finished": "sft"}')
    build(tokenizer, root / "one", causal=False, heads_of=("masked",))
    (root / ".hidden").mkdir()
    (root / ".hidden" / "config.json").write_text("{}")
    (root / "broken").mkdir()
    (root / "broken" / "config.json").write_text('{"model_type": "unheard"}')
    cut = build(tokenizer, root / "cut") / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-8])
    (root / "live").mkdir()
    (root / "live" / "metrics.jsonl").write_text('{"step": 1}\n')
    (root / "away").symlink_to("/")
    return root


def index_of(model, *roots, **more):
    found = Index(ServeOptions(model=str(model), glass=GlassOptions(roots=tuple(map(str, roots))), **more))
    found.refresh()
    return found


def test_models_are_named_after_their_folders_under_the_root(root):
    """The served one by its name; checkpoints, hidden folders and links that lead out are no models, and a run need
    have no weights yet."""
    index = index_of(root / "life" / "sft", root, name="mine")
    assert set(index.models) == {"mine", "life/pretrain", "one", "broken", "cut"}
    assert index.served == "mine"
    assert index.models["mine"].served
    assert not index.models["one"].served
    assert index.models["mine"].folder.resolve() == root / "life" / "sft"
    assert set(index.runs) == {"life/pretrain", "life/sft", "live"}


def test_without_roots_the_stages_beside_the_served_one_are_shown(root):
    """By the same names, also where the folder of the whole life is served; a folder beside a model that is no life is
    not searched."""
    for model in (root / "life" / "sft", root / "life"):
        index = index_of(model)
        assert set(index.models) == {model.name, "life/pretrain"}
        assert set(index.runs) == {"life/pretrain", "life/sft"}
    assert set(index_of(root / "one").models) == {"one"}


def test_facts_are_read_from_configs_and_headers(root, monkeypatch):
    """What GET /models says, without a byte of a tensor: of the weights' file the header alone is read."""
    read = []
    before = headers._raw
    monkeypatch.setattr(headers, "_raw", lambda file, size: read.append(before(file, size)) or read[-1])
    facts = facts_of(root / "life" / "sft")
    assert facts == facts | {
        "kind": "decoder", "n_layer": 2, "n_encoder_layer": 0, "n_head": 2, "n_kv_head": 2, "d_model": 32,
        "ctx": 1024, "dtype": "fp32", "stage": "sft",
    }  # fmt: skip
    assert facts["caps"]["chat"]
    assert facts["caps"]["generate"]
    assert facts["caps"]["lens"]
    assert not facts["caps"]["mask"]
    assert sum(map(len, read)) < 8192
    encoder = facts_of(root / "one")
    assert encoder["kind"] == "encoder"
    assert encoder["caps"]["mask"]
    assert not encoder["caps"]["generate"]


@pytest.mark.parametrize(
    "shape",
    [
        {"tied": True},
        {"tied": False},
        {"tied": True, "causal": False, "heads_of": ("masked",)},
        {"tied": True, "encoder_layers": 2},
    ],
)
def test_parameters_are_those_of_the_model(build, tokenizer, tmp_path, shape):
    """As `Transformer.size` counts them, though the file holds a tied head a second time and a buffer that nothing is
    computed with, and another file of tensors lies beside it."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    folder = build(tokenizer, tmp_path / "model", **shape)
    family, _ = read_config(folder)
    size = load_model(folder).size()
    file = folder / "model.safetensors"
    tensors = load_file(file)
    assert facts_of(folder)["parameters"] == size == sum(one.size for one in tensors.values())
    if shape["tied"]:
        head = "heads.masked.out.weight" if "heads_of" in shape else "heads.lm.weight"
        tensors[family.names[head]] = tensors[family.names["embed.weight"]]
    save_file(tensors | {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(8, np.float32)}, file)
    save_file({"held_out": np.ones((64, 2), np.float32)}, folder / "reference.safetensors")
    assert load_model(folder).size() == size
    assert facts_of(folder)["parameters"] == size
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    file.rename(folder / "model-1.safetensors")
    assert facts_of(folder)["parameters"] == size


def test_a_folder_that_cannot_be_used_says_why(root):
    """An unknown family and a file that is cut short are listed with the reason, which names no path, and the others
    with none."""
    index = index_of(root / "life" / "sft", root)
    why = {name: one.why for name, one in index.models.items()}
    assert "unheard" in why["broken"]
    assert "whole safetensors" in why["cut"]
    assert str(root) not in why["broken"] + why["cut"]
    assert why["one"] == why["sft"] == ""
    with pytest.raises(InputError, match="cannot be used"):
        index.find("cut")


@pytest.mark.parametrize("name", ["nothing", "../life/sft", "/", "", "life/../one", "life", "{root}/one"])
def test_a_name_is_looked_up_and_never_opened(name, root):
    """Paths are no names, also of folders that are there: 404."""
    with pytest.raises(Trouble) as caught:
        index_of(root / "life" / "sft", root).find(name.format(root=root))
    assert caught.value.code == "no_such_model"


def test_what_is_trained_meanwhile_is_found(root, build, tokenizer, tmp_path):
    """A name that is not known is looked for once more."""
    build(tokenizer, tmp_path / "runs" / "first")
    index = index_of(tmp_path / "runs" / "first", tmp_path / "runs")
    build(tokenizer, tmp_path / "runs" / "second")
    assert index.find("second").id == "second"


def test_what_is_mended_or_taught_meanwhile_is_found(build, tokenizer, tmp_path):
    """A model that could not be used is looked at again, as are one that was damaged since and one that has got an
    adapter; whose own paths nobody hears."""
    base = build(tokenizer, tmp_path / "runs" / "one")
    (tmp_path / "runs" / "two").mkdir()
    (tmp_path / "runs" / "two" / "config.json").write_text("{}")
    index = index_of(base, tmp_path / "runs")
    with pytest.raises(InputError, match="cannot be used"):
        index.find("two")
    build(tokenizer, tmp_path / "runs" / "two")
    assert index.find("two").facts["kind"] == "decoder"
    adapter(tmp_path / "runs" / "lora", base)
    assert index.adapter("one", "lora") == tmp_path / "runs" / "lora"
    (tmp_path / "runs" / "two" / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(InputError, match="cannot be used") as caught:
        index.find("two")
    assert str(tmp_path) not in str(caught.value)


def test_what_cannot_be_served_says_so_without_its_path(tmp_path):
    """Of the model and of adapters that are served, whose places stand in the command alone."""
    why = index_of(tmp_path / "gone", adapters=(f"b={tmp_path / 'lost'}",)).models["gone"].why
    assert "no such folder" in why
    assert str(tmp_path) not in why
    folder = tmp_path / "here"
    folder.mkdir()
    why = index_of(folder, adapters=(f"b={tmp_path / 'lost'}",)).models["here"].why
    assert why
    assert str(tmp_path) not in why


def test_two_folders_of_one_name_are_both_there(build, tokenizer, tmp_path):
    """Of two roots that both hold a model of that name, the second says its root."""
    for root in ("a", "b"):
        build(tokenizer, tmp_path / root / "m")
    build(tokenizer, tmp_path / "served")
    index = index_of(tmp_path / "served", tmp_path / "a", tmp_path / "b")
    assert {name: one.folder for name, one in index.models.items() if not one.served} == {
        "m": tmp_path / "a" / "m", "b/m": tmp_path / "b" / "m",
    }  # fmt: skip


def adapter(folder, base):
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    header = b'{"__metadata__":{"instar":"{\\"beside\\":\\"../one\\"}"}}'
    (folder / "adapter_model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return folder


def test_adapters_hang_under_their_bases(build, tokenizer, tmp_path):
    """By what their configs say, or where it lies beside them since both were moved; one whose base is no model of the
    list brings it along, and one whose base is not there says so."""
    base, elsewhere = build(tokenizer, tmp_path / "runs" / "one"), build(tokenizer, tmp_path / "else" / "two")
    adapter(tmp_path / "runs" / "lora", base)
    adapter(tmp_path / "runs" / "moved", "/nowhere")
    adapter(tmp_path / "runs" / "other", elsewhere)
    adapter(tmp_path / "runs" / "deep" / "lost", "/nowhere")
    index = index_of(base, tmp_path / "runs")
    found = {name: list(one.adapters) for name, one in index.models.items()}
    assert found == {"one": ["lora", "moved"], "other-base": ["other"], "deep/lost": []}
    assert "is not there" in index.models["deep/lost"].why
    assert index.adapter("one", "lora") == tmp_path / "runs" / "lora"
    assert index.adapter("one", "") is None
    with pytest.raises(Trouble, match="lora, moved"):
        index.adapter("one", "other")


def test_a_served_adapter_hangs_under_its_base(build, tokenizer, tmp_path):
    """The base is a model, and the served name its adapter."""
    base = build(tokenizer, tmp_path / "one")
    index = index_of(adapter(tmp_path / "lora", base))
    assert {name: list(one.adapters) for name, one in index.models.items()} == {"lora-base": ["lora"]}
    assert index.served == "lora"
