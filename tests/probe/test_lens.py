"""The logit lens: what each layer would say if it were the last."""

import math

import pytest
import torch

from instar.batch import View
from instar.config import InputError, ModelConfig
from instar.model.transformer import Transformer
from instar.probe import lens as module
from instar.probe.capture import capture
from instar.probe.direct import frozen
from instar.probe.lens import exit_gap, lens, settled

TINY = dict(vocab_size=100, d_model=32, layers=3, heads=4, d_ff=48, max_positions=32)
SHAPES = {
    "decoder": {},
    "biases and caps": dict(norm="layer", bias=True, logit_cap=3.0, head_scale=2.0, head_bias=True),
    "encoder": dict(causal=False, heads_of=("masked",), residual="post", norm="layer", positions="learned"),
    "encoder-decoder": dict(encoder_layers=2, start=2),
    "experts": dict(experts=4),
    "no stream": dict(residual="none"),
}
TOKENS = torch.randint(0, 100, (2, 9), generator=torch.Generator().manual_seed(1))


def traced(grad=False, view=None, **shape):
    model = Transformer(ModelConfig(**(TINY | shape)), seed=2).eval()
    with torch.no_grad():
        model.embed.weight.mul_(10)
    return capture(model, TOKENS, view=view, source=TOKENS[:, :7] if "encoder_layers" in shape else None, grad=grad)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_last_row_is_what_the_model_says(shape, grad):
    """Glassbox, lens: the last row equals the logits to the bit; every other is what the model says that ends there."""
    trace = traced(grad, **shape)
    found = lens(trace, 4)
    assert found.gap == 0.0
    assert [exit_gap(trace, row) for row in range(4)] == [0.0] * 4
    top = trace.logits().softmax(-1).topk(4)
    assert torch.equal(found.ids[-1], top.indices)
    torch.testing.assert_close(found.p[-1], top.values)
    assert not found.kl[-1].any()
    assert bool((found.rank[-1] == 1).all())


def test_figures_by_hand():
    """Each figure of a row from its logits written out: entropy, divergence from the last, rank and share of its
    token."""
    trace = traced()
    found = lens(trace)
    own = trace.logits().double().softmax(-1)
    p = trace.model.heads["lm"](trace.model.norm(trace.own.stream[1])).double().softmax(-1)
    best = own.argmax(-1, keepdim=True)
    close = dict(rtol=1e-4, atol=1e-5, check_dtype=False)
    torch.testing.assert_close(found.entropy[1], -(p * p.log()).sum(-1), **close)
    torch.testing.assert_close(found.kl[1], (own * (own / p).log()).sum(-1), **close)
    torch.testing.assert_close(found.final[1], p.gather(-1, best)[..., 0], **close)
    assert torch.equal(found.rank[1], (p.argsort(descending=True) == best).int().argmax(-1) + 1)


def test_blocks_that_write_nothing():
    """Glassbox, lens: where blocks add nothing all rows are equal, and settled from the first on."""
    trace = traced()
    for block in trace.own.blocks:
        torch.nn.init.zeros_(block.attention.out.weight)
        torch.nn.init.zeros_(block.feed_forward.down.weight)
    found = lens(capture(trace.model, TOKENS))
    for figure in (found.ids, found.p, found.entropy, found.rank, found.final, found.kl):
        assert torch.equal(figure, figure[-1:].expand_as(figure))
    assert not found.settled.any()


def test_a_cached_scale_is_red(monkeypatch):
    """Glassbox, lens: with the scale of the last row kept, the first looks uniform (ln 100 = 4.61) where it is decided,
    and is not what the model says that ends there."""
    trace = traced(tied=False)
    model = trace.model
    with torch.no_grad():
        model.embed.weight.mul_(0.02)
        model.heads["lm"].weight.copy_(torch.randn(100, 32, generator=torch.Generator().manual_seed(1)) / 32**0.5 * 3)
        for block in trace.own.blocks:
            block.feed_forward.down.weight.mul_(1000)
    trace = capture(model, TOKENS)
    anew = lens(trace)
    assert exit_gap(trace, 0) == 0.0

    def cached(trace, row, at):
        last, x = trace.own.last[:, at], trace.own.stream[row][:, at]
        scale = torch.stack([torch.stack([frozen(model.norm, place).scale for place in text]) for text in last])
        return model.heads["lm"](x * scale).detach()

    monkeypatch.setattr(module, "logits_of", cached)
    kept = lens(trace)
    assert anew.entropy[0].mean() < 2.5
    assert math.log(100) - 0.1 < kept.entropy[0].mean() < math.log(100)
    assert kept.gap < 1e-4
    assert exit_gap(trace, 0) > 1


@torch.no_grad()
def test_a_large_vocabulary_goes_piece_by_piece(monkeypatch):
    """However few places fit at a time, the figures are the same."""
    trace = traced(view=View(keep=torch.arange(9).expand(2, 9) < 8))
    whole = lens(trace)
    monkeypatch.setattr(module, "MOST_LOGITS", 500)
    pieces = []
    monkeypatch.setattr(
        module, "_read", lambda trace, at, k, read=module._read: pieces.append(at) or read(trace, at, k)
    )
    parts = lens(trace)
    assert pieces == [slice(at, min(at + 2, 9)) for at in range(0, 9, 2)]
    assert torch.equal(parts.ids, whole.ids)
    assert torch.equal(parts.settled, whole.settled)
    torch.testing.assert_close(parts.kl, whole.kl)
    assert exit_gap(trace, 1) == 0.0


def test_some_places_are_read_as_all_are():
    """The places that are drawn alone have the figures that they have among all."""
    trace = traced()
    whole, some = lens(trace), lens(trace, places=range(3, 7))
    assert torch.equal(some.ids, whole.ids[:, :, 3:7])
    assert torch.equal(some.settled, whole.settled[:, 3:7])
    torch.testing.assert_close(some.kl, whole.kl[:, :, 3:7])
    assert exit_gap(trace, 1, range(3, 7)) == 0.0


def test_settled():
    """The first row from which on the last one's token stands; a token that was left for a while does not count."""
    ids = torch.tensor([[7, 7, 1, 2], [7, 3, 1, 3], [7, 7, 7, 7]])
    assert settled(ids).tolist() == [0, 2, 2, 2]
    assert settled(torch.tensor([[1, 2], [7, 7], [7, 7]])).tolist() == [1, 1]


def test_what_cannot_be():
    """No such row, no tokens to list, no head that says words; and no hook stays behind."""
    trace = traced()
    with pytest.raises(InputError, match="row=4 of the stream, wanted 0 to 3"):
        exit_gap(trace, 4)
    with pytest.raises(InputError, match="top=0"):
        lens(trace, 0)
    with pytest.raises(InputError, match="no head says tokens"):
        lens(traced(heads_of=("score",)))
    assert lens(trace, 1000).ids.shape == (4, 2, 9, 100)
    assert not any(module._forward_hooks for module in trace.model.modules())
