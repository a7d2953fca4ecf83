"""People's own texts: tagged words and treebanks."""

import json

import pytest

from instar.config import InputError
from instar.eval.claims import check
from instar.eval.claims.files import drawn, looked_over, spelt_out, tagged
from instar.eval.claims.verdict import Case


def write(path, *records):
    path.write_text("\n".join(json.dumps(record) for record in records))
    return str(path)


def test_tagged_words_are_a_text_with_places(tmp_path):
    """Blanks stand between words, and none in Chinese; IO and BIO tags are characters of the text; records without an
    entity are none."""
    file = write(
        tmp_path / "a.jsonl",
        {"tokens": ["In", "New", "York", "."], "tags": ["O", "I-LOC", "I-LOC", "O"]},
        {"tokens": ["nothing"], "tags": ["O"]},
        {"tokens": ["我", "在", "北", "京"], "labels": ["O", "O", "B-GPE", "I-GPE"]},
    )
    one, other = tagged(file)
    assert one.text == "In New York ."
    assert [one.text[a:b] for a, b, _ in one.places] == ["New York"]
    assert other.text == "我在北京"
    assert other.places == ((2, 4, "GPE"),)


def test_a_file_that_no_claim_looks_at_is_an_error(tmp_path, case):
    """Before anything is measured: missing, empty, of plain texts; tagged words and treebanks pass."""
    good = write(tmp_path / "a.jsonl", {"tokens": ["a"], "tags": ["O"]})
    tree = tmp_path / "b.conllu"
    tree.write_text("1\ta\t_\tX\t_\t_\t0\troot\t_\t_\n\n")
    looked_over([good, str(tree)])
    with pytest.raises(InputError, match="the keys are text"):
        looked_over([good, write(tmp_path / "c.jsonl", {"text": "a"})])
    (tmp_path / "d.conllu").write_text("")
    with pytest.raises(InputError, match=r"d\.conllu: has no sentence"):
        looked_over([str(tmp_path / "d.conllu")])
    found = case()
    with pytest.raises(InputError, match="no such file"):
        check(Case(found.model, found.tokenizer, data=[str(tmp_path / "none.jsonl")]), [])


def test_what_a_tokenizer_spells(worldly):
    """Words that it has tokens for are known; a language that it never saw is spelt in bytes; blanks and marks do not
    count."""
    assert spelt_out(worldly, ["The ball was in the"]) < 0.2
    assert spelt_out(worldly, ["北京天气"]) > 0.9
    assert spelt_out(worldly, ["... , !"]) == 0.0


def test_texts_are_drawn_by_the_seed():
    """The same seed gives the same ones, another others, each once."""
    items = list(range(100))
    assert drawn(items, 10, 1) == drawn(items, 10, 1) != drawn(items, 10, 2)
    assert len(set(drawn(items, 200, 1))) == 100
