"""Evaluation text in documents."""

import json
import random
import unicodedata

import pytest

from instar.config import InputError
from instar.config.data import DataRecipe, EvaluationTextOptions, read_data_recipe
from instar.data.refine import characters, evaluation
from instar.data.refine.evaluation import Index, build_index, cut, merged, rule, texts_of
from instar.data.refine.windows import Sums, words_of

LONG = (
    "An astronomer observes that a planet rotates faster after a meteorite impact, so which of the effects that follow "
    "from this increase in rotation is the most likely one that she will see?"
)
CHOICES = ["Planetary density will quickly decrease.", "Its days become shorter", "No."]
HAN = "肉牛屠宰后，胴体的哪个部位肉质较好"
PASSAGE = (
    "牛的发情周期平均为二十一天，而常见家畜中输精管不形成输精管壶腹的是哪一种动物，请在以下四个选项中选出正确答案。"
)
ROWS = [
    {"query": LONG, "choices": CHOICES, "gold": 1, "subject": "astronomy of the planets and their stars"},
    {"query": HAN},
]
ROWS += [
    {"context": PASSAGE, "continuation": "猪"},
    {"query": "Question: What island country is ferret popular?\nChoices:\nA. home\nB. out"},
]
DRAW = random.Random(0)
VOCABULARY = ["".join(DRAW.choices("abcdefghijklmnop", k=DRAW.randrange(2, 9))) for _ in range(3000)]
SIGNS = [chr(DRAW.randrange(0x4E00, 0x9000)) for _ in range(3000)]


