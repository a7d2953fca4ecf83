"""Numbers for canvases: what they hold, and how large they may be."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load

from instar.config import InputError
from instar.probe.routing import by_words, decode_shares, norm_weighted, rollout, sinkless, words
from instar.serve.glass.ops import pictures
from instar.serve.glass.trouble import Abandoned, Trouble
from instar.text.tokenizer import Tokenizer

TEXT = "Anna had a 球. She gave it"


def opened(binary):
    """-> what it is of, and its arrays."""
    size = int.from_bytes(binary.content[:8], "little")
    meta = json.loads(binary.content[8 : 8 + size])["__metadata__"]
    assert list(meta) == ["glass"], "several entries have no order"
    return json.loads(meta["glass"]), load(binary.content)


@pytest.fixture
def traced(ask, box):
    """traced(model) -> the id of a trace, and its look."""

    def make(model="decoder", **asked):
        told = ask("trace", model=model, **(asked or dict(text=TEXT)))
        return told["trace"], box.traces.find(told["trace"]).look

    return make


def test_one_head_as_a_triangle(ask, traced):
    """Of a decoder the lower triangle, row by row, in fp16, T(T+1)/2 numbers of two bytes: the weights that the seam
    gives, and each row adds up to 1."""
    trace, look = traced()
    about, found = opened(ask("attention", trace=trace, layer=1, head=2))
    weights, count = look.trace.own.attended[1].weights([2])[0, 0].numpy(), len(look.tokens)
    assert (about["layout"], about["shape"], about["pool"]) == ("tril", f"{count},{count}", "1")
    assert found["weights"].dtype == np.float16
    assert found["weights"].nbytes == count * (count + 1)
    whole = np.zeros((count, count), np.float32)
    whole[np.tril_indices(count)] = found["weights"]
    np.testing.assert_allclose(whole, weights, atol=5e-4)
    np.testing.assert_allclose(whole.sum(1), 1, atol=2e-3)


@pytest.mark.parametrize("kind", ["raw", "sinkless", "norm"])
@pytest.mark.parametrize("model", ["decoder", "encoder"])
def test_the_mean_and_each_kind(ask, traced, kind, model):
    """Head -1 is the mean of the heads; each kind is what the view of attention draws, of one head too."""
    trace, look = traced(model)
    seam, block = look.side.attended[0], look.side.blocks[0]
    raw = seam.weights()
    sinks = (
        torch.arange(len(look.tokens)) == 0 if model == "decoder" else torch.tensor([t.control for t in look.tokens])
    )
    wanted = {"raw": lambda: raw, "sinkless": lambda: sinkless(raw, sinks),
              "norm": lambda: norm_weighted(seam, block.attention, raw)}[kind]()[0]  # fmt: skip
    panel = ask("view", trace=trace, view="attention", ask={"layer": 0, "kind": kind})
    np.testing.assert_allclose(panel["arrays"]["weights"]["values"], wanted.float(), atol=1e-6)
    for head, one in ((-1, wanted.mean(0)), (3, wanted[3])):
        about, found = opened(ask("attention", trace=trace, layer=0, head=head, kind=kind, rows=[0, len(look.tokens)]))
        assert about["layout"] == "full"
        np.testing.assert_allclose(found["weights"], one.numpy(), rtol=2e-3, atol=5e-4)


def test_words(ask, traced):
    """By words a square of words, with the tokens and the text of each."""
    trace, look = traced()
    about, found = opened(ask("attention", trace=trace, layer=0, head=1, level="word"))
    groups = words(look.tokens, look.subject.text)
    assert [tuple(word[:2]) for word in about["words"][0]] == groups
    assert "Anna" in [word[2] for word in about["words"][0]]
    wanted = by_words(look.trace.own.attended[0].weights([1])[0, 0], groups, groups)
    np.testing.assert_allclose(found["weights"], wanted.numpy(), atol=5e-4)


def test_rows(ask, traced, monkeypatch):
    """Some rows as they are; no more of them than fit."""
    trace, look = traced()
    about, found = opened(ask("attention", trace=trace, layer=0, head=0, rows=[2, 5]))
    assert about["rows"] == "2:5"
    np.testing.assert_allclose(found["weights"], look.trace.own.attended[0].weights([0])[0, 0, 2:5], atol=5e-4)
    monkeypatch.setattr(pictures, "MOST", 2 * len(look.tokens))
    with pytest.raises(InputError, match="at most 2 rows"):
        ask("attention", trace=trace, layer=0, head=0, rows=[2, 5])


def test_a_long_text_is_pooled(ask, traced, monkeypatch):
    """More rows than can be drawn become blocks, each the largest share in it, so that no strong one is lost."""
    trace, look = traced()
    count = len(look.tokens)
    monkeypatch.setattr(pictures, "LARGEST", count // 3)
    about, found = opened(ask("attention", trace=trace, layer=0, head=0))
    pool, weights = int(about["pool"]), look.trace.own.attended[0].weights([0])[0, 0].numpy()
    assert (about["layout"], about["shape"]) == ("full", f"{count},{count}")
    assert max(found["weights"].shape) <= count // 3
    for row, column in np.ndindex(found["weights"].shape):
        block = weights[row * pool : (row + 1) * pool, column * pool : (column + 1) * pool]
        assert found["weights"][row, column] == pytest.approx(block.max(), abs=5e-4)


def test_an_atlas_by_layers(ask, traced):
    """Every head of some layers, a byte a point, by its root: the mean of a uniform row of 512 does not become 0;
    layers asked for one by one are the whole."""
    trace, look = traced()
    about, whole = opened(ask("atlas", trace=trace, px=8))
    assert (about["codec"], about["layers"]) == ("sqrt", "0:2")
    assert whole["atlas"].dtype == np.uint8
    assert whole["atlas"].shape == (2, 4, 8, 8)
    parts = [opened(ask("atlas", trace=trace, px=8, layers=[n, n + 1]))[1]["atlas"] for n in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(parts), whole["atlas"])
    shares = decode_shares(torch.from_numpy(whole["atlas"]))
    wanted = torch.nn.functional.adaptive_max_pool2d(look.trace.own.attended[1].weights()[0], (8, 8))
    np.testing.assert_allclose(shares[1], wanted, atol=5e-3)
    plain = opened(ask("atlas", trace=trace, px=8, kind="sinkless"))[1]["atlas"]
    assert (plain != whole["atlas"]).any()


def test_sides_of_an_encoder_decoder(ask, traced):
    """The encoder's own attention and the decoder's to its source are not the triangle of a text by itself."""
    trace, look = traced("pair", text="Anna had a ball", target="a red")
    queries, keys = len(look.subject.tokens), len(look.subject.source)
    for side, shape in (("encoder", (keys, keys)), ("cross", (queries, keys))):
        about, found = opened(ask("attention", trace=trace, layer=0, head=0, side=side))
        assert (about["layout"], found["weights"].shape) == ("full", shape)
        assert opened(ask("atlas", trace=trace, side=side))[1]["atlas"].shape[2:] == shape
    with pytest.raises(InputError, match="rollout"):
        ask("rollout", trace=trace, side="cross")


def test_a_rollout_of_each_layer(ask, traced):
    """Known answer "rollout": as probe.routing rolls it, and its rows add up to 1."""
    trace, look = traced()
    for layer, wanted in enumerate(rollout(look.trace.own)):
        found = opened(ask("rollout", trace=trace, layer=layer))[1]["weights"]
        np.testing.assert_allclose(found, wanted[0], atol=5e-4)
        np.testing.assert_allclose(found.sum(1, dtype=np.float32), 1, atol=2e-3)


def test_logits_of_all_tokens(ask, traced):
    """In fp32, those of the model's own head at that place."""
    trace, look = traced()
    with torch.no_grad():
        wanted = look.subject.model(look.subject.ids)[0]
    for at in (2, -1):
        found = opened(ask("logits", trace=trace, at=at))[1]["logits"]
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted[at], rtol=1e-6)


