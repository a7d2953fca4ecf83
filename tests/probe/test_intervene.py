"""Changes to a pass: what they change, what they leave, and that nothing of them remains."""

import pytest
import torch

from instar.config import InputError, ModelConfig
from instar.model.transformer import Transformer
from instar.probe.capture import capture
from instar.probe.intervene import ablated, cut, effect, patched, replayed, skipped, swapped, without_positions

SHAPES = {
    "decoder": {"kv_heads": 1},
    "post": {"residual": "post", "norm": "layer", "bias": True},
    "inside": {"residual": "inside", "norm": "layer"},
    "both": {"residual": "both", "norm": "layer"},
    "parallel": {"residual": "parallel"},
    "encoder": {"causal": False, "heads_of": ("masked",), "positions": "learned"},
    "pair": {"encoder_layers": 2, "start": 2, "positions": "t5"},
}


def born(shape="decoder", **changes):
    """A tiny model of a shape whose norms' weights and biases are random, in fp64."""
    config = ModelConfig(vocab_size=23, d_model=12, layers=2, heads=2, max_positions=16, **SHAPES[shape] | changes)
    model = Transformer(config, seed=1).double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
    return model


def texts(model, count=6):
    """Two texts, each with what its source is."""
    generator = torch.Generator().manual_seed(3)
    one, other, source, second = torch.randint(3, 23, (4, 1, count), generator=generator)
    return (
        ({"tokens": one, "source": source}, {"tokens": other, "source": second})
        if model.encoder is not None
        else ({"tokens": one}, {"tokens": other})
    )


def seen(model, text):
    return capture(model, text["tokens"], source=text.get("source"))


def hooks_of(model):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize("shape", ["decoder", "parallel", "encoder", "pair"])
def test_a_head_of_the_last_layer_that_nothing_reads_takes_its_own_contribution_with_it(shape):
    """Ablation: the stream loses exactly W_O of that head's output where no part behind reads it."""
    model = born(shape)
    text, _ = texts(model)
    with skipped(model, [(1, "feed_forward")]), skipped(model, [(1, "cross")] if shape == "pair" else []):
        before = seen(model, text)
        with ablated(model, [(1, 0)]):
            after = seen(model, text)
    y = before.own.attended[1].y.clone()
    y[:, 1:] = 0
    attention = before.own.blocks[1].attention
    own = attention.out(y.transpose(1, 2).flatten(2)) - attention.out(torch.zeros_like(y).transpose(1, 2).flatten(2))
    assert own.abs().max() > 1e-3
    torch.testing.assert_close(before.own.last - after.own.last, own, atol=1e-12, rtol=0)


def test_the_mean_of_a_head_stays_where_its_output_was_the_same_everywhere():
    """A mean ablation keeps what a head says at all places: one that says the same everywhere loses nothing."""
    model = born()
    same = {"tokens": torch.full((1, 5), 7)}
    before = seen(model, same)
    with without_positions(model):
        plain = seen(model, same)
        with ablated(model, [(0, 0), (1, 1)], "mean"):
            after = seen(model, same)
    torch.testing.assert_close(after.logits(), plain.logits())
    assert (plain.own.attended[0].y - before.own.attended[0].y).abs().max() < 1e-12  # of equal values no order shows
    text, _ = texts(model)
    with ablated(model, [(0, 1)], "mean"):
        y = seen(model, text).own.attended[0].y
    assert torch.equal(y[:, 1], y[:, 1, :1].expand_as(y[:, 1]))
    assert not torch.equal(y[:, 0, 0], y[:, 0, 1])


@pytest.mark.parametrize("shape", list(SHAPES))
def test_a_part_skipped_leaves_the_stream_as_it_came(shape):
    """With every sublayer skipped each block gives what it was given; behind a norm after the sum, its norms of it."""
    model = born(shape)
    text, _ = texts(model)
    names = ["attention", "cross", "feed_forward"] if shape == "pair" else ["attention", "feed_forward"]
    assert (seen(model, text).own.last - seen(model, text).own.inputs[0]).abs().max() > 0.1
    with skipped(model, [(layer, name) for layer in range(2) for name in names]):
        own = seen(model, text).own
    for block, x, y in zip(own.blocks, own.inputs, own.stream[1:]):
        if shape == "post":
            x = block.feed_forward_norm(block.attention_norm(x))
        torch.testing.assert_close(y, x)


