"""The loop: what a step does, what it refuses to do, and what it tells."""

import math
from dataclasses import replace

import pytest
import torch

from instar.batch import Batch, Loss
from instar.config import Diverged, InputError
from instar.train.objectives import cross_entropy
from instar.train.trainer import HOPELESS


def weights(model):
    return [weight.detach().clone() for weight in model.parameters()]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b))


def poisoned(*bad):
    """cross_entropy, infinite in the given calls."""
    calls = iter(range(10_000))

    def objective(model, batch):
        loss = cross_entropy(model, batch)
        total, count = loss.terms["loss"]
        return Loss({"loss": (total * math.inf if next(calls) in bad else total, count)}, loss.metrics)

    return objective


def test_training_lowers_the_loss(make_model, make_trainer):
    """Twenty steps over few rows learn something, and the record says so."""
    records = []
    trainer = make_trainer(make_model(), steps=40, more={"on_step": [lambda trainer, record: records.append(record)]})
    trainer.fit()
    assert [record["step"] for record in records] == list(range(1, 41))
    assert records[-1]["loss"] < records[0]["loss"] - 0.3
    assert records[-1]["tokens"] == trainer.tokens
    assert sum(record["targets"] for record in records) == trainer.targets


def test_a_run_without_steps_is_refused(make_model, make_trainer):
    """Zero steps is an error with the values that led to it."""
    with pytest.raises(InputError, match=r"train.steps=0 and train.epochs=0.5 give 0 optimizer steps"):
        make_trainer(make_model(), steps=0, epochs=0.5)


def test_a_step_that_is_not_finite_changes_nothing_but_the_count(make_model, make_trainer):
    """Story: karpathy/nanoGPT#167. One infinite loss must not reach the weights, the moments or the schedule."""
    trainer = make_trainer(make_model(), objective=poisoned(2), schedule="cosine")
    rates = []
    for _ in range(2):
        rates.append(trainer.advance()["lr"])
    before, moments = weights(trainer.model), {k: v.clone() for k, v in trainer.optimizer.state().items()}
    skipped = trainer.advance()
    assert same(before, weights(trainer.model))
    assert all(torch.equal(moments[name], value) for name, value in trainer.optimizer.state().items())
    assert (skipped["skipped"], trainer.step, trainer.updates) == (1, 3, 2)
    assert trainer.advance()["lr"] == skipped["lr"]


def test_a_hopeless_run_stops(make_model, make_trainer):
    """Ten steps in a row without a finite gradient end the run, and the weights are the last sound ones."""
    trainer = make_trainer(make_model(), objective=poisoned(*range(1, 100)))
    trainer.advance()
    before = weights(trainer.model)
    with pytest.raises(Diverged, match=f"{HOPELESS} steps in a row, up to step 11"):
        trainer.fit()
    assert same(before, weights(trainer.model))


def test_the_whole_gradient_is_clipped(make_model, make_trainer):
    """One norm over all weights: the direction stays, the record tells the norm before clipping."""
    free, clipped = (make_trainer(make_model(torch.float64), clip=clip) for clip in (0.0, 0.01))
    norms = [trainer.advance()["grad_norm"] for trainer in (free, clipped)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-12)
    for a, b in zip(free.optimizer.gradients(), clipped.optimizer.gradients()):
        torch.testing.assert_close(a * (0.01 / norms[0]), b, rtol=1e-10, atol=1e-14)
    assert float(torch.nn.utils.get_total_norm(clipped.optimizer.gradients())) == pytest.approx(0.01)


def test_recomputing_activations_changes_nothing(make_model, make_trainer):
    """Gradients with and without recomputation are equal, dropout and all."""
    found = []
    for recompute in (False, True):
        torch.manual_seed(0)
        trainer = make_trainer(make_model(torch.float64, dropout=0.2), recompute=recompute, steps=1)
        trainer.fit()
        assert trainer.model.recompute == recompute
        found.append([gradient.clone() for gradient in trainer.optimizer.gradients()])
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-14)


def test_a_stop_ends_the_run_after_the_step(make_model, make_trainer):
    """Asked to stop, the trainer finishes its step and says that it stopped early."""
    trainer = make_trainer(make_model(), more={"stop": lambda: trainer.step == 4})
    trainer.fit()
    assert (trainer.step, trainer.stopped) == (5, True)


def test_a_stop_at_the_end_is_no_stop(make_model, make_trainer):
    """A signal during the last step leaves a finished run."""
    trainer = make_trainer(make_model(), steps=3, more={"stop": lambda: True})
    trainer.step = 2
    trainer.fit()
    assert (trainer.step, trainer.stopped) == (3, False)


def test_shapes_that_no_family_saves_train_too(make_model, make_trainer):
    """Without residuals and norms there is nothing to save as, and the loop does not care."""
    trainer = make_trainer(make_model(residual="none", norm="none"), steps=2)
    trainer.fit()
    assert trainer.step == 2


def test_only_trainable_weights_move(make_model, make_trainer):
    """A frozen embedding stays bit for bit, while the blocks move."""
    model = make_model(tied=False)
    model.embed.requires_grad_(False)
    before = weights(model)
    make_trainer(model, steps=2, weight_decay=1.0).fit()
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters())]
    assert moved == [weight.requires_grad for weight in model.parameters()]


