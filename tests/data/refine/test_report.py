"""What a report holds can be read back, and is said in short."""

import pytest

from instar.data.refine import plan, report
from instar.data.refine.ledger import Ledger
from instar.data.refine.rule import Verdict

STEPS = ["read", "repair", "tokens"]


@pytest.fixture
def told(recipe_of):
    """The report of a run whose ledger is known: of ten texts one is broken, and four are dropped."""
    ledger = Ledger()
    ledger.broken("rows", "json", "a.jsonl", 3, "cut", 9)
    ledger.broken("texts", "binary", "b#c.txt", 0, "not text", 5)
    for number in range(8):
        text, where = f"text {number}", f"a.jsonl#{number}"
        ledger.judge("rows", "read", where, text, Verdict(text), (None, None))
        verdict = Verdict(None, "broken", "too much") if number < 4 else Verdict(text.upper(), "repaired", "", 2)
        ledger.judge("rows", "repair", where, text, verdict, (None, None))
    recipe = recipe_of()
    return ledger, report.make(recipe, plan.make(recipe), ledger, STEPS, seconds={"read": 1.5})


def test_a_ledger_comes_back(told):
    """A run that goes on from a report alone has the same counts, faults and samples."""
    ledger, made = told
    found = report.ledger_of(made, STEPS)
    assert found.to_json()["sources"] == ledger.to_json()["sources"]
    assert found.to_json()["samples"] == ledger.to_json()["samples"]
    assert "repair" not in report.ledger_of(made, ["read"]).account("rows").flow


def test_sums_and_words(told):
    """Over all sources; the commonest reasons first, those that only changed a text are none; rows of a table."""
    _, made = told
    assert made["total"]["flow"]["read"]["documents"] == [10, 8]
    assert report.left(made) == 4
    assert report.first_fault(made) == "a.jsonl#3: cut; "
    assert report.reasons(made) == "repair: broken 4, read: binary 1, read: json 1"
    rows = list(report.rows(made))
    assert [row[0] for row in rows] == ["rows", "texts", "all"]
    assert [row[1:3] for row in rows] == [[9, 4], [1, 0], [10, 4]]
    assert rows[0][-1] == "repair: broken 4, read: json 1"


def test_steps_are_in_the_order_of_their_first_use(recipe_of, raw):
    """Rules of all sources, each once, then what removes copies, then tokens."""
    sources = [
        {"name": name, "data": [str(raw / "rows")], "rules": rules}
        for name, rules in (("a", ["repair", "gopher"]), ("b", ["language", "repair"]))
    ]
    found = report.steps_of(recipe_of(sources=sources), ["exact"])
    assert found == ["read", "repair", "gopher", "language", "exact", "tokens"]
