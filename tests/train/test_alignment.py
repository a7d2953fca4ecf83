"""reward and dpo from files to folders: what they learn, write and refuse."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

from instar.adapt.folders import load as load_adapter
from instar.config import InputError
from instar.config.options import DpoOptions, EvaluateOptions, LoraOptions, PretrainOptions, RewardOptions, TrainOptions
from instar.config.presets import preset
from instar.hub.folders import load
from instar.infer.scoring import Scorer
from instar.text.tokenizer import Tokenizer
from instar.train import alignment, stages
from instar.train.page import render_run

NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hana")
THINGS = ("ball", "cup", "book", "kite", "drum")
TRAIN = TrainOptions(context=96, batch_tokens=384, steps=8, lr=1e-2, warmup=0.1, decay=0.2)


def record(name, thing):
    """The polite answer is preferred."""
    asked = [{"role": "user", "content": f"What has {name}?"}]
    return {"prompt": asked, "chosen": f"Please, the {thing}.", "rejected": f"The {thing}."}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Pairs, and a small pretrained parent with dropout."""
    folder = tmp_path_factory.mktemp("files")
    texts = [f"What has {name}? Please, the {thing}. The {thing}." for name in NAMES for thing in THINGS]
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    pairs = [record(name, thing) for name in NAMES for thing in THINGS]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    Tokenizer.train(texts, 320).save(folder / "tokenizer")
    stages.pretrain(
        PretrainOptions(
            data=(str(folder / "texts.jsonl"),), tokenizer=str(folder / "tokenizer"), out=str(folder / "parent"),
            dtype="fp32", quiet=True, train=replace(TRAIN, context=48, batch_tokens=192, steps=3),
            model=preset("nano", d_model=32, layers=2, heads=2, max_positions=96, dropout=0.2),
        )
    )  # fmt: skip
    return folder


def usual(files, out, kind, **changes):
    """The options of a short run."""
    said = {
        "model": str(files / "parent"), "data": (str(files / "pairs.jsonl"),), "out": str(out), "held_out": 0.3,
        "dtype": "fp32", "quiet": True, "train": TRAIN, "evaluate": EvaluateOptions(samples=0),
    }  # fmt: skip
    return kind(**said | changes)


@pytest.fixture
def options(files, tmp_path):
    """options(DpoOptions, ...) -> those of a short run."""
    return lambda kind, **changes: usual(files, changes.pop("out", tmp_path / "run"), kind, **changes)


@pytest.fixture(scope="module")
def rewarded(files, tmp_path_factory):
    """A finished reward model: its folder, its report, and what was said."""
    out, said = tmp_path_factory.mktemp("reward") / "run", []
    made = usual(files, out, RewardOptions, evaluate=EvaluateOptions(every=4, samples=0))
    return out, stages.reward(made, say=said.append), said


@pytest.fixture(scope="module")
def preferring(files, tmp_path_factory):
    """A finished run of DPO: its folder, its report, and what was said."""
    out, said = tmp_path_factory.mktemp("dpo") / "run", []
    made = usual(files, out, DpoOptions, evaluate=EvaluateOptions(every=4, samples=1))
    return out, stages.dpo(made, say=said.append), said


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_reward_model_learns_what_is_preferred(rewarded):
    """Held-out pairs come into order, the report says so, and the folder is a stock one with one label."""
    run, report, said = rewarded
    assert report["held_out_accuracy"] == 1.0
    assert report["held_out_margin"] > 1
    assert 0 < report["held_out_pairs"] < report["data"]["kept"] == 40
    assert report["pairs"] > 0
    assert "perplexity" not in report
    assert any("pairs in the right order 1.000" in line for line in said)
    config = json.loads((run / "config.json").read_text())
    assert config["architectures"] == ["Qwen3ForSequenceClassification"]
    assert config["id2label"] == {"0": "LABEL_0"}
    assert "score.weight" in safe_open(run / "model.safetensors", "pt").keys()  # noqa: SIM118
    rows = lines(run / "metrics.jsonl")
    names = {"loss", "preference", "centering", "accuracy", "margin", "reward_chosen", "reward_rejected"}
    assert names <= rows[0].keys()
    assert {"held_out_accuracy", "held_out_margin"} <= rows[3].keys()
    assert rows[0]["loss"] == pytest.approx(rows[0]["preference"] + rows[0]["centering"], rel=1e-5)


def test_a_scorer_reads_the_folder(rewarded, files):
    """Polite answers get the higher rewards, as messages; a language model is refused."""
    scorer = Scorer.load(rewarded[0])
    ask = record("Ada", "drum")
    chosen, rejected = scorer.messages(
        [[*ask["prompt"], {"role": "assistant", "content": ask[side]}] for side in ("chosen", "rejected")]
    )
    assert chosen > rejected + 1
    with pytest.raises(InputError, match="conversation 0 is said by user"):
        scorer.messages([ask["prompt"]])
    with pytest.raises(InputError, match=r"found a model with heads_of=lm .* wanted a reward model"):
        Scorer.load(files / "parent")


def test_dpo_makes_preferred_answers_likelier(preferring, files):
    """It begins at ln 2 without the parent's dropout, held-out pairs come into order, samples stand before and after,
    and the folder is a language model that keeps the dropout of its config."""
    run, report, said = preferring
    rows = lines(run / "metrics.jsonl")
    assert rows[0]["loss"] == pytest.approx(0.693147, abs=1e-6)
    assert report["held_out_accuracy"] == 1.0
    assert report["held_out_loss"] < 0.6
    assert {"logprob_chosen", "logprob_rejected", "drift"} <= rows[-1].keys()
    assert [row["step"] for row in lines(run / "samples.jsonl")] == [0, 4, 8]
    assert any("reference: log-probabilities of the answers of 40 pairs" in line for line in said)
    assert load(run)[0].config == load(files / "parent")[0].config
    assert load(run)[0].config.dropout == 0.2


