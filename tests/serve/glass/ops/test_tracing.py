"""A pass that is kept: its tokens, what they cost the model, and what is proven at once."""

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from instar.config import InputError
from instar.serve.glass.ops.tracing import near_uniform
from instar.serve.glass.traces import estimate
from instar.serve.glass.trouble import Abandoned, Trouble

TEXT = "Anna had a 球"
UNSEEN = "Anna had a 狗"  # whose last character is three tokens


def test_what_a_trace_tells(ask, box):
    """Known answer "Tokens": the bytes of all tokens joined are the text; a character of three bytes is told once, in
    parts; each token's surprise is the loss of the model's own head there, and their mean is the loss."""
    told = ask("trace", model="decoder", text=UNSEEN)
    look = box.traces.find(told["trace"]).look
    assert b"".join(token.raw for token in look.subject.tokens).decode() == UNSEEN
    assert not any("\ufffd" in token["text"] for token in told["tokens"])
    split = [token["part"] for token in told["tokens"] if token["end"] == len(UNSEEN)]
    assert split == [[k + 1, len(split)] for k in range(len(split))]
    assert len(split) == 3
    assert [token["part"] for token in told["tokens"]].count([1, 1]) == len(told["tokens"]) - 3
    with torch.no_grad():
        logits = look.subject.model(look.subject.ids)
    losses = F.cross_entropy(logits[0, :-1], look.subject.ids[0, 1:], reduction="none").tolist()
    assert told["tokens"][0]["surprise"] is None
    assert [token["surprise"] for token in told["tokens"][1:]] == pytest.approx(losses)
    assert told["loss"] == pytest.approx(sum(losses) / len(losses))
    assert all(check["green"] for check in told["checks"])
    names = [check["name"] for check in told["checks"]]
    assert names == ["attention_rows", "future", "weights_values", "watched", "lens", "norm"]
    assert (told["n_tokens"], told["kind"], told["ttl_s"]) == (len(told["tokens"]), "decoder", 900)


def test_surprise_in_parts_is_the_same(ask, monkeypatch):
    """Over a large vocabulary the logits of a few places exist at a time; what is told does not change by that."""
    whole = ask("trace", model="decoder", text=TEXT)
    monkeypatch.setattr("instar.serve.glass.ops.tracing.LOGITS", 700)  # two places at a time
    parts = ask("trace", model="decoder", text=TEXT)
    assert [one["surprise"] for one in parts["tokens"]] == pytest.approx([one["surprise"] for one in whole["tokens"]])
    assert parts["loss"] == pytest.approx(whole["loss"])


def test_a_trace_is_told_again(ask):
    """GET gives what POST gave, and another trace does not change it."""
    told = ask("trace", model="decoder", text=TEXT)
    ask("trace", model="decoder", text="She gave")
    assert ask("traced", trace=told["trace"]) == told


@pytest.mark.parametrize("asked", [
    dict(model="encoder", text="Anna had a 球"), dict(model="pair", text="Anna had", target="a red ball"),
    dict(model="ids", ids=[5, 9, 11]), dict(model="decoder", ids=[70, 80, 90]),
    dict(model="pair", ids=[70, 80], target_ids=[90, 91]),
])  # fmt: skip
def test_every_kind_is_traced(ask, asked):
    """An encoder, an encoder-decoder, and ids with and without a tokenizer: all green; what nothing foresees has no
    surprise."""
    told = ask("trace", **asked)
    assert all(check["green"] for check in told["checks"])
    assert bool(told["source"]) == (asked["model"] == "pair")
    known = [token["surprise"] is not None for token in told["tokens"]]
    assert known == [asked["model"] != "encoder" and place > 0 for place in range(len(known))]
    if asked["model"] == "ids":
        assert [(token["id"], token["text"], token["b64"]) for token in told["tokens"]] == [
            (id, str(id), "") for id in asked["ids"]
        ]
    if asked == dict(model="decoder", ids=[70, 80, 90]):
        assert all(token["b64"] for token in told["tokens"])


def test_a_model_that_learnt_nothing(ask, box):
    """A head of zeros says every token alike: the loss is ln V, and that is said; of one that is sure it is not."""
    sure = ask("trace", model="decoder", text=TEXT)
    assert not sure["near_uniform"]
    held = box.stock.held["decoder", ""]
    blank = deepcopy(held.model)
    with torch.no_grad():
        blank.heads["lm"].weight.zero_()
    box.stock.held["decoder", ""] = replace(held, model=blank)
    flat = ask("trace", model="decoder", text=TEXT)
    assert flat["near_uniform"]
    assert flat["loss"] == pytest.approx(math.log(flat["shape"]["vocab"]))
    assert not near_uniform(7.3, 0.3, 1536)  # wrong, and sure of it
    assert not near_uniform(1.0, 7.3, 1536)
    assert near_uniform(None, 7.3, 1536)  # an encoder, which has no loss here


