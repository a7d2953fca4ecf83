"""The view of attention in a browser: atlas, matrix, arcs, and that long texts and many heads never freeze it."""

import json
import subprocess
import sys
from urllib.parse import quote

import numpy as np
import pytest
from safetensors.numpy import load

pytestmark = pytest.mark.page
TEXT = "Anna had a red ball. She gave the ball to Tom."
HALF = 2e-3  # of a number that went through fp16
MATRIX = "[data-testid=attention-map-0] [data-testid=heat]"


def shares(page, glass_url, model="tiny", text=TEXT, **query):
    """The panel of attention, as the API gives it."""
    trace = page.request.post(f"{glass_url}api/trace", data={"model": model, "text": text}).json()["trace"]
    answer = page.request.get(f"{glass_url}api/trace/{trace}/attention", params=query)
    assert answer.ok, answer.text()
    return answer.json()


@pytest.fixture
def opened(page, glass_url):
    """opened(**state): the view of attention, its matrix drawn."""

    def open_(**state):
        said = "&".join(f"{name}={quote(str(value))}" for name, value in ({"text": TEXT} | state).items())
        page.set_viewport_size({"width": 1440, "height": 1400})
        page.goto(f"{glass_url}#view=attention&{said}")
        page.wait_for_selector(f"{MATRIX}[data-window]", timeout=60_000)
        page.wait_for_selector("[data-testid=panel-attention]", timeout=60_000)
        return page

    return open_


@pytest.fixture(scope="session")
def giants(build, glass_roots):
    """A model of 32 layers of 32 heads, and one that reads 4,096 tokens."""
    from instar.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.train([TEXT * 4], 300)
    build(tokenizer, glass_roots / "wide", layers=32, heads=32, d_model=64, qk_norm=True)
    build(tokenizer, glass_roots / "long", layers=2, heads=4, d_model=32, qk_norm=True, max_positions=4096)


def ids_of(count):
    return " ".join(str(10 + 37 * n % 200) for n in range(count))


def readout(page):
    """(row, column, value) of what is said of the cell under the pointer."""
    said = page.get_by_test_id("attention-readout")
    value = said.get_attribute("data-value")
    return int(said.get_attribute("data-row")), int(said.get_attribute("data-col")), float(value) if value else None


def over(page, across, down, selector=MATRIX):
    """Move the mouse to a part of the matrix, (0, 0) to (1, 1) -> where it is."""
    box = page.locator(selector).first.bounding_box()
    place = box["x"] + across * box["width"], box["y"] + down * box["height"]
    page.mouse.move(*place)
    return place


def test_hovered_cells_are_the_numbers_of_the_api_and_of_inspect(opened, glass_url, glass_roots):
    """CLI = API = page, within half precision, at every cell that the mouse comes by."""
    page = opened(layer=1, head=2)
    told = np.array(shares(page, glass_url, layer=1, head=2)["arrays"]["shown"]["values"])
    command = ["inspect", "--model", str(glass_roots / "tiny" / "sft"), TEXT, "--layer", "1", "--head", "2"]
    said = subprocess.run(
        [sys.executable, "-c", "from instar.cli import main; main()", *command, "--format", "json"],
        capture_output=True, check=True, text=True,
    )  # fmt: skip
    inspected = np.array(json.loads(said.stdout)["panels"][0]["arrays"]["shown"]["values"])
    np.testing.assert_allclose(told, inspected, atol=1e-6)
    seen = set()
    for across in (0.2, 0.3, 0.4, 0.5):
        for down in (0.5, 0.7, 0.9):
            over(page, across, down)
            row, column, value = readout(page)
            under = page.locator(MATRIX)
            assert [under.get_attribute(f"data-{name}") for name in ("row", "col")] == [str(row), str(column)]
            seen.add((row, column, value is None))
            assert (value is None and column > row) or abs(value - told[row, column]) < HALF
    assert len(seen) > 8
    assert sum(not hidden for _, _, hidden in seen) > 4
    row, column, value = readout(page)
    tokens = [page.get_by_test_id(f"token-{place}").locator("bdi").inner_text() for place in (row, column)]
    wanted = f"{tokens[0]} ← {tokens[1]}" + ("" if value is None else f" {value:.3f}")
    assert page.get_by_test_id("attention-readout").inner_text().startswith(wanted)


@pytest.mark.parametrize(
    "query",
    [
        {"kind": "sinkless"}, {"kind": "norm"}, {"kind": "rollout"}, {"level": "word"}, {"head": -1},
        {"kind": "rollout", "level": "word"},
    ],
    ids=str,
)  # fmt: skip
def test_each_kind_and_level_is_the_apis(opened, glass_url, query):
    page = opened(**({"layer": 1, "head": 1} | query))
    panel = shares(page, glass_url, **({"layer": 1, "head": 1} | query))
    told = np.array(panel["arrays"]["shown"]["values"])
    at = panel["data"]["at"]
    for column in range(len(told)):
        share = page.get_by_test_id(f"line-{column}").get_attribute("data-value")
        assert abs(float(share or 0) - told[at, column]) < HALF * max(1, told.max())
    strongest = panel["data"]["strongest"]
    assert [float(page.get_by_test_id(f"pair-{n}").get_attribute("data-value")) for n in range(len(strongest))] == [
        one["weight"] for one in strongest
    ]


