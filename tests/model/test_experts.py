"""Experts: a token is given to a few of them, and they are kept equally busy."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from instar.config import InputError, ModelConfig
from instar.model.experts import Experts
from instar.model.layers import Gated
from instar.model.transformer import Transformer

CONFIG = ModelConfig(
    vocab_size=61, d_model=16, layers=3, heads=4, max_positions=32, experts=6, experts_used=2, d_expert=8
)


def make(seed=0, **changes):
    """One such layer in fp64 whose router has clear preferences."""
    layer = Experts(replace(CONFIG, **changes)).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.normal_(generator=generator).div_(weight.shape[1] ** 0.5)
    return layer


def draw(*shape, seed=5):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def one_by_one(layer, x, used, normed, bias=None):
    """What the layer says, by definition: token by token, expert by expert."""
    y = torch.zeros_like(x)
    for row in range(x.shape[0]):
        for place in range(x.shape[1]):
            token = x[row, place]
            chances = torch.softmax(layer.router.weight @ token, 0)
            wanted = chances if bias is None else chances + bias
            chosen = wanted.sort(descending=True).indices[:used].tolist()
            total = sum(chances[e] for e in chosen) if normed else 1.0
            for e in chosen:
                expert = layer.experts[e]
                inner = F.silu(expert.gate.weight @ token) * (expert.up.weight @ token)
                y[row, place] += chances[e] / total * (expert.down.weight @ inner)
    return y


@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("used", [1, 2, 6])
def test_a_layer_is_the_loop_over_its_tokens(used, normed):
    """Values and every gradient in fp64, also where some experts have nothing to do."""
    layer, x = make(experts_used=used, expert_norm=normed), draw(2, 3, 16).requires_grad_()
    found, wanted = layer(x), one_by_one(layer, x, used, normed)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    inputs = (x, *layer.parameters())
    projection = draw(*found.shape, seed=6)
    ours, theirs = (torch.autograd.grad(y, inputs, projection, allow_unused=True) for y in (found, wanted))
    for one, other in zip(ours, theirs):
        zero = torch.zeros(())
        torch.testing.assert_close(zero if one is None else one, zero if other is None else other, atol=1e-12, rtol=0)


def test_a_token_is_answered_the_same_in_any_company():
    """What stands beside it decides neither its experts nor what they say."""
    layer, x = make(), draw(4, 7, 16)
    alone = torch.stack([torch.stack([layer(token[None, None])[0, 0] for token in row]) for row in x])
    torch.testing.assert_close(layer(x), alone, rtol=0, atol=1e-13)


def test_the_router_is_computed_in_fp32():
    """In bf16 the shares are those of fp32 up to the products that made the logits, and add up to one."""
    layer = make().float()
    x = draw(4, 7, 16).to(torch.bfloat16)
    shares, chosen = layer._route(x.flatten(0, 1))
    logits = layer.router(x.flatten(0, 1)).float()
    wanted = logits.softmax(-1).gather(-1, chosen)
    assert shares.dtype == torch.float32
    torch.testing.assert_close(shares, wanted / wanted.sum(-1, keepdim=True))


# --- balance --------------------------------------------------------------------------------------------------------


def test_imbalance_is_the_formula_of_switch():
    """n sum f_e P_e, counted by hand."""
    layer, x = make().train(), draw(5, 8, 16)
    layer(x)
    chances = torch.stack([torch.softmax(layer.router.weight @ token, 0) for token in x.flatten(0, 1)])
    wanted = 0.0
    for e in range(6):
        falls = sum(e in row.topk(2).indices.tolist() for row in chances)
        wanted += falls / (2 * len(chances)) * chances[:, e].mean()
    assert layer.imbalance.item() == pytest.approx(6 * wanted.item(), abs=1e-12)


def test_imbalance_is_one_where_all_are_equally_busy_and_grows_to_n():
    """A router without a preference, and one with nothing else."""
    layer, x = make(experts_used=1).train(), draw(5, 8, 16)
    with torch.no_grad():
        layer.router.weight.zero_()
    layer(x)
    assert layer.imbalance.item() == pytest.approx(1, abs=1e-12)
    with torch.no_grad():
        layer.router.weight[4] = 100.0
    layer(x.abs())
    assert layer.imbalance.item() == pytest.approx(6, abs=1e-6)


def test_both_losses_reach_the_router():
    """Through the shares of what the experts say, and through the imbalance, which pushes busy experts down."""
    layer, x = make().train(), draw(5, 8, 16)
    layer(x).square().sum().backward()
    assert layer.router.weight.grad.norm() > 1e-3
    layer.zero_grad()
    x += 3 * layer.router.weight[1].detach()  # all like one best
    layer(x)
    before = layer.imbalance
    before.backward()
    with torch.no_grad():
        layer.router.weight -= 0.05 * layer.router.weight.grad / layer.router.weight.grad.norm()
    layer(x)
    assert layer.imbalance < before


@pytest.mark.parametrize("normed", [True, False])
def test_a_single_expert_teaches_its_router_only_by_its_share(normed):
    """With one expert a token whose share is made one, what is said does not depend on how sure the router was."""
    layer, x = make(experts_used=1, expert_norm=normed), draw(2, 3, 16)
    layer(x).sum().backward()
    assert (layer.router.weight.grad.norm().item() < 1e-12) == normed


def test_nothing_is_noted_in_evaluation():
    """Load and imbalance are of training alone."""
    layer = make(balance_by="bias").eval()
    layer(draw(2, 3, 16))
    assert layer.imbalance is None
    assert layer.load is None


def test_a_bias_has_a_say_in_the_choice_alone():
    """Shares stay those of the chances, whatever the bias chose."""
    layer, x = make(balance_by="bias"), draw(3, 4, 16)
    layer.bias.copy_(draw(6, seed=7))
    torch.testing.assert_close(layer(x), one_by_one(layer, x, 2, True, layer.bias), rtol=0, atol=1e-12)
    layer.bias.zero_().index_fill_(0, torch.tensor([0, 3]), 2.0)
    assert set(layer._route(x.flatten(0, 1))[1].flatten().tolist()) == {0, 3}


def test_a_bias_evens_out_a_skewed_router():
    """Tokens that all like two experts best are spread: the busiest had three times its part, and then hardly more
    than its part."""
    layer, x = make(balance_by="bias").train(), draw(8, 64, 16)
    with torch.no_grad():
        layer.router.weight.mul_(0.5)
        x += 6 * (layer.router.weight[1] + layer.router.weight[2])

    def busiest():
        layer(x)
        return layer.load.max().item() / layer.load.double().mean().item()

    assert busiest() > 2.5
    for _ in range(200):
        layer.settle(0.005)
        layer(x)
    layer.load = None
    assert busiest() < 1.1


def test_settling_follows_the_sign_and_forgets():
    """Up by the rate where chosen less than the mean, down where more, nothing where equal."""
    layer = make(balance_by="bias")
    layer.load = torch.tensor([4, 8, 6, 6, 0, 12])
    layer.settle(0.25)
    assert layer.bias.tolist() == [0.25, -0.25, 0, 0, 0.25, -0.25]
    assert layer.load is None
    layer.settle(0.25)
    assert layer.bias.tolist() == [0.25, -0.25, 0, 0, 0.25, -0.25]


# --- in a model -----------------------------------------------------------------------------------------------------

TOKENS = torch.randint(0, 61, (3, 20), generator=torch.Generator().manual_seed(2))


def test_dense_layers_keep_one_layer_for_all():
    """dense_layers=(0, 2) of three: the second alone has experts, of their own width."""
    model = Transformer(replace(CONFIG, dense_layers=(0, 2)))
    kinds = [type(block.feed_forward) for block in model.blocks]
    assert kinds == [Gated, Experts, Gated]
    assert model.blocks[1].feed_forward.experts[0].up.weight.shape == (8, 16)
    assert model.blocks[0].feed_forward.up.weight.shape == (CONFIG.d_ff, 16)


def test_the_imbalance_of_a_model_is_the_mean_of_its_layers():
    """Where a loss balances; where a bias does, or nothing, there is none."""
    model = Transformer(CONFIG).train()
    model(TOKENS)
    layers = [block.feed_forward.imbalance.item() for block in model.blocks]
    assert model.imbalance().item() == pytest.approx(sum(layers) / 3)
    assert len(set(layers)) == 3
    for changes in (dict(balance_by="bias"), dict(balance=0.0), dict(experts=0)):
        other = Transformer(replace(CONFIG, **changes)).train()
        other(TOKENS)
        assert other.imbalance() is None


def test_a_model_settles_by_the_load_of_all_ranks():
    """What `add` makes of the loads is what the bias follows."""
    model = Transformer(replace(CONFIG, balance_by="bias", balance=0.5)).train()
    model(TOKENS)

    def elsewhere(loads):
        for load in loads:
            load.copy_(torch.tensor([9, 0, 0, 0, 0, 0]))

    model.settle(elsewhere)
    assert all(block.feed_forward.bias.tolist() == [-0.5] + [0.5] * 5 for block in model.blocks)


def test_recomputed_blocks_have_the_same_imbalance_and_gradients():
    """The auxiliary loss keeps its gradient where activations are not kept."""
    found = []
    for recompute in (False, True):
        model = Transformer(CONFIG).double().train()
        model.recompute = recompute
        logits = model(TOKENS)
        (logits.square().mean() + model.imbalance()).backward()
        found.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_forecast_takes_experts_to_be_equally_busy():
    """Tensors that have shapes and no values cannot say who was chosen; the pass is counted all the same."""
    with FakeTensorMode():
        model = Transformer(CONFIG, seed=None).train()
        logits = model(torch.zeros(3, 20, dtype=torch.int64))
        assert logits.shape == (3, 20, 61)
        assert model.imbalance().shape == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(experts_used=7), "experts_used=7, wanted 1 to experts=6"),
        (dict(experts_used=0), "experts_used=0, wanted 1"),
        (dict(dense_layers=(3,)), r"dense_layers=\(3,\), wanted numbers from 0 to 2"),
        (dict(experts=0, dense_layers=(1,)), "with experts=0"),
        (dict(mlp="plain"), "mlp=plain"),
        (dict(bias=True), "bias=True"),
        (dict(encoder_layers=1), "encoder_layers=1"),
        (dict(experts=4096, layers=1024), "4,194,304 experts in all"),
    ],
)
def test_shapes_that_cannot_be(changes, message):
    """Each is told at construction, by name."""
    with pytest.raises(InputError, match=message):
        replace(CONFIG, **changes)
