"""Hidden tokens: which, always the same, and what a masked model makes of them."""

import math

import numpy as np
import pytest
import torch

from instar.config import InputError, ModelConfig
from instar.eval.likelihood import Likelihood
from instar.eval.masked import hide, hide_part, report, restore
from instar.model.transformer import Transformer
from instar.text.tokenizer import Tokenizer

TEXTS = [
    "Anna had a red ball. She gave the ball to Tom.\n" * 4,
    "王明有一个红色的球。球在花园里。\n" * 2,
    "Tom",
    "ball " * 60,
]


@pytest.fixture(scope="module")
def tokenizer():
    """With a mask and a begin token."""
    return Tokenizer.train(TEXTS, 320, masks=True)


@pytest.fixture
def model(tokenizer, make_masked):
    """A masked model whose probabilities vary."""
    return make_masked(tokenizer)


def test_what_is_hidden(tokenizer, model):
    """Windows of the context in order; each hidden place holds the mask and stood in the document; nothing else is
    changed; never a control token; at least one a window; about a share of 0.15."""
    found = list(hide(model, tokenizer, TEXTS * 40, context=32))
    ids = [id for text in TEXTS * 40 for id in tokenizer.document(text)]
    restored = []
    for one in found:
        seen = list(one.ids)
        assert [seen[place] for place in one.places] == [tokenizer.mask] * len(one.places)
        assert len(one.places) >= 1
        for place, id in zip(one.places, one.wanted):
            seen[place] = id
        assert not set(one.wanted) & {tokenizer.bos, tokenizer.eos}
        assert len(seen) <= 32
        restored += seen
    assert restored == ids
    share = sum(len(one.places) for one in found) / len(ids)
    assert 0.12 < share < 0.18


def test_always_the_same(tokenizer, model):
    """By the seed and the number of the window alone: not by what other texts say."""
    first = list(hide(model, tokenizer, TEXTS, seed=1))
    assert first == list(hide(model, tokenizer, TEXTS, seed=1))
    assert first != list(hide(model, tokenizer, TEXTS, seed=2))
    assert list(hide(model, tokenizer, [TEXTS[3][:-5], *TEXTS[1:]], seed=1))[-1] == first[-1]


def test_restoring_as_by_hand(tokenizer, model):
    """Each hidden token from the softmax over the whole vocabulary in its window alone, whatever the batch."""
    hidden = list(hide(model, tokenizer, TEXTS))
    done = []
    for found in (restore(model, hidden, batch=1), restore(model, iter(hidden), batch=3, each=done.append)):
        for one, own in zip(hidden, found, strict=True):
            with torch.no_grad():
                chances = model(torch.tensor([one.ids]))[0].softmax(-1)
            wanted = sum(chances[place, id].log().item() for place, id in zip(one.places, one.wanted))
            assert own.logprob == pytest.approx(wanted, rel=1e-10)
            assert own.hits == sum(int(chances[p].argmax()) == id for p, id in zip(one.places, one.wanted))
    assert sum(done) == len(hidden)


def test_figures():
    """Shares and means of tokens, not of windows."""
    found = report([Likelihood(-2.0, 1, 1), Likelihood(-4.0, 3, 0)])
    assert (found["accuracy"], found["loss"], found["tokens"], found["windows"]) == (0.25, 1.5, 4, 2)
    assert found["perplexity"] == pytest.approx(math.exp(1.5))


def test_a_hole_in_a_long_text(tokenizer, model):
    """As much is read before it as after it, from where the text begins or to where it ends where that is nearer."""
    for before, behind, start in (
        ("ball " * 80, " had" * 80, None),
        ("Anna ", " ball" * 90, 0),
        ("ball " * 90, " had", -64),
    ):
        (one,) = hide_part(model, tokenizer, [(before, "Tom", behind)])
        full = tokenizer.document(before + "Tom" + behind)
        (place,) = [n for n, id in enumerate(full) if id == one.wanted[0]]
        start = place - 31 if start is None else start % len(full)
        assert one.places == [place - start]
        assert one.ids == [tokenizer.mask if n == place else id for n, id in enumerate(full)][start : start + 64]
        assert one.cut == len(full) - 64 > 0


@pytest.mark.parametrize("context", [65, -1])
def test_a_context_that_the_model_does_not_read(tokenizer, model, context):
    """The error names both."""
    with pytest.raises(InputError, match=f"context={context}, wanted from 1 to 64"):
        next(hide(model, tokenizer, TEXTS, context=context))


def test_what_cannot_be_measured(tokenizer, model):
    """No masks, no masked head, nothing to hide, a hole that is too long."""
    with pytest.raises(InputError, match="has no mask"):
        next(hide(model, Tokenizer.train(TEXTS, 320), TEXTS))
    plain = Transformer(ModelConfig(vocab_size=tokenizer.vocab_size, d_model=16, layers=1, heads=2))
    with pytest.raises(InputError, match="wanted the head masked"):
        next(hide(plain, tokenizer, TEXTS))
    assert list(hide(model, tokenizer, ["", ""])) == []
    with pytest.raises(InputError, match="no text to measure"):
        report([])
    with pytest.raises(InputError, match="wanted from 1 to 64"):
        hide_part(model, tokenizer, [("", " Tom" * 80, "")])


def test_padding_is_seen_by_nobody(tokenizer, model):
    """A model that reads both ways would see it: a window is the same beside a longer one."""
    short, long = (next(hide(model, tokenizer, [text])) for text in ("Tom had", TEXTS[3]))
    assert len(short.ids) < len(long.ids)
    alone, beside = restore(model, [short]), restore(model, [long, short])
    assert beside[1].logprob == pytest.approx(alone[0].logprob, rel=1e-12)
    assert np.isfinite(beside[0].logprob)
