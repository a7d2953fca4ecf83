"""The page of traps, in both languages, and the folder of tests name the same traps."""

import importlib.util
from pathlib import Path

import pytest

HOME = Path(__file__).parent
spec = importlib.util.spec_from_file_location("scoreboard", HOME / "traps" / "scoreboard.py")
assert spec is not None
assert spec.loader is not None
scoreboard = importlib.util.module_from_spec(spec)
spec.loader.exec_module(scoreboard)


@pytest.mark.parametrize("page", ["traps.md", "traps.zh.md"])
def test_the_page_lists_every_trap_that_has_a_test(page):
    """No test without a line that tells its story, no line without a test."""
    tested = {scoreboard.trap_of(path.name) for path in (HOME / "traps").glob("test_*.py")}
    assert set(scoreboard.listed(scoreboard.PAGE.with_name(page))) == tested


def test_both_languages_name_the_same_threads():
    """The pages differ in words alone."""
    pages = [scoreboard.listed(scoreboard.PAGE.with_name(page)) for page in ("traps.md", "traps.zh.md")]
    assert [(trap, thread) for trap, (_, thread) in pages[0].items()] == [
        (trap, thread) for trap, (_, thread) in pages[1].items()
    ]


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [([], "NO TEST"), (["passed", "failed"], "FAIL"), (["skipped", "passed"], "pass"), (["skipped"], "skipped")],
)
def test_one_failure_fails_a_trap(outcomes, verdict):
    """A trap of which nothing ran has no test, and one that is skipped in part is kept out by the rest."""
    tally = scoreboard.Tally()
    tally.outcomes["1"] = outcomes
    assert tally.verdict("1") == verdict
