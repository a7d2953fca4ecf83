"""The generation view: the sampler's numbers, the loop, the cache and the beams, against the API's."""

import json
import re

import numpy as np
import pytest

pytestmark = pytest.mark.page
TEXT = "view=generation&text=Anna+had+a+red"


@pytest.fixture
def view(page, glass_url):
    """view(more of the link) -> the page once the sampler was proven, and the panel `next` that proved it."""

    def opened(more=""):
        def proves(answer):
            return "/next?" in answer.url and "sampling" in answer.url and ("vs=" in answer.url) == ("vs=" in more)

        with page.expect_response(proves, timeout=60_000) as got:
            page.goto(f"{glass_url}#{TEXT}&{more}")
        page.wait_for_selector("[data-testid=chip-page]")
        return page, got.value.json()

    return opened


def told(answer):
    """The events of a response."""
    blocks = [block.split("\ndata: ") for block in answer.text().strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data)) for name, data in blocks]


def number(page, testid):
    return float(page.get_by_test_id(testid).first.get_attribute("data-value"))


def test_every_stage_shows_the_numbers_of_the_panel(view):
    """Kept, mass and entropy of each rule, and p of the likeliest tokens, are those of the API's panel `next`; its draw
    is the page's; the chips that say so are green."""
    page, panel = view("temp=0.7&topk=30&topp=0.9&minp=0.02&rep=1.2&seed=3")
    stages = {one["name"]: one for one in panel["data"]["stages"]}
    assert set(stages) == {"model", "penalties", "temperature", "top_k", "top_p", "min_p"}
    for name, one in stages.items():
        assert number(page, f"stage-{name}") == one["kept"], name
        assert number(page, f"stage-{name}-mass") == pytest.approx(one["mass"], abs=1e-6), name
        assert number(page, f"stage-{name}-entropy") == pytest.approx(one["entropy"], abs=1e-5), name
    for one in panel["data"]["top"]:
        for name in stages:
            assert number(page, f"p-{name}-{one['id']}") == pytest.approx(one[name], abs=1e-6), (name, one["piece"])
    chosen = panel["data"]["chosen"]
    assert number(page, "drawn") == chosen["id"]
    assert number(page, "drawn-low") == pytest.approx(chosen["low"], abs=1e-6)
    assert float(page.get_by_test_id("u").input_value()) == pytest.approx(chosen["u"], abs=1e-4)
    for name in ("page", "page_draw"):
        assert page.get_by_test_id(f"chip-{name}").get_attribute("data-green") == "true"


def test_a_slider_changes_what_is_kept_at_once_and_in_the_link(view):
    """Top-k of 3 leaves three, greedy one with all of the probability; the link says both."""
    page, _ = view()
    page.get_by_test_id("set-topk").fill("3")
    page.wait_for_selector("[data-testid=stage-top_k][data-value='3']")
    assert page.evaluate("document.querySelectorAll('[data-testid=stage-top_k] li.out').length") == 7
    page.get_by_test_id("set-temp").fill("0")
    page.wait_for_selector("[data-testid=stage-min_p][data-value='1']")
    page.wait_for_url(re.compile("temp=0&topk=3"))
    page.wait_for_selector("[data-testid=chip-page_draw][data-green=true]")


def test_u_falls_where_it_says_and_many_draws_come_near_p(view):
    """u = 0 draws the first token of the line, and its share begins at 0; a thousand draws add up."""
    page, _ = view("topk=4")
    page.get_by_test_id("u").fill("0")
    assert number(page, "drawn-low") == 0
    page.get_by_test_id("draw-many").click()
    seen = page.evaluate(
        """[...document.querySelectorAll("[data-testid^=seen-]")]
        .map((one) => [one.dataset.testid.slice(5), Number(one.dataset.value)])"""
    )
    assert sum(share for _, share in seen) == pytest.approx(1)
    for id, share in seen:
        assert share == pytest.approx(number(page, f"p-min_p-{id}"), abs=0.08)


def test_the_loop_steps_by_key_as_the_engine_says_and_the_cache_grows(view):
    """Space says one token more: that of the API, which is the token the sampler drew; the cache holds one column a
    token that was read, of the API's bytes."""
    page, panel = view("seed=5&temp=1")
    tokens = []
    page.on("response", lambda answer: "/generate" in answer.url and tokens.append(answer))
    page.evaluate("document.activeElement.blur()")
    for n in range(3):
        page.keyboard.press(" ")
        page.wait_for_selector(f"[data-testid=loop-text] [data-testid=said-{n}]")
        page.wait_for_selector("[data-testid=step]:not([disabled])")
    said = [data for answer in tokens for name, data in told(answer) if name == "token"]
    assert len(said) == 3
    assert said[0]["id"] == panel["data"]["chosen"]["id"]
    size = len(panel["data"]["tokens"])
    assert number(page, "cache") == size + 2 == said[-1]["kv_len"]
    assert number(page, "cache-bytes") == said[-1]["kv_bytes"]
    for name in ("cache_columns", "engine", "cached"):
        page.wait_for_selector(f"[data-testid=loop-chips] [data-testid=chip-{name}][data-green=true]")
    page.get_by_test_id("prove-it").click()
    page.wait_for_selector("[data-testid=loop-chips] [data-testid=chip-cached][data-green=true]")
    page.get_by_test_id("loop-again").click()
    assert number(page, "cache") == size


