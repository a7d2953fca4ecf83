"""R4: one infinite loss ruined a run that nobody watched (karpathy/nanoGPT#167; jingyaogong/minimind#450).

Guard: a step whose loss or gradient is not finite is skipped, counted and told with the rows that it read; a run of
them ends the run, and nothing of it is saved.
"""

import json
import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from instar.batch import Loss
from instar.config import Diverged
from instar.config.options import CheckpointOptions, EvaluateOptions, PretrainOptions, TrainOptions
from instar.config.presets import preset
from instar.text.tokenizer import Tokenizer
from instar.train import stages
from instar.train.callbacks import SkippedLog
from instar.train.checkpoint import Checkpoints
from instar.train.objectives import cross_entropy
from instar.train.trainer import MANY, SPAN

pytestmark = pytest.mark.usefixtures("one_thread")
HARMS = {
    "loss inf": lambda total: total * math.inf,
    "loss nan": lambda total: total * math.nan,
    "gradient only": lambda total: total + _Harm.apply(total),
}


class _Harm(torch.autograd.Function):
    """Zero, with a gradient that is not a number."""

    @staticmethod
    def forward(context, x):
        return torch.zeros_like(x)

    @staticmethod
    def backward(context, gradient):
        return gradient * math.nan


def poisoned(*steps, harm="loss inf"):
    """cross_entropy, harmed in the given steps, numbered from 1."""
    seen = []

    def objective(model, batch, **named):
        loss = cross_entropy(model, batch, **named)
        if model.training:
            seen.append(0)
            if len(seen) in steps:
                total, count = loss.terms["loss"]
                return Loss({"loss": (HARMS[harm](total), count)}, loss.metrics)
        return loss

    return objective


def weights(trainer):
    return [weight.detach().clone() for weight in trainer.model.parameters()]


@pytest.mark.parametrize("harm", HARMS)
def test_the_step_is_skipped_and_its_rows_are_named(tiny_trainer, tmp_path, harm):
    """Whether loss or gradient: weights stay, the record, the warning and skipped.jsonl tell the step and its rows."""
    said, records, log = [], [], SkippedLog(tmp_path / "skipped.jsonl", lambda row: {"row": row})
    trainer = tiny_trainer(objective=poisoned(5, harm=harm), steps=6, say=said.append)
    states = []
    trainer.on_step = [log, lambda trainer, record: (records.append(record), states.append(weights(trainer)))]
    trainer.fit()
    rows = trainer.source.row_ids(4)
    moved = [not all(map(torch.equal, *pair)) for pair in pairwise(states)]
    assert moved == [True, True, True, False, True]
    assert [record.get("rows") for record in records] == [None] * 4 + [rows, None]
    assert [record["skipped"] for record in records] == [0, 0, 0, 0, 1, 1]
    assert said == [
        f"warning: step 5 was skipped: loss {records[4]['loss']}, norm of the gradient {records[4]['grad_norm']}; "
        f"it read the rows {', '.join(map(str, rows))}"
    ]
    (line,) = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert line["step"] == 5
    assert line["rows"] == [{"row": row} for row in rows]
    assert (trainer.updates, trainer.skipped) == (5, 1)


def test_ten_in_a_row_end_the_run_and_nothing_of_it_is_saved(tiny_trainer, tmp_path):
    """The end comes at the tenth, though a save was due there, and after it was written down."""
    records = []
    trainer = tiny_trainer(objective=poisoned(*range(11, 30)), steps=40)
    trainer.on_step = [lambda _, record: records.append(record), Checkpoints(tmp_path, every=10)]
    with pytest.raises(Diverged, match="10 steps in a row, up to step 20, gave a loss or gradient that is not finite"):
        trainer.fit()
    assert records[-1]["step"] == 20
    assert [path.name for path in Checkpoints(tmp_path).steps()] == ["step-000000010"]


def test_one_in_a_hundred_ends_the_run_too(tiny_trainer, tmp_path):
    """Eleven single steps among a thousand are no accident, counted across a stop; spread wider they are."""
    assert (MANY, SPAN) == (10, 1000)
    trainer = tiny_trainer(objective=poisoned(*range(2, 60, 2)), steps=60, stop=lambda: trainer.step == 10)
    trainer.on_step = [Checkpoints(tmp_path, every=5)]
    trainer.fit()
    resumed = tiny_trainer(objective=poisoned(*range(1, 60, 2)), steps=60)
    resumed.on_step = [Checkpoints(tmp_path, every=5)]
    assert resumed.on_step[0].restore(resumed) == 11
    with pytest.raises(Diverged, match="11 of the last 1,000 steps, up to step 22"):
        resumed.fit()
    assert [path.name for path in Checkpoints(tmp_path).steps()] == ["step-000000015", "step-000000020"]
    resumed.lately = [1, *range(1000, 1900, 100)]
    resumed.step, resumed.in_a_row = 1000, 0
    assert len(resumed.lately) == MANY
    resumed.lately.append(1990)
    resumed.step = 1999
    assert resumed.hopeless == ""
    resumed.lately.append(1995)
    assert resumed.hopeless