def test_logits_of_a_second_model(ask, traced, box, adapted):
    """vs: those that the other gives the same text, its adapter off for `base`; where the two cut the text into other
    tokens, behind the last one alone."""
    trace, look = traced()
    _, other = traced("other")
    about, found = opened(ask("logits", trace=trace, at=2, vs="other"))
    assert about == {"at": 2, "same": True}
    np.testing.assert_allclose(found["logits"], other.trace.logits(slice(2, 3))[0, 0], rtol=1e-5)
    tuned = ask("trace", model="decoder", adapter="tuned", text=TEXT)["trace"]
    own, base = (opened(ask("logits", trace=tuned, at=2, **vs))[1]["logits"] for vs in ({}, {"vs": "base"}))
    np.testing.assert_allclose(base, look.trace.logits(slice(2, 3))[0, 0], rtol=1e-5)
    assert np.abs(own - base).max() > 0.01
    whole = replace(box.stock.held["other", ""], id="whole", tokenizer=Tokenizer.train([TEXT], 300))
    box.stock.held["whole", ""] = whole
    about, _ = opened(ask("logits", trace=trace, vs="whole"))
    assert not about["same"]
    with pytest.raises(InputError, match="reads other tokens"):
        ask("logits", trace=trace, at=2, vs="whole")


@pytest.mark.parametrize(("op", "args", "said"), [
    ("attention", dict(layer=2, head=0), "layer=2"), ("attention", dict(layer=0, head=4), "head=4"),
    ("attention", dict(layer=0, head=0, kind="rew"), "did you mean raw"), ("atlas", dict(px=0), "px=0"),
    ("atlas", dict(layers=[1, 3]), "0:2"), ("atlas", dict(layers=[1, 1]), "0:2"), ("logits", dict(at=99), "at=99"),
    ("rollout", dict(kind="norm"), "rollout"), ("attention", dict(layer=0, head=0, rows=[3, 99]), "rows=3:99"),
    ("attention", dict(layer=0, head=0, side="encoder"), "encoder"),
])  # fmt: skip
def test_what_is_not_there(ask, traced, op, args, said):
    """A layer, head, place or kind that does not exist is refused, with what there is."""
    with pytest.raises(InputError, match=said):
        ask(op, trace=traced()[0], **args)


def test_a_large_picture_is_refused_before_it_is_made(ask, traced, monkeypatch):
    """507, with the bytes that it needs and may take."""
    trace, _ = traced()
    monkeypatch.setattr("instar.probe.memory.BUDGET", 100)
    with pytest.raises(Trouble) as caught:
        ask("attention", trace=trace, layer=0, head=0)
    assert caught.value.status == 507
    assert caught.value.more["need"] > caught.value.more["budget"] == 100


def test_nobody_waits_for_an_atlas(ask, box, traced):
    """It is given up between two parts of it."""
    trace, _ = traced()
    box.cancelled = lambda: True
    with pytest.raises(Abandoned):
        ask("atlas", trace=trace)
