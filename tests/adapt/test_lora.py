"""Adapters on our own models: what they add, which of them are heeded, what learns, and that merging is exact."""

from contextlib import suppress
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from instar.adapt.lora import (
    activate,
    adapters,
    attach,
    copied,
    counts,
    freeze,
    merge,
    remove,
    using,
    weights_of,
)
from instar.adapt.quantize import quantize
from instar.adapt.targets import adaptable, chosen
from instar.config import InputError
from instar.config.options import LoraOptions, SamplingOptions
from instar.config.presets import preset
from instar.hub.files import load_model, save_model
from instar.infer.engine import Engine
from instar.model.grid import Grid
from instar.model.transformer import Transformer

SHAPE = preset("nano", vocab_size=64, d_model=32, layers=2, heads=4)
EXPERTS = replace(SHAPE, experts=4, experts_used=2, d_expert=16)
LORA = LoraOptions(rank=3)


@pytest.fixture
def model():
    return Transformer(SHAPE, seed=2).eval()


@pytest.fixture
def ids():
    return torch.randint(0, 64, (2, 12), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def adapted(model, stir):
    """A model with an adapter that says something."""
    attach(model, "sft", LORA)
    stir(weights_of(model, "sft").values())
    return model


@torch.no_grad()
def test_a_layer_adds_alpha_over_rank_times_b_a_x(adapted):
    """Equation 3 of the paper, by hand, and with rsLoRA alpha over the root of the rank."""
    layer, x = adapted.blocks[0].attention.q, torch.randn(5, 32)
    delta = layer.adapters["sft"]
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight) + x @ delta.a.t() @ delta.b.t() * (6 / 3))
    attach(adapted, "rs", LoraOptions(rank=4, alpha=5, rslora=True))
    assert layer.adapters["rs"].scale == 5 / 4**0.5


@torch.no_grad()
def test_a_new_adapter_says_nothing_and_is_drawn_as_peft_draws(model, ids):
    """B is zero, A is uniform up to 1 / sqrt(channels in), of one seed the same."""
    before = model(ids)
    attach(model, "sft", LORA, seed=5)
    assert torch.equal(model(ids), before)
    assert model.active == ("sft",)
    attach(model, "again", LORA, seed=5)
    for name, layer in adaptable(model):
        one, other = layer.adapters["sft"], layer.adapters["again"]
        assert not one.b.any(), name
        assert torch.equal(one.a, other.a)
        assert 0.7 < one.a.abs().max() * layer.in_features**0.5 <= 1


@torch.no_grad()
def test_which_adapters_are_heeded(adapted, ids, stir):
    """None, one, another, both, and again what it was, also after an error inside."""
    said = {"sft": adapted(ids)}
    attach(adapted, "more", LoraOptions(rank=2, targets=("q",)))
    stir(weights_of(adapted, "more").values(), seed=8)
    said["more"] = adapted(ids)
    with using(adapted):
        bare = adapted(ids)
    with using(adapted, "sft"):
        assert torch.equal(adapted(ids), said["sft"])
    assert torch.equal(adapted(ids), said["more"])
    with suppress(ZeroDivisionError), using(adapted, "sft", "more"):
        both = adapted(ids)
        _ = 1 / 0
    assert adapted.active == ("more",)
    layer, x = adapted.blocks[0].attention.q, torch.randn(4, 32)
    with using(adapted, "sft", "more"):
        whole = layer(x)
    with using(adapted):
        torch.testing.assert_close(whole, layer(x) + layer.adapters["sft"](x) + layer.adapters["more"](x))
    tensors = [bare, said["sft"], said["more"], both]
    assert all((a - b).abs().max() > 0.01 for n, a in enumerate(tensors) for b in tensors[:n])
    remove(adapted, "more", "sft")
    assert torch.equal(adapted(ids), bare)
    assert adapters(adapted) == {}


@torch.no_grad()
def test_a_copy_is_its_own(adapted, ids, stir):
    """A copy says the same until one of the two learns."""
    said = adapted(ids)
    copied(adapted, "sft", "previous")
    assert adapted.active == ("sft",)
    stir(weights_of(adapted, "sft").values(), seed=9)
    with using(adapted, "previous"):
        assert torch.equal(adapted(ids), said)
    assert (adapted(ids) - said).abs().max() > 0.01


@pytest.mark.parametrize("shape", [SHAPE, EXPERTS, replace(SHAPE, tied=True)], ids=["plain", "experts", "tied"])
@torch.no_grad()
def test_merging_is_exact(shape, ids, stir):
    """In fp64 merged and apart say the same to the last digits, rows of tokens and experts too; nothing is left."""
    model = Transformer(shape, seed=2).double().eval()
    names = set(model.state_dict())
    attach(model, "sft", LORA, tokens=(5, 60))
    stir(weights_of(model, "sft").values())
    apart = model(ids)
    merge(model)
    torch.testing.assert_close(model(ids), apart, rtol=1e-12, atol=1e-12)
    assert set(model.state_dict()) == names


