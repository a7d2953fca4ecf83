"""Which weights decay, which optimizer moves them, and how the learning rate goes."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from instar.config import InputError
from instar.config.options import TrainOptions
from instar.train.muon import Muon
from instar.train.optim import SCHEDULES, Optimizer, scale

OPTIONS = TrainOptions(steps=100)


def decaying(optimizer):
    """Names of the weights that decay."""
    groups = [group for part, _ in optimizer.parts for group in part.param_groups if group["weight_decay"]]
    inside = {id(weight) for group in groups for weight in group["params"]}
    return {name for name, weight in optimizer.weights.items() if id(weight) in inside}


@pytest.mark.parametrize("kind", ["adamw", "muon"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_decay_acts_on_matrices_alone(make_model, kind, tied, positions):
    """Block matrices decay; embeddings, learned positions, heads, norms and biases do not."""
    model = make_model(tied=tied, positions=positions, bias=True, norm="layer")
    wanted = {name for name, weight in model.named_parameters() if name.startswith("blocks.") and weight.ndim == 2}
    assert decaying(Optimizer(model, replace(OPTIONS, optimizer=kind))) == wanted


def test_muon_takes_the_matrices_and_adamw_the_rest(make_model):
    """Every weight is moved by exactly one optimizer."""
    optimizer = Optimizer(make_model(tied=False), replace(OPTIONS, optimizer="muon"))
    (adamw, _), (muon, _) = optimizer.parts
    counts = [sum(len(group["params"]) for group in part.param_groups) for part in (adamw, muon)]
    assert (type(adamw), type(muon)) == (torch.optim.AdamW, Muon)
    assert counts[1] == 2 * 7
    assert sum(counts) == len(optimizer.weights)


@pytest.mark.parametrize("compute", [None, torch.bfloat16])
def test_muon_multiplies_in_the_dtype_of_the_model(make_model, compute):
    """A CPU that has no bf16 products, for which the model computes in fp32, must not meet them in the optimizer."""
    model = make_model()
    model.compute = compute
    muon, _ = Optimizer(model, replace(OPTIONS, optimizer="muon")).parts[1]
    assert muon.products == (compute or torch.float32)


def test_one_scale_moves_both_learning_rates(make_model):
    """AdamW and Muon warm up and decay together."""
    model = make_model()
    optimizer = Optimizer(model, replace(OPTIONS, optimizer="muon", lr=0.1, muon_lr=0.3))
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step(0.5)
    rates = [group["lr"] for part, _ in optimizer.parts for group in part.param_groups]
    assert rates == pytest.approx([0.05, 0.15])


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_pace_multiplies_the_rate_of_every_optimizer(make_model, kind):
    """Matrices that Muon moves have their pace too."""
    model = make_model()
    model.paces = {"blocks.1.": 3.0}
    optimizer = Optimizer(model, replace(OPTIONS, optimizer=kind, lr=0.1, muon_lr=0.2))
    names = {weight: name for name, weight in model.named_parameters()}
    for part, _ in optimizer.parts:
        usual = 0.2 if isinstance(part, Muon) else 0.1
        for group in part.param_groups:
            for weight in group["params"]:
                pace = 3.0 if names[weight].startswith("blocks.1.") else 1.0
                assert group["lr"] == pytest.approx(usual * pace), names[weight]


def test_frozen_weights_are_nobodys(make_model):
    """A weight that asks for no gradient is in no group."""
    model = make_model()
    model.embed.requires_grad_(False)
    assert "embed.weight" not in Optimizer(model, OPTIONS).weights


def test_sharing_memory_without_being_tied_is_caught(make_model):
    """Two parameters over one storage would be moved twice a step."""
    model = make_model(tied=False)
    model.heads["lm"].weight.data = model.embed.weight.data
    with pytest.raises(AssertionError, match="share memory"):
        Optimizer(model, OPTIONS)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_state_comes_back_by_name(make_model, kind):
    """A second optimizer that takes over the state makes the same next step."""
    models = [make_model(), make_model()]
    first, second = (Optimizer(model, replace(OPTIONS, optimizer=kind)) for model in models)
    for optimizer, rounds in ((first, 3), (second, 0)):
        for _ in range(rounds):
            _fill_gradients(optimizer)
            optimizer.step(1.0)
    models[1].load_state_dict(models[0].state_dict())
    second.load({name: tensor.clone() for name, tensor in first.state().items()})
    for optimizer in (first, second):
        _fill_gradients(optimizer)
        optimizer.step(1.0)
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters()))


def _fill_gradients(optimizer):
    generator = torch.Generator().manual_seed(1)
    for weight in optimizer.weights.values():
        weight.grad = torch.randn(weight.shape, generator=generator)


def test_state_of_another_model_is_refused(make_model):
    """A moment without its weight, or of another shape, is an error that names it."""
    optimizer = Optimizer(make_model(), OPTIONS)
    with pytest.raises(InputError, match=r"trains no weight other\.weight"):
        optimizer.load({"other.weight:exp_avg": torch.zeros(2)})
    with pytest.raises(InputError, match=r"wanted \[61, 16\]"):
        optimizer.load({"embed.weight:exp_avg": torch.zeros(2, 3)})


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_warm_up_and_never_leave_their_bounds(schedule):
    """Every schedule rises in equal steps to the peak, never falls below final, and ends near it if it decays."""
    options = replace(OPTIONS, schedule=schedule, warmup=0.1, decay=0.3, final=0.05)
    values = [scale(update, 100, options) for update in range(100)]
    assert values[:10] == pytest.approx([n / 10 for n in range(1, 11)])
    assert max(values) == 1.0
    assert all(later <= earlier for earlier, later in pairwise(values[9:]))
    ends = {"constant": 1.0, "rsqrt": math.sqrt(10 / 100)}  # the others fall to what was asked for
    assert values[-1] == ends[schedule] if schedule in ends else 0.05 <= values[-1] < 0.09


def test_cosine_is_half_way_in_the_middle():
    """Half-way through its fall the cosine has lost half."""
    options = replace(OPTIONS, schedule="cosine", warmup=0.2, final=0.1)
    assert scale(60, 100, options) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 2)) / 2)


def test_wsd_without_decay_leaves_it_to_the_next_stage():
    """A schedule may span stages: decay 0 ends at the peak, and 0.97 in the next falls from it at once."""
    first = replace(OPTIONS, schedule="wsd", warmup=0.1, decay=0.0)
    second = replace(OPTIONS, schedule="wsd", warmup=0.0, decay=1.0)
    assert scale(99, 100, first) == 1.0
    assert [scale(n, 100, second) for n in (0, 50, 99)] == pytest.approx([1.0, 0.5, 0.01])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"warmup": 0.5, "decay": 0.6}, "warmup=0.5 and train.decay=0.6 overlap"),
        ({"warmup": 1.5}, "train.warmup=1.5 is a share"),
        ({"betas": (0.9,)}, "has 1 values, wanted two"),
    ],
)
def test_figures_that_mean_nothing_are_refused(make_model, changes, message):
    """Shares outside 0 to 1 and a decay that would begin inside the warm-up are errors with both values."""
    with pytest.raises(InputError, match=message):
        Optimizer(make_model(), replace(OPTIONS, **changes))
