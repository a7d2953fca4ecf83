"""The view of heads in a browser: table, map, what is lost without some of them, and the sets they are measured on."""

import json
from urllib.parse import quote

import pytest

pytestmark = pytest.mark.page
TEXT = "Anna had a red ball. She gave the ball to Tom."


@pytest.fixture
def asked(page, glass_url):
    """asked(view, model=, **query): the panel of the text as the API has it."""

    def ask(view="heads", model="tiny", **query):
        trace = page.request.post(f"{glass_url}api/trace", data={"model": model, "text": TEXT}).json()["trace"]
        return page.request.get(f"{glass_url}api/trace/{trace}/{view}", params=query).json()

    return ask


@pytest.fixture
def opened(page, glass_url):
    """opened(**state): the view of heads, its table drawn."""

    def open_(**state):
        said = "&".join(f"{name}={quote(str(value))}" for name, value in ({"text": TEXT} | state).items())
        page.set_viewport_size({"width": 1440, "height": 1400})
        page.goto(f"{glass_url}#view=heads&{said}")
        page.wait_for_selector("[data-testid=panel-heads]", timeout=60_000)
        return page

    return open_


def value(page, name):
    return json.loads(page.get_by_test_id(name).first.get_attribute("data-value"))


def names(page):
    return [row.get_attribute("data-testid") for row in page.locator("[data-testid=heads-table] tbody tr").all()]


def test_rows_are_the_apis_and_sort_both_ways(opened, asked):
    """Each head with its clearest score, in the panel's order; a click on a column sorts by it, another turns it."""
    page, heads = opened(), asked()["data"]["heads"]
    assert names(page) == [f"row-{one['layer']}.{one['head']}" for one in heads]
    for one in heads:
        lead = one["leading"]
        assert value(page, f"score-{one['layer']}.{one['head']}") == one["scores"][lead["on"]][lead["name"]]
        assert value(page, f"above-{one['layer']}.{one['head']}") == lead["above"]
    page.get_by_test_id("sort-entropy/text").click()
    wanted = sorted(heads, key=lambda one: -one["scores"]["text"]["entropy"])
    assert names(page) == [f"row-{one['layer']}.{one['head']}" for one in wanted]
    page.get_by_test_id("sort-entropy/text").press("Enter")
    assert names(page) == [f"row-{one['layer']}.{one['head']}" for one in wanted[::-1]]


def test_a_head_that_is_clicked_is_selected_everywhere(opened):
    page = opened()
    page.get_by_test_id("head-1.2").click()
    page.wait_for_selector("[data-testid='head-1.2'][aria-pressed=true]")
    page.wait_for_url(lambda url: "layer=1" in url and "head=2" in url)
    page.keyboard.press("]")
    page.wait_for_selector("[data-testid='head-1.3'][aria-pressed=true]")
    page.locator("[data-testid='row-0.1'] .head-pair").click()
    page.wait_for_selector("[data-testid=attention-head][data-value='1']")
    assert page.get_by_test_id("attention-layer").get_attribute("data-value") == "0"


def test_the_map_has_the_scores_that_one_chooses(opened, asked):
    page, panel = opened(hx="entropy/text", hy="sink/text"), asked()
    points = page.locator("[data-testid=figure-scatter] circle.dot")
    points.first.wait_for()
    arrays = panel["arrays"]
    wanted = sorted(
        (arrays["text/entropy"]["values"][layer][head], arrays["text/sink"]["values"][layer][head])
        for layer in range(3) for head in range(4)
    )  # fmt: skip
    found = sorted(tuple(map(float, one.get_attribute("data-value").split(","))) for one in points.all())
    assert found == [pytest.approx(one) for one in wanted]
    page.get_by_test_id("axis-y").select_option("copying/random")
    page.wait_for_url(lambda url: "hy=copying" in url)


