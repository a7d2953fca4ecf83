"""What is lost without a part, and where a difference is carried: on models whose answers are known, and against whole
passes changed one by one."""

import math

import pytest
import torch

from instar.batch import View
from instar.config import InputError, ModelConfig
from instar.model.transformer import Transformer
from instar.probe import effects
from instar.probe.attribution import aim
from instar.probe.capture import capture
from instar.probe.direct import direct
from instar.probe.effects import Onward, last_head_gap, patch, without_heads, without_parts
from instar.probe.intervene import ablated, effect, patched, skipped, swapped

SHAPES = {
    "decoder": {"kv_heads": 1},
    "experts": {"experts": 4, "windows": (3, 0), "positions": "alibi"},
    "both": {"residual": "both", "norm": "layer", "score_cap": 3.0},
    "encoder": {"causal": False, "heads_of": ("masked",), "positions": "learned", "residual": "post"},
    "pair": {"encoder_layers": 2, "start": 2, "positions": "t5"},
}
SIDES = [*((shape, "auto", "self") for shape in SHAPES), ("pair", "auto", "cross"), ("pair", "encoder", "self")]


def born(shape="decoder", **changes):
    """A tiny model in fp64, whose norms and biases are random."""
    config = ModelConfig(vocab_size=23, d_model=12, layers=2, heads=2, max_positions=16, **SHAPES[shape] | changes)
    model = Transformer(config, seed=1).double().eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
    return model


def passes(model):
    """Over two texts; of an encoder-decoder the same text about two sources."""
    one, other, source, second = torch.randint(3, 23, (4, 1, 6), generator=torch.Generator().manual_seed(3))
    if model.encoder is not None:
        return capture(model, one, source=source), capture(model, one, source=second)
    other[:, :2] = one[:, :2]
    return capture(model, one), capture(model, other)


def onwards(model, side, place=4):
    trace, other = passes(model)
    stack = trace.encoder if side == "encoder" and trace.encoder is not None else trace.own
    return Onward(trace, stack, place), other, aim(trace, place)


def logits(trace, place=4):
    return trace.logits()[0, place].double()


def again(trace):
    return capture(trace.model, trace.tokens, source=trace.source)


def test_without_the_induction_head_the_answer_is_gone(induction):
    """Known answer, the two-layer induction model: the answer's logit is 1; without the head that matches it is 0 and
    all words are equally likely; without the one that it reads by, it looks everywhere alike: 1/T."""
    trace = capture(induction, torch.tensor([[0, 1, 2, 3, 4, 5, 1]]))
    wanted = aim(trace)
    onward = Onward(trace, trace.own, 6)
    assert wanted.target == 2
    lost = without_heads(onward, wanted)
    assert lost.change.flatten().tolist() == pytest.approx([1 / 7 - 1, -1], abs=1e-6)
    p = math.e / (math.e + 23)
    assert float(lost.kl[1, 0]) == pytest.approx(p * math.log(24 * p) + (1 - p) * math.log(24 * (1 - p) / 23), abs=1e-6)
    parts = without_parts(onward, wanted)
    assert set(parts) == {"attention", "feed_forward"}
    assert torch.equal(parts["attention"].change, lost.change[:, 0])
    assert parts["feed_forward"].change.tolist() == [0, 0]
    assert parts["feed_forward"].kl.tolist() == [0, 0]


