"""What looks at a run changes nothing of it, and tells it truly."""

import json

import pytest
import torch

from instar.train.callbacks import Evaluate, HeldOut, MetricsLog, Progress, Samples
from instar.train.dist import Alone
from instar.train.objectives import cross_entropy


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("micro_rows", [1, 3, 8, 100])
def test_held_out_loss_is_weighted_by_tokens(make_model, rows, collate, micro_rows):
    """Story: huggingface/transformers#39241. The same rows give the same loss in batches of any size."""
    model = make_model(torch.float64)
    means = HeldOut(rows, collate, micro_rows).measure(model, cross_entropy, Alone())
    total, count = cross_entropy(model, collate(rows)).terms["loss"]
    assert means["loss"] == pytest.approx(float(total.detach()) / count, rel=1e-12)
    assert means["targets"] == count


def test_evaluation_leaves_the_run_as_it_was(make_model, make_trainer, rows, collate):
    """With an evaluation after every second step, dropout on, the weights are bit for bit those without."""
    ends, records = [], []
    for every in (0, 2):
        torch.manual_seed(1)
        trainer = make_trainer(make_model(dropout=0.3), steps=6)
        evaluate = Evaluate(HeldOut(rows[:5], collate, 2), every, lambda text: None)
        trainer.on_step = [evaluate, lambda _, record: records.append(record)] if every else []
        trainer.fit()
        assert trainer.model.training
        ends.append([weight.detach().clone() for weight in trainer.model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends))
    assert ["held_out_loss" in record for record in records] == [False, True] * 3


def test_metrics_go_on_without_gap_or_repeat(make_model, make_trainer, tmp_path):
    """Rows after the checkpoint, and a line that a crash cut off, are forgotten; then the log goes on."""
    path = tmp_path / "metrics.jsonl"
    for start, stop in ((0, 7), (4, 9)):
        if start:
            with path.open("a") as file:
                file.write('{"step": 8, "lo')
        log = MetricsLog(path, start)
        trainer = make_trainer(make_model(), steps=stop, more={"on_step": [log]})
        trainer.step = start
        trainer.fit()
        log.close()
    assert [row["step"] for row in read(path)] == list(range(1, 10))


def test_metrics_are_json_even_where_a_figure_is_not_finite(tmp_path):
    """Neither NaN nor Infinity stands in a JSON file."""
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log(None, {"step": 1, "loss": float("nan"), "grad_norm": float("inf"), "lr": 0.5})
    log.close()
    assert read(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": None, "grad_norm": None, "lr": 0.5}]


def test_progress_without_a_terminal_speaks_seldom(make_model, make_trainer):
    """Where nobody watches, a fast run gives one line, at its end."""
    said = []
    with Progress("pretrain", said.append, live=False) as progress:
        make_trainer(make_model(), steps=5, more={"on_step": [progress]}).fit()
    assert len(said) == 1
    assert said[0].startswith("pretrain: step 5/5, loss ")


def test_progress_bar_shows_the_step_on_stderr(make_model, make_trainer, capsys):
    """The bar goes to stderr, and stdout stays free for results."""
    with Progress("pretrain", lambda text: None, live=True) as progress:
        make_trainer(make_model(), steps=3, more={"on_step": [progress]}).fit()
        progress.say("a line above [the bar]")
    out, err = capsys.readouterr()
    assert out == ""
    assert "3/3" in err
    assert "[the bar]" in err


def test_samples_are_written_with_their_step(make_model, make_trainer, tmp_path):
    """Each sample tells when it was drawn; the model goes on training afterwards."""
    said = []
    samples = Samples(
        [("once", [1, 2]), ("there", [3])], lambda model, prompts: [f"{len(ids)} ids" for ids in prompts],
        tmp_path / "samples.jsonl", 2, said.append,
    )  # fmt: skip
    trainer = make_trainer(make_model(), steps=4, more={"on_step": [samples]})
    trainer.fit()
    assert trainer.model.training
    assert read(tmp_path / "samples.jsonl")[:2] == [
        {"step": 2, "prompt": "once", "text": "2 ids"},
        {"step": 2, "prompt": "there", "text": "1 ids"},
    ]
    assert said == ["  once → 2 ids", "  there → 1 ids"] * 2
