"""HTML: one file that loads nothing and runs nothing, with every number; and a piece for a notebook."""

import re

import numpy as np

from instar.probe.draw.page import drawing, html_of, page
from instar.probe.panel import Bars, Check, Flow, Heading, Lines, Matrix, Panel, Words

EVIL = "<img src=x onerror=alert(1)>"
POLICY = {
    "http-equiv": "Content-Security-Policy",
    "content": "default-src 'none'; style-src 'unsafe-inline'; img-src data:",
}


def test_one_inert_file(panel, page_of):
    """No script and no image of a token, no attribute that acts, no address but pictures within, no turned text."""
    text = page([panel, panel], "zh")
    read = page_of(text)
    assert not {"script", "img", "iframe", "link rel=stylesheet"} & {tag for tag, _ in read.tags}
    assert ("meta", POLICY) in read.tags
    assert not {name for _, attributes in read.tags for name in attributes if name.startswith("on")}
    targets = [attributes[name] for _, attributes in read.tags for name in ("src", "href") if name in attributes]
    assert all(target.startswith(("data:", "#")) for target in targets)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00]", text)
    assert EVIL in read.text
    assert text == page([panel, panel], "zh")


def test_checks_are_chips_with_their_numbers(panel, page_of):
    """Red ones first, each with what was found and what it may be; the head says how many are red."""
    read = page_of(page([panel]))
    looks = [attributes["class"] for tag, attributes in read.tags if tag == "li" and "title" in attributes]
    assert looks == ["red", "green"]
    assert "✓rowsaddupto12.0e-7≤1.0e-5" in re.sub(r"\s", "", read.text)
    assert "1 of 2 checks are red" in read.text
    green = Panel("v", Words("a", "b"), checks=[Check("c", 0.0, 0.0, Words("c", "c"))])
    assert "1 项检验，全部通过" in page([green], "zh")


def test_both_languages(panel, page_of):
    """Titles, notes and names are in the language, and the page says which."""
    for language, words in (("en", ("Attention", "a routing of information")), ("zh", ("注意力", "信息的路由"))):
        read = page_of(page([panel], language))
        assert ("html", {"lang": language}) in read.tags
        assert all(word in read.text for word in words)


def test_numbers_stand_below_each_picture(figures):
    """Every picture has its numbers as a table; one of too many has none."""
    for kind, figure in figures.items():
        if kind not in ("table", "flow", "atlas"):
            assert drawing(figure)["numbers"]["rows"], kind
    assert drawing(figures["matrix"])["numbers"]["rows"][2] == ["狼", "0.250", "0.250", "0.500", "0", "0", "0"]
    assert drawing(Matrix(Words("", ""), np.zeros((60, 60))))["numbers"] is None


def test_a_piece_of_a_notebook(panel, page_of):
    """No page around it, its own style that reaches nothing else, and everything in it."""
    text = html_of([panel])
    tags = [tag for tag, _ in page_of(text).tags]
    assert tags[0] == "div"
    assert not {"html", "body", "head", "script"} & set(tags)
    style = re.sub(r"@media[^{]*\{", "", text[text.index("<style>") + 7 : text.index("</style>")])
    for selectors in re.findall(r"([^{}]+)\{", style):
        assert all(one.strip().startswith(".instar") for one in selectors.split(",") if one.strip()), selectors


HEADING = Heading(
    "demo/sft", "", Words("decoder", "解码器"), EVIL, tokens=[(7, EVIL), (8, " ball")], options={"layer": 2},
    left_out={"kv": Words("no cache", "没有缓存")},
)  # fmt: skip


def test_the_head_tells_of_what(panel, page_of):
    """Model, every token with its id, options that are not as usual, and at the end what was left out, in the language;
    the pictures come before the checks."""
    text = page([panel], "zh", HEADING)
    read = page_of(text)
    assert all(word in read.text for word in ("demo/sft", "解码器", EVIL, "␣ball", "layer = 2", "没有缓存"))
    assert "1 · id 8" in [attributes.get("title") for _, attributes in read.tags]
    assert "no cache" not in read.text
    assert text.index('class="read"') < text.index('class="figures"') < text.index('class="chips"')
    assert "demo/sft" in html_of([panel], "en", HEADING)


def test_labels_are_of_the_page(page_of):
    """A label that is a word of ours is said in the language of the page, in the picture and in its numbers."""
    word = Words("with the cache", "使用缓存")
    figures = [
        Bars(word, [word], {word: [1.0], "x": [2.0]}), Lines(word, [0], {word: [1.0], "x": [2.0]}),
        Matrix(word, np.ones((1, 1)), [word], [word]), Flow(word, [(word, word)]),
    ]  # fmt: skip
    for language, wanted, other in (("en", *word), ("zh", *word[::-1])):
        for figure in figures:
            text = page([Panel("v", Words("a", "b"), figures=[figure])], language)
            assert text.count(wanted) >= 2
            assert other not in text
