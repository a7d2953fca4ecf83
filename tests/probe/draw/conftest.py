"""Panels to draw: one of each figure, with tokens that mean harm, Chinese, a gap and both signs."""

from xml.etree import ElementTree

import numpy as np
import pytest

from instar.probe.panel import (
    Arcs,
    Atlas,
    Bars,
    Cells,
    Check,
    Flow,
    Lines,
    Matrix,
    Panel,
    Scatter,
    Strip,
    Table,
    Tree,
    Words,
)  # fmt: skip

EVIL = "<img src=x onerror=alert(1)>"
GAP = float("nan")
TURNED = "\u202eevil\u2066"
TOKENS = [EVIL, " wolf", "狼", "\n", TURNED, "\"&'"]


def attention(size):
    """Of a causal text: half on itself, half spread over what came before."""
    weights = np.tril(np.full((size, size), 0.5)) / np.maximum(1, np.arange(size))[:, None]
    np.fill_diagonal(weights, 0.5)
    weights[0, 0] = 1.0
    return weights.astype(np.float32)


@pytest.fixture
def figures():
    """One of each kind, by its name."""
    weights = attention(len(TOKENS))
    words = Words(f"{EVIL}\x1b[31m{TURNED}", f"题{EVIL}\x00{TURNED}")
    found = [
        Matrix(words, weights, TOKENS, TOKENS, "share", Words("query", "查询"), Words("key", "键")),
        Atlas(words, np.stack([[weights, weights], [weights, weights], [weights, weights]])),
        Cells(words, [TOKENS, TOKENS], weights[:2], ["layer 0", "layer 1"], TOKENS),
        Bars(words, TOKENS, {"one": [0.5, -0.25, GAP, 1, 0, 0.1], EVIL: [0.1] * 6}, words, [0.4] * 6, [0.6] * 6),
        Lines(words, [0, 1, 2], {"kept": [3.0, 2.0, 1.0], EVIL: [1.0, GAP, 2.0]}, words, words),
        Arcs(words, TOKENS, [(1, 0, 0.75), (2, 4, 0.5), (3, 3, 0.25)]),
        Strip(words, TOKENS, [0.1, -0.5, GAP, 0.0, 1.0, 0.3], "signed", [EVIL] * 6),
        Table(words, [words, Words("score", "得分")], [[EVIL, 0.25], [TURNED, None]], words),
        Tree(words, [(-1, "狼", -0.1, "best"), (0, EVIL, -0.5, "best"), (0, TURNED, -0.9, "pruned")]),
        Flow(words, [(words, EVIL), (Words("draw", "抽取"), "0.62")]),
        Scatter(words, [(EVIL, 0.1, 0.9), ("0.1", GAP, 0.2), ("狼", 0.5, 0.5)], words, words),
    ]  # fmt: skip
    return {type(figure).__name__.lower(): figure for figure in found}


@pytest.fixture
def panel(figures):
    """A view that draws all of them, with a green check and a red one."""
    weights = attention(len(TOKENS))
    checks = [
        Check("rows", 2e-7, 1e-5, Words("rows add up to 1", "每行之和为 1")),
        Check("lens", GAP, 0.0, Words("the last row is the output", "最后一行就是输出")),
    ]
    data = {"tokens": [{"id": 7, "piece": EVIL}], "worst": GAP, "count": np.int64(3)}
    notes = [Words("a routing of information", "信息的路由")]
    return Panel(
        "attention", Words("Attention", "注意力"), data, {"weights": weights}, list(figures.values()), checks, notes
    )


@pytest.fixture
def shapes():
    """shapes(canvas or svg): the elements of a drawing as (tag, attributes, text, title), the SVG being well-formed."""

    def read(drawing):
        text = drawing if isinstance(drawing, str) else drawing.svg("drawing")
        found = []
        for element in ElementTree.fromstring(text).iter():
            name = element.tag.split("}")[-1]
            if name not in ("title", "svg", "g", "style"):
                title = next((inner.text or "" for inner in element if inner.tag.endswith("title")), "")
                words = "".join(element.itertext()).removeprefix(title)
                found.append((name, element.attrib, words, title))
        return found

    return read
