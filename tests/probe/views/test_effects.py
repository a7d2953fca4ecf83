"""The view of effects."""

import json
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from instar.config import InputError
from instar.config.options.inspecting import InspectOptions
from instar.probe import effects as measured
from instar.probe.compare import compare
from instar.probe.inspection import inspect
from instar.probe.look import Look
from instar.probe.panel import Bars, Matrix
from instar.probe.subject import read_ids
from instar.probe.views import effects as viewed
from instar.probe.views.effects import effects

TEXT, OTHER = "Anna had a 球", "Anna a had 球"


def asked(subject, **ask):
    return effects(Look(subject, InspectOptions(**ask)))


def red(panel):
    return [check.name for check in panel.checks if not check.green]


@pytest.mark.parametrize(
    ("shape", "side"),
    [("decoder", "auto"), ("windows", "auto"), ("encoder", "auto"), ("encoder-decoder", "auto"),
     ("encoder-decoder", "cross"), ("encoder-decoder", "encoder")],
)  # fmt: skip
def test_green_on_every_shape(subject_of, shape, side):
    """Of every shape and side, with another text: each check is green, and every array is as long as what it is of."""
    subject = subject_of(shape)
    panel = asked(subject, side=side, other=OTHER, ablation="mean" if shape == "windows" else "zero")
    names = ["unchanged", "alone", "direct", "whole", "state_alone", "watched", "hooks"]
    assert [check.name for check in panel.checks] == names
    assert panel.green, panel.checks
    layers = 1 if side == "encoder" else 2
    read = len(subject.source if side == "encoder" else subject.tokens)
    assert panel.arrays["restored"].shape == (layers + 1, read)
    assert np.abs(panel.arrays["restored"]).max() > 0.5
    crosses = shape == "encoder-decoder" and side != "encoder"
    for name in ("heads", "heads_kl", "restored_heads", *(["cross", "cross_kl"] if crosses else [])):
        assert panel.arrays[name].shape == (layers, 4)
    assert ("cross_skipped" in panel.arrays) == crosses
    assert panel.data["other"]["which"] == ("cross" if side == "cross" else "self")
    assert all(x.dtype == np.float32 and np.isfinite(x).all() for x in panel.arrays.values())
    json.dumps(panel.data, allow_nan=False)


def test_what_is_drawn(subject_of):
    """Where the difference is carried first, then what is lost without heads and sublayers; the heads by their loss."""
    subject = subject_of()
    panel = asked(subject, other=OTHER)
    grid, heads, change, kl, parts = panel.figures
    assert [type(figure) for figure in panel.figures] == [Matrix, Matrix, Matrix, Matrix, Bars]
    assert panel.data["other"]["rows"] == ["in", "0", "1"]
    assert grid.rows == [("in", "输入"), "0", "1"]
    differ = [n for n, piece in enumerate(grid.columns) if "→" in piece]
    assert differ
    assert not grid.values[:, : differ[0]].any()
    assert grid.values[-1].tolist() == pytest.approx([0] * (len(subject.tokens) - 1) + [1])
    assert np.array_equal(change.values, panel.arrays["heads"])
    assert np.array_equal(kl.values, panel.arrays["heads_kl"])
    assert np.array_equal(heads.values, panel.arrays["restored_heads"])
    assert [en for en, _ in parts.labels] == ["0 attention", "0 feed-forward", "1 attention", "1 feed-forward"]
    best = panel.data["heads"][0]
    assert abs(best["change"]) == pytest.approx(float(np.abs(panel.arrays["heads"]).max()))
    alone = asked(subject)
    assert len(alone.figures) == 3
    assert alone.data["other"] is None
    assert viewed.PATCHED not in alone.notes
    assert np.array_equal(alone.arrays["heads"], panel.arrays["heads"])
    assert compare(panel, panel, ("a", "b")).data["differences"]["restored"]["largest"] == 0


def test_which_token_is_asked_about(subject_of, splitting):
    """A place and a token; of an encoder its first mask; of an encoder's side a place of what its decoder says."""
    subject = subject_of()
    panel = asked(subject, at=2, explain="Anna had")
    logits = subject.capture().logits()[0, 2]
    assert panel.data["target"]["id"] == splitting.encode("Anna had")[0]
    assert panel.data["logit"] == pytest.approx(float(logits[panel.data["target"]["id"]]))
    mask = next(name for name, id in splitting.specials.items() if id == splitting.mask)
    subject = subject_of("encoder", f"Anna had a {mask} ball.")
    assert subject.tokens[asked(subject).data["at"]].id == splitting.mask
    pair = subject_of("encoder-decoder")
    assert asked(pair, side="encoder").data["at"] == len(pair.tokens) - 1


