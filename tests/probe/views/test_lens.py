"""The view of layers."""

import json
import math

import numpy as np
import pytest
import torch

from instar.config import InputError
from instar.config.options.inspecting import InspectOptions
from instar.probe import lens as lenses
from instar.probe.look import Look
from instar.probe.panel import Bars, Cells, Lines, Matrix, Strip
from instar.probe.views import lens as viewed
from instar.probe.views.lens import lens


def panel_of(subject, **asked):
    return lens(Look(subject, InspectOptions(**asked)))


@pytest.mark.parametrize("shape", ["decoder", "encoder", "encoder-decoder"])
def test_green_and_as_computed(subject_of, shape):
    """Of every shape: each check is green, the last row is the model's answer, and contributions are its logit."""
    subject = subject_of(shape)
    panel = panel_of(subject, at=2, top=3)
    assert [check.name for check in panel.checks] == ["lens", "early_exit", "contributions", "watched"]
    assert panel.green, panel.checks
    logits = subject.capture().logits()[0]
    assert panel.arrays["ids"].shape == (3, len(subject.tokens), 3)
    assert np.array_equal(panel.arrays["ids"][-1], logits.topk(3).indices.numpy())
    assert panel.data["target"]["id"] == int(logits[2].argmax())
    said = panel.data["contributions"]
    assert (said["cross"] is not None) == (shape == "encoder-decoder")
    total = sum(said["embedding"].values()) + sum(said["biases"].values())
    total += sum(sum(said[name] or ()) for name in ("attention", "cross", "feed_forward"))
    assert total == pytest.approx(float(logits[2].max()), abs=1e-9)
    json.dumps(panel.data, allow_nan=False)


def test_what_is_drawn(subject_of):
    """The grid says the likeliest token of each layer and place, the curves and bars those of the place asked about."""
    subject = subject_of()
    panel = panel_of(subject, at=1)
    grid, depth, doubt, share, parts, heads = panel.figures
    assert (type(grid), type(depth), type(doubt), type(parts), type(heads)) == (Cells, Strip, Lines, Bars, Matrix)
    assert grid.texts[-1][1] == subject.piece(int(panel.arrays["ids"][-1, 1, 0]))
    assert grid.columns == subject.pieces
    assert grid.rows == [("in", "输入"), "0", "1"]
    assert depth.values == [row / 2 for row in panel.data["settled"]]
    assert doubt.series["KL(p_L‖p_l)"][-1] == 0
    assert share.series["p"] == panel.arrays["final"][:, 1].tolist()
    assert [en for en, _ in parts.labels] == [
        "embedding", "0 attention", "0 feed-forward", "1 attention", "1 feed-forward", "biases",
    ]  # fmt: skip
    assert panel.about["heads"].what == panel.data["target"]["id"]
    assert sum(parts.series["logit"]) == pytest.approx(panel.data["target"]["logit"])
    assert heads.values.shape == (2, 4)


def test_without_a_tokenizer_and_of_one_token(subject_of):
    """Ids are their own names; a text of one token has a grid of one column; a long text is drawn near the place."""
    panel = panel_of(subject_of(ids=[7]))
    assert panel.green
    assert [len(row) for row in panel.figures[0].texts] == [1, 1, 1]
    panel = panel_of(subject_of(ids=list(range(40)), vocab_size=50), at=39)
    assert panel.figures[0].columns == [str(id) for id in range(8, 40)]
    assert any("32 places" in note.en for note in panel.notes)


def test_a_wrong_norm_is_red(subject_of, monkeypatch):
    """A lens that keeps the scale of the last row is told by its first rows: early exit is red."""
    right = lenses.logits_of

    def cached(trace, row, at=None):
        last, x = trace.own.last[:, at], trace.own.stream[row][:, at]
        scale = (last.square().mean(-1, keepdim=True) / x.square().mean(-1, keepdim=True)).sqrt()
        head = trace.model.heads["lm"]
        return head(trace.own.stack.norm(x) / scale) if row < 2 else right(trace, row, at)

    monkeypatch.setattr(lenses, "logits_of", cached)
    panel = panel_of(subject_of())
    assert [check.name for check in panel.checks if not check.green] == ["early_exit"]


def test_a_wrong_part_is_red(subject_of):
    """An update that is not what the layer gave does not add up to the logit."""
    look = Look(subject_of(), InspectOptions())
    look.trace.own.updates[1]["feed_forward"] = look.trace.own.updates[1]["feed_forward"] * 1.01
    assert [check.name for check in lens(look).checks if not check.green] == ["contributions"]
    assert math.isfinite(lens(look).checks[2].gap)


def test_what_cannot_be(subject_of):
    """The encoder of an encoder-decoder says no tokens; a place that does not exist; a head that says none."""
    with pytest.raises(InputError, match="side=encoder: only the decoder"):
        panel_of(subject_of("encoder-decoder"), side="encoder")
    with pytest.raises(InputError, match="at=99"):
        panel_of(subject_of(), at=99)
    with pytest.raises(InputError, match="no head says tokens"):
        panel_of(subject_of(heads_of=("score",)))
    assert torch.is_grad_enabled()


def test_a_large_vocabulary_is_read_where_it_is_drawn(subject_of, monkeypatch):
    """Of a long text and many words the places of the grid alone, which says the same; JSON has all."""
    subject = subject_of(ids=[n % 9 for n in range(50)], vocab_size=9)
    whole = panel_of(subject, at=40)
    monkeypatch.setattr(viewed, "WORK", 1)
    part = panel_of(subject, at=40)
    assert part.green
    first, last = part.data["places"]
    assert last - first == viewed.NEAR
    assert np.array_equal(part.arrays["ids"], whole.arrays["ids"][:, first:last])
    assert np.allclose(part.figures[0].values, whole.figures[0].values)
    assert part.figures[3].series == whole.figures[3].series
    assert part.data["target"] == whole.data["target"]
    assert viewed.PART in part.notes
    asked = panel_of(subject, at=40, format="json")
    assert asked.data["places"] == [0, 50]
    assert viewed.PART not in asked.notes
