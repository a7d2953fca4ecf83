"""One task: documents through the rules, one after the other, whole or not at all."""

import json
import subprocess
import sys
from dataclasses import dataclass

import pytest

from instar.config import InputError
from instar.data.raw.piece import Broken, Piece, Raw
from instar.data.refine import sift
from instar.data.refine.ledger import Ledger
from instar.data.refine.rule import Verdict
from instar.data.refine.tokens import stored

PIECE = Piece("s", "web", "a.jsonl", 10)


@dataclass
class Rule:
    """A rule that does as it is told."""

    how: object
    name: str = "rule"

    def __call__(self, text, meta):
        return self.how(text, meta)


def judged(item, *rules, count=lambda id, text: None):
    ledger = Ledger()
    return sift.judged((PIECE, item), [Rule(rule) for rule in rules], ledger, count), ledger.account("s").flow


def test_a_document_goes_through_the_rules_in_order():
    """Each sees what the one before left, and what is known about the document; the row has all of it."""

    def note(text, meta):
        meta["language"] = "en"
        return Verdict(text + "!", "noted")

    def see(text, meta):
        assert (text, meta["language"], meta["kind"], meta["title"]) == ("one!", "en", "web", "T")
        return Verdict(text)

    row, flow = judged(Raw("one", 7, {"title": "T", "id": "theirs"}), note, see)
    assert row == {"text": "one!", "id": "a.jsonl#7", "source": "s", "kind": "web", "language": "en", "title": "T"}
    assert flow["rule"].documents == [2, 2]


def test_a_dropped_document_sees_no_more_rules():
    """The first rule that drops it is the reason."""
    row, flow = judged(Raw("one", 1), lambda text, meta: Verdict(None, "short"), lambda text, meta: 1 / 0)
    assert row is None
    assert flow["rule"].documents == [1, 0]
    assert list(flow["rule"].reasons) == ["short"]


def test_what_is_broken_is_counted():
    """It was handed over and is no document."""
    row, flow = judged(Broken("json", 3, "cut", 99))
    assert row is None
    assert flow["read"].documents == [1, 0]
    assert flow["read"].reasons["json"].bytes == 99


def test_a_rule_that_fails_drops_one_document():
    """It is named with its error, and others go on; what is wrong with the run as a whole ends it."""
    row, flow = judged(Raw("one", 1), lambda text, meta: {}["x"])
    assert row is None
    assert list(flow["rule"].reasons) == ["crash"]

    def refuse(text, meta):
        raise InputError("no index")

    with pytest.raises(InputError):
        judged(Raw("one", 1), refuse)


def test_no_text_is_no_document():
    """A rule that leaves only blanks has dropped the document."""
    row, flow = judged(Raw("one", 1), lambda text, meta: Verdict(" \n", "cut"))
    assert row is None
    assert list(flow["rule"].reasons) == ["empty"]


def test_halves_of_characters_are_mended_and_told():
    """Two halves are a character, one is U+FFFD, and the document counts as changed."""
    row, flow = judged(Raw("\ud83d\ude00 and \ud800", 1))
    assert row["text"] == "😀 and \ufffd"
    assert flow["read"].reasons["surrogates"].changed


def test_tokens_are_counted_at_every_step():
    """Before and after each rule, of the text as it is there, and only of documents that are looked at."""
    count = {"a.jsonl#1": len, "a.jsonl#2": lambda text: None}
    _, flow = judged(Raw("four", 1), lambda text, meta: Verdict(text[:3]), count=lambda id, text: count[id](text))
    assert (flow["read"].probed_tokens, flow["rule"].probed_tokens) == ([4, 4], [4, 3])
    _, flow = judged(Raw("four", 2), lambda text, meta: Verdict(text[:3]), count=lambda id, text: count[id](text))
    assert flow["rule"].tokens() is None


def test_what_is_written_is_whole_or_not_there(tmp_path):
    """Stopped in the middle nothing is left; any value that JSON of strangers can hold is written."""
    path = tmp_path / "read" / "00000.jsonl.zst"
    row = {"text": "好", "id": "x", "source": "s"}
    with pytest.raises(TypeError), sift.storing(path) as keep:
        list(map(keep, [row, None]))
    assert not list(path.parent.iterdir())
    odd = [row | {"large": 10**30}, row | {"half": "\ud800"}, row | {"nan": float("nan")}]
    with sift.storing(path) as keep:
        for each in (row, *odd):
            keep(each)
    assert [document.record["text"] for document in stored(path)] == ["好"] * 4
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_counting_tokens_is_as_in_the_shards(tokens):
    """Also of a text of many sections."""
    from instar.data.corpus import Tally, encode
    from instar.data.sources import Document
    from instar.text.tokenizer import Tokenizer

    text, tally = "The dog runs over the river. " * 2000, Tally()
    list(encode([Document({"text": text}, "x", 1)], Tokenizer.load(tokens), tally))
    assert sift.counter(str(tokens), 1)("id", text) == tally.tokens
    assert sift.counter("", 1)("id", text) is None
    looked = [sift.counter(str(tokens), 4)(f"{number}", "x") is not None for number in range(200)]
    assert 25 <= sum(looked) <= 75


def test_workers_do_without_torch(raw, tokens, tmp_path):
    """A whole run, from raw files to shards, imports neither torch nor what stands on it."""
    source = {"name": "rows", "data": [str(raw / "rows")], "rules": ["repair", "language", "gopher", "personal"]}
    code = f"""
import json, sys
from instar.config.data import read_data_recipe
from instar.data.refine import conductor, plan, phases, sift
recipe = read_data_recipe({{"sources": [{source!r}], "executor": {{"workers": 1}}}})
made = plan.make(recipe)
job = sift.Job({str(tmp_path)!r}, recipe, {str(tokens)!r})
made.spread(job.work / "tasks")
phases.run_all(job, made.sizes, phases.names_of(job), lambda state: None)
print(json.dumps(sorted({{name.split(".")[0] for name in sys.modules}})))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "matplotlib"} & set(json.loads(done.stdout))
    assert list(tmp_path.glob("*.safetensors"))
