"""Entities of IO and BIO tags, and their F1 against figures worked out by hand."""

import pytest

from instar.config import InputError
from instar.eval.entities import entity_report, is_tagging, spans


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [
        ("B-PER I-PER O I-LOC", [("PER", 0, 2), ("LOC", 3, 4)]),
        ("I-PER I-PER I-LOC O", [("PER", 0, 2), ("LOC", 2, 3)]),
        ("B-PER B-PER I-PER", [("PER", 0, 1), ("PER", 1, 3)]),
        ("B-PER I-LOC I-LOC", [("PER", 0, 1), ("LOC", 1, 3)]),
        ("I-PER B-PER", [("PER", 0, 1), ("PER", 1, 2)]),
        ("O O", []),
        ("", []),
        ("O B-PER.NAM", [("PER.NAM", 1, 2)]),
        ("B-a-b I-a-b I-a", [("a-b", 0, 2), ("a", 2, 3)]),
    ],
)
def test_spans(tags, wanted):
    """A B opens, an I goes on with its kind or opens."""
    assert spans(tags.split()) == wanted


@pytest.mark.parametrize("tag", ["PER", "S-PER", "B-", "", "o"])
def test_no_tag(tag):
    """Another form is named with its place."""
    with pytest.raises(InputError, match=f"tag 1 is '{tag}', wanted O, B-KIND or I-KIND"):
        spans(["O", tag])


def test_entities():
    """Wanted PER(0,2) LOC(3,4) | PER(0,1) PER(2,3), said PER(0,2) PER(3,4) | PER(0,2): one of the three said is right,
    of four wanted one is found: precision 1/3, recall 1/4, F1 2/7. PER: 1 of 3 said, 1 of 3 wanted, F1 1/3; LOC: 0.
    Of seven tags four are equal."""
    gold = ["B-PER I-PER O B-LOC".split(), "B-PER O B-PER".split()]
    said = ["B-PER I-PER O B-PER".split(), "B-PER I-PER O".split()]
    found = entity_report(gold, said)
    assert (found["precision"], found["recall"], found["f1"]) == (1 / 3, 1 / 4, pytest.approx(2 / 7))
    assert found["classes"]["PER"]["f1"] == pytest.approx(1 / 3)
    assert found["classes"]["LOC"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}
    assert found["macro_f1"] == pytest.approx(1 / 6)
    assert (found["records"], found["words"], found["entities"]) == (2, 7, 4)
    assert found["accuracy"] == pytest.approx(4 / 7)


def test_an_end_too_early_is_wrong():
    """Half an entity is none."""
    assert entity_report([["I-PER", "I-PER"]], [["I-PER", "O"]])["f1"] == 0.0


def test_no_entities():
    """Nothing wanted and nothing said: every word right, and no F1 to speak of."""
    found = entity_report([["O", "O"]], [["O", "O"]])
    assert (found["accuracy"], found["f1"], found["macro_f1"], found["classes"]) == (1.0, 0.0, 0.0, {})


def test_which_classes_are_tags():
    """O and tags of it; parts of speech are not."""
    assert is_tagging(["O", "B-PER", "I-PER"])
    assert not is_tagging(["NOUN", "VERB"])
    assert not is_tagging(["B-PER", "I-PER"])
    assert not is_tagging(["O", "P"])
