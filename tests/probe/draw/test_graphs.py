"""Trees, steps and tables: who comes from whom, in which order, and every cell."""

from instar.probe.draw.graphs import depths, flow, table, tree
from instar.probe.panel import Flow, Table, Tree, Words

NAME = Words("", "")
NODES = [
    (-1, "a", -0.1, "kept"), (0, "b", -0.9, "pruned"), (0, "c", -0.5, "kept"), (2, "d", -0.6, "best"),
    (-1, "e", -0.3, "kept"), (4, "f", -2.0, "done"),
]  # fmt: skip


def test_the_best_way_runs_along_the_top(shapes):
    """a, c and d stand in one line, each step to the right of the one before; what was pruned is below."""
    found = {w: a for tag, a, w, _ in shapes(tree(Tree(NAME, NODES), "en")) if tag == "text" and w in list("abcdef")}
    heights = {word: float(attributes["y"]) for word, attributes in found.items()}
    assert heights["a"] == heights["c"] == heights["d"] == min(heights.values())
    assert heights["b"] > heights["d"]
    assert float(found["a"]["x"]) < float(found["c"]["x"]) < float(found["d"]["x"])
    assert float(found["a"]["x"]) == float(found["e"]["x"])
    assert "best" in found["a"]["class"]
    assert "pruned" in found["b"]["class"]
    assert depths(NODES) == [0, 1, 1, 2, 0, 1]


def test_every_node_tells_its_value(shapes):
    """On hovering, with what became of it, in the language."""
    titles = {title for *_, title in shapes(tree(Tree(NAME, NODES), "zh"))}
    assert {"b  −0.900  剪去", "f  −2.000  完成"} <= titles


def test_a_deep_search_is_drawn():
    """A chain of 3,000 steps is no recursion."""
    chain = [(place - 1, "x", -1.0, "best") for place in range(3000)]
    assert tree(Tree(NAME, chain), "en").width > 3000


def test_steps_stand_in_order(shapes):
    """Numbered from 1, the long one in lines that fit, nothing of it lost."""
    long = "狼在森林里" * 30
    found = shapes(flow(Flow(NAME, [(Words("Prompt", "提示"), long), (Words("Draw", "抽取"), "u")]), "zh"))
    words = [words for tag, _, words, _ in found if tag == "text"]
    assert words[:2] == ["1", "提示"]
    assert words[-3:] == ["2", "抽取", "u"]
    assert "".join(words[2:-3]) == long


def test_a_table_has_every_cell(shapes):
    """Numbers to the right, words to the left, nothing as a dash."""
    figure = Table(NAME, [Words("head", "头"), Words("score", "得分")], [["1.0", 0.25], ["1.1", None]])
    found = {words: attributes["class"] for tag, attributes, words, _ in shapes(table(figure, "zh")) if tag == "text"}
    assert found == {
        "头": "small",
        "得分": "small up",
        "1.0": "label",
        "0.250": "label up",
        "1.1": "label",
        "–": "label up",
    }