def clean(size=400, han=False, seed=1):
    """Words without sense."""
    draw = random.Random(seed)
    return "".join(draw.choices(SIGNS, k=size)) if han else " ".join(draw.choices(VOCABULARY, k=size))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Makes the rule on rows of two files."""

    def make(rows=ROWS, **options):
        work = tmp_path_factory.mktemp("evaluation")
        for name, some in (("a.jsonl", rows[:1]), ("b.jsonl", rows[1:])):
            (work / name).write_text("".join(json.dumps(row) + "\n" for row in some), encoding="utf-8")
        asked = EvaluationTextOptions(data=(str(work / "*.jsonl"),), **options)
        build_index(asked, work)
        recipe = DataRecipe(evaluation=asked)
        return rule(recipe, None, work)

    return make


@pytest.fixture(scope="module")
def usual(made):
    return made()


def spans(judge, text):
    return merged((one.start, one.stop) for one in judge.index.find(text))


def planted(line, han=False):
    """(text, start, stop): a line somewhere in a text."""
    before, after = clean(300, han, 1), clean(300, han, 2)
    gap = "" if han else " "
    return before + gap + line + gap + after, len(before + gap), len(before + gap + line)


WAYS = {
    "as it is": lambda line: line,
    "capitals": str.upper,
    "no punctuation": lambda line: "".join(" " if unicodedata.category(one)[0] == "P" else one for one in line),
    "lines": lambda line: line.replace(" ", "\n> "),
    "every sign apart": lambda line: "\n".join(line) if line[0] > "z" else line.replace(" ", " \t *"),
    "full width": lambda line: "".join(chr(ord(one) + 0xFEE0) if "!" <= one <= "~" else one for one in line),
    "accents": lambda line: line.replace("e", "é").replace("a", "a\u0301"),
    "unseen signs": lambda line: "\u200b".join(line),
    "hyphens at line ends": lambda line: line.replace("tion", "-\n   tion").replace("eff", "ef-\r\nf"),
    "blanks for signs": lambda line: "".join(one if one.isalnum() else " " for one in line),
    "json": lambda line: json.dumps({"q": line.replace(" ", "\n")}, ensure_ascii=False),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("line", [LONG, CHOICES[0], HAN, PASSAGE])
def test_planted_lines_are_found(usual, line, way):
    """English and Chinese, long and short, in any writing, in the middle of a text: found whole, and it alone."""
    text, start, stop = planted(WAYS[way](line), line in (HAN, PASSAGE))
    (found,) = spans(usual, text)
    inside = text[slice(*found)]
    assert start <= found[0] < found[1] <= stop
    assert len(words_of(inside)) == len(words_of(line))


@pytest.mark.parametrize("place", [0, 37, 388, 400])
def test_a_line_is_found_wherever_it_stands(usual, place, monkeypatch):
    """At the beginning, the end, and across the parts in which a long text is looked at, of whatever length."""
    words = clean(400).split()
    text = " ".join([*words[:place], LONG, *words[place:]])
    whole = spans(usual, text)
    assert len(whole) == 1
    for size in (50, 120, 333, 1000):
        monkeypatch.setattr(evaluation, "BLOCK", 10)
        monkeypatch.setattr(characters.blocks, "__defaults__", (size,))
        assert spans(usual, text) == whole
        assert spans(usual, text.replace("rotation", "rota-\n tion"))[0][0] == whole[0][0]


JOINED = "The dog's owner of a middle- and high-income well-known family won't move"


@pytest.mark.parametrize("way", WAYS)
def test_marks_inside_words(made, way):
    """Story: real questions with dog's and middle- and high-income were missed where signs had become blanks or wide,
    stood beside unseen ones, or the hyphen ended a line."""
    judge = made([{"q": JOINED}, {"q": "\\rightarrow and \\nabla and \\times are signs"}])
    assert spans(judge, planted(WAYS[way](JOINED))[0])
    assert spans(judge, planted(WAYS[way]("\\rightarrow and \\nabla and \\times are signs"))[0])
    assert judge.index.texts == 2


def test_any_run_of_thirteen_words_is_found(usual):
    """13 words out of a long text are found, 12 are not; of Chinese 20 characters and 19."""
    words = LONG.split()
    for start in range(len(words) - 13):
        assert spans(usual, clean() + " " + " ".join(words[start : start + 13]) + " " + clean())
        assert not spans(usual, clean() + " " + " ".join(words[start : start + 12]) + " " + clean())
    signs = [one for one in PASSAGE if one not in "，。"]
    for start in range(0, len(signs) - 20, 5):
        assert spans(usual, clean(han=True) + "".join(signs[start : start + 20]) + clean(han=True))
        assert not spans(usual, clean(han=True) + "".join(signs[start : start + 19]) + clean(han=True))


def test_short_texts_are_found_as_a_whole(usual):
    """A choice of five words is found, with one missing or one between it is not; single words are not looked for."""
    assert spans(usual, f"{clean()} planetary density will quickly decrease {clean()}")
    for changed in (
        "planetary density will decrease",
        "planetary density will very quickly decrease",
        "density will quickly decrease",
    ):
        assert not spans(usual, f"{clean()} {changed} {clean()}")
    assert (usual.index.texts, usual.index.short) == (9, 3)  # "Its days become shorter", "No.", 猪
    assert not spans(usual, "no. " * 50)


def test_a_question_in_a_template_is_found_alone(usual):
    """Data sets write "Question: ...\\nChoices: ..."; who leaks the question leaves that out."""
    assert spans(usual, f"{clean()} What island country is ferret popular? {clean()}")
    assert not spans(usual, f"{clean()} Choices: A. home B. out {clean()}")


def test_names_and_addresses_are_not_looked_for(usual):
    """The subject of a row stands in many texts; a field that is named is looked for alone."""
    subject = f"{clean()} {ROWS[0]['subject']} {clean()}"
    assert not spans(usual, subject)


def test_fields_that_are_named(made):
    """Only they are looked for, and one that no row has is an error."""
    chosen = made(fields=("subject",))
    assert spans(chosen, f"{clean()} {ROWS[0]['subject']} {clean()}")
    assert not spans(chosen, f"{clean()} {LONG} {clean()}")
    with pytest.raises(InputError, match="no row has topics"):
        made(fields=("query", "topics"))


def test_texts_of_rows_of_any_shape():
    """Strings wherever they stand, in order, without what only names or numbers the row."""
    row = {
        "id": "x1",
        "q": "a",
        "choices": {"text": ["b", "c"], "label": ["A", "B"]},
        "n": 3,
        "turns": [{"content": "d"}],
        "url": "u",
    }
    assert list(texts_of(row)) == ["a", "b", "c", "d"]
    assert list(texts_of(row, ("url", "q"))) == ["u", "a"]
    assert list(texts_of({"q": "Passage: p\nQuestion: is it so?\n问题：对吗？"})) == [
        "Passage: p\nQuestion: is it so?\n问题：对吗？",
        "is it so?",
        "对吗？",
    ]


def test_rows_of_numbers_are_not_looked_for(made):
    """1, 2, 3, ... stands in any text about programs; a list of words is looked for."""
    numbers = "Count: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16"
    judge = made([{"q": numbers, "test": "one two three four five six"}, {"q": "ok"}])
    assert not spans(judge, f"{clean()} {numbers} {clean()}")
    assert spans(judge, f"{clean()} One, two, three, four, five, six {clean()}")
    assert judge.index.short == 2


def test_nothing_to_look_for_is_an_error(made):
    """Evaluation text of which all is too short would protect nothing."""
    with pytest.raises(InputError, match="of 2 texts none has 5 words or 8 characters of Han"):
        made([{"q": "yes"}, {"q": "no"}])


def test_a_cut_document(usual):
    """The line and 200 characters on both sides go, words stay whole, and the verdict names file, row and words."""
    before, after = clean(300, seed=3), clean(300, seed=4)
    verdict = usual(f"{before}\n{LONG}\n{after}", {})
    first, last = verdict.text.split("\n\n")
    assert before.startswith(first + " ")
    assert after.endswith(" " + last)
    assert 190 <= len(before) - len(first) <= 215
    assert 190 <= len(after) - len(last) <= 215
    assert (verdict.reason, verdict.count) == ("cut", 1)
    assert "a.jsonl, row 1:" in verdict.detail
    assert '"An astronomer observes' in verdict.detail
    again = usual(verdict.text, {})
    assert (again.text, again.reason) == (verdict.text, "")


def test_pieces_that_are_too_short_go(usual):
    """Between two places 199 characters are not worth keeping, 200 are."""
    for size, count in ((199, 2), (200, 3)):
        middle = "," * 200 + "字" * size + "," * 200
        verdict = usual(f"{clean()}\n{HAN}{middle}{HAN}\n{clean(seed=2)}", {})
        assert (verdict.count, len(verdict.text.split("\n\n"))) == (2, count)


def test_documents_that_are_dropped(usual, made):
    """Nothing of 200 characters left, more than ten pieces, or the recipe says so: the document goes."""
    assert usual(f"{clean(30)} {HAN} {clean(30)}", {}).text is None
    eleven = f" {HAN} ".join(clean(120, seed=n) for n in range(11))
    verdict = usual(eleven, {})
    assert (verdict.text, verdict.reason) == (None, "contaminated")
    assert "b.jsonl, row 1" in verdict.detail
    assert "in 11 pieces, at most 10 wanted" in verdict.detail
    ten = usual(f" {HAN} ".join(clean(120, seed=n) for n in range(10)), {})
    assert (ten.reason, ten.count) == ("cut", 9)
    drops = made(action="drop")
    assert drops(f"{clean()} {HAN} {clean()}", {}).reason == "contaminated"
    assert drops(clean(), {}).text == clean()


def test_cut_and_merge():
    """Places that touch are one; a piece loses the word that a cut broke, and a Chinese one loses nothing more."""
    assert merged([(0, 5), (3, 9), (9, 10), (12, 13)]) == [(0, 10), (12, 13)]
    assert merged([(10, 20), (25, 30)], 3) == [(7, 33)]
    text = "word " * 60 + "x " + "more " * 60
    assert cut(text, [(300, 301)]) == [("word " * 20).strip(), ("more " * 20).strip()]
    assert cut(text, [(301, 302)]) == [("word " * 20).strip(), ("more " * 19).strip()]
    assert cut("字" * 1000, [(400, 410)]) == ["字" * 200, "字" * 390]
    assert cut("字" * 100, [(0, 100)]) == []


def test_words_are_at_their_places():
    """Each word's span in the text as it was given, also behind letters that stand for several and unseen signs."""
    text = "The ﬁrst “co-\n operation’s” \u200bof １２ ÄPFEL½ 漢字か、⼀ e\u0301t x_y"
    words = words_of(text)
    assert [text[start:stop] for start, stop in zip(words.starts, words.stops)] == [
        "The", "ﬁrst", "co-\n operation’s", "of", "１２", "ÄPFEL½", "½", "漢", "字", "か", "⼀", "e\u0301t", "x", "y",
    ]  # fmt: skip
    plain = words_of("the first cooperations of 12 apfel1⁄2 漢 字 か 一 et x_y")
    assert words.hashes[:5].tolist() == plain.hashes[:5].tolist()
    assert words.hashes[-7:].tolist() == plain.hashes[-7:].tolist()
    assert len(words_of("")) == len(words_of(" ,.\n")) == 0


