"""The metrics of `instar eval`: tables for people, one object for machines, and what is wrong with a record by its
place."""

import json
from pathlib import Path

import pytest
import torch

from instar.config import InputError, ModelConfig
from instar.config.options import EvalOptions
from instar.model.transformer import Transformer
from instar.text.tokenizer import Tokenizer

TEXTS = ["Anna had a red ball. She gave the ball to Tom.\n" * 4, "王明有一个红色的球。球在花园里。\n" * 2]
PAIR = {
    "good": "Anna had a ball.",
    "bad": "Anna a ball had.",
    "term": "order",
    "field": "syntax",
    "paradigm": "word_order",
}
QUESTION = {"query": "Anna had", "choices": ["a red ball.", "Tom"], "gold": 0, "subject": "toys"}
RECORDS = {
    "pairs": PAIR,
    "choices": QUESTION,
    "cloze": {"context": "She gave the ball to", "continuation": "Tom"},
    "bleu": {"source": "Anna had", "target": "a red ball."},
    "accuracy": {"text": "Anna had a ball.", "label": 1},
    "f1": {"text": "Anna had a ball.", "label": 0},
    "masked": {"text": "Anna had a ball."},
}


@pytest.fixture(scope="module")
def tokenizer():
    """With a mask and a begin token."""
    return Tokenizer.train(TEXTS, 320, masks=True)


@pytest.fixture
def measured(cli, tokenizer, tmp_path, monkeypatch):
    """measured(records, words..., heads=...): `eval` of records in a file, by a new model with these heads."""

    def call(records, *words, heads=("lm",), **shape):
        path = tmp_path / "records.jsonl"
        path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
        plain = {"d_model": 16, "layers": 1, "heads": 2, "max_positions": 64, "causal": heads == ("lm",)}
        config = ModelConfig(vocab_size=tokenizer.vocab_size, heads_of=heads, **plain | shape)
        model = Transformer(config, seed=3).double()
        with torch.no_grad():
            model.embed.weight *= 20
        monkeypatch.setattr("instar.cli.measure.load_here", lambda options, name: (model, tokenizer))
        return cli("eval", "--model", "new", "--data", path, *words)

    return call


def heads_for(metric):
    return {"accuracy": ("classify",), "f1": ("classify",), "masked": ("masked",)}.get(metric, ("lm",))


@pytest.mark.parametrize("metric", RECORDS)
def test_a_table_and_an_object(measured, metric):
    """Both say how many records there were, of which --limit takes the first."""
    if metric == "bleu":
        pytest.importorskip("sacrebleu")
    words = ["--metric", metric, "--limit", "3"]
    words += ["--sampling.max-new-tokens", "4"] if metric == "bleu" else []
    found = measured([RECORDS[metric]] * 5, *words, "--json", heads=heads_for(metric)).json
    assert found["metric"] == metric
    assert found.get("records", found.get("windows")) == 3
    shown = measured([RECORDS[metric]] * 5, *words, heads=heads_for(metric))
    assert shown.status == 0
    assert "3" in shown.out


def test_pairs(measured):
    """A row for each term and field; the paradigms are for machines."""
    other = PAIR | {"term": "binding", "paradigm": "other"}
    rows = measured([PAIR, PAIR, other], "--metric", "pairs").out.split("\n")
    assert [row.split()[:2] for row in rows if row.strip()][-4:] == [
        ["order", "2"], ["binding", "1"], ["syntax", "3"], ["all", "3"],
    ]  # fmt: skip
    found = measured([PAIR, PAIR, other], "--metric", "pairs", "--json").json
    assert {name: part["records"] for name, part in found["groups"]["paradigm"].items()} == {
        "word_order": 2,
        "other": 1,
    }


def test_between(measured):
    """What stands before a choice changes what is measured."""
    plain = measured([RECORDS["cloze"]], "--metric", "cloze", "--json").json
    other = measured([RECORDS["cloze"]], "--metric", "cloze", "--between", "\n", "--json").json
    assert plain["perplexity"] != other["perplexity"]


def test_what_is_cut_is_told(measured):
    """On stderr and in the report."""
    long = [QUESTION | {"query": "Anna had a ball. " * 30}]
    shown = measured(long, "--metric", "choices")
    assert "2 contexts were longer than the model reads, and were cut" in shown.err
    assert measured(long, "--metric", "choices", "--json").json["cut"] == 2


