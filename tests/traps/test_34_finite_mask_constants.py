"""Trap 34: what may not be seen was given a large negative score, and real scores were larger still
(TransformerLensOrg/TransformerLens#318, #385: scores of Pythia below -1e5, where the mask said -1e5;
huggingface/transformers#17215: -1e4).

Guard: forbidden places get minus infinity, so their share is 0 whatever the scores are; and a query that may look
nowhere, whose softmax would be no number, looks everywhere and is read by nobody.
"""

from dataclasses import replace

import pytest
import torch

from instar.batch import View
from instar.config import ModelConfig
from instar.model import stack
from instar.model.attention import Attend, added
from instar.model.cache import KVCache
from instar.model.transformer import Transformer

PLAIN = ModelConfig(vocab_size=61, d_model=24, layers=2, heads=4, kv_heads=2, head_size=8, max_positions=32, tied=False)
SHAPES = {
    "causal": PLAIN,
    "both ways": replace(PLAIN, causal=False),
    "windows": replace(PLAIN, windows=(3, 0)),
    "capped": replace(PLAIN, score_cap=1e8),
    "t5": replace(PLAIN, positions="t5", relative_buckets=8, relative_distance=20),
    "alibi": replace(PLAIN, positions="alibi"),
    "alibi both ways": replace(PLAIN, positions="alibi", causal=False),
    "experts": replace(PLAIN, experts=4),
    "encoder-decoder": replace(PLAIN, encoder_layers=2),
    "encoder-decoder, capped": replace(PLAIN, encoder_layers=2, score_cap=1e8),
}
SCORES = (1e6, 1e12)  # how far from zero the scores lie
DTYPES = (torch.float32, torch.bfloat16, torch.float64)


@pytest.fixture(params=SHAPES)
def model(request):
    """Nothing is normalised before the scores, and what is asked of every key lies far below zero."""
    return huge(Transformer(SHAPES[request.param]).eval(), SCORES[0])


@torch.no_grad()
def huge(model, size):
    """Queries and keys so long that scores are of this size, most of them negative."""
    for block in model.all_blocks():
        for attention in (block.attention, block.cross):
            if attention is not None:
                attention.q.weight.mul_(-size)
                attention.k.weight.copy_(attention.q.weight[: len(attention.k.weight)] / -size)
    return model


@pytest.fixture
def tokens():
    return torch.randint(0, 61, (3, 12), generator=torch.Generator().manual_seed(2))


def run(model, tokens, **named):
    """Logits; an encoder-decoder reads the tokens too, as padded or packed as they are."""
    if model.encoder is not None:
        named |= {"source": tokens, "source_view": named.get("view")}
    return model(tokens, **named)


LOOKING_BACK = pytest.mark.parametrize(
    "model", [name for name, shape in SHAPES.items() if shape.causal and not shape.encoder_layers], indirect=True
)
KEEP = torch.arange(12) < torch.tensor([[12], [7], [1]])


@torch.no_grad()
def test_scores_are_as_large_as_said(model, tokens):
    """The stage is set: queries and keys meet far outside what any constant of a mask would be."""
    seen = []
    attention = model.blocks[0].attention
    attention.attend.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[:2]))
    run(model, tokens)
    scores = seen[0] @ seen[1].repeat_interleave(2, dim=1).mT / 8**0.5
    assert (scores < -1e5).any(-1).float().mean() > 0.5


@torch.no_grad()
def test_padding_is_never_seen(model, tokens):
    """What stands in padded places changes no bit of the others."""
    other = torch.where(KEEP, tokens, (tokens + 7) % 61)
    first, second = (run(model, ids, view=View(keep=KEEP)) for ids in (tokens, other))
    assert torch.equal(first[KEEP], second[KEEP])
    assert first.isfinite().all()


@torch.no_grad()
def test_other_documents_are_never_seen(model, tokens):
    """Nor what stands in the other documents of a row."""
    segments = (torch.arange(12) >= 5).long().expand(3, -1)
    other = torch.where(segments == 1, tokens, (tokens + 7) % 61)
    first, second = (run(model, ids, view=View(segments=segments)) for ids in (tokens, other))
    assert torch.equal(first[:, 5:], second[:, 5:])


