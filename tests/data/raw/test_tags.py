"""The depth of a page is that of the tree that a parser makes of it, and is found in linear time."""

import time

import pytest

from instar.data.raw.tags import deeper_than

PAGES = {
    "nested": ("<div>" * 30 + "x" + "</div>" * 30, 32),
    "one after the other": ("<div></div>" * 500, 3),
    "items that end each other": ("<ul>" + "<li><p>x" * 300, 5),
    "cells that end each other": ("<table>" + "<tr><td>x" * 300, 5),
    "options": ("<select>" + "<option>x" * 300, 4),
    "lists in lists": ("<ul><li>" * 40 + "x", 82),
    "paragraphs that blocks end": ("<p><div>x</div>" * 300, 3),
    "links that end each other": ("<p>" + "<a href=x>y" * 300, 4),
    "tags left open inside what ends": ("<div><b><i>x</div>" * 300, 5),
    "ends without a start": ("</b></i></div>" * 100 + "<div>" * 20 + "</span>" * 100, 22),
    "ends that reach no farther than a cell": ("<b><table><tr><td></b>" * 20 + "x", 82),
    "what holds no markup": ("<script>" + "<div>" * 300 + "</script><!-- " + "<div>" * 300 + " --><p>x", 3),
    "no ends": ("<br><img src=x><hr>" * 300 + "<svg/>" * 300, 3),
    "large letters": ("<DIV>" * 30 + "</div>" * 29 + "<SCRIPT><div></Script><div><div>", 33),
}  # fmt: skip


def depth(html):
    return next(most for most in range(1000) if not deeper_than(html, most))


@pytest.mark.parametrize("name", PAGES)
def test_the_depth_is_that_of_the_tree(name):
    """lxml's tree of the page, which the numbers above agree with, is as deep."""
    html, wanted = PAGES[name]
    html = f"<html><body>{html}"
    assert abs(depth(html) - wanted) <= 1
    lxml = pytest.importorskip("lxml.html")
    tree = lxml.document_fromstring(html, lxml.HTMLParser(huge_tree=True, remove_comments=True))
    deepest = max(sum(1 for _ in element.iterancestors()) + 1 for element in tree.iter())
    assert abs(depth(html) - deepest) <= 1


HOSTILE = {
    "open tags": "<div>" * 200_000, "signs": "<" * 1_000_000, "comments": "<!--" * 250_000,
    "scripts": "<script>" * 120_000,
    "scripts of two kinds": "<script></style>" * 60_000, "attributes": "<div " + "a " * 500_000,
    "ends": "<b>" * 500 + "</div>" * 150_000 + "<p></p>" * 100,
    "quotes": "<a href='" * 110_000, "closed": "<b></b>" * 140_000,
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_megabyte_of_anything_is_passed_in_time(name):
    """What is quadratic in one of these would take minutes."""
    started = time.process_time()
    assert deeper_than(HOSTILE[name], 512) == (name == "open tags")
    assert time.process_time() - started < 3
