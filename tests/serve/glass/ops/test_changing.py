"""A pass with something in it changed, and what that does to the next token."""

import math

import pytest
import torch

from instar.config import InputError
from instar.probe.capture import capture
from instar.probe.intervene import ablated, without_positions

TEXT = "Anna had a 球"


@pytest.fixture
def traced(ask):
    return ask("trace", model="decoder", text=TEXT)["trace"]


def kl(one, other):
    one, other = one.double().log_softmax(-1), other.double().log_softmax(-1)
    return float((one.exp() * (one - other)).sum())


@pytest.mark.parametrize("ablation", ["zero", "mean"])
def test_heads_taken_away(ask, box, traced, ablation):
    """The new trace holds what the model computes without these heads, and the difference is that of the logits of both
    at the last token."""
    look = box.traces.find(traced).look
    before = look.trace.logits()[0, -1]
    told = ask("intervene", trace=traced, heads=[[0, 1], [1, 3]], ablation=ablation)
    with ablated(look.subject.model, [(0, 1), (1, 3)], ablation):
        after = capture(look.subject.model, look.subject.ids).logits()[0, -1]
    diff = told["diff"]
    assert diff["kl"] == pytest.approx(kl(before, after))
    assert diff["kl"] > 1e-6
    best = int(before.argmax())
    assert diff["best"] == best
    assert diff["dlogit_of_best"] == pytest.approx(float(after[best] - before[best]))
    for one in diff["top"]:
        assert one["p0"] == pytest.approx(float(before.softmax(-1)[one["id"]]))
        assert one["p"] == pytest.approx(float(after.softmax(-1)[one["id"]]))
        assert one["dlogit"] == pytest.approx(float(after[one["id"]] - before[one["id"]]))
    assert told["trace"] != traced
    assert all(check["green"] for check in told["checks"])


@pytest.mark.parametrize(("views", "ablation"), [
    (["lens", "proof"], "zero"), (["position", "attribution", "effects"], "mean"), pytest.param(
    ["tokens", "position", "heads", "kv", "attribution", "effects", "beam", "generation"], "zero",
    marks=pytest.mark.slow), pytest.param(["tokens", "heads", "lens", "attention"], "mean", marks=pytest.mark.slow),
], ids=["quick", "batches", "all", "mean"])  # fmt: skip
def test_views_of_a_changed_trace(ask, box, traced, views, ablation):
    """Every view shows the model as it was changed, those that run it again too, some texts at once; what cannot be
    proven of it is left out and said, nothing is red, and the model is itself afterwards."""
    model = box.stock.held["decoder", ""].model
    hooks = [len(module._forward_hooks) for module in model.modules()]
    told = ask("intervene", trace=traced, heads=[[0, 1]], ablation=ablation)
    plain, changed = (ask("view", trace=trace, view="lens")["arrays"]["p"] for trace in (traced, told["trace"]))
    assert plain != changed
    for view in views:
        assert ask("view", trace=told["trace"], view=view)["green"], view
    panel = ask("view", trace=told["trace"], view="attention", ask={"layer": 0})
    assert "weights_values" not in [check["name"] for check in panel["checks"]]
    assert any("taken away" in note["en"] for note in panel["notes"])
    assert [len(module._forward_hooks) for module in model.modules()] == hooks
    assert ask("view", trace=traced, view="lens")["arrays"]["p"] == plain


