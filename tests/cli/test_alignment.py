"""`instar reward` and `instar dpo`: what they write is scored by `instar eval`, and what cannot be is refused."""

import json

import pytest

TRAIN = ["--train.steps", "2", "--train.context", "320", "--train.batch-tokens", "640", "--held-out", "0.3"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Pairs of answers."""
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    pairs = [{"prompt": f"Where is {a}?", "chosen": f"Please, {a} is here.", "rejected": "What?"} for a in "ABCDEFGHIJ"]
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return path


def test_a_reward_model_is_scored(grown, cli, data, tmp_path):
    """The report names pairs, and the folder works in `instar eval` and nowhere that speaks."""
    out = tmp_path / "reward"
    found = cli("reward", "--model", grown.sft, "--data", data, "--out", out, *TRAIN, "--json").json
    assert found["stage"] == "reward"
    assert 0.0 <= found["held_out_accuracy"] <= 1.0
    told = cli("eval", "--model", out, "--data", data, "--metric", "reward", "--json").json
    assert told["records"] == 10
    assert told["margin"] == pytest.approx(told["chosen"] - told["rejected"])
    assert "cannot continue" in cli("generate", "--model", out, "--prompt", "Hi").err
    refused = cli("eval", "--model", out, "--data", data, "--metric", "reward", "--reference", grown.sft)
    assert (refused.status, "held against no reference" in refused.err) == (2, True)


def test_dpo_is_scored_by_its_implicit_rewards(grown, cli, data, tmp_path):
    """Against the model that it began with the pairs of training are in order, and that model is ahead of itself by
    nothing; without a reference log-probabilities are compared."""
    out = tmp_path / "dpo"
    words = ["dpo", "--model", grown.sft, "--data", data, "--out", out, *TRAIN, "--train.lr", "0.001"]
    shown = cli(*words, "--train.steps", "6", "--evaluate.samples", "1")
    assert shown.status == 0
    assert "held out accuracy" in shown.out
    assert "reference: log-probabilities of the answers of 10 pairs" in shown.err
    ask = ["eval", "--data", data, "--metric", "reward", "--json"]
    against = cli(*ask, "--model", out, "--reference", grown.sft).json
    assert against["accuracy"] > 0.8
    assert against["margin"] > 0
    itself = cli(*ask, "--model", grown.sft, "--reference", grown.sft).json
    assert (itself["accuracy"], itself["margin"]) == (0.5, 0.0)
    plain = cli(*ask, "--model", grown.sft).json
    assert plain["chosen"] < 0
    assert plain["margin"] != 0


@pytest.mark.parametrize("name", ["reward", "dpo"])
def test_plan(grown, cli, data, tmp_path, name):
    """Memory and time before it starts, a second model counted where the reference is one, and nothing is written."""
    words = ["plan", name, "--model", grown.sft, "--data", data, "--out", tmp_path / "out", *TRAIN, "--json"]
    told = cli(*words).json
    assert (told["stage"], told["steps"]) == (name, 2)
    assert told["seconds"] > 0
    assert not (tmp_path / "out").exists()
    if name == "dpo":
        more = cli(*words, "--reference", "copy").json["bytes"]
        assert more["reference"] == more["weights"]
        assert more["needed"] == told["bytes"]["needed"] + more["weights"]


@pytest.mark.parametrize("name", ["ppo", "grpo"])
def test_no_plan_of_what_is_sampled(cli, name):
    """A sentence says why there is none, and how to measure it."""
    told = cli("plan", name, "--model", "anything")
    assert told.status == 2
    assert f"cannot foresee {name}" in told.err
    assert f"instar {name} with --train.steps 2" in told.err


REFUSED = {
    "beta 0": (["dpo", "--beta", "0"], "beta=0.0"),
    "beta below 0": (["dpo", "--beta", "-0.1"], "beta=-0.1"),
    "no such reference": (["dpo", "--reference", "nobody"], "reference=nobody: neither a folder nor one of auto"),
    "no such loss": (["dpo", "--loss", "sigmoyd"], "did you mean sigmoid"),
    "smoothing without its loss": (["dpo", "--smoothing", "0.2"], "smoothing=0.2 with loss=sigmoid"),
    "centering below 0": (["reward", "--centering", "-1"], "centering=-1.0"),
    "smoothed targets": (["reward", "--train.smoothing", "0.1"], "train.smoothing=0.1"),
    "an option of the other": (["reward", "--beta", "0.1"], "unknown option --beta"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_bad_options_are_refused_before_any_work(grown, cli, data, tmp_path, fault):
    """One sentence, status 2, and nothing is written."""
    (name, *words), wanted = REFUSED[fault]
    result = cli(name, "--model", grown.sft, "--data", data, "--out", tmp_path / "out", *TRAIN, *words)
    assert result.status == 2
    assert wanted in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "out").exists()


def test_a_model_of_another_kind_is_refused(cli, tmp_path, grown, data):
    """An encoder compares no answers, and a reward model says none."""
    from instar.config.presets import preset
    from instar.hub.folders import save
    from instar.model.transformer import Transformer
    from instar.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(grown.sft)
    save(Transformer(preset("bert-nano", vocab_size=tokenizer.vocab_size)), tokenizer, tmp_path / "bert")
    for name in ("reward", "dpo"):
        result = cli(name, "--model", tmp_path / "bert", "--data", data, "--out", tmp_path / "out", *TRAIN)
        assert result.status == 2
        assert "causal=false; answers are compared by a decoder" in result.err