@LOOKING_BACK
@torch.no_grad()
def test_what_comes_later_is_never_seen(model, tokens):
    """Nor, in a causal model, what comes later."""
    other = tokens.clone()
    other[:, 8:] = (other[:, 8:] + 7) % 61
    assert torch.equal(model(tokens)[:, :8], model(other)[:, :8])


@LOOKING_BACK
@torch.no_grad()
def test_what_a_cache_holds_behind_a_row_is_never_seen(model, tokens):
    """Nor what stands in the cache behind a shorter row's end."""
    found = []
    for ids in (tokens, (tokens + 7) % 61):
        cache = KVCache(model.config, 3, 12)
        model(torch.where(KEEP, tokens, ids), cache=cache)
        cache.trim([11, 7, 1])
        found.append(model(tokens[:, 8:9], cache=cache))
    assert torch.equal(*found)


@pytest.mark.parametrize("size", SCORES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cap", [0.0, 1e13], ids=["fused", "by products"])
def test_a_forbidden_share_is_exactly_nothing(dtype, size, cap):
    """Scores of -2 size where a query may look and 0 where it may not; values of 1e30 there would show the smallest
    share."""
    sees = torch.tensor([True, False, True, False])
    q = torch.full((1, 2, 1, 4), size, dtype=dtype)
    k = torch.where(sees[:, None], -1.0, 0.0).to(dtype).expand(1, 2, 4, 4)
    v = torch.where(sees[:, None], 1.0, 1e30).to(dtype).expand(1, 2, 4, 4)
    found = Attend(cap=cap)(q, k, v, added(sees[None, None], dtype), False)
    assert torch.equal(found, torch.ones_like(found))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_mask_says_minus_infinity(dtype):
    """In every dtype, and 0 where one may look."""
    mask = added(torch.tensor([[[True, False], [True, True]]]), dtype)
    assert mask.dtype == dtype
    assert mask.tolist() == [[[[0.0, -torch.inf], [0.0, 0.0]]]]


@pytest.mark.parametrize("cap", [0.0, 1e13], ids=["fused", "by products"])
def test_attention_to_nothing_is_a_number(cap):
    """A query that may look nowhere: what it finds and every gradient are finite, whichever way scores are made."""
    sees = torch.tensor([[[True, False, False], [False, False, False]]])
    q, k, v = (torch.ones(1, 2, size, 4, requires_grad=True) for size in (2, 3, 3))
    found = Attend(cap=cap)(q, k, v, added(sees, torch.float32), False)
    found.sum().backward()
    assert found.isfinite().all()
    assert all(part.grad.isfinite().all() for part in (q, k, v))


def test_who_may_look_nowhere_gives_no_nan(model, tokens):
    """A row that is all padding: every logit and every gradient is a number, and the other rows are what they are
    without it."""
    keep = KEEP.clone()
    keep[2] = False
    logits = run(model, tokens, view=View(keep=keep))
    assert logits.isfinite().all()
    torch.testing.assert_close(logits[:2][keep[:2]], run(model, tokens[:2], view=View(keep=keep[:2]))[keep[:2]])
    logits[keep].square().mean().backward()
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    assert gradients
    assert all(not gradient.isnan().any() for gradient in gradients)


@pytest.mark.parametrize("constant", [-1e4, -1e5])
@torch.no_grad()
def test_a_finite_constant_leaks(monkeypatch, tokens, constant):
    """The check above can fail: with the masks of those tools padding is seen."""
    model = huge(Transformer(PLAIN).eval(), SCORES[0])

    def finite(sees, dtype):
        return torch.zeros(sees.shape, dtype=dtype).masked_fill_(~sees, constant)[:, None]

    monkeypatch.setattr(stack, "added", finite)
    other = torch.where(KEEP, tokens, (tokens + 7) % 61)
    first, second = (model(ids, view=View(keep=KEEP)) for ids in (tokens, other))
    assert not torch.equal(first[KEEP], second[KEEP])
