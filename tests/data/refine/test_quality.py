"""Rules "gopher", "repetition" and "fineweb"."""

import re

import pytest

pytest.importorskip("datatrove")
from datatrove.data import Document
from datatrove.pipeline.filters import FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter

from instar.config.data import QualityOptions, Thresholds
from instar.data.refine import quality
from instar.data.refine.quality import PASSAGE, fineweb, gopher, passages, repetition
from instar.data.refine.words import Words

OPTIONS = QualityOptions()
STORY = (
    "The old man had a boat and a net, and he went to the sea with the boy that morning. "
    "They wanted to be alone with the birds, far from the harbour, where water turns green. "
    "When evening came, neither of them had caught anything, but both were glad to have tried.\n"
    "Next week it rained on every single day, so nobody rowed out; instead people mended sails, told long stories, "
    "drank tea with honey and waited. At last wind and clouds left them in peace."
)
ZH = (
    "老人有一条船和一张网，那天早晨他带着孩子到海上去了。他们想离开港口，到海水发绿的地方去看鸟。"
    "到了晚上，两个人什么也没有捕到，可是都很高兴。\n"
    "下一个星期天天下雨，没有人出海；大家补帆，讲长长的故事，喝加了蜂蜜的茶，等着天晴。最后风和云都走了。"
)


def rule(name, **options):
    return quality.quality(name, getattr(quality, name), QualityOptions(**options))


@pytest.mark.parametrize("name", ["gopher", "repetition", "fineweb"])
def test_good_prose_stays(name):
    """English and Chinese prose pass each rule, whether or not their language was found before."""
    for text, language in ((STORY, "en"), (ZH, "zh")):
        for meta in ({"language": language}, {}, {"language": "unknown"}):
            verdict = rule(name)(text, meta)
            assert verdict.text == text, verdict


FLAT = STORY.replace("\n", " ")
SPOILT = {
    ("gopher", "short"): ("Only a few words are here.", "6 words, at least 50 wanted"),
    ("gopher", "long_words"): (STORY.replace("e", "eeeeeeeeeeeee"), "letters a word, at most 10 wanted"),
    ("gopher", "short_words"): (STORY + " a b c d" * 300, "letters a word, at least 3 wanted"),
    ("gopher", "hashes"): (STORY + " #" * 40, "signs # a word, at most 0.1 wanted"),
    ("gopher", "ellipses"): (STORY.replace(",", "...").replace(" a", " ... a"), "ellipses a word, at most 0.1 wanted"),
    ("gopher", "bullets"): ("\n".join(f"- {part}" for part in FLAT.split(",")), "1 of the lines begin with"),
    ("gopher", "open_lines"): (STORY.replace("\n", "...\n").replace("peace.", "peace..."), "1 of the lines end in an"),
    ("gopher", "signs"): (STORY + " 17 = 4 + 13 ;" * 20, "of the words have a letter, at least 0.7 wanted"),
    ("gopher", "stop_words"): (" ".join(["Cheap holidays book flight online now"] * 12), "0 different stop words"),
    ("repetition", "lines"): (STORY + "\nBuy it now and save." * 9, "of the lines are ones that stood before"),
    ("repetition", "paragraphs"): ("\n\n".join([STORY[:100]] * 3 + [STORY]), "0.5 of the paragraphs are ones that"),
    ("repetition", "top_run"): (STORY + " cheap boat" * 15, "are the most frequent run of 2 words, at most 0.2 wanted"),
    ("repetition", "runs"): (
        STORY + " " + STORY[:170],
        "of the characters are runs of 5 words that stood before, at most 0.15 wanted",
    ),
    ("fineweb", "open_lines"): (STORY.replace(".\n", "\n").removesuffix("."), "0 of the lines end in punctuation"),
    ("fineweb", "short_lines"): (re.sub(r"((?:\S+ ){4})", r"\1.\n", STORY), "have at most 30 characters, at most 0.67"),
    ("fineweb", "copied_lines"): (STORY + "\n" + STORY[:60] + ".\n" + STORY[:60] + ".", "at most 0.01 wanted"),
    ("fineweb", "list"): (STORY.replace(" ", ".\n\n\n"), ""),
}  # fmt: skip


@pytest.mark.parametrize(("which", "reason"), SPOILT)
def test_each_reason_names_what_was_found_and_wanted(which, reason):
    """Spoilt in one way, the story is dropped for that, with both values."""
    text, said = SPOILT[which, reason]
    if reason == "list":
        text = "\n\n\n\n".join(part + " which is a line that is long enough." for part in ("One", "Two")) + "\n" * 9
        said = "line breaks a word, at most 0.3 wanted"
    verdict = rule(which)(text, {"language": "en"})
    assert (verdict.text, verdict.reason) == (None, reason), verdict
    assert said in verdict.detail
    assert "wanted" in verdict.detail