def test_hashes_of_runs_depend_on_order_and_length():
    """Runs of the same words are the same wherever they stand; in another order, or shorter, they are others."""
    sums = Sums(words_of("a b c a b c b a c").hashes)
    pairs, threes = sums.windows(2).tolist(), sums.windows(3).tolist()
    assert pairs[0] == pairs[3]
    assert pairs[1] == pairs[4]
    assert len(set(pairs)) == 6
    assert threes[0] == threes[3]
    assert len(set(threes)) == 6
    assert not set(pairs) & set(threes)
    assert sums.windows(20).tolist() == []
    ab, ba, a = (words_of(one).hashes.tolist() for one in ("ab", "ba", "a"))
    assert len({*ab, *ba, *a}) == 3


def test_the_index_is_the_same_again(made, tmp_path):
    """Built twice it has the same bytes, and a worker that opens it copies nothing."""
    folders = [made().folder, made().folder]
    for name in ("keys", "origins", "anchors"):
        one, other = ((folder / name).read_bytes() for folder in folders)
        assert one == other
    index = Index.load(folders[0])
    assert not index.keys.flags.owndata
    assert (index.keys[1:] > index.keys[:-1]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ngram": 0}, "evaluation.ngram=0, wanted more than 0"),
        ({"shortest": 14}, "evaluation.shortest=14 is more than evaluation.ngram=13"),
        ({"shortest_han": 21}, "evaluation.shortest_han=21 is more than evaluation.ngram_han=20"),
        ({"action": "hide"}, "hide"),
    ],
)
def test_options_that_cannot_be(options, message):
    """Said before a file is looked at."""
    with pytest.raises(InputError, match=message):
        read_data_recipe({"sources": [{"data": ["a"]}], "evaluation": options})


