"""Counts and samples of many tasks add up to the same, in any order."""

import json
import random

from instar.data.refine.ledger import FIRST, LEAD, SAMPLES, SHOWN, Flow, Ledger, from_json, key_of, merged
from instar.data.refine.rule import Verdict


def told(numbers):
    """The ledger of a task that saw these documents."""
    ledger = Ledger()
    for number in numbers:
        text, where = f"text {number} ", f"file#{number}"
        if number % 5 == 0:
            ledger.broken("s", "json", "file", number, "cut", 7)
            continue
        ledger.judge("s", "read", where, text, Verdict(text), (2, 2))
        verdict = [Verdict(text), Verdict(None, "short", "2 words"), Verdict(text.strip(), "blanks", "", 1)][number % 3]
        ledger.judge("s", "rule", where, text, verdict, (2, None if verdict.text is None else 1))
        ledger.account("s").languages[f"l{number % 2}"] = 1
    return ledger


def test_merging_is_free_of_order(tmp_path):
    """However documents are divided among tasks and in whatever order those end, counts and samples are the same."""
    numbers = list(range(200))
    whole = told(numbers)
    draw = random.Random(0)
    for tasks in (2, 7):
        parts = [numbers[start::tasks] for start in range(tasks)]
        paths = [tmp_path / f"{tasks}-{number}.json" for number in range(tasks)]
        for path, part in zip(paths, parts):
            told(draw.sample(part, len(part))).save(path)
        draw.shuffle(paths)
        found, wanted = merged(paths).to_json(), whole.to_json()
        found["sources"]["s"].pop("languages"), wanted["sources"]["s"].pop("languages")
        assert found["samples"] == wanted["samples"]
        assert json.loads(json.dumps(found["sources"])) == json.loads(json.dumps(wanted["sources"]))
    assert merged([*paths, *paths]).account("s").languages == {"l0": 14, "l1": 14}


def test_counts():
    """Documents and bytes in and out, places changed, reasons; what cannot be read counts as read."""
    flow = told(range(15)).account("s").flow
    assert flow["read"].documents == [15, 12]
    assert flow["read"].reasons["json"].documents == 3
    assert flow["rule"].documents == [12, 8]
    assert (flow["rule"].changed, flow["rule"].places) == (4, 4)
    assert {name: (reason.documents, reason.changed) for name, reason in flow["rule"].reasons.items()} == {
        "short": (4, False), "blanks": (4, True),
    }  # fmt: skip
    assert flow["rule"].bytes[0] - flow["rule"].bytes[1] == flow["rule"].reasons["short"].bytes + 4


def test_samples_are_those_of_the_smallest_hash():
    """Of each reason the same few whatever came first, of faults the first places."""
    ledger = told(range(200))
    dropped = [number for number in range(200) if number % 5 and number % 3 == 1]
    wanted = sorted((f"file#{number}" for number in dropped), key=key_of)[:SAMPLES]
    assert [sample.where for sample in ledger.samples if sample.reason == "short"] == wanted
    assert [number for _, number, _ in ledger.account("s").broken["json"].first] == [0, 5, 10][:FIRST]


def test_a_sample_shows_where_a_text_was_changed():
    """Of a long text the stretch around the first change is kept, before and after."""
    before, ledger = "x" * 9000 + "a@b.c" + "y" * 9000, Ledger()
    ledger.judge("s", "personal", "id", before, Verdict(before.replace("a@b.c", "(e-mail)"), "mail"), (None, None))
    (sample,) = ledger.samples
    assert sample.before == before[9000 - LEAD :][:SHOWN]
    assert sample.after.startswith("x" * LEAD + "(e-mail)yy")


def test_tokens_are_exact_or_estimated():
    """All documents counted: exact. Some: by their tokens a byte. None: unknown."""
    assert Flow().tokens() is None
    exact = Flow(bytes=[100, 50], probed_bytes=[100, 50], probed_tokens=[30, 20])
    assert (exact.tokens(), exact.estimated) == ([30, 20], False)
    some = Flow(bytes=[1000, 500], probed_bytes=[100, 50], probed_tokens=[30, 20])
    assert (some.tokens(), some.estimated) == ([300, 200], True)
    all_dropped = Flow(bytes=[1000, 500], probed_bytes=[100, 0], probed_tokens=[30, 0])
    assert all_dropped.tokens() == [300, 150]


def test_json_comes_back():
    """What was saved is what is read."""
    ledger = told(range(40))
    assert from_json(json.loads(json.dumps(ledger.to_json()))).to_json() == ledger.to_json()