def test_dropout_is_off_unless_it_is_wanted(options):
    """The model's own, that of attention weights too; the first loss tells."""
    off, on = (alignment.plan_dpo(options(DpoOptions, dropout=wanted)).model() for wanted in (False, True))
    assert {module.p for module in off.modules() if hasattr(module, "p")} == {0.0}
    assert {module.p for module in on.modules() if hasattr(module, "p")} == {0.2}


@pytest.mark.parametrize("reference", ["precomputed", "copy"])
@pytest.mark.parametrize("share", [True, False])
def test_every_way_begins_at_ln_2(options, tmp_path, reference, share):
    """Whichever way the reference is got and rows are laid, it begins at ln 2 and learns."""
    train = replace(TRAIN, steps=2, schedule="constant", warmup=0.0)
    stages.dpo(options(DpoOptions, reference=reference, share=share, held_out=0.0, train=train))
    rows = lines(tmp_path / "run" / "metrics.jsonl")
    assert rows[0]["loss"] == pytest.approx(0.693147, abs=1e-6)
    assert rows[1]["loss"] < 0.69
    assert (tmp_path / "run" / "reference.safetensors").exists() == (reference == "precomputed")


def test_an_adapter_is_held_against_the_bare_base_and_then_against_itself(options, tmp_path):
    """LoRA: the reference is the base, or in a chain the adapter that the stage began with; both start at ln 2, and the
    second model is another one than the first."""
    lora, train = LoraOptions(rank=2), replace(TRAIN, steps=3, warmup=0.0, schedule="constant")
    first = options(DpoOptions, lora=lora, out=str(tmp_path / "first"), train=train)
    stages.dpo(first)
    chained = options(DpoOptions, model=str(tmp_path / "first"), out=str(tmp_path / "second"), train=train)
    assert alignment.plan_dpo(first).task.begin.__self__.how == "base"
    assert alignment.plan_dpo(chained).task.begin.__self__.how == "previous"
    stages.dpo(chained)
    for name in ("first", "second"):
        rows = lines(tmp_path / name / "metrics.jsonl")
        assert rows[0]["loss"] == pytest.approx(0.693147, abs=1e-6)
        assert rows[-1]["margin"] > 0
        assert (tmp_path / name / "adapter_config.json").is_file()
    one, other = (load_adapter(tmp_path / name)[0] for name in ("first", "second"))
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters()))
    # against the first adapter by its folder: the chain's own reference
    named = options(DpoOptions, lora=lora, reference=str(tmp_path / "first"), out=str(tmp_path / "third"))
    assert alignment.plan_dpo(named).task.begin.__self__.how == "reference"
    stages.dpo(replace(named, train=replace(TRAIN, steps=1)))
    assert lines(tmp_path / "third" / "metrics.jsonl")[0]["loss"] != pytest.approx(0.693147, abs=1e-3)


def test_a_reward_model_of_an_adapter(options, tmp_path):
    """The head travels with the adapter, and the folder scores as a whole model does."""
    report = stages.reward(options(RewardOptions, lora=LoraOptions(rank=4)))
    assert report["held_out_accuracy"] == 1.0
    assert (tmp_path / "run" / "adapter_config.json").is_file()
    ask = record("Ada", "drum")
    said = [[*ask["prompt"], {"role": "assistant", "content": ask[side]}] for side in ("chosen", "rejected")]
    chosen, rejected = Scorer.load(tmp_path / "run").messages(said)
    assert chosen > rejected + 1


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        (DpoOptions, dict(beta=0.0), "beta=0.0"),
        (DpoOptions, dict(reference="bass"), "reference=bass: neither a folder nor one of"),
        (DpoOptions, dict(reference="base"), "reference=base with full fine-tuning"),
        (DpoOptions, dict(smoothing=0.3), "smoothing=0.3 with loss=sigmoid"),
        (RewardOptions, dict(centering=-1.0), "centering=-1.0"),
        (RewardOptions, dict(train=replace(TRAIN, smoothing=0.1)), "train.smoothing=0.1"),
        (RewardOptions, dict(train=replace(TRAIN, context=200)), "train.context=200 is longer"),
    ],
)
def test_what_cannot_be_learnt_is_refused(options, tmp_path, kind, changes, words):
    """Named before any work: nothing is written."""
    run = stages.dpo if kind is DpoOptions else stages.reward
    with pytest.raises(InputError, match=words):
        run(options(kind, **changes))
    assert not (tmp_path / "run").exists()


def test_a_model_that_says_no_tokens_has_no_answers_to_make_likelier(options, rewarded):
    """A reward model may go on as a reward model, its head with it, and not under DPO."""
    model = str(rewarded[0])
    with pytest.raises(InputError, match=r"says no tokens \(heads_of=classify\)"):
        stages.dpo(options(DpoOptions, model=model))
    with pytest.raises(InputError, match=r"reference=.* has heads_of=classify .*wanted a model that says tokens"):
        stages.dpo(options(DpoOptions, reference=model))
    more = stages.reward(options(RewardOptions, model=model, train=replace(TRAIN, steps=1, lr=1e-9)))
    assert more["held_out_margin"] == pytest.approx(rewarded[1]["held_out_margin"], rel=1e-3)


def test_the_page_tells_of_pairs(preferring):
    """Margins and rewards are drawn, the loss is that of a pair, and there is no perplexity."""
    page = render_run(preferring[0])
    for words in ("share of pairs in the right order", "Margin", "Rewards", "Drift", "pairs in order", "of a pair"):
        assert words in page
    assert "perplexity" not in page
    assert "guessing which of two answers was preferred" in page
