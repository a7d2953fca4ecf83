"""What the page draws, read in a real browser: each kind of figure, the table behind it, and a panel."""

import numpy as np
import pytest

from instar.probe.draw.record import record
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
)

pytestmark = pytest.mark.page
TITLE = Words("Title", "标题")
EVIL = '<img src=x onerror="window.hit=1">'


def drawn(figure):
    """A figure as the API sends it."""
    return record(Panel("v", TITLE, figures=[figure]))["figures"][0]


GRID = np.array([[0.25, 0.5, np.nan], [0.125, 0.75, 1.0]])
FIGURES = {
    "matrix": Matrix(TITLE, GRID, ["a", " b"], ["x", "y", EVIL], "plain"),
    "atlas": Atlas(TITLE, np.arange(24).reshape(2, 3, 2, 2) / 24),
    "bars": Bars(TITLE, ["one", Words("two", "二")], {"score": [0.5, -0.25]}, low=[0.25, -0.5], high=[0.75, 0.125]),
    "lines": Lines(TITLE, [0, 1, 2], {"a": [1.5, float("nan"), 3.5], Words("b", "乙"): [0.5, 0.25, 0.125]}),
    "cells": Cells(TITLE, [["p", "q", EVIL], ["s", "t", " u"]], GRID),
    "arcs": Arcs(TITLE, ["I", " am"], [(1, 0, 0.75), (1, 1, 0.25)]),
    "strip": Strip(TITLE, ["一", EVIL, "\u202e\n"], [0.5, -1.5, 0.0], "signed", ["n1", "", Words("in", "入")]),
    "table": Table(TITLE, [TITLE, Words("n", "数")], [["b", 2.5], ["a", 10.25], ["c", None]]),
    "tree": Tree(TITLE, [(-1, "root", -0.5, "best"), (0, "kid", -1.5, "best"), (0, "lost", -9.5, "pruned")]),
    "flow": Flow(TITLE, [(Words("draw", "抽取"), "u = 0.5"), (TITLE, EVIL)]),
    "scatter": Scatter(TITLE, [("0.1", 0.5, 0.25), ("1.0", 0.125, 0.75)]),
}
# the numbers that the table behind each must hold, in its order
NUMBERS = {
    "matrix": [0.25, 0.5, 0.125, 0.75, 1.0],
    "cells": [0.25, 0.5, 0.125, 0.75, 1.0],
    "atlas": [value for head in range(6) for value in ((4 * head + 3) / 24, 1.0, 1.0)],
    "bars": [0.5, 0.25, 0.75, -0.25, -0.5, 0.125],
    "lines": [0, 1.5, 0.5, 1, 0.25, 2, 3.5, 0.125],
    "arcs": [0.75, 0.25],
    "strip": [0, 0.5, 1, -1.5, 2, 0],
    "tree": [0, -1, -0.5, 1, 0, -1.5, 2, 0, -9.5],
    "scatter": [0.5, 0.25, 0.125, 0.75],
    "flow": [1, 2],
}


@pytest.mark.parametrize("kind", FIGURES)
def test_every_kind_and_its_table(modules, page, kind):
    """Each figure is drawn, inert whatever its words are, is reached by the keyboard and says a sentence, becomes a
    file, and turns into a table of the same numbers by the key d."""
    found = modules(
        """const el = box.draw.figure(given, box.ctx);
        box.root.replaceChildren(el);
        box.el = el;
        await box.rest();
        el.select({ row: 1, col: 1, token: 1, layer: 1, head: 0, node: 1 });
        const stop = el.querySelector(".plot [tabindex]");
        stop?.focus();
        const plot = el.querySelector(".plot");
        return { stop: Boolean(stop), high: plot.offsetHeight,
          svg: el.querySelector("canvas") ? "" : new XMLSerializer().serializeToString(box.save.svgOf(plot)),
          images: el.querySelectorAll("img").length, hit: window.hit ?? 0 }""",
        drawn(FIGURES[kind]),
    )  # fmt: skip
    assert (found["images"], found["hit"]) == (0, 0)
    assert found["high"] > 20
    assert found["svg"].startswith("<svg") or kind in ("matrix", "atlas")
    assert found["stop"] or kind == "flow"
    if kind == "table":
        return
    if found["stop"]:
        page.keyboard.press("ArrowRight")
        modules("await box.rest()")
        assert modules("return box.said.length") > 0
        page.keyboard.press("Enter")
        assert modules("return box.picked.length") == 1
        page.keyboard.press("d")
    else:
        page.get_by_test_id("table").click()
    values = page.get_by_test_id("twin").locator("td[data-value], th[data-value]")
    assert [float(text) for text in values.evaluate_all("all => all.map((el) => el.dataset.value)")] == pytest.approx(
        NUMBERS[kind]
    )
    assert page.locator(".plot").is_hidden()


def test_tables_sort_by_their_heads(modules, page):
    """Numbers the largest first, then the smallest, texts by their letters; what is not known stands last both ways."""
    modules("box.root.replaceChildren(box.draw.figure(given, box.ctx))", drawn(FIGURES["table"]))
    firsts = lambda: page.locator("tbody th").all_inner_texts()  # noqa: E731
    assert firsts() == ["b", "a", "c"]
    for head, wanted in (("n", ["a", "b", "c"]), ("n", ["b", "a", "c"]), ("Title", ["a", "b", "c"])):
        page.get_by_role("button", name=head, exact=True).click()
        assert firsts() == wanted


