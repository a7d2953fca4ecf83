"""Rule "c4"."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("datatrove")
from datatrove.data import Document
from datatrove.pipeline.filters import C4QualityFilter

from instar.config.data import QualityOptions
from instar.data.refine.lines import CHINESE, ENGLISH, Lines, sift
from instar.data.refine.words import Words

DATA = Path(__file__).parents[3] / "data"
OPTIONS = QualityOptions()
LOOSE = replace(OPTIONS.en, min_sentences=1)
PROSE = "He went home early.\nNobody saw him on the road.\nIt was late. The door stood open! Who had come?\n"


def ours(text, **options):
    return sift(text, replace(OPTIONS.en, **options), ENGLISH)


def theirs(text, punctuation):
    document = Document(text=text, id="")
    kept = C4QualityFilter(filter_no_terminal_punct=punctuation, language=Words()).filter(document)
    return document.text if kept is True else None


PIECES = [
    *PROSE.splitlines(), "Home", "About us", "Please enable JavaScript to go on.", "We use cookies on this page.",
    "Our privacy policy has changed today.", "x" * 1001 + " is long.", "It is known.[12] It is not.[citation needed]",
    "and so on...", "  Indented words stay here.  ", "", "", "He said \"go\"", "two words.", "Read more about it",
    "Known [12] fact.", "tabs\tbetween the\twords.", "vertical\x0btab splits lines.", "Title [edit]",
]  # fmt: skip
DEADLY = ["Lorem ipsum dolor sit.", "function() { return x }"]


@pytest.mark.parametrize("punctuation", [True, False])
def test_english_is_sifted_as_by_datatrove(punctuation):
    """Made pages of good and bad lines: equal verdict and equal text, with open lines and without."""
    rng = random.Random(0)
    for _ in range(400):
        page = "\n".join(rng.choices(PIECES, k=rng.randint(1, 14)) + rng.choices(DEADLY, k=rng.random() < 0.1))
        assert ours(page, end_punctuation=punctuation, keep_layout=False).text == theirs(page, punctuation), page


@pytest.mark.skipif(not DATA.exists(), reason="the real data is not here")
@pytest.mark.parametrize("punctuation", [True, False])
def test_real_articles_are_sifted_as_by_datatrove(punctuation):
    """The same on real articles and speeches; with layout kept, the lines are the same ones."""
    rows = [*(DATA / "web/aeb/ground_truth.jsonl").open(encoding="utf-8")][:80]
    texts = [json.loads(row)["article_body"] for row in rows]
    texts += [part for row in [*(DATA / "pretrain/en/speeches.jsonl").open(encoding="utf-8")][:2] for part in
              json.loads(row)["text"].split("\n\n")]  # fmt: skip
    texts += (DATA / "pretrain/en/wikitext2.valid.txt").read_text(encoding="utf-8").split("\n")[:300]
    assert len(texts) > 300
    for text in texts:
        wanted = theirs(text, punctuation)
        assert ours(text, end_punctuation=punctuation, keep_layout=False).text == wanted
        kept = ours(text, end_punctuation=punctuation).text
        assert (kept is None) == (wanted is None)
        assert kept is None or [line.strip() for line in kept.splitlines() if line.strip()] == [
            line.strip() for line in wanted.splitlines()
        ]


def test_layout_stays():
    """Indentation and gaps between paragraphs are text; a gap on both sides of a line that went becomes one."""
    page = "First line is here.\n\n    It is indented here.\n\nHome\n\n\nThe last one of all.\nOne. Two. Three. Four."
    assert ours(page, min_line_words=3).text == page.replace("Home\n\n\n", "\n")
    plain = "  " + PROSE.replace("\n", "\n\n")
    assert ours(plain).text == plain
    assert ours(plain).reason == ""


def test_the_verdict_says_which_lines_went():
    """Counted by reason, and a dropped document says how many sentences were left."""
    verdict = ours(PROSE + "Home\nAbout\nWe use cookies here.\nKnown fact.[3] Yes it is.")
    assert verdict.reason == "lines"
    assert verdict.count == 4
    assert verdict.detail == "short: 2, policy: 1, citation: 1"
    verdict = ours("Home\nAbout\nOne line is left.")
    assert verdict.text is None
    assert verdict.reason == "few_sentences"
    assert verdict.detail == "1 sentences in the lines that stay, at least 5 wanted; lines out: short: 2"
    assert ours(PROSE + "var x = {1} or so.").reason == "curly_bracket"
    assert "lorem ipsum" in ours(PROSE + "Lorem ipsum dolor sit.").detail
    assert ours(PROSE + "var x = {1} or so.", curly_brackets=False).text


PAGE = (
    "这是一篇很好的文章，讲的是海边的老人。\n他每天都到海上去，可是什么也没有捕到……\n"
    "“我们明天再去吧！”\n孩子问：“为什么呢？”"
)
NOISE = ["首页", "关于我们", "版权所有 © 2024 某某公司保留", "请阅读我们的隐私政策和用户协议。",
         "京ICP备12345678号-1，本站声明",
         "请启用JavaScript后继续浏览本页。", "扫码关注我们的微信公众号，有惊喜。",
         "责任编辑：王小明和李小红"]  # fmt: skip


def test_chinese_pages_lose_their_menus_and_notices():
    """Words are characters, sentences end in 。！？, and the phrases of Chinese pages are known."""
    rule = Lines(OPTIONS)
    verdict = rule("\n".join([*NOISE[:4], PAGE, *NOISE[4:]]), {"language": "zh"})
    assert verdict.text == PAGE
    assert verdict.count == len(NOISE)
    assert verdict.detail == "policy: 5, short: 2, javascript: 1"
    assert rule(PAGE, {}).reason == ""
    assert rule("\n".join(NOISE), {"language": "zh"}).reason == "few_sentences"


def test_a_chinese_paragraph_is_no_long_word():
    """datatrove drops a paragraph of a thousand characters as one word, and knows no Chinese full stop."""
    text = "他每天都到海上去，什么也没有捕到。" * 80
    assert theirs(text, False) is None
    assert sift(text, OPTIONS.zh, CHINESE).text == text
    strict = replace(OPTIONS.zh, end_punctuation=True)
    assert sift(PAGE.replace("……", "。"), strict, CHINESE).reason == ""
    assert sift(PAGE + "\n没有标点的一行字在这里", strict, CHINESE).text == PAGE.replace(
        "\n他每天都到海上去，可是什么也没有捕到……", ""
    )
    assert sift("x" * 1001 + "是一个很长的词。\n" + PAGE, OPTIONS.zh, CHINESE).text == PAGE
