"""Credit for a logit: by hand, by finite differences, and among the methods themselves."""

import math

import pytest
import torch

from instar.batch import View
from instar.config import InputError, ModelConfig
from instar.model.transformer import Transformer
from instar.probe import attribution
from instar.probe.attribution import (
    Aim,
    aim,
    faithfulness,
    gradient_attention,
    gradient_input,
    integrated,
    occlusion,
    routes,
    spearman,
)
from instar.probe.capture import capture
from instar.probe.intervene import skipped

SHAPES = {
    "decoder": {"kv_heads": 1, "score_cap": 3.0},
    "encoder": {"causal": False, "heads_of": ("masked",), "positions": "learned", "norm": "layer", "bias": True},
    "pair": {"encoder_layers": 2, "start": 2, "positions": "t5"},
    "two vocabularies": {"encoder_layers": 1, "source_vocab_size": 11, "positions": "sinusoidal", "residual": "post"},
}


def roughly(trace, aim):
    """Integrated gradients of the fewest steps."""
    return integrated(trace, aim, limit=10.0)


METHODS = (gradient_input, gradient_attention, roughly, occlusion)


def passed(shape="decoder", count=6, view=None, **changes):
    """A pass of a tiny model in fp64 over random tokens, all different."""
    config = dict(vocab_size=23, d_model=12, layers=2, heads=2, max_positions=16, tied=False)
    model = Transformer(ModelConfig(**config | SHAPES[shape] | changes), seed=1).double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
    rows = model.config.source_vocab_size or 23
    tokens, source = (torch.randperm(size, generator=generator)[None, :count] for size in (23, rows))
    return capture(model, tokens, view=view, source=source if model.encoder is not None else None)


def logit(model, trace, aim):
    with torch.no_grad():
        return float(aim.of(model(trace.tokens, source=trace.source))[0, aim.place])


@pytest.mark.parametrize("shape", list(SHAPES))
def test_gradients_of_attention_equal_finite_differences(shape):
    """Gradient x attention: dy/dA of single weights of every attention there is, own, cross and of the encoder, is what
    the logit does when they are changed a little."""
    trace = passed(shape)
    asked = Aim(4, 7, minus=3)
    routed, value = routes(trace, asked)
    assert value == pytest.approx(logit(trace.model, trace, asked), abs=1e-12)
    assert {route.whose for route in routed} == (
        {"self", "cross", "encoder"} if "encoder_" in str(SHAPES[shape]) else {"self"}
    )
    for route in routed:
        row = 4 if route.whose != "encoder" else 2
        head, key = (int(n) for n in divmod(int(route.slope[:, row].abs().argmax()), route.slope.shape[2]))

        def nudged(step, route=route, row=row, head=head, key=key):
            def nudge(whose, layer, a):
                change = torch.zeros_like(a)
                change[0, head, row, key] = step if (whose, layer) == (route.whose, route.layer) else 0
                return a + change

            return routes(trace, asked, nudge)[1]

        found = (nudged(1e-5) - nudged(-1e-5)) / 2e-5
        slope = float(route.slope[head, row, key])
        if (route.whose, route.layer) != ("self", 1):  # the last layer's other rows are read by nobody
            assert abs(slope) > 1e-4
        assert found == pytest.approx(slope, rel=1e-6, abs=1e-9)


def test_in_one_layer_relevance_is_weights_times_positive_gradients():
    """One layer: the mean over heads of (A x dy/dA)+ in the row of the place, and nothing else."""
    trace = passed(layers=1)
    asked = aim(trace, 4)
    ((_, _, weights, slope),), _ = routes(trace, asked)
    wanted = (weights * slope).clamp(min=0).mean(0)[4]
    assert wanted.sum() > 0
    torch.testing.assert_close(gradient_attention(trace, asked).own, wanted)
    two = passed(layers=2)
    (_, _, a, g), (_, _, b, h) = routes(two, asked)[0]
    one, other = (a * g).clamp(min=0).mean(0), (b * h).clamp(min=0).mean(0)
    torch.testing.assert_close(gradient_attention(two, asked).own, (one + other + other @ one)[4])


def test_an_encoder_decoder_hands_relevance_to_its_source():
    """One layer each: the decoder's row of cross relevance, spread over the source as the encoder mixed it."""
    trace = passed("pair", layers=1, encoder_layers=1)
    asked = aim(trace, 0)  # whose own text is one token, so that its own attention moves nothing
    flows = {route.whose: (route.weights * route.slope).clamp(min=0).mean(0) for route in routes(trace, asked)[0]}
    mixed = flows["encoder"] / flows["encoder"].sum(1, keepdim=True).clamp(min=1e-30) + torch.eye(6)
    wanted = flows["cross"][0] @ mixed * (1 + (flows["self"][0, 0] > 0))
    torch.testing.assert_close(gradient_attention(trace, asked).source, wanted)


