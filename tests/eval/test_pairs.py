"""Minimal pairs: the sums of both sentences, who is right, and the reference figure of a real checkpoint."""

import json

import pytest
import torch

from instar.config import InputError
from instar.data.corpus import read
from instar.eval.pairs import Judged, Pair, judge, pair_of, report
from instar.hub.folders import load

RECORDS = [
    {"good": "Anna had a ball.", "bad": "Anna a ball had.", "term": "order", "field": "syntax", "paradigm": "p"},
    {"good": "球在花园里。", "bad": "球花园在里。", "term": "order", "field": "syntax", "paradigm": "q"},
    {"good": "Tom had the ball", "bad": "Tom had the the ball"},
]


def test_both_sentences_as_by_hand(tokenizer, model):
    """All log-probabilities from the whole softmax, added; in the order of the records, whatever the batch."""
    pairs = [pair_of(record) for record in RECORDS]
    done = []
    judged = judge(model, tokenizer, pairs, batch=4, each=done.append)
    assert [one.pair for one in judged] == pairs
    assert sum(done) == 6
    for one in judged:
        for text, found in ((one.pair.good, one.good), (one.pair.bad, one.bad)):
            ids = torch.tensor(tokenizer.encode(text))
            with torch.no_grad():
                chances = model(ids[None, :-1])[0].softmax(-1)
            assert found == pytest.approx(chances[range(len(ids) - 1), ids[1:]].log().sum().item(), rel=1e-10)
        assert one.right is (one.good > one.bad)


def test_right_is_likelier_and_counted_by_groups():
    """Equally likely is not right; each group by its values, and all."""
    pairs = [pair_of(record) for record in RECORDS]
    judged = [Judged(pair, good, -2.0) for pair, good in zip(pairs, (-1.0, -3.0, -2.0))]
    assert not Judged(pairs[0], -1.0, -2.0, same=True).right
    assert [one.right for one in judged] == [True, False, False]
    found = report(judged)
    assert (found["records"], found["acc"]) == (3, pytest.approx(1 / 3))
    assert found["groups"]["term"] == {"order": {"records": 2, "acc": 0.5, "same": 0.0}}
    assert {name: part["acc"] for name, part in found["groups"]["paradigm"].items()} == {"p": 1.0, "q": 0.0}


@pytest.mark.parametrize(("record", "message"), [({"good": "a"}, 'wanted {"good", "bad"}'), ({"good": 1}, '"good" is')])
def test_no_pair(record, message):
    """The keys found and wanted, or the field."""
    with pytest.raises(InputError, match=message):
        pair_of(record)


def test_pairs_that_are_the_same_tokens(tokenizer, model):
    """No model can tell them apart, whatever rounding makes of their sums; they are wrong, and counted."""
    found = report(judge(model, tokenizer, [Pair("Anna had", "Anna had", {}), Pair("Anna had", "Anna the", {})]))
    assert (found["records"], found["same"]) == (2, 0.5)
    assert found["acc"] <= 0.5


def test_blimp_as_another_program_counts_it(shared):
    """TinyStories-656K: the log-probabilities of the first ten pairs. The figures of all are `test_all_of_blimp`'s."""
    wanted = json.loads((shared / "REFERENCE.json").read_text(encoding="utf-8"))["blimp"]
    model, tokenizer = load(shared / wanted["model"])
    records = (document.record for document in read([str(shared / "eval/blimp.jsonl")]))
    pairs = [pair_of(record) for record, _ in zip(records, range(10))]
    found = [(one.good, one.bad) for one in judge(model, tokenizer, pairs)]
    for own, reference in zip(found, wanted["first_10"], strict=True):
        assert own == pytest.approx(tuple(reference), abs=2e-4)


@pytest.mark.slow
def test_all_of_blimp(shared):
    """The accuracy of all 20,100 pairs and of each term is the reference's."""
    wanted = json.loads((shared / "REFERENCE.json").read_text(encoding="utf-8"))["blimp"]
    model, tokenizer = load(shared / wanted["model"])
    pairs = [document.read(pair_of) for document in read([str(shared / "eval/blimp.jsonl")])]
    found = report(judge(model, tokenizer, pairs))
    assert (found["records"], round(found["acc"], 5)) == (wanted["pairs"], wanted["accuracy"])
    assert {term: round(part["acc"], 4) for term, part in found["groups"]["term"].items()} == wanted["by_term"]


def test_a_pair_is_two_sentences():
    """What a record says of its groups is kept as text."""
    assert pair_of({"good": "a", "bad": "b", "term": 3, "else": 1}) == Pair("a", "b", {"term": "3"})
