"""report.html of a life: the way to each stage, exams beside controls, exchanges; written too where it is stopped."""

import json
import re

import pytest

from instar.config import Interrupted, dump_yaml, to_dict
from instar.config.recipe import read_recipe
from instar.grow import life
from instar.grow.life import Life
from instar.grow.page import render_life, write_life
from instar.train.tables import flatten, words

EVIL = "<img src=x onerror=alert(1)><script>alert(2)</script>"
STATES = {"tokenizer": "finished", "pretrain": "finished", "lessons": "stopped", "sft": "not begun"}
RECIPE = read_recipe({
    "name": "Emil", "seed": 41, "tokenizer": {"data": ["world:stories?count=3"]},
    "pretrain": {"data": ["world:stories?count=5"], "train": {"steps": 4}},
    "lessons": {"data": ["world:dialogues?count=6"]}, "sft": {"data": ["world:dialogues?count=7"]},
})  # fmt: skip


def score(exact):
    return {"questions": 1250, "exact": exact, "ended": 1.0}


@pytest.fixture
def report():
    """What a whole life reports."""
    return {
        "recipe": "Emil",
        "stages": {"tokenizer": {"vocab_size": 512, "fingerprint": "a" * 64}, "pretrain": {}},
        "exam": {
            "before": {"scores": {"zh": {"all": score(0.125), "who": score(0.0)}}},
            "after": {
                "scores": {"zh": {"all": score(0.75), "who": score(0.875)}},
                "controls": {"zh": {"all": {"majority": 0.25, "story removed": 0.375}, "who": {"majority": 0.5}}},
                "beside": {"en": {"two-hop": {"questions": 12, "exact": 0.625}}},
                "wrong": [{"user": "谁？", "wanted": "小明。", "answer": EVIL}],
            },
        },
        "seconds": 90.0,
        "exchanges": [
            {"user": "狼在哪里？", "answer": "在森林里。", "wanted": "在森林里。", "right": True},
            {"user": EVIL, "answer": EVIL, "wanted": EVIL, "right": False},
            {"user": "Hello!", "answer": "", "wanted": None, "right": None},
        ],
    }


@pytest.fixture
def out(tmp_path):
    """The folder of a life whose pretraining ended, whose lessons were stopped, and whose SFT is of an older recipe."""
    (tmp_path / "grow.json").write_text(json.dumps({"recipe": to_dict(RECIPE)}))
    for stage, seconds in (("pretrain", 1.5), ("lessons", 2.5), ("sft", 100.0)):
        folder = tmp_path / stage
        folder.mkdir()
        recipe = {
            "stage": stage, "parameters": 99, "started": f"2026-01-0{seconds:.0f}T00:00:00+00:00",
            "parent": {"sha256": f"{stage} parent"}, "data": {"fingerprint": f"{stage} data"},
        }  # fmt: skip
        (folder / "instar.yaml").write_text(dump_yaml(recipe))
        rows = [{"step": step, "loss": 5 - step, "tokens": 10 * step, "seconds": seconds} for step in (1, 2)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "report.html").write_text("")
    return tmp_path


def test_the_lineage_leads_to_the_stages(out, report, page_of):
    """Reached stages have a relative link to their page, their hashes and a curve; what is not begun has none of it."""
    text = render_life(out, report, STATES)
    page = page_of(text)
    assert [link["href"] for link in page.all("a")] == ["pretrain/report.html", "lessons/report.html"]
    assert all(word in page.text for word in ("a" * 64, "pretrain data", "lessons parent", "Loss of lessons"))
    assert "sft data" not in page.text
    assert "Loss of sft" not in page.text
    places = [page.text.index(word) for word in ("pretrain data", "stopped", "lessons parent", "not begun")]
    assert places == sorted(places)
    assert "4.0 s" in page.text  # the steps of both stages


def test_exams_stand_beside_controls(out, report, page_of):
    """For each language and kind: before, after, and what guessing reaches, the sum last; harder questions below."""
    text = re.sub(r"\s+", " ", page_of(render_life(out, report, STATES)).text)
    who, total = "who 1,250 0.000 0.875 0.500 –", "all 1,250 0.125 0.750 0.250 0.375"
    assert who.replace(" ", "") in text.replace(" ", "")
    assert text.replace(" ", "").index(who.replace(" ", "")) < text.replace(" ", "").index(total.replace(" ", ""))
    assert all(word in text for word in ("Chinese", "before", "after", "majority", "story removed"))
    assert "English,two-hop120.625" in text.replace(" ", "")


def test_one_inert_file(out, report, page_of):
    """Words of a model are text, Chinese is marked as such, the policy stands, and nothing comes from elsewhere."""
    text = render_life(out, report, STATES)
    page = page_of(text)
    assert page.text.count(EVIL) == 4
    assert not {"script", "img"} & {tag for tag, _ in page.tags}
    policy = {
        "http-equiv": "Content-Security-Policy",
        "content": "default-src 'none'; style-src 'unsafe-inline'; img-src data:",
    }
    assert ("meta", policy) in page.tags
    assert not any(
        "//" in value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")
    )
    assert '<b><span lang="zh">在森林里。</span></b>' in text
    assert "(nothing)" in page.text
    assert text == render_life(out, report, STATES)


def test_every_value_of_the_recipe_is_there(out, report, page_of):
    """All options of all stages, those that were said first."""
    text = re.sub(r"\s+", " ", page_of(render_life(out, report, STATES)).text)
    for name, value in flatten(to_dict(RECIPE)).items():
        assert re.search(rf"{re.escape(name)} ?{re.escape(' '.join(words(value).split()))}", text), name
    assert text.index("pretrain.train.steps") < text.index("left at their defaults") < text.index("sft.train.steps")


def test_a_page_never_costs_a_life(tmp_path, report):
    """A folder that cannot be read gives a sentence."""
    said = []
    write_life(tmp_path / "nothing", report, STATES, said.append)
    assert "nothing/report.html was not written" in said[0]


def test_a_life_that_is_stopped_has_a_page(tmp_path, monkeypatch, page_of):
    """Ctrl-C in pretraining: the page says so, and the stages after it are not begun."""

    def stopped(options, *, say):
        raise Interrupted("stopped at step 1 of 4")

    monkeypatch.setattr(life, "train_tokenizer", lambda options: {"vocab_size": 512})
    monkeypatch.setattr(life.stages, "pretrain", stopped)
    one = Life(RECIPE, tmp_path / "out", device="cpu", quiet=True, say=lambda text: None, counting=lambda *_: None)
    with pytest.raises(Interrupted):
        one.grow()
    page = page_of((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    words = page.text[page.text.index("Lineage") :].split()
    assert words[words.index("pretrain") + 1] == "stopped"
    assert words[words.index("sft") + 1 : words.index("sft") + 3] == ["not", "begun"]
    assert "It did not come to the exam." in page.text
