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


def test_plan_takes_the_command_line_of_a_stage(grown, cli, tmp_path):
    """What will be needed, for people and machines, and nothing is written; a run that teaches nothing is refused."""
    words = ["--model", grown.base, "--data", "world:dialogues?count=20", "--out", tmp_path / "out", *TRAIN]
    shown = cli("plan", "sft", *words)
    assert shown.status == 0
    assert "optimizer steps" in shown.out
    assert "activations" in shown.out
    told = cli("plan", "sft", *words, "--json").json
    assert (told["stage"], told["steps"], told["tokens"]) == ("sft", 1, 256)
    assert told["bytes"]["needed"] < told["bytes"]["peak"]
    assert not (tmp_path / "out").exists()
    refused = cli("plan", "sft", *words, "--train.steps", "4", "--train.warmup", "1", "--train.decay", "0")
    assert refused.status == 2
    assert "all 4 steps a warm-up" in refused.err


def test_plan_of_nothing_known(cli):
    """A misspelt command is an error with the nearest; none at all shows how it is used."""
    assert "did you mean pretrain" in cli("plan", "pretain").err
    assert "usage: instar plan" in cli("plan", "--help").out


def test_a_run_that_diverges_says_so(grown, cli, tmp_path, monkeypatch):
    """Exit 1 and one sentence with the remedy, no traceback, and no checkpoint of it."""
    from instar.train import trainer

    plain = trainer.mean
    monkeypatch.setattr(trainer, "mean", lambda loss, targets: plain(loss, targets) * float("nan"))
    words = ["--model", grown.base, "--data", "world:dialogues?count=20", "--out", tmp_path / "out", *TRAIN]
    result = cli("sft", *words, "--train.steps", "12")
    assert result.status == 1
    assert "lower the learning rate" in result.err
    assert "Traceback" not in result.err
    assert not list((tmp_path / "out" / "checkpoints").glob("step-*"))