def test_clean_text_stays(usual):
    """A text of the same words as the evaluation text, in another order, is left as it is."""
    words = LONG.lower().replace(",", "").replace("?", "").split() * 20
    random.Random(0).shuffle(words)
    text = " ".join(words) + "".join(random.Random(1).sample(list(PASSAGE * 20), 900))
    assert usual(text, {}).text is text


@pytest.mark.slow
def test_real_lines_in_real_text(shared, tmp_path):
    """Every line of three real evaluation sets is found in real text, English and Chinese, and in less than one
    document of a hundred of that text anything is found before."""
    files = [shared / "eval" / name for name in ("arc_easy.jsonl", "hellaswag.jsonl", "cmmlu.jsonl")]
    index = build_index(EvaluationTextOptions(data=tuple(map(str, files))), tmp_path)
    carriers = {}
    for han, name in ((False, "en/wikitext2.valid.txt"), (True, "zh/books/xiyouji.txt")):
        text = (shared / "pretrain" / name).read_text(encoding="utf-8")
        carriers[han] = [text[n : n + 2000] for n in range(0, 400000, 2000)]
        assert sum(bool(index.find(one)) for one in carriers[han]) <= 2
    lines = [
        json.loads(line)["query"] for file in files for line in file.read_text(encoding="utf-8").splitlines()[:400]
    ]
    looked = 0
    for number, line in enumerate(lines):
        words = words_of(line)
        han = 2 * int(words.alone.sum()) > len(words)
        if len(words) >= (8 if han else 5):
            carrier = carriers[han][number % 200]
            looked += 1
            assert index.find(carrier[:700] + "\n" + line + "\n" + carrier[700:]), line
    assert looked > 1000
