"""The view of heads on every kind of stack, with the checks that prove it."""

import json

import numpy as np
import pytest
import torch

from instar.config import InputError, ModelConfig
from instar.config.options.inspecting import InspectOptions
from instar.model.transformer import Transformer
from instar.probe import copying, relations
from instar.probe import heads as scoring
from instar.probe.look import Look
from instar.probe.panel import Scatter, Table
from instar.probe.subject import read, read_ids
from instar.probe.views import heads as viewed
from instar.probe.views import lifted
from instar.probe.views.heads import heads

SHAPES = {
    "decoder": dict(kv_heads=1),
    "encoder": dict(causal=False, heads_of=("masked",)),
    "encoder-decoder": dict(encoder_layers=1, start=0, positions="sinusoidal"),
    "no words": dict(heads_of=("score",), tied=False),
}


def panel(shape="decoder", ids=(1, 2, 3, 4, 1, 2, 3), source=(), **ask):
    model = Transformer(
        ModelConfig(**dict(vocab_size=40, d_model=16, layers=2, heads=2, max_positions=64) | SHAPES[shape]), seed=1
    )
    source = source or ((5, 6, 7, 8, 9) if shape == "encoder-decoder" else ())
    return heads(Look(read_ids(model, ids, source), InspectOptions(model="m", text="t", **ask)))


@pytest.mark.parametrize(
    ("shape", "side"),
    [("decoder", "auto"), ("encoder", "auto"), ("no words", "auto"), ("encoder-decoder", "encoder"),
     ("encoder-decoder", "decoder"), ("encoder-decoder", "cross")],
)  # fmt: skip
def test_every_stack_has_its_heads_with_proofs(shape, side):
    """Each head has a row with its score and chance; the checks are green, and all of it is JSON."""
    found = panel(shape, side=side)
    layers = 1 if side == "encoder" else 2
    assert found.green, [(check.name, check.gap) for check in found.checks]
    assert "alike_is_chance" in {check.name for check in found.checks}
    assert {(row["layer"], row["head"]) for row in found.data["heads"]} == set(np.ndindex(layers, 2))
    assert json.loads(json.dumps(found.data))["which"] == ("cross" if side == "cross" else "self")
    assert all(array.shape == (layers, 2) and array.dtype == np.float32 for array in found.arrays.values())
    assert {"random/sink", "text/sink", "chance/text/entropy"} <= set(found.arrays)
    (table,) = (figure for figure in found.figures if isinstance(figure, Table))
    assert len(table.rows) == 2 * layers
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert len(found.figures) <= 6
    (scatter,) = (figure for figure in found.figures if isinstance(figure, Scatter))
    assert len(scatter.points) == 2 * layers


def test_rows_stand_in_the_order_of_their_scores():
    """The clearest head is first, with the strongest pair of tokens as its evidence."""
    rows = panel().data["heads"]
    assert [row["leading"]["above"] for row in rows] == sorted((row["leading"]["above"] for row in rows), reverse=True)
    evidence = rows[0]["evidence"]
    assert evidence["to"] <= evidence["from"]
    assert 0 < evidence["weight"] <= 1


def test_what_cannot_be_measured_is_left_out_and_said():
    """A text of one token has no rows to score, and a model of 3 positions no room for two tokens said twice."""
    found = panel(ids=(3,))
    assert "text/sink" not in found.arrays
    assert any("longer" in note.en for note in found.notes)
    assert found.green
    SHAPES["short"] = dict(max_positions=3)
    found = panel("short", ids=(1, 2, 3))
    assert "random/sink" not in found.arrays
    assert any("max_positions=3" in note.en for note in found.notes)
    with pytest.raises(InputError, match="max_positions=3"):
        panel("short", ids=(1,))
    with pytest.raises(InputError, match="side=cross"):
        panel(side="cross")


def test_a_wrong_chance_turns_the_check_red(monkeypatch):
    """Where what is counted as visible is wrong by one key, uniform shares no longer score their chance."""
    right = scoring.visible
    monkeypatch.setattr(scoring, "visible", lambda seam: right(seam) & (torch.arange(seam.k.shape[2]) != 4))
    (check,) = (check for check in panel().checks if check.name == "alike_is_chance")
    assert not check.green