def test_a_long_document_is_no_web_page():
    """The most words a page may have are asked of pages alone."""
    limits = Thresholds(max_words=60)
    assert gopher(limits, "en")(STORY) == ("long", "86 words, at most 60 wanted")
    assert gopher(limits, "en", web=False)(STORY) is None


@pytest.mark.parametrize(("make", "judge"), [
    (GopherQualityFilter(max_non_alpha_words_ratio=0.7, language=Words()), gopher),
    (GopherRepetitionFilter(language=Words()), repetition),
    (FineWebQualityFilter(language=Words()), fineweb),
])  # fmt: skip
def test_english_is_judged_as_by_datatrove(make, judge):
    """With the thresholds of English the verdict is that of datatrove's filter, on spoilt texts and the good one."""
    judges = judge(OPTIONS.en, "en")
    for text in (STORY, *(text for text, _ in SPOILT.values())):
        theirs = make.filter(Document(text=text, id=""))
        if len(Words().word_tokenize(text)) >= 50:
            assert (judges(text) is None) == (theirs is True), (text, theirs)


def test_datatrove_alone_would_reject_all_chinese():
    """The trap: its English limits drop Chinese split into characters; the limits for Chinese keep it."""
    judge, text = gopher(OPTIONS.en, "en"), ZH
    assert judge(text)[0] == "short_words"
    assert gopher(OPTIONS.zh, "zh")(text) is None
    menu = "\n".join(["首页", "关于我们", "联系我们", "产品中心", "新闻动态", "招聘信息"] * 20)
    for name, reason in (("gopher", "stop_words"), ("repetition", "lines"), ("fineweb", "open_lines")):
        assert rule(name)(menu, {"language": "zh"}).reason == reason
    assert rule("gopher")("甲乙丙丁。" * 4, {}).detail == "16 words, at least 80 wanted"


def test_other_languages_are_not_asked_for_english_words():
    """German has neither English stop words nor words as short as English."""
    text = "Donaudampfschifffahrtsgesellschaftskapitäne verabschieden Hafenarbeiterinnen. " * 30
    assert rule("gopher")(text, {"language": "de"}).text == text
    assert rule("gopher")(text, {"language": "en"}).reason == "long_words"


def test_a_short_text_is_not_repetitive_for_its_shortness():
    """One line of a poem twice is no spam."""
    poem = "关关雎鸠，在河之洲。窈窕淑女，君子好逑。\n参差荇菜，左右流之。窈窕淑女，寤寐求之。"
    assert rule("repetition")(poem, {"language": "zh"}).text == poem
    assert rule("repetition")("\n".join([poem] * 3), {"language": "zh"}).text is None


def test_a_long_text_is_judged_in_passages(monkeypatch):
    """More than half of a book must be bad for it to go, and its words are never all in memory."""
    monkeypatch.setattr(quality, "PASSAGE", 4 * len(STORY))
    bad = "\n".join(["Buy it now and save."] * 100)
    mixed = "\n".join(STORY.replace(",", f" {n},") for n in range(30))
    assert rule("fineweb")(mixed, {"language": "en"}).text == mixed
    verdict = rule("fineweb")(mixed + "\n" + bad * 20, {"language": "en"})
    assert verdict.reason == "short_lines"
    assert "of its passages, at most 50 % wanted" in verdict.detail
    assert rule("fineweb")(mixed * 3 + "\n" + bad, {"language": "en"}).text


def test_passages_are_the_text():
    """Cut at line breaks where there are any, and nothing is lost."""
    text = ("word " * 30 + "\n") * 5000
    parts = list(passages(text))
    assert "".join(parts) == text
    assert all(len(part) <= PASSAGE and part.endswith("\n") for part in parts)
    assert [len(part) for part in passages("x" * (PASSAGE + 5))] == [PASSAGE, 5]


def test_nothing_is_asked_of_a_limit_of_nothing():
    """A threshold of 0 is off, and blank texts never divide by nothing."""
    off = Thresholds(**{
        name: 0 for name in Thresholds.__dataclass_fields__
        if name not in ("stop_words", "top_runs", "repeated_runs", "end_punctuation", "curly_brackets", "keep_layout")
    }, top_runs=(), repeated_runs=())  # fmt: skip
    for make in (gopher, repetition, fineweb):
        judge = make(off, "en")
        for text in ("x", "- x\n- x\n- x\n\n\n\n...", "1\n1\n1"):
            assert judge(text) is None, (make, judge(text))
        assert rule(make.__name__)(" \n ", {}).reason == "empty"
    assert gopher(off, "en")("... ...") == ("short", "0 words, at least 1 wanted")
