"""`instar export`: a folder or a file for other programs."""

import json

import pytest
import torch
from safetensors.torch import load_file

from instar.cli import run
from instar.config.presets import preset
from instar.hub.files import load_model, save_model
from instar.hub.folders import load
from instar.model.transformer import Transformer
from instar.text.tokenizer import Tokenizer

TEXTS = ["Once upon a time there was a red ball.", "从前，花园里有一只红色的皮球。"] * 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small Qwen3 with a tokenizer of ours, and a file that is no part of it."""
    folder = tmp_path_factory.mktemp("run")
    tokenizer = Tokenizer.train(TEXTS, 384)
    save_model(Transformer(preset("nano", vocab_size=384, d_model=32, layers=2), seed=1), folder)
    tokenizer.save(folder)
    (folder / "metrics.jsonl").write_text("{}")
    return folder


def told(capsys, *words):
    """What a command prints with --json; it must succeed."""
    assert run([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_gguf_file(folder, tmp_path, capsys):
    """One file; the report names the architecture, and what was written."""
    gguf = pytest.importorskip("gguf")
    out = tmp_path / "new" / "model.gguf"
    report = told(capsys, "export", "--model", str(folder), "--format", "gguf", "--out", str(out), "--dtype", "bf16")
    assert (report["architecture"], report["dtype"], report["notes"]) == ("qwen3", "BF16", [])
    assert report["bytes"] == out.stat().st_size
    assert report["tensors"] == len(gguf.GGUFReader(out).tensors)
    assert [path.name for path in out.parent.iterdir()] == ["model.gguf"]


def test_a_hugging_face_folder(folder, tmp_path, capsys):
    """The model and the tokenizer alone, in another dtype, with what ends an answer."""
    out = tmp_path / "hf"
    report = told(capsys, "export", "--model", str(folder), "--format", "hf", "--out", str(out), "--dtype", "bf16")
    assert (report["architecture"], report["dtype"]) == ("Qwen3ForCausalLM", "bfloat16")
    assert {path.name for path in out.iterdir()} == {
        "config.json", "model.safetensors", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
        "chat_template.jinja",
    }  # fmt: skip
    model, tokenizer = load(out)
    before = load_model(folder)
    assert all(tensor.dtype == torch.bfloat16 for tensor in load_file(out / "model.safetensors").values())
    assert torch.equal(model.embed.weight, before.embed.weight.bfloat16().float())
    ends = json.loads((out / "generation_config.json").read_text())["eos_token_id"]
    assert ends == [tokenizer.specials["<|im_end|>"], tokenizer.eos]


def test_auto_keeps_the_dtype(folder, tmp_path, capsys):
    """A folder in fp32 is written in fp32."""
    report = told(capsys, "export", "--model", str(folder), "--format", "hf", "--out", str(tmp_path / "hf"))
    assert report["dtype"] == "float32"


@pytest.mark.parametrize("kind", ["hf", "gguf"])
def test_nothing_is_overwritten(folder, tmp_path, capsys, kind):
    """What stands there already is left alone, and exit is 2."""
    out = tmp_path / "there"
    out.write_text("mine")
    assert run(["export", "--model", str(folder), "--format", kind, "--out", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert out.read_text() == "mine"


def test_a_shape_that_other_programs_do_not_have(tmp_path, capsys):
    """Our own layout is refused in both formats, and nothing is left behind."""
    tokenizer = Tokenizer.train(TEXTS, 384)
    model = Transformer(preset("nano", vocab_size=384, d_model=32, layers=1, positions="alibi"), seed=1)
    save_model(model, tmp_path / "own")
    tokenizer.save(tmp_path / "own")
    for kind, said in (("hf", "no known family has"), ("gguf", "no architecture for InstarTransformer")):
        words = ["export", "--model", str(tmp_path / "own"), "--format", kind, "--out", str(tmp_path / "out")]
        assert run(words) == 2
        assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_format_and_place_are_wanted(folder, capsys):
    """Neither is guessed."""
    assert run(["export", "--model", str(folder)]) == 2
    said = capsys.readouterr().err
    assert "--format" in said
    assert "--out" in said
    assert run(["export", "--model", str(folder), "--format", "ggfu", "--out", "x"]) == 2
    assert "did you mean gguf?" in capsys.readouterr().err
