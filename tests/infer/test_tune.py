"""How weights lie changes the time of a product and nothing else."""

import pytest
import torch

from instar.infer import tune as tune_file
from instar.infer.tune import Way, fastest, tune
from instar.model.layers import Linear


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


def test_half_precision_is_widened_for_many_rows(large, monkeypatch):
    """More rows than so many are multiplied in fp32, with an error no larger than before; fewer as they are."""
    monkeypatch.setattr(tune_file, "fastest", lambda *_: Way(widen=3))
    linear = Linear(96, 64).requires_grad_(False)
    torch.nn.init.normal_(linear.weight)
    linear.bias.zero_()
    exact = linear.weight.bfloat16().double()
    linear.bfloat16()
    linear.widen = 3
    for rows in (3, 4):
        x = torch.randn(rows, 96).bfloat16()
        y = linear(x)
        assert y.dtype == torch.bfloat16
        assert torch.allclose(y.double(), x.double() @ exact.t(), atol=0.2)
    x = torch.randn(4, 96).bfloat16()
    assert torch.equal(linear(x), torch.nn.functional.linear(x.float(), linear.weight.float()).bfloat16())
    model = large().bfloat16()
    tune(model)
    assert {m.widen for m in model.modules() if isinstance(m, Linear)} == {3}


def test_what_is_measured():
    """A shape is measured once, in time that a load does not feel, and fp32 is never widened."""
    way = fastest(512, 256, torch.float32, torch.get_num_threads())
    assert way.widen == 0
    assert fastest.cache_info().currsize >= 1


def test_small_matrices_are_left_alone(make_model):
    """They stay in a cache, where it does not matter how they lie."""
    model = make_model()
    assert tune(model) == {}