def test_two_terms_are_added_and_told_apart(make_model, make_trainer):
    """An objective of two terms learns their sum; the record holds each and the total."""

    def both(model, batch: Batch) -> Loss:
        loss = cross_entropy(model, batch)
        total, count = loss.terms["loss"]
        return Loss({"one": (total, count), "two": (total * 2, count)})

    record = make_trainer(make_model(torch.float64), objective=both).advance()
    plain = make_trainer(make_model(torch.float64)).advance()
    assert record["one"] == pytest.approx(plain["loss"], rel=1e-12)
    assert record["loss"] == pytest.approx(3 * plain["loss"], rel=1e-12)
    assert record["grad_norm"] == pytest.approx(3 * plain["grad_norm"], rel=1e-10)


def test_a_compiler_that_fails_costs_one_warning(make_model, make_trainer, monkeypatch):
    """Story: torch.compile fails lazily, at the first step. The plain blocks go on, and the run is the same."""

    def failing(function, **options):
        def call(*arguments, **named):
            raise RuntimeError("no C++ compiler found")

        return call

    monkeypatch.setattr(torch, "compile", failing)
    said, models = [], [make_model(), make_model()]
    make_trainer(models[0], steps=2, compile=True, more={"say": said.append}).fit()
    make_trainer(models[1], steps=2).fit()
    assert same(weights(models[0]), weights(models[1]))
    assert said == ["torch.compile is off, the plain blocks go on (RuntimeError: no C++ compiler found)"]


def test_a_compiler_that_lies_is_found_out(make_model, make_trainer, monkeypatch):
    """Compiled blocks whose numbers are wrong are put back before the first step."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: lambda x, *rest: function(x, *rest) * 1.5)
    said, model = [], make_model()
    trainer = make_trainer(model, steps=1, compile=True, more={"say": said.append})
    trainer.fit()
    assert "loss and gradient norm were" in said[0]
    assert not any("forward" in vars(block) for block in model.blocks)


def test_only_training_is_compiled(make_model, make_trainer, monkeypatch):
    """Evaluation and generation, whose shapes vary, go through plain blocks; old gradients do not fool the check."""
    calls = []

    def counting(function, **options):
        return lambda *rest, **named: calls.append(torch.is_grad_enabled()) or function(*rest, **named)

    monkeypatch.setattr(torch, "compile", counting)
    said, model = [], make_model()
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    make_trainer(model, steps=1, compile=True, more={"say": said.append}).fit()
    taken = len(calls)
    with torch.no_grad():
        model(torch.zeros(1, 4, dtype=torch.long))
    assert not said
    assert taken == len(calls) > 0
    assert all(calls)


def test_dropout_is_no_reason_to_distrust_a_compiler(make_model, make_trainer, monkeypatch):
    """Plain and compiled blocks are compared at rest: a compiler draws other numbers, and they make another loss."""

    def drawing(function, **options):
        return lambda *rest, **named: function(*rest, **named) if torch.rand(3).sum() else None

    monkeypatch.setattr(torch, "compile", drawing)
    said, model = [], make_model(dropout=0.5, tied=False)
    with torch.no_grad():
        model.heads["lm"].weight *= 30  # so that a draw shows in the loss
    make_trainer(model.train(), steps=1, compile=True, more={"say": said.append}).fit()
    assert not said


def test_trials_leave_no_trace_in_what_balances_experts(make_model, make_trainer):
    """Only the passes of a step move the router's bias: none that measured, and none of a step that was skipped."""
    shape = dict(experts=4, d_expert=8, balance_by="bias", balance=0.25)
    models = [make_model(**shape), make_model(**shape)]
    measured, plain = (make_trainer(model, steps=3) for model in models)
    measured.seconds_a_step()
    assert all(experts.load is None and experts.imbalance is None for experts in models[0].experts)
    measured.fit()
    plain.fit()
    for one, other in zip(models[0].experts, models[1].experts):
        assert torch.equal(one.bias, other.bias)
        assert one.bias.abs().max() > 0


def test_measuring_a_step_moves_nothing(make_model, make_trainer):
    """The seconds of a step are measured on the next batch, and training, dropout and all, is as if they had not
    been: a run that went on, which does not measure, is the same run."""
    models = [make_model(dropout=0.2), make_model(dropout=0.2)]
    measured, plain = (make_trainer(model, steps=2) for model in models)
    torch.manual_seed(3)
    assert 0 < measured.seconds_a_step() < 60
    assert all(weight.grad is None for weight in models[0].parameters())
    measured.fit()
    torch.manual_seed(3)
    plain.fit()
    assert same(weights(models[0]), weights(models[1]))


@pytest.mark.slow
def test_compiled_blocks_train_the_same(make_model, make_trainer):
    """Real torch.compile: the same losses as plain blocks."""
    losses = []
    for compiled in (False, True):
        said = []
        trainer = make_trainer(make_model(), compile=compiled, more={"say": said.append})
        trainer.on_step = [lambda _, record: losses.append(record["loss"])]
        trainer.fit()
        assert not said
    assert losses[:20] == pytest.approx(losses[20:], rel=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_trains_as_the_cpu(make_model, make_trainer):
    """Three fp32 steps on the GPU have the losses of the CPU."""
    losses = []
    for device in ("cpu", "cuda"):
        trainer = make_trainer(make_model().to(device))
        losses.append([trainer.advance()["loss"] for _ in range(3)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_state_is_plain_data(make_model, make_trainer):
    """What the trainer remembers beside tensors survives JSON, and carries on in another trainer."""
    import json

    first, second = make_trainer(make_model(), micro_rows=3), make_trainer(make_model(), micro_rows=3)
    for _ in range(4):
        first.advance()
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert (second.step, second.updates, second.tokens) == (4, 4, first.tokens)
    assert replace(next(first.source)).tokens.tolist() == replace(next(second.source)).tokens.tolist()
