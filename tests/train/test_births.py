"""The birth of heads and of layers' words, drawn from inside.jsonl under the loss."""

import json

import pytest

from instar.config import dump_yaml
from instar.train.history import read_history
from instar.train.page import render_run

EVIL = "<img src=x onerror=alert(1)>"


def look(step, previous=0.1, induction=0.05, **changes):
    usual = {
        "step": step,
        "best": {"previous": [previous, 0, 1], "induction": [induction, 1, 3], "sink": [0.9, 0, 0]},
        "lens": {"places": 9, "settled": 1.5, "kl": [3.0, 1.0 + step, 0.0], "entropy": [6.0, 4.0, 2.0]},
    }
    return usual | changes


@pytest.fixture
def make_run(tmp_path):
    """A run's folder with these looks inside; a str is a line as it stands."""

    def make(looks, name="run"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "instar.yaml").write_text(dump_yaml({"stage": "pretrain", "steps": 20}))
        rows = [{"step": step, "loss": 7.0 - step, "skipped": 0} for step in (1, 2, 3)]
        (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        lines = [line if isinstance(line, str) else json.dumps(line) for line in looks]
        if lines:
            (folder / "inside.jsonl").write_text("".join(f"{line}\n" for line in lines))
        return folder

    return make


def curves(folder, title):
    """label -> values of the chart of that title, as its dots tell them."""
    text = render_run(folder)
    (figure,) = [part for part in text.split("<figure")[1:] if f"<strong>{title}</strong>" in part]
    keys = [part.split("<")[0] for part in figure.split('class="key hue-')[1:]]
    found = {}
    for key in keys or ['">']:
        hue, _, label = key.partition('">')
        dots = [part for part in figure.split("<circle ")[1:] if not hue or f'class="hue-{hue}"' in part]
        found[label] = [part.split("<title>")[1].split("<")[0] for part in dots]
    return found


def test_the_birth_of_a_head_is_drawn(make_run):
    """Of each score the best head at every look, under the name that it has at the end; a sink is no skill."""
    drawn = curves(make_run([look(0), look(2, 0.4), look(3, 0.9, 0.5)]), "Birth of a head")
    assert drawn == {
        "previous 0.1": ["step 0: 0.1", "step 2: 0.4", "step 3: 0.9"],
        "induction 1.3": ["step 0: 0.05", "step 2: 0.05", "step 3: 0.5"],
    }


def test_layers_are_drawn(make_run):
    """How far each row of the stream is from the last, which is no curve of its own, and where words are settled."""
    folder = make_run([look(0), look(2)])
    assert curves(folder, "Surprise of layers") == {
        "embedding": ["step 0: 3", "step 2: 3"], "1 block": ["step 0: 1", "step 2: 3"],
    }  # fmt: skip
    assert curves(folder, "Words are settled") == {"": ["step 0: 1.5", "step 2: 1.5"]}


def test_deep_models_show_an_even_choice_of_layers(make_run):
    """Of 24 blocks five curves, the embedding and the last but one among them."""
    lens = {"settled": 20.0, "kl": [float(25 - row) for row in range(25)]}
    drawn = curves(make_run([look(0, lens=lens), look(1, lens=lens)]), "Surprise of layers")
    assert list(drawn) == ["embedding", "5 blocks", "11 blocks", "17 blocks", "23 blocks"]


def test_without_looks_there_is_nothing_of_it(make_run):
    """A run that nobody looked into has the page that it always had."""
    text = render_run(make_run([]))
    assert "Birth of a head" not in text
    assert "inside.jsonl;" not in text


def test_strange_lines_cost_nothing_but_a_count(make_run):
    """Whatever stands in a damaged file, the page is made, is inert, and tells how many lines were left out."""
    odd = [
        look(2, best=None), look(3, best={"previous": "x", "induction": [None, 0, 0], EVIL: [1, 0, 0]}, lens=[1]),
        look(4, best={"previous": [0.3, EVIL, 0]}, lens={"kl": EVIL, "settled": EVIL}), '{"step": 5, "be', "[]",
        {"step": "six"}, {"step": -1},
    ]  # fmt: skip
    folder = make_run([look(1), *odd])
    text = render_run(folder)
    assert EVIL not in text
    assert read_history(folder).broken == 4
    assert "left out: 4." in text
    assert curves(folder, "Birth of a head")["previous"] == ["step 1: 0.1", "step 4: 0.3"]