def test_the_beam_tree_tells_of_what_was_given_up(view):
    """Each node of the tree has the API's score and all that went on are there; one that was given up says its number,
    text and state when it is chosen, and the table twin has as many rows as the tree has nodes."""
    page, _ = view("beams=3&deep=4")
    with page.expect_response(lambda answer: "/beam?" in answer.url) as got:
        page.get_by_test_id("beam-search").click()
    data = got.value.json()["data"]
    nodes = data["nodes"]
    assert data["width"] == 3
    page.wait_for_selector("[data-testid=beam-said][data-value]")
    assert number(page, "beam-said") == data["answers"][0]["node"]
    marks = "[data-testid=beam-tree] [data-m]"
    shown = [float(one.get_attribute("data-value")) for one in page.query_selector_all(marks)]
    scores = [node["score"] for node in nodes]
    went = [node["score"] for node in nodes if node["state"] != "pruned"]
    assert set(shown) <= set(scores)
    assert set(went) <= set(shown)
    assert len(shown) > len(went)
    # the last one, before which some are not drawn
    given = max(n for n, node in enumerate(nodes) if node["state"] == "pruned" and node["score"] in shown)
    assert given >= len(shown)
    page.locator(f"{marks}[data-value='{page.evaluate('String', nodes[given]['score'])}']").first.click()
    assert number(page, "beam-said") == given
    said = page.get_by_test_id("beam-said").inner_text()
    assert "given up" in said
    assert f"length {nodes[given]['depth']}" in said
    page.get_by_test_id("beam-tree").get_by_test_id("table").click()
    assert page.locator("[data-testid=beam-tree] .twin tbody tr").count() == len(shown)


@pytest.mark.parametrize("name", ["next", "generation", "kv", "beam"])
def test_the_panels_of_the_api_stand_there_with_their_proofs(view, name):
    """Each panel of the engine opens with the checks that the API gave, all green."""
    page, _ = view("most=6&deep=4")
    with page.expect_response(lambda answer: f"/{name}?" in answer.url) as got:
        page.get_by_test_id(f"panel-tab-{name}").click()
    panel = page.wait_for_selector(f"[data-testid=panel-{name}]")
    for check in got.value.json()["checks"]:
        chip = panel.wait_for_selector(f"[data-testid=chip-{check['name']}]")
        assert chip.get_attribute("data-green") == "true", check
        assert float(chip.get_attribute("data-value")) == check["gap"]


def test_an_encoder_explains_itself_and_fills_its_masks(page, glass_url):
    """A model that says no next token says why, and shows the panel `next` of its masks."""
    page.goto(f"{glass_url}#view=generation&model=bert&text=Anna+had+a+red")
    page.wait_for_selector("[data-testid=cannot-generate]")
    page.wait_for_selector("[data-testid=panel-next]")


def test_a_pair_keeps_its_source_apart_and_says_where_it_begins(page, glass_url):
    """Of an encoder-decoder the loop begins anew and says so; the cache of self-attention has one column a token that
    the decoder read, as the engine tells, and the source stands apart."""
    page.goto(f"{glass_url}#view=generation&model=pair&text=Anna+had+a+red&target=ball")
    page.wait_for_selector("[data-testid=chip-page]")
    assert page.get_by_test_id("loop-model").inner_text() == "pair"
    assert "begins anew" in page.get_by_test_id("loop-start").inner_text()
    page.evaluate("document.activeElement.blur()")
    for n in range(2):
        with page.expect_response(lambda answer: "/generate" in answer.url) as got:
            page.keyboard.press(" ")
        page.wait_for_selector(f"[data-testid=loop-text] [data-testid=said-{n}]")
        page.wait_for_selector("[data-testid=step]:not([disabled])")
    start, token = (next(data for kind, data in told(got.value) if kind == name) for name in ("start", "token"))
    assert number(page, "cache") == token["kv_len"] == 2
    assert int(page.get_by_test_id("cache").get_attribute("data-cross")) == start["prompt_tokens"] - start["prefix"]
    for name in ("cache_columns", "engine", "cached"):
        page.wait_for_selector(f"[data-testid=loop-chips] [data-testid=chip-{name}][data-green=true]")


def test_a_second_model_stands_in_every_rule(view):
    """Known answer "A/B": with a second model each rule shows its p too, which is the engine's for that model with the
    same settings; its likeliest tokens stand beside, and KL is that of the two distributions."""
    page, panel = view("temp=0.7&topp=0.9&vs=tiny/dpo")
    assert panel["data"]["names"][1] == "tiny/dpo"
    one, other = panel["data"]["one"], panel["data"]["other"]
    page.wait_for_selector("[data-testid=chip-page][data-green=true]")
    p = {top["id"]: top for top in other["top"]}
    assert [float(row.get_attribute("data-value")) for row in page.query_selector_all("[data-testid=beside] li")] == (
        pytest.approx([top["model"] for top in other["top"]], abs=1e-6)
    )
    common = [top["id"] for top in one["top"] if top["id"] in p]
    for id in common:
        for name in ("model", "temperature", "top_p", "min_p"):
            q = float(page.get_by_test_id(f"p-{name}-{id}").get_attribute("data-q"))
            assert q == pytest.approx(p[id][name], abs=1e-6), (name, id)
    first, second = (np.array(panel["arrays"][f"{name}/logits"]["values"], float) for name in ("one", "other"))
    first, second = (np.exp(each - each.max()) / np.exp(each - each.max()).sum() for each in (first, second))
    for id in (top["id"] for top in one["top"]):
        q = float(page.get_by_test_id(f"p-model-{id}").get_attribute("data-q"))
        assert q == pytest.approx(second[id], abs=1e-6), id
    assert number(page, "beside-kl") == pytest.approx((first * np.log(first / second)).sum(), rel=1e-4)
    page.get_by_test_id("vs").select_option("")
    page.wait_for_selector("[data-testid=beside] li", state="detached")
    page.get_by_test_id("vs").select_option("bert")
    page.wait_for_function("document.querySelector('[data-testid=beside]').textContent.includes('encoder')")
