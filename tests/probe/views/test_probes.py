"""The view of probes."""

import json
import re

import numpy as np
import pytest

from instar.config import InputError, ModelConfig
from instar.config.options.inspecting import InspectOptions
from instar.model.transformer import Transformer
from instar.probe.look import Look
from instar.probe.panel import Bars, Cells, Lines, Table
from instar.probe.subject import read
from instar.probe.views import probes as module
from instar.probe.views.probes import probes
from instar.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def subject():
    tokenizer = Tokenizer.train(
        ["Leo found the red ball in the cave, but he lost it.", "里奥在山洞里找到了红色的球。"], 300
    )
    model = Transformer(ModelConfig(vocab_size=tokenizer.vocab_size, d_model=16, layers=1, heads=2, max_positions=400))
    return read(model, tokenizer, "Leo found the ball.")


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(module, "STORIES", 20)
    monkeypatch.setattr(module, "MOST", 20)
    monkeypatch.setattr("instar.probe.linear.RESAMPLES", 50)


def test_curves_beside_their_controls(subject):
    """Each task has its accuracy, control, interval and centre of gravity; the text is told token by token; the checks
    are green."""
    panel = probes(Look(subject, InspectOptions()))
    assert panel.green, panel.checks
    assert [check.name for check in panel.checks] == ["disjoint", "minimum", "planted"]
    assert [task["name"] for task in panel.data["tasks"]] == ["entity", "role", "relation", "intent"]
    for task, row in zip(panel.data["tasks"], panel.arrays["accuracy"]):
        assert task["accuracy"] == pytest.approx(row.tolist())
        if task["name"] == "entity":  # tested on other words
            assert task["control"] == task["selectivity"] == [None, None]
        else:
            assert np.allclose(np.subtract(task["accuracy"], task["control"]), task["selectivity"])
        assert 0 < task["majority"] <= 1  # of so few stories one class may be all that is tested
    assert (panel.arrays["low"] <= panel.arrays["accuracy"] + 1e-6).all()
    assert panel.arrays["said"].shape == (2, len(subject.tokens))
    assert [type(figure) for figure in panel.figures] == [Lines, Lines, Bars, Table, Cells]
    assert "entity" not in panel.figures[1].series
    assert panel.figures[3].rows[0][6:8] == ("–", "–")
    assert re.fullmatch(r"0\.\d{3}（0\.\d{3} 至 \d\.\d{3}）", panel.figures[3].rows[0][5].zh)
    assert re.findall(r"(?:^|；)(\w+)：", panel.figures[3].note.zh) == ["实体", "角色", "关系", "意图"]
    assert any("no control" in note.en for note in panel.notes)
    assert len(panel.figures[-1].columns) == len(subject.tokens)
    assert panel.data["left_out"] > 0
    assert any("too long" in note.en for note in panel.notes)
    json.dumps(panel.data, allow_nan=False)


def test_a_group_on_both_sides_is_red(subject, monkeypatch):
    """Where a word is trained on and tested on, and where probes learn nothing, the checks say so."""
    monkeypatch.setattr("instar.probe.linear.held_out", lambda groups, share, seed: np.arange(len(groups)) % 2 == 0)
    monkeypatch.setattr("instar.probe.linear.STEPS", 0)
    panel = probes(Look(subject, InspectOptions()))
    assert [check.name for check in panel.checks if not check.green] == ["disjoint", "minimum", "planted"]


def test_without_a_tokenizer(subject_of):
    """Stories cannot be read without one."""
    with pytest.raises(InputError, match="no tokenizer at hand"):
        probes(Look(subject_of(ids=[1, 2]), InspectOptions()))
