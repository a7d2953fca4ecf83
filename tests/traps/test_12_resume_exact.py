"""Trap 12: a run that went on was another run: another order of the data from the second epoch on, other dropout,
another learning rate (huggingface/transformers#8874, #40691; huggingface/accelerate#4071; karpathy/nanoGPT#467).

Guard: a checkpoint holds the weights, the moments, the place in the data, every generator and the counts.
"""

import json
import os
import signal
from dataclasses import replace
from functools import partial
from hashlib import sha256
from itertools import product

import pytest
import torch

from instar.config import Interrupted
from instar.config.options import (
    CheckpointOptions,
    DpoOptions,
    EvaluateOptions,
    PretrainOptions,
    RewardOptions,
    SftOptions,
    TrainOptions,
)
from instar.config.presets import preset
from instar.text.tokenizer import Tokenizer
from instar.train import preferences, stages
from instar.train.checkpoint import Checkpoints
from instar.train.commit import verify
from instar.train.objectives import cross_entropy

pytestmark = pytest.mark.usefixtures("one_thread")


class Dies(BaseException):
    """The process is gone."""


def watched(read, dies_at=0):
    """cross_entropy that notes a hash of every batch, and dies in the given call."""

    def objective(model, batch):
        read.append(sha256(batch.tokens.numpy().tobytes() + batch.targets.numpy().tobytes()).hexdigest())
        if len(read) == dies_at:
            raise Dies
        return cross_entropy(model, batch)

    return objective


WAYS = list(product((False, True), ("adamw", "muon"), (torch.float32, torch.bfloat16)))


def way(asynchronous, optimizer, compute):
    """Half of the ways, in which each two settings meet, are tried every day; the others with the slow tests."""
    name = f"{'async' if asynchronous else 'sync'}-{optimizer}-{'fp32' if compute == torch.float32 else 'bf16'}"
    rare = (asynchronous + (optimizer == "muon") + (compute == torch.bfloat16)) % 2
    return pytest.param(asynchronous, optimizer, compute, id=name, marks=pytest.mark.slow if rare else ())


@pytest.mark.parametrize(("asynchronous", "optimizer", "compute"), [way(*settings) for settings in WAYS])
def test_forty_steps_are_seventeen_and_twenty_three(tiny_trainer, tmp_path, compute, optimizer, asynchronous):
    """Killed in the middle of the accumulation of step 18, in the third epoch, with dropout: hashes of the batches,
    losses, learning rates, weights, moments and the state of the generator are bit for bit those of one run."""
    named = {"steps": 40, "micro_rows": 2, "compute": compute, "optimizer": optimizer, "schedule": "cosine"}

    def run(folder, read, dies_at=0, seed=0):
        trainer, records = tiny_trainer(objective=watched(read, dies_at), seed=0, **named), []
        saves = Checkpoints(folder, every=17, asynchronous=asynchronous)
        saves.restore(trainer) or torch.manual_seed(5)
        trainer.on_step = [lambda _, record: records.append(record), saves]
        try:
            with saves:
                trainer.fit()
        except Dies:
            assert (trainer.step, trainer.source.micro, trainer.source.epoch) == (17, 0, 5)
        told = [[record[name] for name in ("step", "loss", "grad_norm", "lr", "tokens", "epoch")] for record in records]
        state = trainer.model.state_dict() | trainer.optimizer.state() | {"random": torch.get_rng_state()}
        return told, {name: tensor.clone() for name, tensor in state.items()}

    whole_read, first_read, second_read = [], [], []
    wanted, end = run(tmp_path / "whole", whole_read)
    first, _ = run(tmp_path / "parts", first_read, dies_at=17 * 3 + 2)
    torch.manual_seed(99)
    second, found = run(tmp_path / "parts", second_read)
    assert first + second == wanted
    assert first_read[: 17 * 3] + second_read == whole_read
    assert len(set(whole_read)) > 20
    assert end.keys() == found.keys()
    assert all(torch.equal(end[name], found[name]) for name in end)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Texts, dialogues about them, a tokenizer, and a small pretrained parent with dropout."""
    folder = tmp_path_factory.mktemp("files")
    pairs = [(a, b) for a in ("Ada", "Ben", "Cleo", "Dan", "Eve") for b in ("ball", "cup", "book", "kite")]
    texts = [f"{a} has the {b}. {a} likes the {b}." for a, b in pairs]
    asked = [
        [{"role": "user", "content": f"What has {a}?"}, {"role": "assistant", "content": f"The {b}."}] for a, b in pairs
    ]
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (folder / "dialogues.jsonl").write_text("".join(json.dumps({"messages": turns}) + "\n" for turns in asked))
    compared = [
        {"prompt": turns[:1], "chosen": turns[1]["content"], "rejected": f"Not {a}."}
        for turns, (a, _) in zip(asked, pairs)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in compared))
    Tokenizer.train(texts, 300).save(folder / "tokenizer")
    stages.pretrain(pretraining(folder, folder / "parent", "fp32"))
    return folder


def pretraining(files, out, dtype):
    return PretrainOptions(
        data=(str(files / "texts.jsonl"),), tokenizer=str(files / "tokenizer"), out=str(out), held_out=0.2, dtype=dtype,
        quiet=True, model=preset("nano", d_model=16, layers=1, heads=2, max_positions=64, dropout=0.2), train=TRAIN,
        evaluate=EvaluateOptions(every=3, samples=0), checkpoint=CheckpointOptions(every=4),
    )  # fmt: skip


def teaching(files, out, dtype):
    return SftOptions(
        model=str(files / "parent"), data=(str(files / "dialogues.jsonl"),), out=str(out), held_out=0.2, dtype=dtype,
        quiet=True, train=TRAIN, evaluate=EvaluateOptions(every=3, samples=0), checkpoint=CheckpointOptions(every=4),
    )  # fmt: skip


def comparing(options, files, out, dtype):
    """A stage that learns from pairs, with the model's own dropout on."""
    return options(
        model=str(files / "parent"), data=(str(files / "pairs.jsonl"),), out=str(out), held_out=0.2, dtype=dtype,
        quiet=True, dropout=True, train=replace(TRAIN, context=64, batch_tokens=256, micro_tokens=128),
        evaluate=EvaluateOptions(every=3, samples=0), checkpoint=CheckpointOptions(every=4),
    )  # fmt: skip


