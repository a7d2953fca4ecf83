"""Precision, recall and F1 against figures worked out by hand."""

import pytest

from instar.config import InputError
from instar.eval.classes import class_report, prf


def test_two_classes():
    """Wanted 1 1 1 0 0 0 0 0, said 1 1 0 1 0 0 0 0. Class 1: 2 of 3 said are right and 2 of 3 wanted are found, F1 2/3;
    class 0: 4 of 5 and 4 of 5, F1 4/5. F1 is class 1's, the mean (2/3 + 4/5) / 2 = 11/15."""
    found = class_report([1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 0, 1, 0, 0, 0, 0], ["bad", "good"])
    assert (found["records"], found["accuracy"], found["majority"]) == (8, 0.75, 0.625)
    assert (found["f1"], found["f1_of"]) == (pytest.approx(2 / 3), "good")
    assert found["macro_f1"] == pytest.approx(11 / 15)
    assert found["classes"]["bad"] == {"precision": 0.8, "recall": 0.8, "f1": pytest.approx(0.8), "support": 5}


def test_four_classes():
    """Wanted a a b b c, said a b b b d. a: precision 1, recall 1/2, F1 2/3; b: 2/3, 1, F1 4/5; c is wanted and never
    said, d said and never wanted: F1 0. The mean over the four is (2/3 + 4/5) / 4 = 11/30."""
    found = class_report([0, 0, 1, 1, 2], [0, 1, 1, 1, 3], "abcde")
    assert found["accuracy"] == 0.6
    assert found["macro_f1"] == found["f1"] == pytest.approx(11 / 30)
    assert found["f1_of"] == "mean of classes"
    assert set(found["classes"]) == set("abcd")  # e was neither wanted nor said
    assert found["classes"]["a"] == {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2}
    assert found["classes"]["d"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}


def test_a_class_that_never_comes():
    """Of two classes, the second neither wanted nor said: its F1 is 0, and the mean is over the other."""
    found = class_report([0, 0], [0, 0], ["no", "yes"])
    assert (found["accuracy"], found["f1"], found["macro_f1"]) == (1.0, 0.0, 1.0)


def test_nothing_to_count():
    """An error, not a score; a single ratio without anything is 0."""
    with pytest.raises(InputError, match="no answers to count"):
        class_report([], [], ["no", "yes"])
    assert prf(0, 0, 0) == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}


def test_prf_as_documented():
    """The example of the docstring."""
    found = {name: round(value, 3) for name, value in prf(2, 4, 3).items()}
    assert found == {"precision": 0.5, "recall": 0.667, "f1": 0.571, "support": 3}
