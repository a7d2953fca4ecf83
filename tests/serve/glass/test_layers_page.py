"""The view of layers in a browser: the lens, shares with their faithfulness, effects, and the claim."""

import json
import re

import pytest

pytestmark = pytest.mark.page
TEXT = "Anna had a red ball."
SPELT = re.compile("<[0-9A-F]{2}( [0-9A-F]{2})*>$")  # a piece that is no whole character


@pytest.fixture
def asked(page, glass_url):
    """asked(view, model=, **query): the panel of the text as the API has it."""

    def ask(view, model="tiny", **query):
        trace = page.request.post(f"{glass_url}api/trace", data={"model": model, "text": TEXT}, timeout=60_000).json()
        return page.request.get(f"{glass_url}api/trace/{trace['trace']}/{view}", params=query, timeout=60_000).json()

    return ask


@pytest.fixture
def opened(shown):
    """opened(**state): the view of layers, lens and shares drawn."""
    return lambda **state: shown("layers", TEXT, "panel-lens", "explain", **state)


def value(page, name):
    return json.loads(page.get_by_test_id(name).first.get_attribute("data-value"))


@pytest.mark.parametrize("mode", ["p", "kl", "rank", "entropy"])
def test_cells_are_the_apis_in_each_mode(opened, asked, mode):
    page = opened(token=1, lens=mode)
    panel = asked("lens")
    wanted = panel["arrays"][mode]["values"]
    rows, count = len(panel["data"]["rows"]), len(panel["data"]["tokens"])
    for row in range(rows):
        for token in range(count):
            number = wanted[row][token][0] if mode == "p" else wanted[row][token]
            assert value(page, f"cell-{row}-{token}") == number
    assert page.get_by_test_id(f"lens-mode-{mode}").get_attribute("aria-pressed") == "true"
    assert page.locator("[data-value=undefined]").count() == 0


def test_the_readout_follows_pointer_keys_and_clicks(opened, asked):
    """The row from which the final answer stays is marked in each column."""
    page = opened(token=0, layer=0)
    panel = asked("lens")
    arrays, data = panel["arrays"], panel["data"]
    for token, row in enumerate(data["settled"]):
        assert "settles" in page.get_by_test_id(f"cell-{row}-{token}").get_attribute("class")
    assert page.locator("td.settles").count() == len(data["tokens"])
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    page.wait_for_selector("[data-testid=cell-2-1].at")
    assert value(page, "fact-kl") == arrays["kl"]["values"][2][1]
    page.get_by_test_id("cell-0-3").hover()
    assert value(page, "fact-entropy") == arrays["entropy"]["values"][0][3]
    top = [value_.get_attribute("data-value") for value_ in page.locator("[data-testid=readout] li").all()]
    assert [float(p) for p in top] == [one["p"] for one in data["top"][0][3]]
    page.get_by_test_id("cell-1-3").click()
    page.wait_for_url(re.compile("token=3.*layer=0"))
    assert value(page, "settled") == data["settled"][3]


def test_shares_and_the_faithfulness_meter_are_the_apis(opened, asked):
    """Known answer of glassbox.md: integrated gradients close their gap, and the meter shows ρ against occlusion."""
    page = opened(token=4)
    page.get_by_test_id("method-integrated").click()
    page.wait_for_selector("[data-testid=meter]")
    panel = asked("attribution", at=4, method="integrated")
    data = panel["data"]
    assert value(page, "meter") == data["faithfulness"]["integrated"]
    assert value(page, "gap") == data["completeness"]["gap"] < 0.01
    for i, (share, lost) in enumerate(zip(data["shares"], panel["arrays"]["occlusion"]["values"])):
        assert value(page, f"share-{i}") == share
        assert value(page, f"referee-{i}") == lost
    for method in ("gradient-attention", "gradient-input", "integrated"):
        assert value(page, f"method-{method}") == data["faithfulness"][method]
    page.get_by_test_id("method-direct").click()
    page.wait_for_selector("[data-testid=meter]", state="detached")
    assert page.get_by_test_id("referee-0").count() == 1


def test_another_token_can_be_explained(opened, asked):
    """The second likeliest of the readout is asked about with a click, and the link holds it."""
    page = opened(token=2)
    top = asked("lens")["data"]["top"][-1][2]
    second = next(one for one in top[1:] if not SPELT.match(one["piece"]))
    for spelt in filter(lambda one: SPELT.match(one["piece"]), top):
        assert page.get_by_test_id(f"top-{spelt['id']}").get_by_role("button").count() == 0  # no text means it alone
    with page.expect_response(lambda answer: "explain=" in answer.url and "/attribution" in answer.url) as answer:
        page.get_by_test_id(f"top-{second['id']}").get_by_role("button").click()
    assert answer.value.json()["data"]["target"]["id"] == second["id"]
    page.wait_for_url(re.compile("explain="))


def test_effects_are_shown_when_asked_for_and_offered_anew_for_another_token(opened, asked):
    page = opened(token=2)
    assert page.get_by_test_id("panel-effects").count() == 0
    page.get_by_test_id("effects-run").click()
    page.wait_for_selector("[data-testid=panel-effects]")
    names = [check["name"] for check in asked("effects", at=2)["checks"]]
    assert all(page.locator(f"[data-testid=panel-effects] [data-testid='chip-{name}']").count() for name in names)
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("[data-testid=panel-effects]", state="detached")
    assert page.get_by_test_id("effects-run").is_visible()


def test_two_models_have_a_lens_each(opened, asked):
    page = opened(token=1, vs="tiny/pretrain")
    assert page.get_by_test_id("lens").count() == 2
    other = asked("lens", vs="tiny/pretrain")["arrays"]["other/p"]["values"]
    assert json.loads(page.get_by_test_id("cell-1-1").nth(1).get_attribute("data-value")) == other[1][1][0]


def test_an_encoder_has_a_masked_lens(opened, asked):
    page = opened(model="bert", token=2)
    assert value(page, "cell-1-2") == asked("lens", "bert")["arrays"]["p"]["values"][1][2][0]


def test_the_verdict_on_the_claim_allows_unclear(page, glass_url):
    """It holds only where intervals stand apart in the textbook's order, fails only where neighbours surely stand in
    the other, and in a shallow model, or where a task was not learnt, it is unclear."""
    page.goto(glass_url)
    verdicts = page.evaluate(
        """async () => { const { verdict } = await import("./views/layers/claim.js");
        const task = (low, high, sure = 0.9) => ({ low: [sure], majority: 0.5, centre: [(low + high) / 2, low, high] });
        const of = (a, b, c, d, blocks = 24) => verdict([[a, b], [c], [d]], blocks);
        const rising = [task(1, 2), task(2, 3), task(5, 6), task(8, 9)];
        return [of(...rising), of(...rising, 4), of(task(1, 2), task(2, 5.5), task(5, 6), task(8, 9)),
        of(task(7, 8), task(2, 3), task(5, 6), task(8, 9)),
        of(task(1, 2), task(2, 3), task(5, 6), task(8, 9, 0.4))]; }"""
    )
    assert verdicts == ["holds", "unclear", "unclear", "fails", "unclear"]
