"""`instar merge`, and the folder of an adapter given to every other command."""

import json

import pytest
import torch

import instar
from instar.config.presets import preset
from instar.hub.folders import save
from instar.model.transformer import Transformer
from instar.text.tokenizer import Tokenizer

DATA = "world:dialogues?count=12&seed=3"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A base, and an adapter that `instar sft` trained on it."""
    from instar.cli import run

    home = tmp_path_factory.mktemp("folders")
    tokenizer = Tokenizer.train([f"Anna has the {thing}." for thing in ("cup", "kite", "ball")] * 3, 320)
    shape = preset("nano", vocab_size=320, d_model=32, layers=1, heads=2, max_positions=1024)
    save(Transformer(shape, seed=1), tokenizer, home / "base")
    words = ["--model", str(home / "base"), "--data", DATA, "--out", str(home / "adapter"), "--quiet"]
    more = ["--lora.rank", "2", "--train.steps", "2", "--train.context", "512", "--train.lr", "1e-2", "--dtype", "fp32"]
    assert run(["sft", *words, *more]) == 0
    return home


def test_a_model_of_both(folders, cli, tmp_path):
    """The folder is a model that says what the adapter on its base says; nothing is overwritten."""
    said = cli("merge", "--model", folders / "adapter", "--out", tmp_path / "whole", "--json").json
    model, _ = instar.load(tmp_path / "whole")
    assert said["parameters"] == model.size()
    ids = torch.arange(9)[None]
    with torch.no_grad():
        assert torch.equal(model(ids), instar.load(folders / "adapter")[0](ids))
        assert not torch.equal(model(ids), instar.load(folders / "base")[0](ids))
    again = cli("merge", "--model", folders / "adapter", "--out", tmp_path / "whole")
    assert (again.status, "is there already" in again.err) == (2, True)
    none = cli("merge", "--model", folders / "base", "--out", tmp_path / "x")
    assert (none.status, "holds no adapter" in none.err) == (2, True)


def test_the_base_may_be_named(folders, cli, tmp_path):
    """Where it lies elsewhere; another one is refused."""
    config = json.loads((folders / "adapter" / "adapter_config.json").read_text())
    other = tmp_path / "adapter"
    other.mkdir()
    for path in (folders / "adapter").glob("*.*"):
        if path.is_file():
            (other / path.name).write_bytes(path.read_bytes())
    (other / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "/nowhere/at/all"}))
    lost = cli("merge", "--model", other, "--out", tmp_path / "x")
    assert (lost.status, "instar merge --base" in lost.err) == (2, True)
    assert cli("merge", "--model", other, "--base", folders / "base", "--out", tmp_path / "y").status == 0
    wrong = cli("merge", "--model", other, "--base", tmp_path / "y", "--out", tmp_path / "z")
    assert (wrong.status, "it is another model" in wrong.err) == (2, True)


COMMANDS = {
    "generate": ["--prompt", "Anna", "--max-new-tokens", 3, "--temperature", 0],
    "eval": ["--data", "world:stories?count=4&seed=5", "--context", 64],
    "tokenizer show": ["Anna"],
    "data preview": ["--data", DATA, "--records", 1, "--context", 512],
    "plan sft": ["--data", DATA, "--out", "nowhere", "--train.context", 512, "--train.steps", 1, "--dtype", "fp32"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_take_the_folder_of_an_adapter(folders, cli, command):
    """Each that reads a model reads this."""
    result = cli(*command.split(), "--model", folders / "adapter", *COMMANDS[command])
    assert result.status == 0, result.err


def test_a_plan_counts_the_adapter(folders, cli):
    """What learns, and gradients of no more than that."""
    words = ["--model", folders / "base", *COMMANDS["plan sft"]]
    assert "of them learn" not in cli("plan", "sft", *words).out
    assert "of them learn" in cli("plan", "sft", *words, "--lora.rank", 4).out
    said = cli("plan", "sft", *words, "--lora.rank", 4, "--json").json
    assert 0 < said["trained"] < said["frozen"]
    assert said["bytes"]["gradients"] == 4 * said["trained"]


def test_written_for_others(folders, cli, tmp_path):
    """Exported and quantised with its base."""
    done = cli("export", "--model", folders / "adapter", "--format", "hf", "--out", tmp_path / "hf")
    assert done.status == 0, done.err
    ids = torch.arange(9)[None]
    with torch.no_grad():
        assert torch.equal(instar.load(tmp_path / "hf")[0](ids), instar.load(folders / "adapter")[0](ids))
    done = cli(
        "quantize", "--model", folders / "adapter", "--out", tmp_path / "q", "--data", "world:stories?count=4&seed=5",
    )  # fmt: skip
    assert done.status == 0, done.err