def test_too_long(ask):
    """413, with how many tokens there are and may be."""
    with pytest.raises(Trouble) as caught:
        ask("trace", model="ids", ids=[5] * 65)
    assert (caught.value.status, caught.value.more) == (413, {"limit": 64, "got": 65})


def test_too_large(ask, box, monkeypatch):
    """507 before anything is computed, with the bytes that it would take."""
    held = box.stock.held["ids", ""]
    ask("trace", model="ids", ids=[5] * 60)
    box.traces.budget = estimate(held.config, 60, 0, 8) - 1
    monkeypatch.setattr("instar.probe.subject.Subject.capture", lambda *_, **__: 1 / 0)
    with pytest.raises(Trouble) as caught:
        ask("trace", model="ids", ids=[5] * 60)
    more = caught.value.more
    assert (caught.value.status, more) == (507, {"need": box.traces.budget + 1, "budget": box.traces.budget})


def test_an_estimate_is_what_is_kept(ask, box):
    """What is refused for its size would have had that size, within a fifth."""
    for model, ids in (("ids", dict(ids=[5] * 60)), ("decoder", dict(text=TEXT * 3))):
        told = ask("trace", model=model, **ids)
        wanted = estimate(box.stock.held[model, ""].config, told["n_tokens"], 0, 8)
        assert wanted == pytest.approx(told["bytes"], rel=0.2)


def test_nobody_waits(ask, box):
    """A pass is given up at the next block where nobody waits any more; nothing of it is kept and no hook is left."""
    model = box.stock.held["decoder", ""].model
    hooks = [len(module._forward_hooks) for module in model.modules()]
    calls = []
    box.cancelled = lambda: calls.append(1) or len(calls) > 1
    with pytest.raises(Abandoned):
        ask("trace", model="decoder", text=TEXT)
    assert len(box.traces) == 0
    assert [len(module._forward_hooks) for module in model.modules()] == hooks


@pytest.mark.parametrize(("asked", "said"), [
    (dict(model="decoder"), "nothing to read"), (dict(model="decoder", text="a", ids=[70]), "text and ids"),
    (dict(model="ids", text="a"), "no tokenizer"), (dict(model="ids", messages=[{"role": "user", "content": "a"}]),
    "no tokenizer"), (dict(model="ids", ids=[9999]), "9999"), (dict(model="nobody", text="a"), "no such model"),
    (dict(model="pair", messages=[{"role": "user", "content": "a"}]), "holds no conversation"),
    (dict(model="decoder", text="a", target_ids=[5]), "target_ids"), (dict(model="pair", text="a", target_ids=[5]),
    "wanted target"), (dict(model="pair", ids=[70], target="a"), "wanted target_ids"),
])  # fmt: skip
def test_what_cannot_be_read(ask, asked, said):
    """Is refused before anything is computed, with the reason."""
    with pytest.raises((InputError, Trouble), match=said):
        ask("trace", **asked)


def test_tokenize(ask):
    """A text as tokens, with its bytes; of an encoder-decoder its source, for which nothing is said."""
    told = ask("tokenize", model="decoder", text=TEXT)
    assert told["bytes"] == len(TEXT.encode())
    assert told["tokens"] == [
        one | {"surprise": None} for one in ask("trace", model="decoder", text=TEXT)["tokens"]
    ]  # fmt: skip
    source = ask("trace", model="pair", text="Anna had", target="a")["source"]
    assert ask("tokenize", model="pair", text="Anna had")["tokens"] == source


def test_messages(ask, box, splitting):
    """By the tokenizer's template, to where the answer begins; one user's message is what chat makes of a text."""
    held = box.stock.held["decoder", ""]
    template = (
        "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"
        "{% if add_generation_prompt %}<a>{% endif %}"
    )
    chatty = splitting.with_controls([])
    chatty.template = template
    box.stock.held["decoder", ""] = replace(held, tokenizer=chatty)
    told = ask("trace", model="decoder", messages=[{"role": "user", "content": "Anna"}])
    assert told["text"] == "<user>Anna<a>"
    assert told["chat"]
    assert [one["id"] for one in ask("trace", model="decoder", text="Anna", chat=True)["tokens"]] == [
        one["id"] for one in told["tokens"]
    ]
