"""pretrain and sft from files to folders: what they write, what they refuse, and that they can be stopped."""

import json
import os
import shutil
import signal
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from instar.config import InputError, Interrupted, load_yaml
from instar.config.options import (
    CheckpointOptions,
    EvaluateOptions,
    PretrainOptions,
    RewardOptions,
    SftOptions,
    TrainOptions,
)
from instar.config.presets import preset
from instar.data.branches import pair_sizes
from instar.data.corpus import Tally, encode
from instar.data.refine.mixture import Mixture, Part
from instar.data.shards import SUFFIX, ShardWriter
from instar.data.sources import Document
from instar.hub.folders import load
from instar.text.tokenizer import Tokenizer
from instar.train import plan, stages
from instar.train.alignment import plan_reward
from instar.train.objectives import cross_entropy

NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hana")
THINGS = ("ball", "cup", "book", "kite", "drum")
TEXTS = [f"{name} has the {thing}. {name} likes the {thing}." for name in NAMES for thing in THINGS]
MODEL = preset("nano", d_model=32, layers=2, heads=2, max_positions=96, tied=True)
TRAIN = TrainOptions(context=48, batch_tokens=192, steps=8, lr=3e-3)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Texts, dialogues about them, and a tokenizer trained on the texts."""
    folder = tmp_path_factory.mktemp("files")
    lines = [json.dumps({"text": text}) for text in TEXTS]
    (folder / "texts.jsonl").write_text("\n".join(lines) + "\n")
    dialogues = [
        {
            "messages": [
                {"role": "user", "content": f"What has {name}?"},
                {"role": "assistant", "content": f"The {thing}."},
            ]
        }
        for name in NAMES
        for thing in THINGS
    ]
    (folder / "dialogues.jsonl").write_text("\n".join(map(json.dumps, dialogues)) + "\n")
    Tokenizer.train(TEXTS, 320).save(folder / "tokenizer")
    return folder


@pytest.fixture
def options(files, tmp_path):
    return PretrainOptions(
        data=(str(files / "texts.jsonl"),), tokenizer=str(files / "tokenizer"), out=str(tmp_path / "run"), held_out=0.2,
        dtype="fp32", quiet=True, model=MODEL, train=TRAIN, evaluate=EvaluateOptions(every=4, samples=1),
        checkpoint=CheckpointOptions(every=3),
    )  # fmt: skip


@pytest.fixture(scope="module")
def parent(files, tmp_path_factory):
    """A finished pretraining run."""
    out = tmp_path_factory.mktemp("parent") / "run"
    options = PretrainOptions(
        data=(str(files / "texts.jsonl"),), tokenizer=str(files / "tokenizer"), out=str(out), dtype="fp32", model=MODEL,
        train=replace(TRAIN, steps=3),
    )  # fmt: skip
    stages.pretrain(options)
    return out


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_pretrain_writes_a_whole_folder(options, tmp_path):
    """Everything of the design's run folder is there, and the record says what the run was made of."""
    said = []
    report = stages.pretrain(options, say=said.append)
    run = tmp_path / "run"
    expected = (
        "config.json model.safetensors tokenizer.json tokenizer_config.json generation_config.json chat_template.jinja "
        "instar.yaml metrics.jsonl samples.jsonl report.json report.html checkpoints"
    ).split()
    assert sorted(path.name for path in run.iterdir()) == sorted(expected)
    assert json.loads((run / "report.json").read_text()) == report
    rows = lines(run / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 9))
    assert [row["step"] for row in rows if "held_out_loss" in row] == [4, 8]
    assert {"tokens", "loss", "lr", "grad_norm", "tokens_per_second", "epoch"} <= rows[0].keys()
    assert report["held_out_loss"] == rows[-1]["held_out_loss"]
    assert report["bits_per_byte"] > 0
    recipe = load_yaml(run / "instar.yaml")
    assert recipe["options"]["train"]["lr"] == 3e-3
    assert {"python", "torch", "instar"} <= recipe["versions"].keys()
    assert {"cpu", "cores", "device"} <= recipe["hardware"].keys()
    assert len(recipe["data"]["fingerprint"]) == len(recipe["tokenizer"]["fingerprint"]) == 64
    assert [row["step"] for row in lines(run / "samples.jsonl")] == [4, 8]
    assert any(f"{report['parameters']:,} weights" in line for line in said)