def test_a_cloze_of_a_masked_model(measured):
    """What stands at [MASK], seen from both sides."""
    record = {"text": "Anna had a [MASK] ball.", "answer": "red", "lang": "en", "kind": "colour"}
    found = measured([record], "--metric", "cloze", "--json", heads=("masked",)).json
    assert (found["records"], set(found["groups"])) == (1, {"lang", "kind"})


def test_classes_of_words(measured):
    """Entities by kind, and the figures of all below."""
    record = {"tokens": ["Anna", "had", "Tom"], "tags": ["B-PER", "O", "B-PER"]}
    names = {"labels": 3, "label_names": ("O", "B-PER", "I-PER")}
    shown = measured([record] * 4, "--metric", "f1", heads=("tokens",), **names)
    assert "entities" in shown.out
    found = measured([record] * 4, "--metric", "f1", "--json", heads=("tokens",), **names).json
    assert (found["entities"], found["words"]) == (8, 12)


def test_bleu_by_other_keys(measured):
    """The keys are named; held-out sources alone are translated."""
    pytest.importorskip("sacrebleu")
    records = [{"en": f"Anna had {n} balls.", "de": "Anna hatte Bälle."} for n in range(40)]
    words = ["--metric", "bleu", "--source-key", "en", "--target-key", "de", "--sampling.max-new-tokens", "2", "--json"]
    found = measured(records, *words, "--split", "held-out", "--held-out", "0.2").json
    assert 0 < found["records"] < 20
    assert found["translations"][0]["wanted"] == "Anna hatte Bälle."
    assert "tok:13a" in found["bleu_signature"]
    assert "tok:char" in measured(records[:2], *words, "--bleu-tokenizer", "char").json["bleu_signature"]


@pytest.mark.parametrize("metric", RECORDS)
def test_a_record_of_another_shape(measured, metric):
    """The file, the number of the record and what was wanted."""
    pytest.importorskip("sacrebleu")
    result = measured([RECORDS[metric], {"odd": 1}], "--metric", metric, heads=heads_for(metric))
    assert (result.status, result.out) == (2, "")
    assert "records.jsonl, record 2: " in result.err
    assert "odd" in result.err
    assert "wanted" in result.err


@pytest.mark.parametrize("metric", RECORDS)
def test_no_records(measured, metric):
    """Nothing to measure is an error, not a score."""
    pytest.importorskip("sacrebleu")
    result = measured([], "--metric", metric, heads=heads_for(metric))
    assert (result.status, result.out) == (2, "")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("metric", ["pairs", "choices", "cloze"])
def test_held_out_of_what_is_never_trained_on(measured, metric):
    """Is refused, not ignored."""
    result = measured([RECORDS[metric]], "--metric", metric, "--split", "held-out")
    assert result.status == 2
    assert "split=held-out" in result.err


def test_without_sacrebleu(measured, monkeypatch):
    """Said before anything is translated."""

    def missing():
        raise InputError("metric=bleu needs sacrebleu: pip install instar[eval]")

    monkeypatch.setattr("instar.eval.translation.sacrebleu", missing)
    monkeypatch.setattr("instar.eval.translation.translate", lambda *_, **__: pytest.fail("it was translated"))
    result = measured([RECORDS["bleu"]], "--metric", "bleu")
    assert (result.status, "pip install instar[eval]" in result.err) == (2, True)


def test_every_metric_is_offered():
    """What the option may be and what there is are the same."""
    from typing import get_args, get_type_hints

    from instar.cli.metrics import SHOW
    from instar.eval.metrics import METRICS

    assert set(get_args(get_type_hints(EvalOptions)["metric"])) == set(METRICS) == set(SHOW)


def test_blimp(cli, shared):
    """The command with the real checkpoint: its figures for the first 300 pairs, one whole paradigm."""
    where = Path(shared)
    found = cli(
        "eval", "--model", where / "weights/TinyStories-656K", "--data", where / "eval/blimp.jsonl",
        "--metric", "pairs", "--limit", "300", "--json",
    ).json  # fmt: skip
    assert found["groups"]["paradigm"] == {"adjunct_island": {"records": 300, "acc": found["acc"], "same": 0.0}}


def test_an_option_that_the_metric_does_not_look_at_is_refused(measured):
    """What would be ignored is told, with what it is for."""
    found = measured([{"text": "Anna had a ball."}], "--between", "x")
    assert found.status == 2
    assert "between=x with metric=perplexity, which does not look at it; it is for choices, cloze" in found.err
