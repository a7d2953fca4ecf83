"""The colours of the page and its large matrix, read in a real browser."""

import math

import numpy as np
import pytest

pytestmark = pytest.mark.page
GROUNDS = {"light": [251, 250, 247], "dark": [20, 23, 27]}
# what the three kinds of colour blindness leave of linear sRGB (Machado, Oliveira and Fernandes 2009, severity 1)
BLIND = [
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
]


def linear(rgb):
    values = np.asarray(rgb, dtype=np.float64) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def luminance(rgb):
    return linear(rgb) @ [0.2126, 0.7152, 0.0722]


def oklab(lin):
    """linear sRGB (N, 3) -> OKLab, where distances are those that eyes see."""
    cones = np.cbrt(
        np.clip(lin, 0, 1)
        @ np.array([[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
                    [0.0883024619, 0.2817188376, 0.6299787005]]).T
    )  # fmt: skip
    return cones @ np.array([[0.2104542553, 0.793617785, -0.0040720468], [1.9779984951, -2.428592205, 0.4505937099],
                             [0.0259040371, 0.7827717662, -0.808675766]]).T  # fmt: skip


@pytest.mark.parametrize("theme", GROUNDS)
def test_maps_rise_from_the_ground(modules, theme):
    """Zero is the ground in both themes, luminance only falls or only rises, some ink is read on every colour, and the
    two signs differ for every kind of colour blindness."""
    ground = GROUNDS[theme]
    body = "return ['share', 'signed'].map((scale) => [...box.colour.make(scale, given)])"
    shares, signed = (np.array(found).reshape(256, 4)[:, :3] for found in modules(body, ground))
    assert shares[0].tolist() == ground
    assert signed[128].tolist() == ground
    steps = np.diff(luminance(shares))
    assert (steps < 0).all() if theme == "light" else (steps > 0).all()
    inks = modules("return given.map((rgb) => box.colour.inkOn(rgb))", [*shares.tolist(), *signed.tolist()])
    for rgb, ink in zip([*shares, *signed], inks):
        low, high = sorted([float(luminance(rgb)), 1.0 if ink == "#ffffff" else 0.0])
        assert (high + 0.05) / (low + 0.05) >= 4.5
    for matrix in BLIND:
        seen = oklab(linear(signed) @ np.array(matrix).T)
        assert np.linalg.norm(seen[1] - seen[255]) > 0.15
        assert np.linalg.norm(seen[64] - seen[192]) > 0.06
        assert np.abs(np.diff(oklab(linear(shares[::32]) @ np.array(matrix).T)[:, 0])).min() > 0.02


def test_levels_and_properties(modules):
    """A row of 512 equal shares does not vanish, nor what is tiny; colours follow the theme as custom properties."""
    levels = modules("return given.map(([v, scale, ends]) => box.colour.level(v, scale, ends))", [
        [0, "share", [0, 1]], [1e-9, "share", [0, 1]], [1 / 512, "share", [0, 1]], [1, "share", [0, 1]],
        [0, "signed", [-2, 2]], [-2, "signed", [-2, 2]], [2, "signed", [-2, 2]], [5, "plain", [0, 10]],
    ])  # fmt: skip
    assert levels == [0, 1, round(255 / math.sqrt(512)), 255, 128, 1, 255, 128]
    assert modules("return [[0.5, NaN, 2], [-3, 1], [4, 4]].map((v, i) => "
                   "box.colour.domain(v, ['share', 'signed', 'plain'][i]))") == [[0, 2], [-3, 3], [4, 5]]  # fmt: skip
    zero = "return getComputedStyle(document.documentElement).getPropertyValue('--s0')"
    assert modules(f"document.documentElement.dataset.theme = 'light'; await box.rest(); {zero}") == "rgb(251 250 247)"
    assert modules(f"document.documentElement.dataset.theme = 'dark'; await box.rest(); {zero}") == "rgb(20 23 27)"


HEAT = """
  const n = given.n;
  const values = Float32Array.from(given.values, (v) => v ?? NaN);
  const el = box.heat.heat({ values, rows: n, columns: n, layout: given.layout, say: box.ctx.say, onPick: box.ctx.pick,
    onSpan: given.span ? (span) => box.spans.push(span) : null });
  box.root.replaceChildren(el);
  box.el = el;
  await box.rest();
"""


def test_heat_draws_each_value(modules):
    """Of a lower triangle every cell has its value and the colour of its place on the map; what is not there has
    neither, and what is not known has the colour of a gap."""
    n = 6
    rows = np.linspace(0, 1, n * (n + 1) // 2).tolist()
    rows[4] = None
    found = modules(f"""{HEAT}
      const cells = [];
      for (let r = 0; r < n; r++) for (let c = 0; c < n; c++) cells.push(el.cell(r, c).value);
      const {{ words }} = box.heat.colours(values, {{ columns: n, tril: true, scale: "share",
        ends: [0, 1], from: [0, 0], size: [n, n], every: [1, 1] }});
      const map = box.colour.look().maps.share.words;
      const level = [...values].map((v) => box.colour.level(v, "share", [0, 1]));
      return {{ cells, words: [...words], map: [...map], level }};
    """, {"n": n, "values": rows, "layout": "tril"})  # fmt: skip
    at = iter(range(len(rows)))
    for row in range(n):
        for column in range(n):
            cell, word = found["cells"][row * n + column], found["words"][row * n + column]
            if column > row:
                assert (cell, word) == (None, found["map"][0])
                continue
            place = next(at)
            if rows[place] is None:
                assert word not in found["map"]
            else:
                assert cell == pytest.approx(rows[place], abs=1e-7)
                assert word == found["map"][found["level"][place]]


def test_pooling_loses_nothing_strong(modules):
    """Of 4 x 4 cells in one pixel the strongest is drawn, of signed ones the farthest from zero."""
    values = np.zeros((8, 8))
    values[2, 5], values[7, 0] = 0.9, -0.95
    body = """return ["share", "signed"].map((scale) => {
      const { words } = box.heat.colours(Float32Array.from(given), { columns: 8, tril: false, scale,
        ends: scale === "share" ? [0, 1] : [-1, 1], from: [0, 0], size: [8, 8], every: [4, 4] });
      const map = [...box.colour.look().maps[scale].words];
      return [...words].map((word) => map.indexOf(word));
    })"""
    shares, signed = modules(body, values.ravel().tolist())
    assert shares == [0, round(255 * math.sqrt(0.9)), 0, 0]
    assert signed == [128, round(128 + 127 * 0.9), round(128 - 127 * 0.95), 128]


def test_heat_by_mouse_and_keyboard(modules, page):
    """Pointing and arrows read the same numbers, Enter and a click pick, dragging marks a span, keys zoom and show all
    again; a large one is never redrawn by pointing."""
    n = 64
    values = (np.arange(n * n) / (n * n)).tolist()
    modules(f"{HEAT} return null", {"n": n, "values": values, "layout": "full", "span": True})
    heat = page.get_by_test_id("heat")
    box = heat.bounding_box()
    before = modules("return box.el.canvas.toDataURL().length")
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    row, column = int(heat.get_attribute("data-row")), int(heat.get_attribute("data-col"))
    assert float(heat.get_attribute("data-value")) == pytest.approx((row * n + column) / (n * n))
    assert page.locator(".tip").inner_text().startswith(f"{row} → {column}: ")
    assert modules("return box.el.canvas.toDataURL().length") == before
    page.mouse.down()
    page.mouse.up()
    assert modules("return box.picked.at(-1)")["row"] == row
    page.mouse.down()
    page.mouse.move(box["x"] + 260, box["y"] + 200, steps=4)
    page.mouse.up()
    span = modules("return box.spans.at(-1)")
    assert span["columns"][0] == column < span["columns"][1]
    page.keyboard.press("Tab")
    heat.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    at = [int(heat.get_attribute(f"data-{axis}")) for axis in ("row", "col")]
    assert at[1] == 1
    assert modules("return box.said.at(-1)").startswith(f"{at[0]} → 1: ")
    page.keyboard.press("Enter")
    assert modules("return box.picked.at(-1)")["col"] == 1
    page.keyboard.press("+")
    modules("await box.rest()")
    assert heat.get_attribute("data-window") != f"0:{n},0:{n}"
    page.keyboard.press("0")
    modules("await box.rest()")
    assert heat.get_attribute("data-window") == f"0:{n},0:{n}"


def test_atlas_comes_in_pieces(modules, page):
    """Layers that came are drawn, others are still the ground; a head is read and picked by mouse and by keys."""
    modules("""
      const grid = box.draw.atlasGrid({ layers: 3, heads: 4, px: 8, note: () => "induction", say: box.ctx.say,
        onPick: box.ctx.pick });
      box.root.replaceChildren(grid);
      grid.put(1, new Uint8Array(4 * 64).fill(255));
      box.el = grid;
      await box.rest();
    """)
    heat = page.get_by_test_id("atlas")
    assert modules("return box.el.filled()") == 1
    colours = modules("""const ink = box.el.canvas.getContext("2d");
      const place = (layer) => [...ink.getImageData(60, 40 + layer * 104, 1, 1).data.slice(0, 3)];
      const { maps, ground } = box.colour.look();
      return [place(0), place(1), [...maps.share.bytes.slice(1020, 1023)], ground]""")
    assert colours[0] == colours[3]
    assert colours[1] == colours[2]
    box = heat.bounding_box()
    page.mouse.click(box["x"] + 60 + 104, box["y"] + 40 + 2 * 104)
    assert modules("return box.picked.at(-1)") == {"layer": 2, "head": 1}
    heat.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert modules("return box.picked.at(-1)") == {"layer": 2, "head": 2}
    assert modules("return box.said.at(-1)") == "layer 2, head 2\ninduction"