def test_what_was_changed_stays_changed(ask, box, traced):
    """One change on top of another is both; a head that is named again is taken away as it is asked then."""
    model, ids = (getattr(box.traces.find(traced).look.subject, name) for name in ("model", "ids"))
    first = ask("intervene", trace=traced, heads=[[0, 1], [0, 2]])
    second = ask("intervene", trace=first["trace"], heads=[[1, 3], [0, 2]], ablation="mean", positions=False)
    third = ask("intervene", trace=second["trace"], swap=[0, 1])
    swapped = ids.clone()
    swapped[0, [0, 1]] = ids[0, [1, 0]]
    for told, read in ((second, ids), (third, swapped)):
        with ablated(model, [(0, 1)]), ablated(model, [(1, 3), (0, 2)], "mean"), without_positions(model):
            expected = capture(model, read).logits()
        assert torch.equal(box.traces.find(told["trace"]).look.trace.logits(), expected)
    assert third["changed"] == {
        "parts": [
            {"heads": [[0, 1]], "ablation": "zero", "side": "decoder"},
            {"heads": [[1, 3], [0, 2]], "ablation": "mean", "side": "decoder"},
        ],
        "positions": False, "swaps": [[0, 1]], "of": second["trace"],
    }  # fmt: skip


def test_an_answer_of_a_changed_trace(ask, traced):
    """Generation goes on without the heads too, pass by pass: its logits are those of the view."""
    told = ask("intervene", trace=traced, heads=[[0, 0], [0, 1], [1, 2]])
    done = ask("generate", trace=told["trace"], sampling={"strategy": "greedy", "max_new_tokens": 4})
    view = ask("view", trace=told["trace"], view="generation",
               ask={"sampling": {"strategy": "greedy", "max_new_tokens": 4}})  # fmt: skip
    assert done[-1]["data"]["ids"] == view["data"]["ids"]
    assert all(check["green"] for check in done[-1]["data"]["checks"])


def test_positions_off(ask, box, traced):
    """Order is told no more: as probe.intervene does it; with two tokens in each other's place as well, one causal
    layer could not tell."""
    look = box.traces.find(traced).look
    told = ask("intervene", trace=traced, positions=False)
    with without_positions(look.subject.model):
        after = capture(look.subject.model, look.subject.ids).logits()[0, -1]
    assert told["diff"]["kl"] == pytest.approx(kl(look.trace.logits()[0, -1], after))
    assert ask("view", trace=told["trace"], view="kv")["green"]


def test_two_tokens_change_places(ask, box, traced):
    """A text of its own, whose bytes are the other's in the new order; an encoder-decoder's source is swapped."""
    before = [token["id"] for token in ask("traced", trace=traced)["tokens"]]
    told = ask("intervene", trace=traced, swap=[0, 2])
    after = [token["id"] for token in told["tokens"]]
    assert after == [before[2], before[1], before[0], *before[3:]]
    assert told["diff"]["kl"] > 0
    assert ask("view", trace=told["trace"], view="lens")["green"]
    pair = ask("trace", model="pair", text="Anna had", target="a")
    swapped = ask("intervene", trace=pair["trace"], swap=[0, 1])
    assert [token["id"] for token in swapped["source"]][:2] == [token["id"] for token in pair["source"]][1::-1]
    assert [token["id"] for token in swapped["tokens"]] == [token["id"] for token in pair["tokens"]]


def test_an_encoder_is_asked_about_its_mask(ask, box):
    """The difference is of what stands at the first hole."""
    held = box.stock.held["encoder", ""]
    mask = next(name for name, id in held.tokenizer.specials.items() if id == held.tokenizer.mask)
    told = ask("trace", model="encoder", text=f"Anna {mask} a ball")
    found = ask("intervene", trace=told["trace"], heads=[[0, 0]])["diff"]
    assert told["tokens"][found["at"]]["id"] == held.tokenizer.mask
    assert math.isfinite(found["kl"])


@pytest.mark.parametrize(("args", "said"), [
    (dict(), "nothing is changed"), (dict(heads=[[9, 0]]), "layer=9"), (dict(heads=[[0, 9]]), "head=9"),
    (dict(swap=[0, 99]), "swap=99"), (dict(heads=[[0, 0]], at=99), "at=99"),
])  # fmt: skip
def test_what_cannot_be_changed(ask, box, traced, args, said):
    """Is refused, and nothing is kept of it."""
    before = len(box.traces)
    with pytest.raises(InputError, match=said), torch.no_grad():
        ask("intervene", trace=traced, **args)
    assert len(box.traces) == before
