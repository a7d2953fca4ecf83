"""One life, raised once for all tests of the commands, and a way to call a command in this process."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import pytest

from instar.cli import run
from instar.config import dump_yaml, load_yaml
from instar.config.flags import merge

TINY = Path(__file__).parents[2] / "recipes" / "tiny.yaml"
# recipes/tiny.yaml made smaller still
SMALLER = {
    "tokenizer": {"data": ["world:stories?count=300", "world:dialogues?count=60"], "vocab_size": 512},
    "pretrain": {"data": ["world:stories?count=200"], "held_out": 0.05, "train": {"steps": 3, "batch_tokens": 1024}},
    "lessons": {"data": ["world:dialogues?count=30"], "train": {"steps": 1, "batch_tokens": 1536}},
    "sft": {"data": ["world:dialogues?count=60"], "train": {"steps": 2, "batch_tokens": 1536}},
    "exam": {
        "data": ["world:dialogues?split=test&kinds=main&threads=2&count=16&seed=1"],
        "beside": ["world:dialogues?split=test&kinds=two-hop,unknown&threads=3&count=4&seed=2"],
    },
}


@pytest.fixture(scope="session")
def recipe():
    """A recipe of seconds, as plain data."""
    return merge(load_yaml(TINY), SMALLER)


@pytest.fixture(scope="session")
def grown(recipe, tmp_path_factory):
    """A finished life, not to be changed: its recipe, its folder, and what `instar grow --json` wrote on stdout."""
    folder = tmp_path_factory.mktemp("life")
    path, out, said = folder / "recipe.yaml", folder / "out", io.StringIO()
    path.write_text(dump_yaml(recipe), encoding="utf-8")
    with redirect_stdout(said):
        assert run(["grow", str(path), "--out", str(out), "--json"]) == 0
    return SimpleNamespace(recipe=path, out=out, said=said.getvalue(), sft=str(out / "sft"), base=str(out / "pretrain"))


@pytest.fixture
def cli(capsys, monkeypatch):
    """cli(words...) -> status, out, err, and json: the one object on stdout where --json was said."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*words):
        capsys.readouterr()
        status = run([str(word) for word in words])
        out, err = capsys.readouterr()
        report = None
        if "--json" in words and status == 0:
            assert out.endswith("\n")
            assert out.count("\n") == 1
            report = json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
        return SimpleNamespace(status=status, out=out, err=err, json=report)

    return call


@pytest.fixture
def say(monkeypatch):
    """say(lines...) answers the next calls of input(); an exception among them is raised there, the end is Ctrl-D."""

    def script(*lines):
        waiting = iter(lines)

        def answer(prompt=""):
            line = next(waiting, EOFError())
            if isinstance(line, BaseException):
                raise line
            return line

        monkeypatch.setattr("builtins.input", answer)

    return script