def test_without_a_residual_what_is_skipped_hands_on_what_it_was_given():
    """A stack without a stream past its sublayers would say nothing at all if one of them said 0."""
    model = born("decoder", residual="none")
    text, _ = texts(model)
    with skipped(model, [(0, "attention"), (0, "feed_forward")]):
        own = seen(model, text).own
    assert torch.equal(own.inputs[1], own.inputs[0])


@pytest.mark.parametrize("shape", ["decoder", "post", "both", "encoder", "pair"])
def test_everything_patched_in_is_the_other_pass(shape):
    """A patch of all places of one layer, whichever, gives exactly the logits of the pass it was taken from."""
    model = born(shape)
    one, other = texts(model)
    wanted = seen(model, other)
    other_source = dict(one, source=other["source"]) if shape == "pair" else one  # what cross-attention reads as well
    assert not torch.allclose(seen(model, other_source).logits(), wanted.logits())
    for layer in range(3):
        with patched(model, wanted, [(layer, place) for place in range(6)]):
            assert torch.equal(seen(model, other_source).logits(), wanted.logits())
    with patched(model, wanted, [(1, 2)]):
        own = seen(model, one).own
    assert torch.equal(own.inputs[1][:, 2], wanted.own.inputs[1][:, 2])
    assert not torch.equal(own.inputs[1][:, 3], wanted.own.inputs[1][:, 3])


def test_an_encoder_patched_whole_is_the_other_source():
    """In an encoder-decoder the encoder's states of another source give what is said of that."""
    model = born("pair")
    one, other = texts(model)
    wanted = seen(model, dict(one, source=other["source"]))
    with patched(model, wanted, [(2, place) for place in range(6)], side="encoder"):
        assert torch.equal(seen(model, one).logits(), wanted.logits())


@pytest.mark.parametrize(("shape", "side", "which"), [
    ("decoder", "auto", "self"), ("encoder", "encoder", "self"), ("pair", "encoder", "self"), ("pair", "auto", "cross"),
])  # fmt: skip
def test_heads_swapped_say_what_they_said_in_the_other_pass(shape, side, which):
    """The outputs of the heads asked for are the other pass's, those of the others of the layer their own."""
    model = born(shape)
    one, other = texts(model)
    wanted = seen(model, other)
    with swapped(model, wanted, [(0, 1)], side=side, which=which):
        changed = seen(model, one)
    plain = seen(model, one)
    taken, kept, own = (
        (trace.encoder if side == "encoder" and trace.encoder else trace.own).seams(which)[0].y
        for trace in (changed, wanted, plain)
    )
    assert torch.equal(taken[:, 1], kept[:, 1])
    assert torch.equal(taken[:, 0], own[:, 0])
    assert not torch.equal(changed.hidden, plain.hidden)


@pytest.mark.parametrize(("shape", "which"), [("decoder", "self"), ("encoder", "self"), ("pair", "cross")])
def test_what_is_left_of_a_row_adds_up_to_one(shape, which):
    """A cut edge has exactly no weight, and the others of its row their old shares of one."""
    model = born(shape)
    text, _ = texts(model)
    before = seen(model, text).own.seams(which)[0].weights()
    with cut(model, [(0, 1, 4, 2), (0, None, 3, 0)], which=which):
        after = seen(model, text).own.seams(which)[0].weights()
    assert after[0, 1, 4, 2] == 0
    assert (after[0, :, 3, 0] == 0).all()
    assert after[0, 0, 4, 2] > 0
    row = before[0, 1, 4].clone()
    row[2] = 0
    torch.testing.assert_close(after[0, 1, 4], row / row.sum())
    torch.testing.assert_close(after[0, :, 5], before[0, :, 5])


