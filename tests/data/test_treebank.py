"""Treebanks in CoNLL-U: words with their heads, and where each stands in the text."""

import gzip

import pytest

from instar.config import InputError
from instar.data.treebank import read_treebank

DOG = """# sent_id = 1
# text = Dogs don't bite.
1\tDogs\tdog\tNOUN\t_\t_\t4\tnsubj\t_\t_
2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdo\tdo\tAUX\t_\t_\t4\taux\t_\t_
3\tn't\tnot\tPART\t_\t_\t4\tadvmod\t_\t_
4\tbite\tbite\tVERB\t_\t_\t0\troot\t_\tSpaceAfter=No
4.1\tpeople\t_\tNOUN\t_\t_\t_\t_\t4:obj\t_
5\t.\t.\tPUNCT\t_\t_\t4\tpunct\t_\t_

"""


def written(tmp_path, text, name="t.conllu"):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def test_words_with_their_heads_and_places(tmp_path):
    """Contractions are two words, words that nobody wrote are left out, and every word is found in the text."""
    (found,) = read_treebank(written(tmp_path, DOG))
    assert found.words == ("Dogs", "do", "n't", "bite", ".")
    assert found.heads == (3, 3, 3, -1, 3)
    assert found.relations == ("nsubj", "aux", "advmod", "root", "punct")
    assert found.classes[3] == "VERB"
    assert [found.text[start:end] for start, end in found.places] == list(found.words)


def test_a_text_is_made_of_the_words_where_none_is_said(tmp_path):
    """SpaceAfter=No leaves out a blank; Chinese has none; the last sentence needs no empty line behind it."""
    dog = DOG.replace("# text = Dogs don't bite.\n", "")
    dog += "1\t狗\t_\tNOUN\t_\t_\t2\tnsubj\t_\tSpaceAfter=No\n2\t叫\t_\tVERB\t_\t_\t0\troot\t_\t_\n"
    one, other = read_treebank(written(tmp_path, dog, "t.conllu.gz"))
    assert one.text == "Dogs don't bite."
    assert (other.text, other.places) == ("狗叫", ((0, 1), (1, 2)))


def test_words_that_a_contraction_does_not_spell_share_its_place(tmp_path):
    """French "du" is "de" and "le", each where "du" stands."""
    text = "1-2\tdu\t_\t_\t_\t_\t_\t_\t_\t_\n1\tde\t_\tADP\t_\t_\t2\tcase\t_\t_\n2\tle\t_\tDET\t_\t_\t0\troot\t_\t_\n"
    (found,) = read_treebank(written(tmp_path, text))
    assert found.places == ((0, 2), (0, 2))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("\t4\tnsubj", "\tx\tnsubj", "line 3: the head is 'x'"),
        ("\t4\tnsubj", "\t9\tnsubj", "depends on word 9, and has 5"),
        ("5\t.", "6\t.", "line 9: found word 6, wanted 5"),
        ("\t4\tpunct\t_\t_", "\t4\tpunct\t_", "line 9: found 9 fields"),
        ("Dogs don't", "Dogs do", "the text goes on with 'do bite.', and the words with \"don't\""),
        ("bite.\n", "bite. Ever\n", "the words end before 'Ever'"),
        ("\t0\troot", "\t1\troot", "has no root"),
        ("\t4\tnsubj", "\t0\tnsubj", "has 2 roots"),
        ("\t4\tnsubj", "\t1\tnsubj", "word 1 depends on itself"),
        (
            "\t4\taux\t_\t_\n3\tn't\tnot\tPART\t_\t_\t4\tadvmod",
            "\t3\taux\t_\t_\n3\tn't\tnot\tPART\t_\t_\t2\tadvmod",
            "word 2 depends on itself",
        ),
        ("2-3", "2-9", "a contraction ends with word 9, of 5"),
        ("2-3", "2-1", "the lower number first"),
        ("5\t.\t.", "5\t\t.", "word 5 is empty"),
    ],
)
def test_what_is_no_treebank_is_told_with_its_line(tmp_path, old, new, says):
    """Each mistake names the file and the line, and what was wanted."""
    with pytest.raises(InputError) as told:
        list(read_treebank(written(tmp_path, DOG.replace(old, new, 1))))
    assert says in str(told.value)


def test_a_broken_file_is_told(tmp_path):
    """A file that is missing, and one that ends too early, as a download may."""
    with pytest.raises(InputError, match="no such file"):
        list(read_treebank(tmp_path / "t.conllu"))
    with pytest.raises(InputError, match="has no sentence"):
        list(read_treebank(written(tmp_path, "\n\n", "empty.conllu")))
    path = written(tmp_path, DOG, "t.conllu.gz")
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(InputError, match="whole"):
        list(read_treebank(path))


@pytest.mark.parametrize("name", ["en_ewt-ud-dev", "zh_gsdsimp-ud-dev"])
def test_real_treebanks_are_read_to_the_last_word(shared, name):
    """Universal Dependencies: every word stands where it is said to, and every sentence has one root."""
    found = list(read_treebank(shared / "syntax" / f"{name}.conllu"))
    assert len(found) == {"en_ewt-ud-dev": 2001, "zh_gsdsimp-ud-dev": 500}[name]
    for sentence in found:
        assert [sentence.text[start:end] for start, end in sentence.places] == list(sentence.words)
        assert sentence.heads.count(-1) == 1