def test_patching_finds_where_the_answer_is_carried(induction):
    """Known answer, the two-layer induction model: of two texts that differ in the token after the first of a pair,
    the answer is carried by that place up to the last layer, which moves it to the end, and by the induction head; all
    else restores exactly nothing."""
    one, other = (capture(induction, torch.tensor([[0, 1, word, 3, 4, 5, 1]])) for word in (2, 9))
    onward = Onward(one, one.own, 6)
    found = patch(onward, other, aim(one), [0, 1, 2], range(7))
    assert (found.aim.target, found.aim.minus) == (2, 9)
    assert found.ends == pytest.approx((1, -1))
    wanted = torch.zeros(3, 7, dtype=torch.float64)
    wanted[0, 2] = wanted[1, 2] = wanted[2, 6] = 1
    torch.testing.assert_close(found.states, wanted, atol=1e-6, rtol=0)
    assert ((found.states == 0) == (wanted == 0)).all()
    torch.testing.assert_close(found.heads, torch.tensor([[0.0], [1.0]]).double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("how", ["zero", "mean"])
@pytest.mark.parametrize(("shape", "side", "which"), SIDES)
def test_many_at_once_are_what_each_is_alone(monkeypatch, shape, side, which, how):
    """Rows of a batch that goes on from a layer, in small batches too, are whole passes with one head ablated."""
    model = born(shape)
    onward, _, wanted = onwards(model, side)
    lost = without_heads(onward, wanted, which, how)
    monkeypatch.setattr(effects, "TOKENS_AT_ONCE", 6)
    torch.testing.assert_close(without_heads(onward, wanted, which, how), lost)
    assert onward.drift < 1e-12
    assert float(lost.change.abs().min()) > 1e-6
    for layer, head in torch.cartesian_prod(torch.arange(2), torch.arange(2)).tolist():
        with ablated(model, [(layer, head)], how, side=side, which=which):
            found = effect(onward.trace, again(onward.trace), 4)
        assert float(lost.change[layer, head]) == pytest.approx(found.change, abs=1e-10)
        assert float(lost.kl[layer, head]) == pytest.approx(found.kl, abs=1e-10)
    only = without_heads(onward, wanted, which, how, layers=[1])
    assert torch.equal(only.change, lost.change[1:])


@pytest.mark.parametrize(("shape", "side"), [(shape, side) for shape, side, which in SIDES if which == "self"])
def test_sublayers_are_skipped_one_by_one(shape, side):
    """Each is what a whole pass without it says."""
    model = born(shape)
    onward, _, wanted = onwards(model, side)
    parts = without_parts(onward, wanted)
    assert ("cross" in parts) == (shape == "pair" and side == "auto")
    for name, lost in parts.items():
        for layer in range(2):
            with skipped(model, [(layer, name)], side=side):
                found = effect(onward.trace, again(onward.trace), 4)
            assert float(lost.change[layer]) == pytest.approx(found.change, abs=1e-10)


@pytest.mark.parametrize(("shape", "side", "which"), SIDES)
def test_each_state_and_head_restores_what_it_does_alone(shape, side, which):
    """Every place of every row, and every head, is what a whole pass with that alone patched in says."""
    model = born(shape)
    onward, other, wanted = onwards(model, side)
    found = patch(onward, other, wanted, [0, 1, 2], range(6), which)
    assert onward.drift < 1e-12
    start, end = (float(found.aim.of(logits(trace))) for trace in (onward.trace, other))
    assert found.ends == pytest.approx((start, end))

    def share():
        return (float(found.aim.of(logits(again(onward.trace)))) - start) / (end - start)

    for row in range(3):
        for place in range(6):
            with patched(model, other, [(row, place)], side=side):
                assert float(found.states[row, place]) == pytest.approx(share(), abs=1e-9)
    for layer, head in torch.cartesian_prod(torch.arange(2), torch.arange(2)).tolist():
        with swapped(model, other, [(layer, head)], side=side, which=which):
            assert float(found.heads[layer, head]) == pytest.approx(share(), abs=1e-9)
    assert float(found.states.abs().sum()) > 0.1
    if side == "auto":
        assert found.states[2].tolist() == pytest.approx([0, 0, 0, 0, 1, 0])
    if shape == "decoder":
        assert not found.states[:, :2].any()  # the same in both, before they part


@pytest.mark.parametrize("shape", ["decoder", "pair"])
def test_a_last_head_ablated_is_its_direct_contribution(shape):
    """Where there is no norm and nothing behind, zero ablation of a last-layer head takes exactly what direct logit
    attribution says it gave; with norms the stream loses it, along the token's direction."""
    model = born(shape, norm="none")
    with torch.no_grad():
        for part in (model.blocks[1].feed_forward, model.blocks[1].cross):
            for weight in part.parameters() if part is not None else ():
                weight.zero_()
    onward, _, wanted = onwards(model, "auto")
    lost = without_heads(onward, wanted)
    parts = direct(onward.trace, 4, wanted.target)
    torch.testing.assert_close(-lost.change[1], parts.heads[1], atol=1e-10, rtol=0)
    assert float(parts.heads[1].abs().min()) > 1e-3
    assert float((lost.change[0] + parts.heads[0]).abs().max()) > 1e-3  # what the last layer made of it is counted
    trace, _ = passes(born(shape, norm="layer"))
    assert last_head_gap(trace, aim(trace, 4)) < 1e-12
    with pytest.raises(InputError, match="residual=both: a norm stands between"):
        last_head_gap(passes(born("both"))[0], aim(trace, 4))


def test_a_pass_that_goes_on_otherwise_drifts():
    """The row that nothing is done to tells a mask that is not the pass's own."""
    onward, _, wanted = onwards(born(), "auto")
    seen, *rest = onward.given[1]
    onward.given[1] = (seen._replace(causal=False), *rest)
    without_heads(onward, wanted)
    assert onward.drift > 1e-3


def test_padding_of_a_source_goes_on_as_padding():
    """Rows that go on from the encoder, or in the decoder, see of a source what the pass saw."""
    model = born("pair")
    trace, _ = passes(model)
    keep = torch.arange(6)[None] < 4
    trace = capture(model, trace.tokens, source=trace.source, source_view=View(keep=keep))
    for side in trace.sides:
        onward = Onward(trace, side, 4)
        without_heads(onward, aim(trace, 4))
        assert onward.drift < 1e-12


def test_what_cannot_be_is_said():
    """Two texts at once, no head for words, texts of other lengths, and answers that do not differ."""
    model = born()
    onward, _, wanted = onwards(model, "auto")
    trace = onward.trace
    with pytest.raises(InputError, match="batch of 2 texts"):
        Onward(capture(model, trace.tokens.repeat(2, 1)), trace.own, 0)
    with pytest.raises(InputError, match="no head says tokens"):
        onwards(born(heads_of=("score",)), "auto")
    with pytest.raises(InputError, match="has 6 tokens, the other 5"):
        patch(onward, capture(model, trace.tokens[:, 1:]), wanted, [0], [0])
    with pytest.raises(InputError, match="same answer at place 4"):
        patch(onward, again(trace), wanted, [0], [0])
    with pytest.raises(InputError, match="no attention to a source"):
        without_heads(onward, wanted, "cross")
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
