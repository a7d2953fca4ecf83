"""The view of heads on every kind of stack, with the checks that prove it."""

import json

import numpy as np
import pytest
import torch

from instar.config import InputError, ModelConfig
from instar.config.options.inspecting import InspectOptions
from instar.model.transformer import Transformer
from instar.probe import copying
from instar.probe import heads as scoring
from instar.probe.look import Look
from instar.probe.panel import Scatter, Table
from instar.probe.subject import read_ids
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
