"""What a model is called by."""

import json

import pytest

from instar.config import InputError
from instar.hub.places import resolve


@pytest.fixture
def life(tmp_path):
    """The folder of a life that has not ended, with two stages."""
    (tmp_path / "grow.json").write_text('{"recipe": {}}')
    for name in ("pretrain", "sft"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    return tmp_path


def test_a_life_is_called_by_its_folder(life):
    """Of a life that has ended the last stage answers."""
    (life / "report.json").write_text(json.dumps({"finished": "sft"}))
    assert resolve(life) == life / "sft"


@pytest.mark.parametrize("report", [None, {}, {"finished": None}, {"finished": "dpo"}, {"finished": "../else"}])
def test_a_life_that_has_not_ended_names_its_stages(life, report):
    """Which of them is meant is never guessed, and nothing outside the folder is named."""
    (life.parent / "else").mkdir(exist_ok=True)
    if report is not None:
        (life / "report.json").write_text(json.dumps(report))
    with pytest.raises(InputError, match="name one of its stages: pretrain, sft"):
        resolve(life)


@pytest.mark.parametrize("name", ["sft", "tokenizer"])
def test_a_stage_is_no_life(life, name):
    """A stage has a record of its own making, whether it is a model or not."""
    (life / name).mkdir(exist_ok=True)
    (life / name / "grow.json").write_text('{"key": "1", "finished": true}')
    assert resolve(life / name) == life / name