@pytest.mark.parametrize("shape", ["encoder", "pair", "two vocabularies"])
def test_integrated_gradients_add_up_to_what_changed(shape):
    """Integrated gradients: shares add up to y(x) - y(baseline) as measured on a model whose embeddings are all the
    baseline; steps are doubled until the gap is within the limit, and with more of them it is smaller."""
    trace = passed(shape)
    asked = Aim(4, 7)
    loose, tight = integrated(trace, asked, limit=10.0), integrated(trace, asked, limit=1e-3)
    value = logit(trace.model, trace, asked)
    with torch.no_grad():
        for embed in {id(e): e for e in attribution._stacks(trace)}.values():
            embed.weight.copy_(embed.weight.mean(0).expand_as(embed.weight))
    whole = value - logit(trace.model, trace, asked)
    assert tight.value == pytest.approx(value)
    assert tight.whole == pytest.approx(whole)
    assert float(tight.all.sum()) == pytest.approx(whole, rel=1e-3)
    assert tight.gap < 1e-3
    assert tight.gap == pytest.approx(abs(float(tight.all.sum()) - whole) / abs(whole), rel=1e-2)
    assert loose.steps < tight.steps
    assert loose.gap > tight.gap
    assert (tight.source is not None) == (trace.source is not None)


def test_integrated_gradients_stop_at_the_most_steps_and_say_so():
    """A way that cannot be followed ends, with a gap that is not hidden: from zero, a norm is a jump."""
    found = integrated(passed(), Aim(3, 5), "zero", limit=1e-12, most=16)
    assert found.steps == 16
    assert found.gap > 1e-12


def test_nothing_gained_has_no_gap(monkeypatch):
    """Where the way ends as high as it began, the gap is of the logit: in fp32 a share of nothing is anything."""
    trace = passed()
    trace = capture(trace.model.float(), trace.tokens)
    blank = attribution._blank
    near = lambda model, x, embed, baseline: x + 1e-7 * (blank(model, x, embed, baseline) - x)  # noqa: E731
    monkeypatch.setattr(attribution, "_blank", near)
    found = integrated(trace, Aim(3, 5))
    assert abs(found.whole) < 1e-4 * abs(found.value)
    assert found.gap < 1e-3


def test_a_long_text_is_read_in_fewer_steps(monkeypatch):
    """So many tokens are read and no more; never fewer than the first steps."""
    monkeypatch.setattr(attribution, "TOKENS_READ", 6 * 32)
    assert integrated(passed(), Aim(3, 5), limit=1e-12).steps == 32
    monkeypatch.setattr(attribution, "TOKENS_READ", 1)
    assert integrated(passed(), Aim(3, 5), limit=1e-12).steps == attribution.FIRST_STEPS


@pytest.mark.parametrize("shape", ["encoder", "pair"])
def test_occlusion_is_the_loss_of_a_token_whose_embedding_was_replaced(shape):
    """Occlusion equals a run of the model with that token's row of the embedding overwritten by the table's mean."""
    trace = passed(shape)
    asked = aim(trace)
    found = occlusion(trace, asked)
    value = logit(trace.model, trace, asked)
    embed = trace.model.embed
    mean, kept = embed.weight.mean(0).detach(), embed.weight.detach().clone()
    for share, tokens in ((found.own, trace.tokens), (found.source, trace.source)):
        for place, id in enumerate(tokens[0].tolist() if tokens is not None else []):
            if trace.source is not None and id in trace.tokens[0] and id in trace.source[0]:
                continue  # one row for two places
            with torch.no_grad():
                embed.weight[id] = mean
            assert float(share[place]) == pytest.approx(value - logit(trace.model, trace, asked), abs=1e-10)
            with torch.no_grad():
                embed.weight.copy_(kept)


def test_of_a_linear_model_all_methods_say_the_same():
    """With every sublayer skipped and no norm the logit is a product of the last embedding alone: its token has it all
    from a baseline of zero, and the others exactly nothing."""
    trace = passed(norm="none", positions="none", score_cap=0.0)
    asked = Aim(5, 7, minus=2)
    with skipped(trace.model, [(layer, part) for layer in range(2) for part in ("attention", "feed_forward")]):
        credits = [gradient_input(trace, asked), integrated(trace, asked, "zero"), occlusion(trace, asked, "zero")]
        value = logit(trace.model, trace, asked)
    for credit in credits:
        assert (credit.own[:5] == 0).all()
        assert float(credit.own[5]) == pytest.approx(value, rel=1e-9)
    assert credits[1].steps == 16  # the first that can be compared with fewer