def test_other_kinds_of_nothing(modules):
    """Numbers that stand elsewhere say so, a kind that is not known too, and neither draws anything."""
    elsewhere = {"kind": "matrix", "title": TITLE._asdict(), "values": {"shape": [900, 900], "values": None}}
    for fig, said in (elsewhere, "900 × 900"), ({"kind": "cube", "title": TITLE._asdict()}, "cube"):
        assert said in modules("const el = box.draw.figure(given); return el.querySelector('.plot').textContent", fig)


@pytest.mark.parametrize("kind", ["cells", "strip", "table", "bars", "tree", "arcs", "scatter", "matrix"])
def test_large_figures_stay_small(modules, kind):
    """Of a text of 2,000 tokens a figure makes no more than 1,500 elements, and tells how many it leaves out."""
    n = 2000
    names = [f"t{i}" for i in range(n)]
    fig = {
        "cells": lambda: Cells(TITLE, [names] * 12, np.ones((12, n)) / 2),
        "strip": lambda: Strip(TITLE, names, [0.5] * n),
        "table": lambda: Table(TITLE, [TITLE] * 4, [[name, 1, 2.5, 3] for name in names]),
        "bars": lambda: Bars(TITLE, names, {"a": [1.0] * n}),
        "tree": lambda: Tree(TITLE, [(i - 1, "x", -float(i), "kept") for i in range(n)]),
        "arcs": lambda: Arcs(TITLE, names, [(i, i // 2, 0.5) for i in range(n)]),
        "scatter": lambda: Scatter(TITLE, [(name, i / n, 0.5) for i, name in enumerate(names)]),
        "matrix": lambda: Matrix(TITLE, np.ones((100, n)) / 2, (), names),
    }[kind]()
    found = modules(
        """const el = box.draw.figure(given, box.ctx);
        box.root.replaceChildren(el);
        await box.rest();
        const drawn = el.querySelectorAll("*").length;
        el.flip();
        return [drawn, el.querySelectorAll("*").length - drawn, el.textContent]""",
        drawn(fig),
    )
    assert 0 < found[0] <= 1500
    assert found[1] <= 1500
    assert kind == "matrix" or "more" in found[2] or "strongest" in found[2] or "without" in found[2]


def test_a_panel_shows_its_proofs(modules, page):
    """Red ones first, each with what was found and what may be; one line sums them up; all of it in Chinese too."""
    checks = [
        Check("attention_rows", 2e-7, 1e-5, Words("rows add up", "行和为一")), Check("future", 0.0, 0.0, TITLE),
        Check("made_up", float("nan"), 1e-4, TITLE),
    ]  # fmt: skip
    panel = record(
        Panel(
            "attention",
            TITLE,
            figures=[FIGURES["matrix"], FIGURES["bars"]],
            checks=checks,
            notes=[Words("a note", "注")],
        )
    )
    modules("box.root.replaceChildren(box.panel.panel(given, box.ctx)); await box.rest()", panel)
    shown = page.get_by_test_id("panel-attention")
    assert shown.get_attribute("data-green") == "false"
    assert shown.get_by_test_id("proof").get_attribute("data-value") == "1"
    chips = shown.locator(".chip")
    assert [chips.nth(i).get_attribute("data-testid") for i in range(3)] == [
        "chip-made_up",
        "chip-attention_rows",
        "chip-future",
    ]
    assert float(page.get_by_test_id("chip-attention_rows").get_attribute("data-value")) == 2e-7
    assert "2e-7 ≤ 1e-5" in page.get_by_test_id("chip-attention_rows").inner_text()
    page.get_by_test_id("chip-attention_rows").focus()
    page.locator(".tip").get_by_text("rows add up").wait_for()
    assert "1 of 3 checks red" in shown.inner_text()
    modules(
        """await box.i18n.speak("zh");
        box.root.replaceChildren(box.panel.panel(given, box.ctx, { figures: [1] }));
        await box.rest()""",
        panel,
    )
    assert shown.locator("figure").count() == 1
    assert "标题" in shown.inner_text()
    assert "3 项检验中 1 项未通过" in shown.inner_text()
    assert "行和为 1" in shown.inner_text()


def test_a_panel_selects_for_the_page(modules):
    """Without a listener of its own what is picked becomes the selection of the page, and the selection is outlined;
    places of another text are not tokens of this one."""
    found = modules(
        """const { createStore } = await box.at("store");
        const store = createStore({ trace: { tokens: [1, 2, 3] }, token: -1, layer: -1, head: -1 });
        const el = box.panel.panel(given, { store });
        box.root.replaceChildren(el);
        await box.rest();
        const [mine, other] = el.querySelectorAll(".flowing");
        mine.children[1].click();
        await box.rest();
        const first = [store.get().token, [...mine.children].map((one) => one.classList.contains("chosen"))];
        other.children[0].click();
        return [...first, store.get().token]""",
        record(Panel("v", TITLE, figures=[FIGURES["strip"], Strip(TITLE, ["other"], [0.5])])),
    )
    assert found == [1, [False, True, False], 1]