def test_the_mouse_opens_a_head_pins_a_token_and_marks_an_entity(opened, glass_url):
    """A click in the atlas opens a head; one in the matrix pins the token; a drag over columns measures their lift."""
    page = opened()
    atlas = page.get_by_test_id("atlas")
    page.wait_for_selector("[data-layers='3']")
    box = atlas.bounding_box()
    page.mouse.click(box["x"] + box["width"] - 10, box["y"] + box["height"] - 10)
    page.wait_for_url(lambda url: "layer=2" in url and "head=3" in url)
    over(page, 0.3, 0.6)
    row, _, _ = readout(page)
    page.mouse.down()
    page.mouse.up()
    page.wait_for_url(lambda url: f"token={row}" in url)
    assert page.get_by_test_id(f"line-{row}").get_attribute("aria-pressed") == "true"
    over(page, 0.25, 0.8)
    page.mouse.down()
    over(page, 0.5, 0.8)
    page.mouse.up()
    page.wait_for_selector("[data-testid=lift-here]")
    marked = page.get_by_test_id("lift-words").input_value()
    assert marked
    assert marked in TEXT
    panel_of = page.request.post(f"{glass_url}api/trace", data={"model": "tiny", "text": TEXT}).json()["trace"]
    panel = page.request.get(f"{glass_url}api/trace/{panel_of}/heads", params={"entities": marked}).json()
    wanted = panel["arrays"]["lift"]["values"][2][3]
    assert float(page.get_by_test_id("lift-here").get_attribute("data-value")) == pytest.approx(wanted)


def test_keys_step_through_heads_layers_and_tokens_and_read_the_matrix(opened, glass_url):
    page = opened(layer=0, head=0, token=3)
    page.keyboard.press("]")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(f"{MATRIX}[aria-label]")
    page.wait_for_selector("[data-testid=attention-head][data-value='1']")
    assert page.get_by_test_id("attention-layer").get_attribute("data-value") == "1"
    page.wait_for_selector("[data-testid=line-4][aria-pressed=true]")
    told = shares(page, glass_url, layer=1, head=1)["arrays"]["shown"]["values"]
    page.wait_for_selector("#live:has-text('1.1')", state="attached")
    page.locator(MATRIX).focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    row, column, value = readout(page)
    assert column == 1
    assert abs(value - told[row][1]) < HALF
    page.keyboard.press("Enter")
    page.wait_for_selector(f"[data-testid=line-{row}][aria-pressed=true]")
    page.get_by_test_id("view-tab-attention").focus()
    page.keyboard.press("d")
    twin = page.locator("[data-testid=attention-map-0] table")
    twin.wait_for()
    assert twin.locator("tbody tr").count() == len(told)


def test_cross_attention_and_an_encoder(opened, glass_url):
    """Two lines with arcs between them; the tokens of the source have a line of their own."""
    page = opened(model="pair", side="cross", layer=1, head=2, token=1)
    panel = shares(page, glass_url, model="pair", side="cross", layer=1, head=2, at=1)
    row = panel["data"]["row"]
    assert [float(page.get_by_test_id(f"line-source-{j}").get_attribute("data-value")) for j in range(len(row))] == (
        pytest.approx(row, abs=HALF)
    )
    page.get_by_test_id("line-source-2").click()
    told = np.array(panel["arrays"]["shown"]["values"])
    page.wait_for_selector("[data-testid=line-source-2][aria-pressed=true]")
    for place in range(len(told)):
        found = float(page.get_by_test_id(f"line-{place}").get_attribute("data-value"))
        assert abs(found - told[place, 2]) < HALF
    page.get_by_test_id("side-encoder").click()
    page.wait_for_selector("[data-testid^=line-source]", state="detached")
    page = opened(model="bert", layer=0, head=0)
    assert page.get_by_test_id("line-0").get_attribute("data-value") != ""