def test_without_some_heads_the_next_token_changes_as_the_api_says(opened, page, glass_url):
    """Ticked heads are silenced; KL, probabilities and logits are those of an intervention; reset brings all back."""
    opened(token=4)
    for name in ("0.1", "2.3"):
        page.get_by_test_id(f"cut-box-{name}").check()
    page.get_by_test_id("ablation-mean").click()
    page.get_by_test_id("ablate").click()
    page.get_by_test_id("diff-kl").wait_for()
    trace = page.request.post(f"{glass_url}api/trace", data={"model": "tiny", "text": TEXT}).json()["trace"]
    said = {"trace": trace, "heads": [[0, 1], [2, 3]], "ablation": "mean", "at": 4}
    wanted = page.request.post(f"{glass_url}api/intervene", data=said).json()["diff"]
    assert value(page, "diff-kl") == pytest.approx(wanted["kl"])
    assert wanted["kl"] > 1e-6
    assert value(page, "diff-dlogit") == pytest.approx(wanted["dlogit_of_best"])
    assert value(page, "diff-at") == 4
    likeliest = sorted(wanted["top"], key=lambda one: -max(one["p"], one["p0"]))[:10]
    assert [value(page, f"diff-{one['id']}") for one in likeliest] == pytest.approx([one["p"] for one in likeliest])
    proof = page.get_by_test_id("diff-proof")
    proof.get_by_test_id("chip-nothing_silenced").wait_for(state="attached")
    for name, most in (("nothing_silenced", 0), ("effect_recomputed", 1e-6)):
        assert float(proof.get_by_test_id(f"chip-{name}").get_attribute("data-value")) <= most
    assert proof.locator("[data-green=false]").count() == 0
    page.get_by_test_id("reset").click()
    page.wait_for_selector("[data-testid=diff-kl]", state="detached")
    assert not page.get_by_test_id("cut-box-0.1").is_checked()


def test_a_narrow_page_shows_rows_as_cards(opened):
    """Where the columns have no room nothing is cut off: each score lies within the page."""
    page = opened()
    page.set_viewport_size({"width": 390, "height": 1400})
    page.wait_for_selector("[data-testid=heads-table].cards")
    for one in page.locator("[data-testid=heads-table] :is(.head-score, .head-pair)").all():
        box = one.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
    page.set_viewport_size({"width": 1440, "height": 1400})
    page.wait_for_selector("[data-testid=heads-table]:not(.cards)")


def test_entities_get_a_column_of_their_lift(opened, asked):
    page = opened(sort="lift")
    page.get_by_test_id("entity-words").fill("Tom")
    page.get_by_test_id("entity-words").press("Enter")
    page.wait_for_url(lambda url: "entities=Tom" in url)
    panel = asked(entities="Tom")
    lifts = panel["arrays"]["lift"]["values"]
    best = max((lifts[layer][head], f"row-{layer}.{head}") for layer in range(3) for head in range(4))
    page.wait_for_selector(f"[data-testid=heads-table] tbody tr:first-child[data-testid='{best[1]}']")


def test_probe_sets_a_text_of_ones_own_and_a_second_model(opened, page, glass_url):
    opened()
    page.get_by_test_id("heads-set-probe").click()
    profile = page.request.get(f"{glass_url}api/heads/tiny", params={"set": "probe"}).json()
    first = profile["data"]["heads"][0]
    name = f"{first['layer']}.{first['head']}"
    page.wait_for_selector(
        f"[data-testid=heads-table] tbody tr:first-child[data-testid='row-{first['layer']}.{first['head']}']"
    )
    assert value(page, f"score-{first['layer']}.{first['head']}") == pytest.approx(
        first["scores"][first["leading"]["on"]][first["leading"]["name"]]
    )
    entropy = first["scores"]["text"]["entropy"]
    cells = page.locator(f"[data-testid='row-{name}'] td[data-value]").all()
    assert any(float(one.get_attribute("data-value")) == pytest.approx(entropy) for one in cells)
    page.get_by_test_id("heads-set-corpus").click()
    page.get_by_test_id("corpus").fill("Tom said thank you and ran home. " * 8)
    page.locator("[data-testid=corpus] + button").click()
    page.get_by_test_id("heads-table").wait_for()
    opened(vs="tiny/dpo")
    page.locator("[data-testid=heads-table] th", has_text="tiny/dpo").wait_for()
    page.locator("[data-testid=figure-scatter] circle.beside").first.wait_for()
    assert page.locator("[data-testid=figure-scatter] circle.beside").count() == 12