@torch.no_grad()
def test_merging_one_leaves_the_others_active(adapted, ids, stir):
    """What was heeded beside a merged adapter is heeded still."""
    attach(adapted, "more", LoraOptions(rank=2, targets=("q",)))
    stir(weights_of(adapted, "more").values(), seed=8)
    activate(adapted, "sft", "more")
    said = adapted(ids)
    merge(adapted, "sft")
    assert (adapted.active, list(adapters(adapted))) == (("more",), ["more"])
    torch.testing.assert_close(adapted(ids), said, rtol=0, atol=1e-5)


@pytest.mark.parametrize("bits", [8, 4])
@torch.no_grad()
def test_on_top_of_whole_numbers(model, ids, bits, stir):
    """An adapter on an int8 or int4 model adds to what that says, learns, and merges to a dense model."""
    quantize(model, Grid(bits, 0 if bits == 8 else 32, True))
    bare = model(ids)
    attach(model, "sft", LORA)
    assert torch.equal(model(ids), bare)
    stir(weights_of(model, "sft").values())
    freeze(model, train="sft")
    apart = model(ids)
    with torch.enable_grad():
        model(ids).square().mean().backward()
    assert all(weight.grad.any() for weight in weights_of(model, "sft").values())
    merge(model, "sft")
    torch.testing.assert_close(model(ids), apart, rtol=1e-2, atol=2e-2)  # int8 products round what they multiply
    assert type(model.blocks[0].attention.q).__name__ == "Linear"
    assert sum(counts(model)) == Transformer(SHAPE, seed=None).size()


@torch.no_grad()
def test_names_and_files_of_the_base_do_not_change(adapted, tmp_path, ids):
    """The weights below keep their names, and a saved model is the bare one."""
    bare = Transformer(SHAPE, seed=2).eval()
    assert [name for name in adapted.state_dict() if ".adapters." not in name] == list(bare.state_dict())
    save_model(adapted, tmp_path)
    assert torch.equal(load_model(tmp_path)(ids), bare(ids))


TARGETS = {
    ("q",): {"attention.q"},
    ("q_proj", "v_proj"): {"attention.q", "attention.v"},
    ("feed_forward.*",): {"feed_forward.gate", "feed_forward.up", "feed_forward.down"},
    ("mlp.down_proj",): {"feed_forward.down"},
    ("blocks.1.attention.out",): {"attention.out"},
}


@pytest.mark.parametrize("targets", TARGETS)
def test_targets_by_our_names_and_by_the_familys(model, targets):
    """Ends of names, whole names and patterns."""
    assert {name.partition(".")[2].partition(".")[2] for name, _ in chosen(model, targets)} == TARGETS[targets]


def test_all_linear_leaves_out_embeddings_heads_and_routers():
    """Every layer of the blocks, experts one by one, and nothing besides."""
    model = Transformer(EXPERTS, seed=2)
    names = [name for name, _ in chosen(model, ("all-linear",))]
    assert len(names) == 2 * (4 + 4 * 3)
    assert all(name.startswith("blocks.") and "router" not in name for name in names)


def test_fused_layers_are_found_by_the_name_of_the_whole():
    """GPT-2 has queries, keys and values in one."""
    model = Transformer(preset("gpt2", vocab_size=64, d_model=32, layers=1, heads=4, max_positions=64))
    assert [name for name, _ in chosen(model, ("c_attn",))] == [f"blocks.0.attention.{part}" for part in "qkv"]


BAD = {
    "no rank": (dict(rank=0, alpha=4.0), "lora.rank=0 and lora.alpha is set"),
    "negative": (dict(rank=-1), "lora.rank=-1"),
    "targets alone": (dict(targets=("q",)), "lora.rank=0 and lora.targets is set"),
    "alpha": (dict(rank=2, alpha=-1.0), "lora.alpha=-1"),
    "dropout": (dict(rank=2, dropout=1.0), "lora.dropout=1"),
    "bits": (dict(rank=2, bits=8), "lora.bits=8"),
    "no target": (dict(rank=2, targets=()), "lora.targets is empty"),
    "typing error": (dict(rank=2, targets=("q_prj",)), "did you mean q_proj"),
}


@pytest.mark.parametrize("case", BAD)
def test_options_that_mean_nothing(model, case):
    """Each is named with what was wanted."""
    with pytest.raises(InputError, match=BAD[case][1]):
        attach(model, "sft", LoraOptions(**BAD[case][0]))


def test_names_of_adapters(adapted):
    """One that is taken, one that is none, one that is unknown."""
    with pytest.raises(InputError, match="has an adapter sft already"):
        attach(adapted, "sft", LORA)
    for name in ("a.b", "", "keys", "1st"):
        with pytest.raises(InputError, match="cannot be called"):
            attach(adapted, name, LORA)
    with pytest.raises(InputError, match="did you mean sft"):
        activate(adapted, "sfd")


