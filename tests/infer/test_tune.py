"""How weights lie changes the time of a product and nothing else."""

import pytest
import torch

from instar.infer import tune as tune_file
from instar.infer.tune import Way, fastest, tune
from instar.model.layers import AS_IT_IS, Linear, Plan


@pytest.fixture
def large(make_model, monkeypatch):
    """A model whose matrices all count as large."""
    monkeypatch.setattr(tune_file, "WORTH", 1)
    return lambda **shape: make_model(**shape)


@pytest.mark.parametrize("tied", [False, True])
def test_weights_in_columns_are_the_same_weights(large, monkeypatch, tied):
    """Same logits, same names and values in the file, gradients as before; a tied embedding stays as it is."""
    monkeypatch.setattr(tune_file, "fastest", lambda *_: Way(columns=True))
    model = large(tied=tied)
    tokens = torch.arange(6)[None]
    before, state = model(tokens), {name: value.clone() for name, value in model.state_dict().items()}
    chosen = tune(model)
    assert set(chosen.values()) == {Way(columns=True)}
    turned = [m for m in model.modules() if isinstance(m, Linear) and not m.weight.is_contiguous()]
    assert len(turned) == sum(isinstance(m, Linear) for m in model.modules()) - tied
    assert torch.allclose(model(tokens), before, atol=1e-12)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    model(tokens).sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())
    monkeypatch.setattr(tune_file, "fastest", lambda *_: Way(summed=True))
    tune(model)  # tuned anew, as a compiled step wants it
    assert all(m.weight.is_contiguous() and m.summed for m in model.modules() if isinstance(m, Linear))


@pytest.mark.parametrize("widened", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_a_plan_is_the_product(large, monkeypatch, widened, turned):
    """In fp32, turned, both or neither: x W^T + bias, with an error no larger than that of the plain product, in x's
    dtype and shape; and with gradients."""
    plan = Plan(widened, turned)
    linear = Linear(96, 64)
    torch.nn.init.normal_(linear.weight)
    torch.nn.init.normal_(linear.bias)
    linear.bfloat16()
    weight, bias = linear.weight.double(), linear.bias.double()
    linear.plan = (plan, AS_IT_IS, plan)
    for rows in (1, 2, 3, 4, 12):
        x = torch.randn(1, rows, 96).bfloat16()
        y = linear(x)
        assert (y.dtype, y.shape) == (torch.bfloat16, (1, rows, 64))
        exact = x.double() @ weight.t() + bias
        plain = (torch.nn.functional.linear(x, linear.weight, linear.bias).double() - exact).abs().max()
        assert (y.double() - exact).abs().max() <= 2 * plain + exact.abs().max() * 2**-8
        expected = (AS_IT_IS if rows == 2 else plan)(x, linear.weight, linear.bias)
        assert torch.equal(y, expected)
    y.sum().backward()
    assert torch.allclose(linear.weight.grad[0].double(), x.double().sum((0, 1)), rtol=0.02, atol=0.1)


def test_a_plan_reaches_every_large_product(large, monkeypatch):
    """What was measured for a shape is what its layers do, and logits stay the same."""
    plan = (AS_IT_IS, Plan(turned=True))
    monkeypatch.setattr(tune_file, "fastest", lambda *_: Way(plan=plan))
    model = large()
    tokens = torch.arange(6)[None]
    before = model(tokens)
    tune(model)
    assert {m.plan for m in model.modules() if isinstance(m, Linear)} == {plan}
    assert torch.allclose(model(tokens), before, atol=1e-12)


def test_a_compiled_step_has_one_plan_for_all_rows(monkeypatch):
    """One program serves any number of rows but one, so that none is compiled anew, and gives the same numbers."""
    linear = Linear(96, 64, bias=False)
    torch.nn.init.normal_(linear.weight)
    linear.plan = (Plan(turned=True), AS_IT_IS, Plan(turned=True), AS_IT_IS, Plan(turned=True))
    programs = []

    def noted(graph, inputs):
        programs.append(graph)
        return graph.forward

    fast = torch.compile(linear, backend=noted)
    for rows in (1, 2, 3, 4, 8, 16, 40):
        x = torch.randn(rows, 96)
        torch._dynamo.mark_dynamic(x, 0) if rows > 1 else None
        assert torch.allclose(fast(x), linear(x), atol=1e-4)
    assert len(programs) == 2


def test_what_is_measured():
    """A shape is measured once, in time that a load does not feel, and fp32 is never widened."""
    way = fastest(512, 256, torch.float32, torch.get_num_threads())
    assert not any(plan.widened for plan in way.plan)
    assert fastest.cache_info().currsize >= 1


def test_small_matrices_are_left_alone(make_model):
    """They stay in a cache, where it does not matter how they lie."""
    model = make_model()
    assert tune(model) == {}
