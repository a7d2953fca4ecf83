"""SVG: every figure, well-formed, inert whatever its tokens say, in both languages and for both grounds."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from instar.probe.draw.canvas import style
from instar.probe.draw.svg import DRAWERS, inline, svg
from instar.probe.panel import Matrix, Words

EVIL = "<img src=x onerror=alert(1)>"
ALLOWED = {"svg", "g", "style", "rect", "circle", "path", "text", "title", "image"}


def tags(text):
    return {element.tag.split("}")[-1] for element in ElementTree.fromstring(text).iter()}


@pytest.mark.parametrize("kind", [kind.__name__.lower() for kind in DRAWERS])
def test_tokens_are_text_and_nothing_else(figures, kind):
    """A token that is an image with a script, one that turns the text and one of quotes: no element, no attribute."""
    text = svg([figures[kind]], "zh")
    tree = ElementTree.fromstring(text)
    assert tags(text) <= ALLOWED
    attributes = {name for element in tree.iter() for name in element.attrib}
    assert not {name for name in attributes if name.startswith("on")}
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", text)
    words = "".join(tree.itertext())
    assert "题" in words
    assert EVIL in words or EVIL[:12] in words
    hrefs = [value for element in tree.iter() for name, value in element.attrib.items() if name.endswith("href")]
    assert all(href.startswith("data:image/png;base64,") for href in hrefs)


def test_a_panel_tells_its_checks(panel):
    """The file of a view has its title, each check with its sign and number, and its notes."""
    words = "".join(ElementTree.fromstring(svg(panel.figures, "en", panel)).itertext())
    assert all(
        said in words for said in ("Attention", "✓ rows add up to 1  2.0e-7 ≤ 1.0e-5", "✗ the last row", "NaN > 0")
    )
    assert "a routing of information" in words


def test_every_shape_has_its_colour(panel):
    """Each class of a colour that is drawn is named in the style, for a light ground and for a dark one."""
    text = svg(panel.figures, "en", panel)
    used = {name for names in re.findall(r'class="([^"]+)"', text.split("</style>")[1]) for name in names.split()}
    coloured = {name for name in used if re.fullmatch(r"(on-)?[sdc]\d+", name)}
    light, dark = style().split("@media (prefers-color-scheme: dark)")
    for name in coloured:
        assert re.search(rf"\.{name}\b", light), name
        assert re.search(rf"\.{name}\b", dark), name


def test_a_style_reaches_nothing_else():
    """With a scope, every selector of every rule begins with it."""
    rules = re.sub(r"@media[^{]*\{|\}\s*\}", "}", style(".instar"))
    for selectors in re.findall(r"([^{}]+)\{", rules):
        assert all(selector.strip().startswith(".instar") for selector in selectors.split(",")), selectors


def test_narrow_pages_can_read_it(figures):
    """What fits a phone shrinks by a sixth at most; what does not keeps its size and scrolls."""
    assert "min-width" not in inline(figures["lines"])
    wide = Matrix(Words("", ""), np.zeros((64, 64)))
    assert re.search(r"min-width:6\d\dpx", inline(wide))


def test_the_same_figures_give_the_same_bytes(panel):
    """Nothing of a drawing is left to chance."""
    assert svg(panel.figures, "en", panel) == svg(panel.figures, "en", panel)