def test_only_what_is_named_learns(adapted, ids):
    """The named adapter, the named head, and nothing else gets a gradient."""
    copied(adapted, "sft", "previous")
    adapted.heads["value"] = torch.nn.Linear(32, 1)
    freeze(adapted, train="sft", heads=("value",))
    hidden = adapted.hidden(ids)
    (adapted.heads["lm"](hidden).square().mean() + adapted.heads["value"](hidden).mean()).backward()
    learnt = {name for name, weight in adapted.named_parameters() if weight.grad is not None}
    assert learnt == {*weights_of(adapted, "sft"), "heads.value.weight", "heads.value.bias"}
    assert counts(adapted)[0] == sum(w.numel() for w in weights_of(adapted, "sft").values()) + 33
    tied = Transformer(replace(SHAPE, tied=True))
    attach(tied, "sft", LORA)
    with pytest.raises(InputError, match="is the embedding"):
        freeze(tied, train="sft", heads=("lm",))


@pytest.mark.parametrize("tied", [True, False])
def test_rows_of_tokens_learn_alone(ids, tied, stir):
    """Rows of two tokens learn in the embedding and in the head, which share them where they are tied; the base has
    none of it."""
    model = Transformer(replace(SHAPE, tied=tied), seed=2).eval()
    ids[0, 3], ids[0, 7] = 5, 60
    with torch.no_grad():
        bare = model(ids)
        attach(model, "sft", LORA, tokens=(5, 60))
        assert torch.equal(model(ids), bare)
        rows = {name: weight for name, weight in weights_of(model, "sft").items() if name.endswith("rows")}
        assert len(rows) == (1 if tied else 2)
        stir(rows.values())
        said = model(ids)
    assert (said[1] - bare[1])[:, [5, 60]].abs().min() > 0  # the second text has neither of them
    others = [n for n in range(64) if n not in (5, 60)]
    assert torch.equal(said[1][:, others], bare[1][:, others])
    assert torch.equal(said[0, :3][:, others], bare[0, :3][:, others])
    assert (said[0, 3:] - bare[0, 3:]).abs().max() > 0.01
    freeze(model, train="sft")
    model(ids).square().mean().backward()
    assert all(weight.grad.abs().sum(1).all() for weight in rows.values())
    assert model.embed.weight.grad is None
    attach(model, "other", LORA, tokens=(60,))
    with pytest.raises(InputError, match="both have a row for token 60"):
        activate(model, "sft", "other")
    with pytest.raises(InputError, match="from 0 to 63"):
        attach(model, "third", LORA, tokens=(64,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_in_the_dtype_of_what_flows(ids, dtype, stir):
    """Weights of adapters stay fp32 and get fp32 gradients, whatever the products are computed in."""
    model = Transformer(SHAPE, seed=2)
    model.compute = dtype
    attach(model, "sft", LORA)
    stir(weights_of(model, "sft").values())
    assert model.hidden(ids).dtype == dtype
    model(ids).square().mean().backward()
    assert all(w.dtype == w.grad.dtype == torch.float32 for w in weights_of(model, "sft").values())


def test_recomputing_heeds_what_was_active_in_the_forward_pass(adapted, ids, stir):
    """Two adapters in one backward pass, with recomputed blocks and without: the same gradients."""
    attach(adapted, "value", LORA)
    stir(weights_of(adapted, "value").values(), seed=4)
    adapted.train()
    found = []
    for recompute in (False, True):
        adapted.recompute = recompute
        with using(adapted, "sft"):
            loss = adapted(ids).square().mean()
        with using(adapted, "value"):
            loss = loss + adapted(ids).pow(3).mean()
        adapted.zero_grad()
        with using(adapted):
            loss.backward()
        found.append([weight.grad.clone() for weight in adapted.parameters()])
    for one, other in zip(*found):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_dropout_is_of_training_alone(ids, stir):
    """In training an adapter is shown a share of its channels, afterwards all of them."""
    model = Transformer(SHAPE, seed=2)
    attach(model, "sft", replace(LORA, dropout=0.5))
    stir(weights_of(model, "sft").values())
    assert not torch.equal(model.train()(ids), model(ids))
    assert torch.equal(model.eval()(ids), model(ids))


@pytest.mark.parametrize("deterministic", [True, False])
def test_the_engine_speaks_with_the_adapter(adapted, deterministic):
    """Greedy answers are those of whole forward passes, also in tiles of so many rows."""
    engine = Engine(adapted, deterministic=deterministic)
    requests = [engine.submit(prompt, SamplingOptions(strategy="greedy", max_new_tokens=6)) for prompt in ([1, 2], [7])]
    while engine.busy:
        engine.step()
    for prompt, request in zip(([1, 2], [7]), requests):
        wanted = list(prompt)
        for _ in range(6):
            wanted.append(int(adapted(torch.tensor([wanted]))[0, -1].argmax()))
        assert list(request.ids) == wanted[len(prompt) :]


@pytest.mark.slow
def test_a_compiled_block_says_the_same(adapted, ids):
    """torch.compile of a block with adapters, which are changed in between."""
    with torch.no_grad():
        wanted = adapted(ids)
        with using(adapted):
            bare = adapted(ids)
        for block in adapted.blocks:
            block.forward = torch.compile(block.forward, dynamic=False)
        torch.testing.assert_close(adapted(ids), wanted, rtol=0, atol=1e-5)
        with using(adapted):
            torch.testing.assert_close(adapted(ids), bare, rtol=0, atol=1e-5)