def test_a_checkpoint_holds_a_model_folder(options, tmp_path):
    """model/ inside a checkpoint is what the run folder gets at the end: weights and tokenizer."""
    stages.pretrain(options)
    model, tokenizer = load(tmp_path / "run" / "checkpoints" / "step-000000008" / "model")
    last, _ = load(tmp_path / "run")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), last.parameters()))
    assert tokenizer.vocab_size == 320


def test_sft_goes_on_from_its_parent(files, parent, tmp_path):
    """The parent's tokenizer and weights are taken over, its hash is written down, only replies teach."""
    options = SftOptions(
        model=str(parent), data=(str(files / "dialogues.jsonl"),), out=str(tmp_path / "sft"), held_out=0.2,
        dtype="fp32", train=replace(TRAIN, steps=0, epochs=1.0, lr=1e-3, warmup=0.0, decay=1.0),
    )  # fmt: skip
    report = stages.sft(options)
    assert report["data"]["dialogues"] == 40
    assert 0 < report["teaching_tokens"] < report["tokens"] / 2
    assert report["bits_per_byte"] is None
    recipe = load_yaml(tmp_path / "sft" / "instar.yaml")
    assert recipe["parent"]["folder"] == str(parent)
    assert len(recipe["parent"]["sha256"]) == 64
    model, tokenizer = load(tmp_path / "sft")
    assert tokenizer.fingerprint == Tokenizer.load(parent).fingerprint
    ends = json.loads((tmp_path / "sft" / "generation_config.json").read_text())["eos_token_id"]
    assert ends == list(tokenizer.stops)
    before, _ = load(parent)
    assert not any(torch.equal(a, b) for a, b in zip(model.blocks[0].parameters(), before.blocks[0].parameters()))


def test_a_tied_head_stays_tied_through_a_life(files, parent, tmp_path):
    """Story: huggingface/transformers#45079. What SFT loads counts and trains the shared matrix once."""
    options = SftOptions(
        model=str(parent), data=(str(files / "dialogues.jsonl"),), out=str(tmp_path / "sft"), dtype="fp32",
        train=replace(TRAIN, steps=1),
    )  # fmt: skip
    report = stages.sft(options)
    assert report["parameters"] == json.loads((parent / "report.json").read_text())["parameters"]


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_and_the_run_goes_on_the_same(options, tmp_path, monkeypatch, stop):
    """Ctrl-C or SIGTERM in step 5: saved, Interrupted names how to go on, and the end is bit for bit the same."""
    stages.pretrain(replace(options, out=str(tmp_path / "whole")))
    usual = stages.cross_entropy
    calls = iter(range(1000))

    def interrupted(model, batch, **named):
        if model.training and next(calls) == 4:
            os.kill(os.getpid(), stop)
        return usual(model, batch, **named)

    monkeypatch.setattr(stages, "cross_entropy", interrupted)
    with pytest.raises(Interrupted, match=r"stopped at step 5 of 8.*--resume goes on"):
        stages.pretrain(options)
    run = tmp_path / "run"
    assert not (run / "report.json").exists()
    assert "stopped at step 5 of 8" in (run / "report.html").read_text(encoding="utf-8")
    assert signal.getsignal(stop) in (signal.default_int_handler, signal.SIG_DFL)
    with pytest.raises(InputError, match="a run that was stopped; add --resume"):
        stages.pretrain(options)
    stages.pretrain(replace(options, resume=True))
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "run"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    losses = [[row["loss"] for row in lines(tmp_path / name / "metrics.jsonl")] for name in ("whole", "run")]
    assert losses[0] == losses[1]
    assert "stopped at" not in (run / "report.html").read_text(encoding="utf-8")


def test_a_finished_run_is_not_touched(options, tmp_path):
    """Without --resume it is refused; with it, its report comes back and nothing is trained."""
    report = stages.pretrain(options)
    before = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    with pytest.raises(InputError, match="a finished run; add --resume"):
        stages.pretrain(options)
    said = []
    assert stages.pretrain(replace(options, resume=True), say=said.append) == report
    assert "is finished" in said[0]
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == before