@pytest.mark.parametrize("place", ["weight", "moment"])
def test_what_is_not_finite_is_never_saved(tiny_trainer, tmp_path, place):
    """A weight or a moment that is not finite, however it came there, is named and not committed."""
    trainer = tiny_trainer(steps=3)
    trainer.advance()
    Checkpoints(tmp_path).save(trainer)
    trainer.advance()
    state = dict(trainer.model.named_parameters()) if place == "weight" else trainer.optimizer.state()
    name = "embed.weight" if place == "weight" else "embed.weight:exp_avg_sq"
    state[name].data.view(-1)[3] = math.inf
    with pytest.raises(Diverged, match=f"after step 2, {name} and 0 more tensors are not finite; nothing"):
        Checkpoints(tmp_path).save(trainer)
    assert [path.name for path in Checkpoints(tmp_path).steps()] == ["step-000000001"]


def test_all_ranks_decide_alike(tiny_trainer, on_ranks):
    """One rank of two meets an infinite loss: both skip, both tell the rows of both, both stay alike, both give up."""

    def train(ranks):
        bad = [2, *range(4, 14)] if ranks.rank == 1 else []
        trainer, records = tiny_trainer(objective=poisoned(*bad), steps=20, ranks=ranks, batch_rows=4), []
        trainer.on_step = [lambda _, record: records.append(record)]
        with pytest.raises(Diverged, match="10 steps in a row, up to step 13"):
            trainer.fit()
        return records, weights(trainer)

    (first, one), (second, two) = on_ranks(2, train)
    told = [[(record["step"], record["skipped"], record.get("rows")) for record in rank] for rank in (first, second)]
    assert told[0] == told[1]
    assert [row[0] for row in told[0] if row[2]] == [2, *range(4, 14)]
    assert all(torch.equal(a, b) for a, b in zip(one, two))


def test_a_run_tells_what_it_skipped(tmp_path, monkeypatch):
    """From files to folders: skipped.jsonl has the beginnings of the texts, the closing means leave the step out, and
    a run that diverges keeps its checkpoint, its log of all steps, and no model."""
    texts = [f"{a} has the {b}." for a in ("Ada", "Ben", "Cleo", "Dan") for b in ("ball", "cup", "book")]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    Tokenizer.train(texts, 300).save(tmp_path / "tokenizer")
    options = PretrainOptions(
        data=(str(tmp_path / "texts.jsonl"),), tokenizer=str(tmp_path / "tokenizer"), out=str(tmp_path / "run"),
        held_out=0.0, dtype="fp32", quiet=True, model=preset("nano", d_model=16, layers=1, heads=2, max_positions=64),
        train=TrainOptions(context=16, batch_tokens=64, steps=8), evaluate=EvaluateOptions(samples=0),
        checkpoint=CheckpointOptions(every=3),
    )  # fmt: skip
    said = []
    monkeypatch.setattr(stages, "cross_entropy", poisoned(5))
    report = stages.pretrain(options, say=said.append)
    assert report["skipped_steps"] == 1
    assert math.isfinite(report["training_loss"])
    (line,) = [json.loads(line) for line in (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()]
    assert (line["step"], line["loss"]) == (5, "inf")
    assert all(row["pieces"] and any(text in "".join(row["texts"]) for text in ("has", "the")) for row in line["rows"])
    assert any("step 5 was skipped" in text for text in said)
    monkeypatch.setattr(stages, "cross_entropy", poisoned(*range(5, 30)))
    with pytest.raises(Diverged):
        stages.pretrain(replace(options, out=str(tmp_path / "bad"), train=replace(options.train, steps=20)))
    assert [path.name for path in Checkpoints(tmp_path / "bad" / "checkpoints").steps()] == [
        "step-000000009", "step-000000012",
    ]  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "bad" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 15))
    assert not (tmp_path / "bad" / "model.safetensors").exists()
    assert not (tmp_path / "bad" / ".lock").exists()
