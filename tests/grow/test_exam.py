"""What an exam makes of answers."""

from instar.eval.exact import Asked
from instar.grow import exam
from instar.grow.picture import smooth


def answered(kind, threads, right, lang="en"):
    groups = {"kind": kind, "threads": str(threads), "lang": lang}
    return Asked([{"role": "user", "content": "?"}], "a", "a" if right else "b", True, groups)


def test_threads_are_counted_over_the_kinds_that_count():
    """Two-hop and unknown stand in rows of their own and do not colour the rows of threads."""
    asked = [answered("who", 3, True), answered("where", 3, False), answered("two-hop", 2, True)]
    scores = exam._beside(asked)["en"]
    assert set(scores) == {"3 threads", "two-hop"}
    assert scores["3 threads"]["questions"] == 2
    assert scores["3 threads"]["exact"] == 0.5
    assert scores["two-hop"]["exact"] == 1.0


def test_shares_are_turned_to_language_kind_control():
    """The controls of a language and kind stand together."""
    scores = {"majority": {"en": {"who": {"exact": 0.25}}}, "blind": {"en": {"who": {"exact": 0.5}}}}
    assert exam._shares(scores) == {"en": {"who": {"majority": 0.25, "blind": 0.5}}}


def test_smoothing_keeps_a_constant_and_has_no_start_up():
    """The drawn mean of a constant is that constant from its first value on."""
    assert all(abs(value - 3.0) < 1e-12 for value in smooth([3.0] * 50))