def test_a_run_killed_at_its_very_end_is_cleaned_up(options, tmp_path):
    """Its report was there, its page not yet, nor had it let go of its lock: going on completes the folder."""
    stages.pretrain(options)
    whole = sorted(path.name for path in (tmp_path / "run").iterdir())
    (tmp_path / "run" / "report.html").unlink()
    for name in (".lock", ".report.html.tmp-0123abcd"):
        (tmp_path / "run" / name).touch()
    stages.pretrain(replace(options, resume=True))
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == whole


def test_a_folder_of_others_is_refused(options, tmp_path):
    """An --out folder that holds something else is left alone."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"1 files that are not a run of instar, thesis\.txt"):
        stages.pretrain(options)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.txt"]


def test_resume_of_another_recipe_is_refused(options, tmp_path, monkeypatch):
    """A learning rate that changed under a run is an error with both values; evaluating more often is not."""
    monkeypatch.setattr(stages.RunFolder, "write_report", lambda *arguments: None)
    stages.pretrain(options)
    with pytest.raises(InputError, match=r"options\.train\.lr was 0\.003 and is 0\.1"):
        stages.pretrain(replace(options, resume=True, train=replace(TRAIN, lr=0.1)))
    stages.pretrain(replace(options, resume=True, evaluate=EvaluateOptions(every=1)))


def test_resume_of_other_data_or_another_tokenizer_is_refused(options, files, tmp_path, monkeypatch):
    """T15. One byte of the data, or another tokenizer, under the same name: what was and what is are both said, with
    how to begin anew, and nothing of the run is touched; the same bytes go on."""
    monkeypatch.setattr(stages.RunFolder, "write_report", lambda *arguments: None)
    data = tmp_path / "data"
    shutil.copytree(files, data)
    options = replace(options, data=(str(data / "texts.jsonl"),), tokenizer=str(data / "tokenizer"))
    stages.pretrain(options)
    wanted = load_yaml(tmp_path / "run" / "instar.yaml")["data"]["fingerprint"]
    log = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    texts = (data / "texts.jsonl").read_bytes()
    (data / "texts.jsonl").write_bytes(texts.replace(b"Ada", b"Ida", 1))
    with pytest.raises(InputError, match=f"cannot go on from .*: data was '{wanted}' and is '[0-9a-f]+'") as error:
        stages.pretrain(replace(options, resume=True))
    assert "begin a new run with another --out" in str(error.value)
    (data / "texts.jsonl").write_bytes(texts)
    Tokenizer.train([text.lower() for text in TEXTS], 320).save(data / "tokenizer")
    with pytest.raises(InputError, match=r"tokenizer was '[0-9a-f]+' and is '[0-9a-f]+'"):
        stages.pretrain(replace(options, resume=True))
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == log
    shutil.rmtree(data / "tokenizer")
    shutil.copytree(files / "tokenizer", data / "tokenizer")
    stages.pretrain(replace(options, resume=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "options.seed was 0 and is 1"),
        ({"held_out": 0.3}, r"options.held_out was 0\.2 and is 0\.3"),
        ({"packing": "best-fit"}, "options.packing was 'windows' and is 'best-fit'"),
        ({"train": replace(TRAIN, batch_tokens=96)}, "options.train.batch_tokens was 192 and is 96"),
        ({"train": replace(TRAIN, steps=9)}, "options.train.steps was 8 and is 9; steps was 8 and is 9"),
        ({"model": replace(MODEL, dropout=0.1)}, r"model.dropout was 0\.0 and is 0\.1"),
        ({"dtype": "bf16"}, "compute was 'fp32' and is 'bf16'"),
    ],
)
def test_whatever_shapes_a_run_may_not_change(options, monkeypatch, changes, message):
    """T15. Everything that decides what is learnt is compared, and both values are said."""
    monkeypatch.setattr(stages.RunFolder, "write_report", lambda *arguments: None)
    stages.pretrain(options)
    with pytest.raises(InputError, match=message):
        stages.pretrain(replace(options, resume=True, **changes))


def test_a_second_process_is_refused(options, tmp_path):
    """T13. While a run holds its folder, another is refused with its process number before it reads any data, and
    afterwards the folder holds no lock."""
    run, seen = tmp_path / "run", []

    def look(text):
        if not seen:
            seen.append((run / ".lock").read_text())
            with pytest.raises(InputError, match=f"{run} is in use by process {os.getpid()}"):
                stages.pretrain(replace(options, resume=True, data=("no such file",)))

    stages.pretrain(options, say=look)
    assert seen == [f"{os.getpid()}\n"]
    assert not (run / ".lock").exists()


def test_a_run_that_died_repeats_nothing(options, tmp_path, monkeypatch):
    """Going on from step 6 after dying at 8, metrics, samples and looks inside of the lost steps are written once."""
    options = replace(options, evaluate=replace(options.evaluate, inside=4))
    with monkeypatch.context() as patch:
        patch.setattr(stages.RunFolder, "write_report", lambda *arguments: None)
        stages.pretrain(options)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-000000008")
    stages.pretrain(replace(options, resume=True))
    assert [row["step"] for row in lines(tmp_path / "run" / "metrics.jsonl")] == list(range(1, 9))
    assert [row["step"] for row in lines(tmp_path / "run" / "samples.jsonl")] == [4, 8]
    looks = lines(tmp_path / "run" / "inside.jsonl")
    assert [row["step"] for row in looks] == [0, 4, 8]
    assert all(row["lens"]["places"] and row["best"]["previous"] for row in looks)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0, "epochs": 0.0}, r"train\.steps=0 and train\.epochs=0\.0 give no optimizer step"),
        ({"context": 200, "batch_tokens": 400}, r"train\.context=200 is longer than the model's max_positions=96"),
        ({"batch_tokens": 10}, r"train\.batch_tokens=10 is less than one row of train\.context=48"),
    ],
)
def test_runs_that_cannot_be_are_refused(options, tmp_path, changes, message):
    """Both values are named, and no folder appears."""
    with pytest.raises(InputError, match=message):
        stages.pretrain(replace(options, train=replace(TRAIN, **changes)))
    assert not (tmp_path / "run").exists()


def test_a_shape_without_family_is_said_and_kept(options, tmp_path):
    """What transformers could not compute is told before the work, and saved in our own layout, bit for bit."""
    said = []
    shape = replace(MODEL, residual="both", positions="alibi")
    stages.pretrain(replace(options, model=shape), say=said.append)
    assert any("our own layout, which instar alone reads" in line for line in said)
    model, _ = load(tmp_path / "run")
    assert model.config == replace(shape, vocab_size=320)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["architectures"] == ["InstarTransformer"]
    stored = load_file(tmp_path / "run" / "model.safetensors")
    assert {name: weight for name, weight in model.state_dict().items() if name != "heads.lm.weight"}.keys() == (
        stored.keys()
    )


def test_everything_held_in_training_is_said(options, tmp_path):
    """With nothing held out there is no held-out loss, and the run says so."""
    said = []
    report = stages.pretrain(replace(options, held_out=0.0), say=said.append)
    assert report["held_out_loss"] is None
    assert any("nothing is held out" in line for line in said)


def test_a_mixture_is_trained_on_and_told(options, files, tmp_path):
    """Shards of a prepared folder stand as often as its mixture says; the run says so and keeps it in its report."""
    (tmp_path / "out").mkdir()
    tokenizer = Tokenizer.load(files / "tokenizer")
    parts = {}
    for number, (name, texts) in enumerate({"few": TEXTS[:8], "many": TEXTS[8:]}.items()):
        writer = ShardWriter(tmp_path / "out" / f"{number}{SUFFIX}", tokenizer.vocab_size, tokenizer.fingerprint)
        for section in encode([Document({"text": text}, "", 1) for text in texts], tokenizer, Tally()):
            writer.add(section)
        writer.close()
        parts[name] = Part(3.0 if name == "few" else 1.0, None, writer.total, (writer.path.name,))
    Mixture(parts).save(tmp_path / "out")
    said = []
    report = stages.pretrain(replace(options, data=(str(tmp_path / "out"),)), say=said.append)
    assert report["data"]["documents"] == 3 * 8 + 32
    assert {row["source"]: row["epochs"] for row in report["data"]["mixture"]} == {"few": 3.0, "many": 1.0}
    assert any(line.startswith("one pass: many 5") and "few 4" in line and "(3 epochs)" in line for line in said)


def test_look_back_reaches_the_new_model(options, monkeypatch):
    """A rotary model is born with the heads that look back; only where that is asked for."""
    born = []
    plain = plan._born
    monkeypatch.setattr(plan, "_born", lambda *rest: born.append(plain(*rest)) or plain(*rest))
    for look_back in (False, True):
        stages.pretrain(replace(options, out=f"{options.out}-{look_back}", look_back=look_back))
    signs = [model.embed.weight[:, 0].std().item() for model in born]
    assert signs[0] > 0
    assert signs[1] == pytest.approx(0, abs=1e-6)


def test_look_back_without_rotary_positions_is_refused_before_work(options, tmp_path):
    """With both values and the remedy, before a folder is made."""
    learned = replace(options, look_back=True, model=preset("gpt2", vocab_size=0, d_model=32, layers=2, heads=2))
    with pytest.raises(InputError, match=r"look_back=true needs model\.positions=rotary, .*; found learned"):
        stages.pretrain(learned)
    assert not (tmp_path / "run").exists()


def test_compiled_blocks_get_rows_of_one_width(options, monkeypatch):
    """Whatever is compiled, every batch of the run is as wide as the context."""
    widths = set()

    def watched(model, batch, **named):
        widths.add(batch.tokens.shape[1])
        return cross_entropy(model, batch, **named)

    monkeypatch.setattr(stages, "cross_entropy", watched)
    monkeypatch.setattr("instar.train.trainer.compile_blocks", lambda *rest: True)
    train = replace(TRAIN, compile=True, context=96, batch_tokens=96, steps=0)  # each row by itself, the short last too
    stages.pretrain(replace(options, held_out=0.0, train=train))
    assert widths == {96}


def test_minutes_cut_the_steps_to_what_fits(options, tmp_path, monkeypatch):
    """At 10 seconds a step and 15% for the rest, a minute holds 5 of 40 steps; the run says so and ends there."""
    monkeypatch.setattr("instar.train.trainer.Trainer.seconds_a_step", lambda self: 10.0)
    said = []
    report = stages.pretrain(replace(options, train=replace(TRAIN, steps=40, minutes=1.0)), say=said.append)
    assert report["steps"] == 5
    assert any("40 steps would take 7.7 minutes on this machine; 5 are taken" in line for line in said)


def test_minutes_that_suffice_change_nothing(options):
    """A run with time to spare takes all its steps."""
    assert stages.pretrain(replace(options, train=replace(TRAIN, minutes=30.0)))["steps"] == TRAIN.steps


@pytest.mark.parametrize("minutes", [-1.0, float("nan"), float("inf")])
def test_minutes_that_mean_nothing_are_refused(options, minutes):
    with pytest.raises(InputError, match=r"train\.minutes="):
        stages.pretrain(replace(options, train=replace(TRAIN, minutes=minutes)))


def test_a_run_that_goes_on_keeps_the_steps_it_was_given(options, monkeypatch):
    """A machine that is slower today does not change the schedule of a run from yesterday."""
    train = replace(TRAIN, steps=8, minutes=1.0)
    monkeypatch.setattr("instar.train.trainer.Trainer.seconds_a_step", lambda self: 10.0)
    monkeypatch.setattr(stages, "stop_on_signal", lambda: nullcontext(lambda: True))
    with pytest.raises(Interrupted):
        stages.pretrain(replace(options, train=train))
    monkeypatch.undo()
    monkeypatch.setattr("instar.train.trainer.Trainer.seconds_a_step", lambda self: 50.0)
    assert stages.pretrain(replace(options, train=train, resume=True))["steps"] == 5


@pytest.fixture
def tuning(files, parent, tmp_path):
    """A short SFT with noise on the embeddings, over dialogues of which two records are at fault."""
    data = tmp_path / "some.jsonl"
    good = (files / "dialogues.jsonl").read_text()
    data.write_text('{"text": "no dialogue"}\n{"messages": "neither"}\n' + good)
    return SftOptions(
        model=str(parent), data=(str(data),), out=str(tmp_path / "sft"), held_out=0.2, dtype="fp32", quiet=True,
        neftune=5.0, bad_records=0.1, train=replace(TRAIN, steps=6, lr=1e-3), checkpoint=CheckpointOptions(every=3),
    )  # fmt: skip


def test_bad_records_are_said_and_counted(tuning):
    """A run is not lost to them: the first are named, the report has their number; beyond the limit it never starts."""
    said = []
    report = stages.sft(tuning, say=said.append)
    assert (report["data"]["malformed"], report["data"]["kept"]) == (2, 40)
    assert [line.split(": ")[0].rpartition("/")[2] for line in said if line.startswith("left out")] == [
        "some.jsonl, record 1", "some.jsonl, record 2",
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"2 of 42 records .* bad_records=0.01 allows: 2 malformed, first .*record 1"):
        stages.sft(replace(tuning, out=tuning.out + "2", bad_records=0.01))


def test_noise_on_embeddings_is_part_of_the_run(tuning, tmp_path):
    """NEFTune changes what is learnt, is no part of what is measured, and a run that goes on draws the same noise."""
    stages.sft(tuning)
    stages.sft(replace(tuning, out=str(tmp_path / "plain"), neftune=0.0))
    run = tmp_path / "sft"
    whole, plain = (load_file(tmp_path / name / "model.safetensors") for name in ("sft", "plain"))
    assert not all(torch.equal(whole[name], plain[name]) for name in whole)
    report = json.loads((run / "report.json").read_text())
    shutil.rmtree(run / "checkpoints" / "step-000000006")
    for name in ("report.json", "model.safetensors"):
        (run / name).unlink()
    again = stages.sft(replace(tuning, resume=True))
    assert again["held_out_loss"] == report["held_out_loss"]
    resumed = load_file(run / "model.safetensors")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("amount", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["neftune", "evidence"])
def test_an_amount_that_means_nothing_is_refused(tuning, name, amount):
    """A negative or endless amount is no amount."""
    with pytest.raises(InputError, match=rf"{name}=.*; wanted 0, for none, or more"):
        stages.sft(replace(tuning, **{name: amount}))


def test_a_head_is_told_only_where_the_data_says_where_to_look(tuning, tmp_path):
    """Data without any evidence is refused; with it the report of each step says how much of it is seen."""
    with pytest.raises(InputError, match=r"evidence=0\.5, and no record names the evidence of a reply; leave it out"):
        stages.sft(replace(tuning, evidence=0.5))
    people = ["Ada", "Bob", "Eve", "Dan", "Ann", "Tim", "Sue", "Jim"]
    texts = [{"context": f"{a} sat. {b} ran.", "qas": [{"question": "Sat?", "answer": a, "evidence": f"{a} sat."}]}
             for a in people for b in people]  # fmt: skip
    (tmp_path / "read.jsonl").write_text("\n".join(map(json.dumps, texts)))
    stages.sft(replace(tuning, evidence=0.5, data=(str(tmp_path / "read.jsonl"),)))
    lines = map(json.loads, (tmp_path / "sft" / "metrics.jsonl").read_text().splitlines())
    assert all(0 < line["on_evidence"] < 1 and line["evidence"] > 0 for line in lines if "targets" in line)


def test_rows_of_pairs_may_be_wider_than_a_text(parent, tmp_path):
    """A pair is longer than its prompt with one answer, which the context bounds: rows take as many tokens as the
    longest pair, and a step as many tokens as it was told to."""
    pairs = [{"prompt": "Ada?", "chosen": "ball " * n, "rejected": "cup " * n} for n in range(12, 24)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    options = RewardOptions(
        model=str(parent), data=(str(tmp_path / "pairs.jsonl"),), out=str(tmp_path / "reward"), dtype="fp32",
        held_out=0.0, train=replace(TRAIN, context=60, batch_tokens=480, micro_tokens=160),
    )  # fmt: skip
    stage = stages.stage_of(options, plan_reward, say=print)
    longest = int(pair_sizes(stage.learnt).max())
    assert stage.learnt.lengths.max() + 1 == longest == stage.width > 60
    assert (stage.loader.batch_rows, stage.loader.micro_rows) == (480 // longest, 160 // longest)
    assert longest >= next(stage.loader).tokens.shape[1] > 60 - 16