# stage -> its options, what runs it, and where what it computes in every pass is looked up
STAGES = {
    "pretrain": (pretraining, stages.pretrain, (stages, "cross_entropy")),
    "sft": (teaching, stages.sft, (stages, "cross_entropy")),
    "reward": (partial(comparing, RewardOptions), stages.reward, (preferences, "pair_loss")),
    "dpo": (partial(comparing, DpoOptions), stages.dpo, (preferences, "pair_loss")),
}
TRAIN = TrainOptions(context=32, batch_tokens=128, micro_tokens=64, steps=9, lr=3e-3)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_was_stopped_is_the_same_run(files, tmp_path, monkeypatch, stage, dtype):
    """T10, T17. SIGUSR1 in the middle of step 6, from files to folders: every tensor of the last checkpoint, the model,
    and every line of the log are bit for bit those of the run that was not stopped."""
    plan, run, place = STAGES[stage]
    options = plan(files, tmp_path / "parts", dtype)
    run(replace(options, out=str(tmp_path / "whole")))
    usual, calls = getattr(*place), []

    def interrupted(*given, **named):
        calls.append(torch.is_grad_enabled())
        if sum(calls) == 11:
            os.kill(os.getpid(), signal.SIGUSR1)
        return usual(*given, **named)

    monkeypatch.setattr(*place, interrupted)
    with pytest.raises(Interrupted, match="stopped at step 6 of 9"):
        run(options)
    monkeypatch.undo()
    torch.manual_seed(99)
    run(replace(options, resume=True))
    outcomes = [outcome(tmp_path / name) for name in ("whole", "parts")]
    assert [step for step, *_ in outcomes[0]["log"]] == list(range(1, 10))
    for name in outcomes[0]:
        assert outcomes[0][name] == outcomes[1][name], name


COUNTS = ("training_loss", "held_out_loss", "tokens", "teaching_tokens", "pairs")


def outcome(run):
    last = run / "checkpoints" / "step-000000009"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    names = ("loss", "grad_norm", "lr", "held_out_loss", "accuracy")
    report = json.loads((run / "report.json").read_text())
    return {
        "log": [(row["step"], *(float(row.get(name, 0)).hex() for name in names)) for row in rows],
        "files": {name: entry for name, entry in verify(last)["files"].items() if name != "trainer.json"},
        "random": json.loads((last / "trainer.json").read_text())["random"],
        "model": (run / "model.safetensors").read_bytes(),
        "report": [report.get(name) for name in COUNTS],
    }
