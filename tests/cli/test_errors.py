"""What a user can put right: one sentence on stderr, nothing on stdout, no traceback, and the status 2."""

import shutil

import pytest

from instar.cli import COMMANDS, run
from instar.config import dump_yaml
from instar.config.flags import merge


def refused(result):
    """The one sentence of a refusal."""
    assert result.status == 2, result.err
    assert result.out == ""
    assert "Traceback" not in result.err
    assert result.err.startswith("instar: ")
    assert result.err.count("\n") == 1, result.err
    return result.err.removeprefix("instar: ").strip()


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["groww"], "did you mean grow?"),
        (["tokenizer", "trian"], "did you mean tokenizer train?"),
        (["tokenizer"], "train, show, compare"),
        (["generate", "--modle", "x"], "did you mean --model?"),
        (["pretrain", "--train.lrr", "1"], "did you mean --train.lr?"),
        (["pretrain", "--train.steps", "many"], "wanted a whole number"),
        (["sft", "--packing", "best-fti"], "did you mean best-fit?"),
        (["chat"], "missing --model"),
        (["grow", "--out", "x"], "missing RECIPE"),
        (["chat", "hello"], "wanted"),
    ],
)
def test_words(words, hint, cli):
    """Story: unslothai/unsloth#10452 (U1). A misspelt command or option is found before any work, with a near match."""
    assert hint in refused(cli(*words))


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"pretrain": {"train": {"lrr": 1}}}, "pretrain.train.lrr"),
        ({"exma": {}}, "exma"),
        ({"sft": {"evaluate": {"row": 1}}}, "sft.evaluate.row"),
        ({"pretrain": {"model": {"rope_scaling": {"factr": 1}}}}, "model.rope_scaling.factr"),
    ],
)
def test_recipes(change, path, recipe, cli, tmp_path):
    """A misspelt key at any depth is named with its full path, before the output folder is made."""
    file = tmp_path / "recipe.yaml"
    file.write_text(dump_yaml(merge(recipe, change)), encoding="utf-8")
    said = refused(cli("grow", file, "--out", tmp_path / "out"))
    assert path in said
    assert "did you mean" in said
    assert not (tmp_path / "out").exists()


def test_recipes_that_cannot_be_read(cli, tmp_path):
    """No file, a folder, no YAML, no mapping."""
    assert "none.yaml" in refused(cli("grow", tmp_path / "none.yaml", "--out", tmp_path / "out"))
    refused(cli("grow", tmp_path, "--out", tmp_path / "out"))
    for text in ("a: [1", "- 1\n- 2\n", "\0"):
        (tmp_path / "odd.yaml").write_text(text, encoding="utf-8")
        assert "odd.yaml" in refused(cli("grow", tmp_path / "odd.yaml", "--out", tmp_path / "out"))


@pytest.mark.parametrize("name", ["generate", "chat", "eval", "sft", "tokenizer show", "data preview"])
def test_models_that_are_not_there(name, cli, tmp_path):
    """A folder that does not exist, that is empty, that is a file: named, whatever the command."""
    words = {
        "generate": ["--prompt", "x"], "chat": [], "tokenizer show": ["x"],
        "sft": ["--data", "world:dialogues?count=2", "--out", tmp_path / "out"],
    }.get(name, ["--data", "world:dialogues?count=2"])  # fmt: skip
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for folder in ("missing", "empty", "file"):
        assert folder in refused(cli(*name.split(), *words, "--model", tmp_path / folder))


def test_a_damaged_model(grown, cli, tmp_path):
    """A file of weights that is cut short is named."""
    shutil.copytree(grown.out / "sft", tmp_path / "cut", ignore=shutil.ignore_patterns("checkpoints"))
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert "model.safetensors" in refused(cli("generate", "--model", tmp_path / "cut", "--prompt", "x"))


DATA_COMMANDS = {
    "tokenizer train": ["--out"],
    "tokenizer compare": [],
    "data prepare": ["--tokenizer", "--out"],
    "data preview": ["--model"],
    "pretrain": ["--tokenizer", "--out"],
    "sft": ["--model", "--out"],
    "reward": ["--model", "--out"],
    "dpo": ["--model", "--out"],
    "eval": ["--model"],
}


def call(cli, name, data, grown, out):
    """A command on some data, with all else that it needs."""
    known = {"--out": out, "--tokenizer": grown.out / "tokenizer", "--model": grown.base}
    words = [word for flag in DATA_COMMANDS[name] for word in (flag, known[flag])]
    return cli(*name.split(), *words, "--data", data)


@pytest.mark.parametrize("name", DATA_COMMANDS)
def test_data_that_is_not_there(name, grown, cli, tmp_path):
    """A missing file, an empty file, an empty folder, a misspelt world: refused, and nothing is left behind."""
    (tmp_path / "empty.txt").touch()
    (tmp_path / "folder").mkdir()
    for data, word in (
        (tmp_path / "missing.jsonl", "missing.jsonl"), (tmp_path / "empty.txt", ""), (tmp_path / "folder", "folder"),
        ("world:storys", "did you mean"), ("world:stories?cuont=3", "did you mean"),
    ):  # fmt: skip
        assert word in refused(call(cli, name, data, grown, tmp_path / "out"))
        assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize("name", ["tokenizer train", "data prepare", "pretrain", "sft"])
def test_folders_of_others(name, grown, cli, tmp_path):
    """A folder that holds something else is refused before any work, and is left as it was."""
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    data = "world:dialogues?count=5" if name == "sft" else "world:stories?count=5"
    refused(call(cli, name, data, grown, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    refused(call(cli, name, data, grown, tmp_path / "thesis.tex"))
    assert (tmp_path / "thesis.tex").read_text(encoding="utf-8") == "years of work"


def test_the_folder_of_a_life_is_its_own(grown, cli, tmp_path):
    """`grow` refuses a folder that holds something else, and a file."""
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    refused(cli("grow", grown.recipe, "--out", tmp_path))
    refused(cli("grow", grown.recipe, "--out", tmp_path / "thesis.tex"))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_model_keeps_its_tokenizer(grown, cli):
    """`tokenizer train` does not write into the folder of a model."""
    refused(cli("tokenizer", "train", "--data", "world:stories?count=5", "--out", grown.out / "sft"))


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help(command, cli):
    """Each command explains itself, with status 0."""
    result = cli(*command.split(), "--help")
    assert (result.status, result.err) == (0, "")
    assert f"instar {command}" in result.out


@pytest.mark.parametrize(("error", "status"), [(PermissionError, 2), (IsADirectoryError, 2), (TimeoutError, 1)])
def test_what_the_system_refuses(error, status, cli, monkeypatch):
    """A file that may not be written is named without a traceback; what is nobody's fault is no wrong input."""

    def refuse(*_):
        raise error(13, "refused", "/a/file")

    monkeypatch.setattr("instar.cli._call", refuse)
    result = cli("chat")
    assert (result.status, result.err) == (status, "instar: /a/file: refused\n")


def test_a_reader_that_leaves(monkeypatch):
    """`instar ... | head` ends without a complaint."""

    def leave(*_):
        raise BrokenPipeError

    monkeypatch.setattr("instar.cli._call", leave)
    monkeypatch.setattr("sys.stderr", open("/dev/null", "w"))  # noqa: SIM115  run closes it
    assert run(["chat"]) == 0
