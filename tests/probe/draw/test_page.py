"""HTML: one file that loads nothing and runs nothing, with every number; and a piece for a notebook."""

import re

import numpy as np

from instar.probe.draw.page import drawing, html_of, page
from instar.probe.panel import Check, Matrix, Panel, Words

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
    """Green and red, each with what was found and what it may be; the head says how many are red."""
    read = page_of(page([panel]))
    looks = [attributes["class"] for tag, attributes in read.tags if tag == "li" and "title" in attributes]
    assert looks == ["green", "red"]
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
