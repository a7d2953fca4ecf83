"""What is seen inside a model while it trains: true, complete over any stop, and without a trace in what is learnt."""

import json
from pathlib import Path

import pytest
import torch

from instar.batch import IGNORE
from instar.probe.capture import capture
from instar.probe.heads import profile
from instar.probe.lens import lens
from instar.train import reinforce
from instar.train.callbacks import HeldOut, Samples
from instar.train.inside import LENGTH, TEXTS, Inside, plain


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def watch(rows, collate, tmp_path):
    """watch(every, ...) -> a look inside, whose samples count how often the model was asked to speak."""

    def make(every, *, micro_rows=2, held_out=True, rows_read=5, samples_every=0):
        asked = []

        def speak(model, prompts):
            asked.append(model.training)
            return ["said"] * len(prompts)

        samples = Samples([("once", [1, 2])], speak, tmp_path / "samples.jsonl", samples_every, lambda text: None)
        said = []
        found = Inside(
            HeldOut(rows, collate, micro_rows) if held_out else None, rows_read, None, samples,
            tmp_path / "inside.jsonl", every, said.append,
        )  # fmt: skip
        found.said, found.asked = said, asked
        return found

    return make


def test_looking_changes_nothing_of_what_is_learnt(make_model, make_trainer, watch):
    """With dropout on, weights after six steps are bit for bit those of a run that nobody looked into."""
    ends = []
    for every in (0, 2):
        torch.manual_seed(1)
        trainer = make_trainer(make_model(dropout=0.3), steps=6)
        look = watch(every)
        if every:
            look.take(trainer)
            trainer.on_step = [look]
        trainer.fit()
        assert trainer.model.training
        ends.append([weight.detach().clone() for weight in trainer.model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends))
    assert [row["step"] for row in read(look.path)] == [0, 2, 4, 6]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in trainer.model.modules())


@pytest.mark.parametrize("micro_rows", [1, 3, 100])
def test_figures_are_those_of_the_views(make_model, make_trainer, rows, collate, watch, micro_rows):
    """Scores are those of `profile`; means of the lens count each place that teaches once, however rows are batched."""
    model = make_model(head_scale=8.0)  # surer of itself than a fresh one, so that layers differ
    look = watch(1, micro_rows=micro_rows)
    look.take(make_trainer(model))
    (row,) = read(look.path)
    found = profile(model.eval(), None, length=LENGTH, samples=TEXTS)
    assert row["heads"] == {name: plain(scores) for name, scores in found.scores.items()}
    score, layer, head = row["best"]["previous"]
    assert score == row["heads"]["previous"][layer][head] == max(map(max, row["heads"]["previous"]))
    batch = collate(rows[:5])
    seen, taught = lens(capture(model, batch.tokens, view=batch.view)), batch.targets != IGNORE
    assert row["lens"]["places"] == int(taught.sum())
    assert row["lens"]["settled"] == pytest.approx(float(seen.settled[taught].double().mean()), abs=1e-4)
    assert row["lens"]["kl"] == pytest.approx(seen.kl[:, taught].mean(1).tolist(), abs=2e-4)
    assert row["lens"]["entropy"] == pytest.approx(seen.entropy[:, taught].mean(1).tolist(), abs=2e-4)
    assert row["lens"]["kl"][0] > 10 * row["lens"]["kl"][-1]


def test_the_model_speaks_once_a_step(make_model, make_trainer, watch):
    """The sample that is shown anyway stands there too; where none is due, the model is asked."""
    look = watch(1, samples_every=2)
    trainer = make_trainer(make_model(), steps=4)
    trainer.on_step = [look.samples, look]
    trainer.fit()
    assert look.asked == [False] * 4
    assert [row["samples"] for row in read(look.path)] == [[{"prompt": "once", "text": "said"}]] * 4
    assert [row["step"] for row in read(look.samples.path)] == [2, 4]


def test_what_a_model_lacks_is_said_once(make_model, make_trainer, watch):
    """A model without words has heads and no lens; an encoder has no induction, and scores what stands behind."""
    model = make_model(causal=False, heads_of=("classify",), labels=2)
    look = watch(1)
    trainer = make_trainer(model)
    look.take(trainer)
    look.take(trainer)
    first, second = read(look.path)
    assert "lens" not in first
    assert first["heads"] == second["heads"]
    assert {"previous", "next", "duplicate"} <= first["heads"].keys()
    assert "induction" not in first["heads"]
    assert len(look.said) == 1
    assert "wanted lm or masked" in look.said[0]


def test_without_held_out_rows(make_model, make_trainer, watch):
    """Nothing is held out, or no row is wanted: heads alone."""
    for changes in ({"held_out": False}, {"rows_read": 0}):
        watch(1, **changes).take(make_trainer(make_model()))
    for row in read(watch(1).path):
        assert "lens" not in row
        assert row["heads"]


def test_numbers_are_json():
    """NaN and infinity are null."""
    assert plain([[0.123456, float("nan")], [float("inf"), 2]]) == [[0.1235, None], [None, 2.0]]
    assert plain(torch.tensor([0.5, torch.nan]).numpy()) == [0.5, None]


def test_rounds_are_fixed(make_model, make_trainer, watch):
    """The same weights give the same row, whatever was drawn in between."""
    look = watch(1)
    trainer = make_trainer(make_model())
    look.take(trainer)
    torch.rand(7)
    trainer.step += 1
    look.take(trainer)
    first, second = ({name: row[name] for name in ("heads", "best", "lens")} for row in read(look.path))
    assert first == second


def test_a_policy_is_seen_alone(reinforced):
    """Of a policy with its critic the policy's heads are scored, at every look and before the first step; no held-out
    text is read, since prompts have no targets."""
    options = reinforced("ppo", evaluate={"inside": 4}, train={"steps": 4})
    reinforce.ppo(options)
    looks = read(Path(options.out) / "inside.jsonl")
    assert [row["step"] for row in looks] == [0, 4]
    assert all(len(row["heads"]["previous"]) == 1 and "lens" not in row and row["samples"] for row in looks)
