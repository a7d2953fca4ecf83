"""`instar eval`."""

import json

import pytest

import instar
from instar.data.corpus import read
from instar.eval.perplexity import measure

STORIES = "world:stories?count=12&seed=9"
QUESTIONS = "world:dialogues?split=test&kinds=main&threads=2&count=10&seed=1"


def test_perplexity(grown, cli):
    """The figures of eval.perplexity, for machines and for people."""
    result = cli("eval", "--model", grown.base, "--data", STORIES, "--json")
    wanted = measure(*instar.load(grown.base), [document.text for document in read([STORIES])], batch=8).report()
    assert {name: result.json[name] for name in wanted} == wanted
    assert result.json["metric"] == "perplexity"
    shown = cli("eval", "--model", grown.base, "--data", STORIES).out
    assert f"{wanted['bits_per_byte']:.3f}" in shown


def test_limit_and_held_out(grown, cli):
    """Only some documents: the first, or those that pretraining kept away."""
    first = cli("eval", "--model", grown.base, "--data", STORIES, "--limit", "3", "--json").json
    data = "world:stories?count=100"
    held = cli("eval", "--model", grown.base, "--data", data, "--split", "held-out", "--held-out", "0.1", "--json").json
    assert first["documents"] == 3
    assert 0 < held["documents"] < 30


def test_exact(grown, cli):
    """Questions by language and kind, the sum last, and some wrong answers beside the wanted ones."""
    result = cli("eval", "--model", grown.sft, "--data", QUESTIONS, "--metric", "exact", "--json").json
    assert result["questions"] == 10
    assert sum(part["questions"] for part in result["groups"]["lang"].values()) == 20  # "all" among them
    assert all(set(one) == {"wanted", "answer"} for one in result["wrong"])
    rows = cli("eval", "--model", grown.sft, "--data", QUESTIONS, "--metric", "exact").out.strip().splitlines()
    assert rows[-1].split()[:2] == ["all", "10"]


def test_quiet(grown, cli):
    """Nothing on either stream."""
    result = cli("eval", "--model", grown.base, "--data", STORIES, "--limit", "1", "--quiet")
    assert (result.status, result.out, result.err) == (0, "", "")


@pytest.mark.parametrize("metric", ["perplexity", "exact"])
def test_no_records(grown, cli, tmp_path, metric):
    """Nothing to measure is an error, not a score."""
    (tmp_path / "empty.jsonl").touch()
    result = cli("eval", "--model", grown.sft, "--data", tmp_path / "empty.jsonl", "--metric", metric)
    assert (result.status, result.out) == (2, "")
    assert result.err.count("\n") == 1


def test_a_batch_of_none(grown, cli):
    """A figure out of range is named."""
    result = cli("eval", "--model", grown.sft, "--data", QUESTIONS, "--batch", "0")
    assert result.status == 2
    assert "batch=0" in result.err


@pytest.mark.parametrize("metric", ["perplexity", "exact"])
def test_records_of_another_kind(grown, cli, tmp_path, metric):
    """A record that cannot be measured is named."""
    path = tmp_path / "odd.jsonl"
    path.write_text(json.dumps({"odd": 1}) + "\n", encoding="utf-8")
    result = cli("eval", "--model", grown.sft, "--data", path, "--metric", metric)
    assert result.status == 2
    assert "odd" in result.err


def test_verify(grown, cli):
    """A grown folder is the same in transformers: a table for people, the gaps for machines."""
    pytest.importorskip("transformers")
    shown = cli("verify", "--model", grown.base)
    assert shown.status == 0
    assert "same" in shown.out
    assert "DIFFERENT" not in shown.out


def test_verify_fails_where_something_differs(grown, cli, monkeypatch):
    """Exit 1, so that a script notices."""
    gaps = {"version": "9", "logit_gap": 0.5, "texts": 1, "same_words": 0, "same_ids": 1, "of_ids": 1, "same": False}
    found = {"folder": "x", "readers": {"transformers": gaps}, "same": False}
    monkeypatch.setattr("instar.eval.verify.verify", lambda name: found)
    shown = cli("verify", "--model", grown.base)
    assert shown.status == 1
    assert "DIFFERENT" in shown.out


def test_claims(grown, cli, tmp_path, monkeypatch):
    """A table of verdicts, and their report in both languages; nothing of it without --claims."""
    from instar.eval import claims

    monkeypatch.setattr(claims, "CLAIMS", {"vocabulary": claims.CLAIMS["vocabulary"]})
    out = tmp_path / "claims"
    result = cli("eval", "--model", grown.base, "--claims", "--limit", "2", "--out", out, "--json").json
    assert [one["claim"] for one in result["claims"]] == ["vocabulary"]
    assert {file.name for file in out.iterdir()} == {"claims.json", "claims.html", "claims.zh.html"}
    shown = cli("eval", "--model", grown.base, "--claims", "--limit", "2").out
    assert "vocabulary" in shown
    assert result["claims"][0]["verdict"] in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--claims", "--metric", "exact"], "metric=exact with claims"),
        (["--claims", "--limit", "-1"], "limit=-1"),
        (["--claims", "--out", "FILE"], "is a file"),
        (["--data", STORIES, "--out", "x"], "claims and out"),
        ([], "missing --data"),
    ],
)
def test_claims_and_metrics_are_not_mixed(grown, cli, tmp_path, words, said):
    """What one of them does not look at is an error, and so is a metric without data."""
    (tmp_path / "file").touch()
    result = cli("eval", "--model", grown.base, *(tmp_path / "file" if word == "FILE" else word for word in words))
    assert result.status == 2
    assert said in result.err