def test_a_wrong_circuit_turns_the_check_red(monkeypatch):
    """Copying that takes the values of another head disagrees with all words taken one by one."""
    right = copying.circuits
    monkeypatch.setattr(copying, "circuits", lambda attention, seen: list(right(attention, seen))[::-1])
    (check,) = (check for check in panel().checks if check.name == "copying_is_trace")
    assert not check.green


def test_a_window_leaves_its_layer_without_a_number():
    """What the layer cannot see is null in the data, no point of the scatter, and said; all else is there."""
    SHAPES["windows"] = dict(windows=(4, 0))
    found = panel("windows")
    assert found.green, [(check.name, check.gap) for check in found.checks]
    rows = {(row["layer"], row["head"]): row for row in found.data["heads"]}
    assert rows[0, 0]["scores"]["random"]["induction"] is None
    assert rows[1, 0]["scores"]["random"]["induction"] is not None
    json.dumps(found.data, allow_nan=False)
    (scatter,) = (figure for figure in found.figures if isinstance(figure, Scatter))
    assert [name for name, _, _ in scatter.points] == ["1.0", "1.1"]
    assert any("Layers 0 look back through a window" in note.en and "induction" in note.en for note in found.notes)


def test_of_a_long_text_the_beginning_is_read(monkeypatch):
    """And that is said; the scores are those of the beginning."""
    short = panel(ids=(1, 2, 3, 1, 2))
    monkeypatch.setattr(viewed, "MOST", 5)
    long = panel(ids=(1, 2, 3, 1, 2, 3, 4, 5))
    assert viewed.CUT in long.notes
    assert viewed.CUT not in short.notes
    assert np.array_equal(long.arrays["text/sink"], short.arrays["text/sink"])
    assert len(long.data["tokens"]) == 5


def follower(splitting):
    """Head 0 of one layer looks at 球 wherever it stands, head 1 everywhere alike."""
    model = Transformer(
        ModelConfig(vocab_size=splitting.vocab_size, d_model=8, layers=1, heads=2, norm="none", positions="none",
                    max_positions=64, tied=False)
    )  # fmt: skip
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.embed.weight[:, 1] = 1.0
        for id in splitting.encode("球"):
            model.embed.weight[id, 0] = 1.0
        model.blocks[0].attention.q.weight[0, 1] = 20.0
        model.blocks[0].attention.k.weight[0, 0] = 1.0
    return model


def test_the_share_of_words_that_are_named(splitting):
    """Entity lift: a head that looks at the word has many times the share of chance, a uniform one exactly 1, and p
    tells the layer from random spans; what shows in the writing is found where nothing is named."""
    model, text = follower(splitting), "Anna had a 球 and a red hat and a hat and Tom had 球 and a hat."
    found = heads(Look(read(model, splitting, text), InspectOptions(entities="球")))
    assert found.green, [(check.name, check.gap) for check in found.checks]
    said = found.data["entities"]
    assert [span["text"] for span in said["spans"]] == ["球", "球"]
    lift = found.arrays["lift"]
    assert lift[0, 0] > 4
    assert lift[0, 1] == pytest.approx(1.0, abs=1e-5)
    assert said["lift"] == [pytest.approx(lift[0].mean(), rel=1e-5)]
    assert 1 / 201 <= said["p"][0] < 0.05
    assert found.figures[-1].series[lifted.ENTITIES] == said["lift"]
    assert any("p of each layer" in note.en for note in found.notes)
    text = "Anna had a hat and Tom had a red hat and Tom had a hat."
    guessed = heads(Look(read(model, splitting, text), InspectOptions())).data["entities"]["spans"]
    assert ("Tom", "capitals") in {(span["text"], span["kind"]) for span in guessed}
    with pytest.raises(InputError, match="found 'Ben', and the text"):
        heads(Look(read(model, splitting, text), InspectOptions(entities="Tom, Ben")))
    with pytest.raises(InputError, match="no tokenizer"):
        panel(entities="Tom")


def test_a_wrong_count_of_what_is_visible_turns_the_lift_red(splitting, monkeypatch):
    """Where sinks count as content, a uniform head no longer gives entities what chance does."""
    right = relations._lifts
    monkeypatch.setattr(
        relations, "_lifts", lambda shares, content, entities: right(shares, content.roll(1, -1), entities)
    )
    found = heads(Look(read(follower(splitting), splitting, "Anna had a 球 and a red hat."), InspectOptions()))
    assert "lift_is_one" in {check.name for check in found.checks if not check.green}