def test_two_models_stand_side_by_side_with_their_difference(opened, glass_url):
    page = opened(layer=1, head=1, vs="tiny/dpo")
    page.wait_for_selector("[data-testid=attention-map-2] [data-window]")
    panel = shares(page, glass_url, layer=1, head=1, vs="tiny/dpo")
    gaps = np.array(panel["arrays"]["difference/shown"]["values"])
    over(page, 0.4, 0.7, "[data-testid=attention-map-2] [data-testid=heat]")
    row, column, value = readout(page)
    assert abs(value - gaps[row, column]) < 2 * HALF
    assert np.abs(gaps).max() > 10 * HALF
    theirs, at = panel["data"]["other"]["strongest"], panel["data"]["other"]["at"]
    assert [float(page.get_by_test_id(f"pair-other-{n}").get_attribute("data-value")) for n in range(len(theirs))] == [
        one["weight"] for one in theirs
    ]
    told = panel["arrays"]["other/shown"]["values"][at]
    for place in range(at + 1):
        share = page.get_by_test_id(f"line-{place}").locator(".theirs").get_attribute("data-value")
        assert abs(float(share) - told[place]) < HALF
    with page.expect_response(lambda answer: "/atlas?" in answer.url) as answered:
        page.get_by_test_id("atlas-1").click()
    assert answered.value.ok


def test_without_attention_and_after_an_error_the_view_says_so(page, glass_url, troubles):
    troubles.expect("503")
    page.route("**/attention/*/*", lambda route: route.fulfill(status=503, json={"error": {"code": "worker_died"}}))
    page.goto(f"{glass_url}#view=attention&text={quote(TEXT)}")
    page.wait_for_selector("[data-testid=error-worker_died]")
    page.unroute("**/attention/*/*")
    page.locator("[data-testid=error-worker_died] button").click()
    page.wait_for_selector(f"{MATRIX}[data-window]")

    def none(route):
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | {"caps": answer.json()["caps"] | {"attention": False}})

    page.route("**/api/trace", none)
    page.goto(f"{glass_url}#view=attention&text=Tom")
    page.reload()
    page.wait_for_selector("[data-testid=no-attention]")


def longest_task(browser, page, act):
    """Milliseconds of processor time of the longest task of the page's main thread meanwhile: time that other programs
    took is not the page's."""
    browser.start_tracing(page=page, categories=["toplevel"])
    act()
    events = json.loads(browser.stop_tracing())["traceEvents"]
    main = {(one["pid"], one["tid"]) for one in events if one["name"] == "thread_name"
            and one["args"]["name"] == "CrRendererMain"}  # fmt: skip
    tasks = [one["tdur"] / 1e3 for one in events
             if one["name"].endswith("RunTask") and "tdur" in one and (one["pid"], one["tid"]) in main]  # fmt: skip
    assert len(tasks) > 50
    return max(tasks)


def sweep(page, moves=150):
    box = page.locator(MATRIX).bounding_box()
    for n in range(moves):
        page.mouse.move(box["x"] + 60 + 3 * n, box["y"] + 60 + 3 * (7 * n % 150))
    page.wait_for_timeout(200)


def test_hovering_over_512_tokens_no_task_takes_50_ms(opened, browser):
    page = opened(text="", ids=ids_of(512), layer=1, head=1)
    assert longest_task(browser, page, lambda: sweep(page)) < 50


def test_4096_tokens_are_pooled_and_shown_exactly_in_parts(opened, browser, giants, glass_url):
    """The picture says that it is pooled; a click shows 256 rows and columns as they are; nothing freezes."""
    page = opened(model="long", text="", ids=ids_of(4096), layer=1, head=1)
    assert "4 × 4" in page.get_by_test_id("attention-part").inner_text()
    assert longest_task(browser, page, lambda: sweep(page)) < 50
    over(page, 0.2, 0.8)
    row, column, _ = readout(page)
    assert row == 4 * int(page.locator(MATRIX).get_attribute("data-row"))
    page.mouse.down()
    page.mouse.up()
    page.get_by_test_id("overview").wait_for(timeout=60_000)
    page.locator(MATRIX).focus()
    over(page, 0.5, 0.5)
    near, left, share = readout(page)
    assert max(abs(near - row), abs(left - column)) < 256
    asked = {"model": "long", "ids": [int(id) for id in ids_of(4096).split()]}
    trace = page.request.post(f"{glass_url}api/trace", data=asked, timeout=60_000).json()["trace"]
    body = page.request.get(f"{glass_url}api/trace/{trace}/attention/1/1", params={"rows": f"{near}:{near + 1}"}).body()
    assert share == pytest.approx(float(load(body)["weights"][0, left]), abs=1e-9)
    assert share > 0 or left > near
    assert page.evaluate("document.querySelectorAll('*').length") <= 5000
    page.get_by_test_id("overview").click()
    page.wait_for_selector("[data-testid=attention-part]:has-text('4 × 4')")


def test_32_layers_of_32_heads_come_layer_by_layer(opened, browser, giants):
    page = opened(model="wide", text="", ids=ids_of(64), layer=5, head=1)
    assert longest_task(browser, page, lambda: sweep(page)) < 50
    page.wait_for_selector("[data-layers='32']", timeout=60_000)
    assert page.evaluate("document.querySelectorAll('*').length") <= 5000