@pytest.mark.parametrize("method", METHODS)
def test_what_stands_behind_has_no_share_in_a_decoder(method):
    """Causality: later tokens are credited with exactly nothing, and in an encoder they are credited."""
    own = method(passed(), Aim(3, 7)).own
    assert (own[4:] == 0).all()
    assert (own[:4] != 0).any()
    assert (method(passed("encoder"), Aim(3, 7)).own[4:] != 0).any()


@pytest.mark.parametrize("method", [roughly, occlusion])
@pytest.mark.parametrize("shape", ["decoder", "pair"])
def test_however_many_copies_are_read_at_once_shares_are_the_same(method, shape, monkeypatch):
    """Steps and places are read in batches, so that memory does not grow with them; the result does not know."""
    trace = passed(shape)
    whole = method(trace, aim(trace))
    monkeypatch.setattr(attribution, "TOKENS_AT_ONCE", 20)
    torch.testing.assert_close(method(trace, aim(trace)).all, whole.all)


@pytest.mark.parametrize("method", METHODS)
def test_of_half_precision_shares_are_as_exact_as_of_its_weights_widened(method):
    """A model in bf16 is explained in fp32, and is afterwards what it was, frozen weights included."""
    trace = passed("pair")
    half = trace.model.bfloat16().requires_grad_(False)
    trace = capture(half, trace.tokens, source=trace.source)
    found = method(trace, aim(trace))
    assert half.dtype == torch.bfloat16
    assert not any(module._forward_hooks for module in half.modules())
    wide = Transformer(half.config, seed=None)
    wide.load_state_dict(half.state_dict())
    again = method(capture(wide, trace.tokens, source=trace.source), aim(trace))
    torch.testing.assert_close(found.all, again.all, rtol=1e-3, atol=1e-4)  # bf16 itself would be off by 1e-2


def test_a_view_of_the_text_is_kept():
    """Segments that do not see each other stay apart: the other document is credited with nothing."""
    view = View(segments=torch.tensor([[0, 0, 0, 1, 1, 1]]))
    for method in METHODS:
        own = method(passed(view=view), Aim(4, 7)).own
        assert own[:3].abs().max() < 1e-12
        assert (own[3:5] != 0).any()


def test_ranks_correlate_as_counted_by_hand():
    """Spearman: orders alike, opposed, exchanged at one place, with ties by mean ranks, and of a constant."""
    x = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert spearman(x, x.exp()) == pytest.approx(1)
    assert spearman(x, -x) == pytest.approx(-1)
    assert spearman(x, torch.tensor([1.0, 2.0, 4.0, 3.0])) == pytest.approx(0.8)
    assert spearman(torch.tensor([1.0, 2.0, 2.0, 3.0]), torch.tensor([1.0, 3.0, 2.0, 4.0])) == pytest.approx(
        4.5 / math.sqrt(4.5 * 5)
    )
    assert math.isnan(spearman(x, torch.ones(4)))


def test_faithfulness_is_of_the_tokens_that_the_place_sees():
    """The zeros behind the place, alike in both, do not flatter a method; without signs magnitudes are compared."""
    one = attribution.Credit("integrated", torch.tensor([3.0, 2.0, 1.0, 0.0, 0.0, 0.0]), None, 0.0)
    other = attribution.Credit("occlusion", torch.tensor([1.0, 2.0, 3.0, 0.0, 0.0, 0.0]), None, 0.0)
    assert faithfulness(one, other, Aim(2, 0), causal=True) == pytest.approx(-1)
    assert faithfulness(one, other, Aim(2, 0), causal=False) > -1
    assert math.isnan(faithfulness(one, other, Aim(1, 0), causal=True))
    unsigned = attribution.Credit("gradient-attention", torch.tensor([1.0, 2.0, 3.0]), None, 0.0)
    signed = attribution.Credit("occlusion", torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([-9.0]), 0.0)
    unsigned = attribution.Credit(unsigned.method, unsigned.own, torch.tensor([7.0]), 0.0)
    assert faithfulness(unsigned, signed, Aim(2, 0), causal=True) == pytest.approx(1)


def test_the_likeliest_is_explained_and_what_does_not_exist_refused():
    """Without a target the model's own choice; places, ids, baselines and heads that there are not are said."""
    trace = passed()
    assert aim(trace, -2).place == 4
    assert aim(trace, 1).target == int(trace.logits()[0, 1].argmax())
    with pytest.raises(InputError, match="place=6, wanted 0 to 5"):
        aim(trace, 6)
    with pytest.raises(InputError, match="id=23, wanted 0 to 22"):
        aim(trace, 0, 3, 23)
    with pytest.raises(InputError, match="baseline=99"):
        occlusion(trace, aim(trace), 99)
    with pytest.raises(InputError, match="no head says tokens"):
        aim(passed(heads_of=("score",)))
    pad = occlusion(trace, aim(trace), 5)
    assert not torch.equal(pad.own, occlusion(trace, aim(trace)).own)