@pytest.mark.parametrize(
    "positions", ["rotary", "learned", "sinusoidal", "sinusoidal_halves", "sinusoidal_t2t", "t5", "alibi"]
)
def test_without_positions_order_is_not_told(positions):
    """An encoder that is told no positions says of a text in another order the same in that order, of every scheme."""
    model = born("encoder", positions=positions)
    text, _ = texts(model)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    turned = {"tokens": text["tokens"][:, order]}
    with without_positions(model):
        torch.testing.assert_close(seen(model, turned).hidden, seen(model, text).hidden[:, order])
    assert (seen(model, turned).hidden - seen(model, text).hidden[:, order]).abs().max() > 1e-3


def test_nothing_remains_of_a_change_whatever_happens():
    """Hooks are gone and positions are back after an exception inside, and after one while they are put on."""
    model = born("pair")
    text, other = texts(model)
    before = seen(model, text)
    trace = seen(model, other)
    for change in (
        lambda: ablated(model, [(0, 1)], side="encoder"),
        lambda: skipped(model, [(1, "cross")]),
        lambda: replayed(model, trace, [(1, "attention")]),
        lambda: patched(model, trace, [(0, 1)]),
        lambda: swapped(model, trace, [(1, 0)], which="cross"),
        lambda: cut(model, [(0, 0, 2, 1)]),
        lambda: without_positions(model),
    ):
        with pytest.raises(KeyError, match="True"), change():
            raise KeyError(not torch.equal(seen(model, text).logits(), before.logits()))
        assert torch.equal(seen(model, text).logits(), before.logits())
        assert hooks_of(model) == 0
    with pytest.raises(InputError, match="head=9, wanted 0 to 1"), ablated(model, [(0, 1), (1, 9)]):
        pass
    assert hooks_of(model) == 0


def test_each_row_may_have_a_change_of_its_own():
    """Of copies of a text each row is without one head, or has one head of another pass, and the rest is as it was."""
    model = born()
    one, other = texts(model)
    kept = seen(model, other)
    heads = [(1, 1), (0, 0), (0, 1)]
    copies = {"tokens": one["tokens"].repeat(4, 1)}
    for change in (
        lambda heads, **how: ablated(model, heads, **how),
        lambda heads, **how: ablated(model, heads, "mean", **how),
        lambda heads, **how: swapped(model, kept, heads, **how),
    ):
        with change(heads, each=True):
            together = seen(model, copies).logits()
        for row, head in enumerate(heads):
            with change([head]):
                torch.testing.assert_close(together[row : row + 1], seen(model, one).logits())
        torch.testing.assert_close(together[3:], seen(model, one).logits())
        assert not torch.allclose(together[0], together[3])


def test_what_is_replayed_hears_nothing_of_what_came_before():
    """All sublayers replayed from another pass add that pass's updates to the own embeddings; replayed from the own
    pass, a change in front of them goes past them alone."""
    model = born()
    one, other = texts(model)
    kept, plain = seen(model, other).own, seen(model, one)
    parts = [(layer, name) for layer in range(2) for name in ("attention", "feed_forward")]
    with replayed(model, seen(model, other), parts):
        changed = seen(model, one).own
    torch.testing.assert_close(changed.last, plain.own.inputs[0] + kept.last - kept.inputs[0])
    with replayed(model, plain, parts[1:]), skipped(model, [parts[0]]):
        changed = seen(model, one).own
    torch.testing.assert_close(plain.own.last - changed.last, plain.own.updates[0]["attention"])


def test_changes_stand_together_and_reach_a_cache():
    """Two changes at once are both made, and a token read behind a cache is changed as in a whole pass."""
    from instar.model.cache import KVCache

    model = born()
    text, _ = texts(model)
    with ablated(model, [(0, 0)]), skipped(model, [(1, "feed_forward")]):
        whole = seen(model, text).logits()
        cache = KVCache(model.config, 1, 8, dtype=torch.float64)
        with torch.no_grad():
            parts = [model(text["tokens"][:, n : n + 1], cache=cache) for n in range(6)]
    torch.testing.assert_close(torch.cat(parts, 1), whole)
    with ablated(model, [(0, 0)]):
        assert not torch.allclose(seen(model, text).logits(), whole)


