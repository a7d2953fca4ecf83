"""The view of positions in a browser: the curve by distance, and the order lab with positions on and off."""

import json
import math
import re

import pytest

pytestmark = pytest.mark.page
TEXT = "Anna had a red ball."
PAIR = ("狗咬人。", "人咬狗。")


@pytest.fixture
def opened(shown):
    """opened(text, **state): the view of positions, with the order lab read."""
    return lambda text, **state: shown("position", text, "panel-position", "order-why", **state)


def value(page, name):
    return json.loads(page.get_by_test_id(name).get_attribute("data-value"))


def test_the_curve_has_the_maps_row_of_the_selected_token(opened, page, glass_url):
    """And goes with the selection, by key and by click."""
    trace = page.request.post(f"{glass_url}api/trace", data={"model": "tiny", "text": TEXT}, timeout=60_000).json()[
        "trace"
    ]
    panel = page.request.get(f"{glass_url}api/trace/{trace}/position", timeout=60_000).json()
    grid = panel["arrays"]["map"]["values"][0]
    opened(TEXT, token=2)
    shown = page.locator("[data-testid^=offset-]")
    count = len(panel["data"]["tokens"])
    assert [float(one.get_attribute("data-value")) for one in shown.all()] == grid[2][:count]
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("[data-testid=offset-3].chosen")
    assert [float(one.get_attribute("data-value")) for one in shown.all()] == grid[3][:count]
    page.get_by_test_id("offset-0").click()
    page.wait_for_selector("[data-testid=offset-0].chosen")
    assert value(page, "dial-0") == pytest.approx(2 * math.pi)  # the first pair turns by one radian a place


def test_the_order_lab_tells_what_the_api_tells(opened, page, glass_url):
    """Known answer of glassbox.md: without positions the first layer cannot tell two orders, the second can, for the
    mask leaks order; the sentence says so with the numbers."""
    opened(TEXT, order1=PAIR[0], order2=PAIR[1])
    told = page.request.post(
        f"{glass_url}api/order", data={"model": "tiny", "one": PAIR[0], "other": PAIR[1]}, timeout=60_000
    ).json()
    assert told["reordered"]
    for key in ("told", "untold"):
        assert value(page, f"order-{key}") == told[key]["apart"]
        assert value(page, f"order-kl-{key}") == told[key]["kl"]
        for number, top in enumerate(told[key]["top"]):
            assert value(page, f"{key}-{number}-{top[0]['id']}") == top[0]["p"]
    assert told["untold"]["by_layer"][1] < 1e-3 < told["untold"]["by_layer"][2]
    assert "mask" in page.get_by_test_id("order-why").inner_text()
    assert value(page, "chip-same_tokens") == 0
    assert value(page, "chip-first_layer") == told["untold"]["by_layer"][1]
    assert page.get_by_text("in", exact=True).count() == 1  # the axis begins with what layer 0 is given


def test_fields_presets_and_exchange(opened, page):
    """The lab is worked by keyboard and mouse, and the link holds what was compared."""
    opened(TEXT, lang="zh")
    assert page.get_by_test_id("order-one").input_value() == "狗咬人。"
    page.get_by_test_id("order-swap").click()
    assert page.get_by_test_id("order-one").input_value() == "人咬狗。"
    assert page.get_by_test_id("order-other").input_value() == "狗咬人。"
    page.get_by_test_id("order-preset-1").click()
    page.wait_for_url(re.compile("dog"))
    field = page.get_by_test_id("order-one")
    field.fill("Tom had Anna, then")
    # what the preset had asked may still be on its way
    with page.expect_response(
        lambda one: one.url.endswith("/order") and "then" in (one.request.post_data or "")
    ) as answer:
        field.press("Enter")
    assert not answer.value.json()["reordered"]
    page.get_by_test_id("order-why").filter(has_text="词元不同").wait_for()
    assert page.get_by_test_id("chip-same_tokens").get_attribute("data-green") == "false"
    assert page.get_by_test_id("chip-first_layer").count() == 0
    page.keyboard.press("ArrowLeft")  # in the field: it moves the caret, and no token
    assert "token=" not in page.evaluate("location.hash")


def test_an_encoder_decoder_and_an_encoder_have_a_map(opened, page):
    """Sinusoids of the encoder-decoder have dials; the encoder tells no order without positions at any layer."""
    opened(TEXT, model="pair")
    assert page.get_by_test_id("map").get_attribute("data-value") == "sinusoidal_halves"
    assert value(page, "dial-0") == pytest.approx(2 * math.pi)
    opened(TEXT, model="bert", order1="Anna had Tom", order2="Tom had Anna")
    assert page.get_by_test_id("map").count() == 1
