"""`instar pretrain` and `instar sft`, outside of a recipe."""

TRAIN = [
    "--train.steps", "1", "--train.context", "128", "--train.batch-tokens", "256", "--evaluate.rows", "2",
    "--evaluate.samples", "0",
]  # fmt: skip


def test_sft_from_a_grown_model(grown, cli, tmp_path):
    """One object for machines; the folder works in the next command; a second run into it is refused, then resumed."""
    out = tmp_path / "sft"
    words = ["sft", "--model", grown.base, "--data", "world:dialogues?count=20", "--out", out, *TRAIN]
    assert cli(*words, "--json").json["steps"] == 1
    assert cli("generate", "--model", out, "--prompt", "Hi", "--quiet").status == 0
    again = cli(*words)
    assert again.status == 2
    assert "--resume" in again.err
    assert cli(*words, "--resume").status == 0


def test_pretrain(grown, cli, tmp_path):
    """A table for people, nothing on stderr but the course of the run."""
    out = tmp_path / "pretrain"
    shape = ["--model.d-model", "16", "--model.layers", "1", "--model.heads", "2"]
    words = ["--data", "world:stories?count=40", "--tokenizer", grown.out / "tokenizer", "--out", out, *TRAIN, *shape]
    result = cli("pretrain", *words, "--held-out", "0.1")
    assert result.status == 0
    assert "held out loss" in result.out
    assert "model.safetensors" in {path.name for path in out.iterdir()}


def test_quiet(grown, cli, tmp_path):
    """Neither a bar nor a table."""
    words = ["--model", grown.base, "--data", "world:dialogues?count=20", "--out", tmp_path / "out"]
    result = cli("sft", *words, *TRAIN, "--quiet")
    assert (result.status, result.out, result.err) == (0, "", "")