def test_an_effect_is_the_difference_of_two_passes():
    """The logit, its probability, KL and the likeliest tokens, computed by hand."""
    model = born()
    text, _ = texts(model)
    before = seen(model, text)
    assert effect(before, before, 3).kl == 0
    assert effect(before, before, 3).change == 0
    with ablated(model, [(1, 0), (1, 1)]):
        after = seen(model, text)
    found = effect(before, after, 3, k=2)
    x, y = before.logits()[0, 3], after.logits()[0, 3]
    p, q = x.softmax(-1), y.softmax(-1)
    assert found.target == int(x.argmax())
    assert found.change == pytest.approx(float((y - x)[found.target]))
    assert found.kl == pytest.approx(float((p * (p / q).log()).sum()))
    assert found.kl > 0
    assert found.top[0] == [(int(id), pytest.approx(float(p[id]))) for id in p.argsort(descending=True)[:2]]
    assert found.p == (pytest.approx(float(p[found.target])), pytest.approx(float(q[found.target])))
    assert effect(before, after, -1, target=4).logit[0] == pytest.approx(float(before.logits()[0, -1, 4]))


@pytest.mark.parametrize("change", [
    lambda model, trace: ablated(model, [(0, 0)], "mean"),
    lambda model, trace: swapped(model, trace, [(0, 0)]),
    lambda model, trace: replayed(model, trace, [(0, "attention")]),
    lambda model, trace: patched(model, trace, [(0, 0)]),
    lambda model, trace: cut(model, [(1, None, 1, 0)]),
])  # fmt: skip
def test_what_is_told_by_its_place_is_refused_behind_a_cache(change):
    """A step reads one token, whose place among those read is 0 wherever it stands: nothing is changed in silence."""
    from instar.model.cache import KVCache

    model = born()
    text, _ = texts(model)
    cache = KVCache(model.config, 1, 8, dtype=torch.float64)
    with torch.no_grad():
        model(text["tokens"][:, :3], cache=cache)
        with pytest.raises(InputError, match="a pass with a cache"), change(model, seen(model, text)):
            model(text["tokens"][:, 3:4], cache=cache)
    assert hooks_of(model) == 0


@pytest.mark.parametrize(("asked", "said"), [
    (dict(at=6), "at=6, wanted 0 to 5"), (dict(at=-7), "at=-7"), (dict(target=-1), "target=-1, wanted 0"),
    (dict(k=0), "k=0, wanted at least 1"), (dict(short=True), "passes of 6 and 4 tokens"),
])  # fmt: skip
def test_an_effect_of_what_does_not_exist(asked, said):
    """A place, an id, a length that cannot be compared."""
    model = born()
    text, _ = texts(model)
    before = seen(model, text)
    after = capture(model, before.tokens[:, :4]) if asked.pop("short", False) else before
    with pytest.raises(InputError, match=said):
        effect(before, after, **asked)


@pytest.mark.parametrize(("change", "said"), [
    (lambda model, trace: ablated(model, [(5, 0)]), "layer=5, wanted 0 to 1"),
    (lambda model, trace: ablated(model, [(0, 0)], side="decoder"), "side=decoder"),
    (lambda model, trace: ablated(model, [(0, 0)], which="cross"), "no attention to a source"),
    (lambda model, trace: skipped(model, [(0, "cross")]), "has no cross"),
    (lambda model, trace: replayed(model, trace, [(2, "attention")]), "layer=2, wanted 0 to 1"),
    (lambda model, trace: patched(model, trace, [(3, 0)]), "layer=3, wanted 0 to 2"),
    (lambda model, trace: patched(model, trace, [(0, 6)]), r"positions=\[6\], wanted 0 to 5"),
    (lambda model, trace: cut(model, [(0, None, 7, 0)]), "edge from 7 to 0"),
    (lambda model, trace: cut(model, [(0, 0, 1, key) for key in range(6)]), "nothing left to look at"),
    (lambda model, trace: swapped(model, capture(model, trace.tokens[:, :4]), [(0, 0)]), "6 tokens .* other pass 4"),
])  # fmt: skip
def test_what_cannot_be_is_said(change, said):
    """Every wrong number and name is an InputError with what was wanted, before the pass or in it."""
    model = born("encoder")
    text, _ = texts(model)
    with pytest.raises(InputError, match=said), change(model, seen(model, text)):
        seen(model, text)
    assert hooks_of(model) == 0