def test_ids_and_a_text_of_one_token(subject_of):
    """Without a tokenizer the other text is ids; of one token the state of its one place is all."""
    subject = subject_of(ids=[3], vocab_size=9)
    panel = asked(subject, other_ids=(4,))
    assert panel.green
    assert panel.arrays["restored"][:, 0].tolist() == pytest.approx([1, 1, 1])
    with pytest.raises(InputError, match="no tokenizer; wanted other_ids"):
        asked(subject, other="a")
    with pytest.raises(InputError, match="other_ids: found 9, wanted 0 to 8"):
        asked(subject, other_ids=(9,))
    pair = subject_of("encoder-decoder")
    bare = read_ids(pair.model, [token.id for token in pair.tokens], [token.id for token in pair.source])
    other = [token.id for token in pair.source]
    other[1] = 70
    assert np.array_equal(
        asked(bare, other_ids=tuple(other), side="encoder").arrays["heads"], asked(pair, side="encoder").arrays["heads"]
    )


def test_long_ones_show_less_and_say_so(subject_of, monkeypatch):
    """Beyond so many passes: the layer asked about alone, some rows of the stream, and the last places."""
    subject = subject_of()
    whole = asked(subject, other=OTHER)
    monkeypatch.setattr(viewed, "MOST_RUNS", 7)
    panel = asked(subject, other=OTHER, layer=0)
    assert panel.green
    assert panel.data["layers"] == [0]
    assert np.array_equal(panel.arrays["heads"], whole.arrays["heads"][:1])
    assert panel.data["other"]["rows"] == ["in"]
    assert np.array_equal(panel.arrays["restored"], whole.arrays["restored"][:1])
    assert viewed.ONE_LAYER in panel.notes
    assert viewed.THINNED in panel.notes
    assert not {viewed.ONE_LAYER, viewed.THINNED} & set(whole.notes)
    monkeypatch.setattr(viewed, "MOST_RUNS", 2)
    panel = asked(subject, other=OTHER)
    assert not panel.arrays["restored"][:, :-2].any()
    monkeypatch.setattr(viewed, "MOST_RUNS", 1024)
    monkeypatch.setattr(viewed, "MOST_TOKENS", 47)
    assert asked(subject).data["layers"] == [1]


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        ("ablated", lambda real: lambda *given, each=False, **how: real(*given, **how), ["unchanged", "alone"]),
        ("replayed", lambda real: lambda *given, **how: nullcontext(), ["direct"]),
        ("skipped", lambda real: lambda *given, **how: real(*given, **how), []),
    ],
)
def test_a_wrong_change_is_red(subject_of, monkeypatch, name, wrong, said):
    """Heads left out in all rows at once; a last layer that is not held; and as it is, green."""
    monkeypatch.setattr(measured, name, wrong(getattr(measured, name)))
    assert red(asked(subject_of())) == said


def test_a_wrong_patch_is_red(subject_of, monkeypatch):
    """A patch that leaves out the last place is not the other pass, and a shared answer that is scaled not its own."""
    real = viewed.patched
    monkeypatch.setattr(viewed, "patched", lambda model, trace, places, **how: real(model, trace, places[:-1], **how))
    assert red(asked(subject_of(), other=OTHER)) == ["whole", "state_alone"]


def test_what_cannot_be(subject_of):
    """Texts of other lengths are shown with their tokens; the same text has no difference; a view that reads no other
    text is told."""
    subject = subject_of()
    count = len(subject.tokens)
    with pytest.raises(InputError, match=rf"has {count} tokens, the other {count - 2}; .*: .*\|球.* and "):
        asked(subject, other="Anna had a")
    with pytest.raises(InputError, match="same answer"):
        asked(subject, other=TEXT)
    with pytest.raises(InputError, match="the text has 7 tokens, the other 3"):
        asked(subject_of("encoder-decoder"), other="Anna")
    with pytest.raises(InputError, match="no head says tokens"):
        asked(subject_of(heads_of=("score",)))
    with pytest.raises(InputError, match="view lens; only effects reads it"):
        inspect(subject.model, subject.tokenizer, TEXT, "lens", other=OTHER)
    assert inspect(subject.model, subject.tokenizer, TEXT, "effects", other=OTHER).green
    assert torch.is_grad_enabled()
