"""The view of tokens in a browser: bytes, merges and ids as the API gives them, and each character once."""

import json
import re

import pytest

pytestmark = pytest.mark.page
TEXT = "Anna had 龘 ball"


@pytest.fixture
def asked(page, glass_url):
    """asked(view, text, model=, **query): the panel of a text as the API has it."""

    def ask(view, text, model="tiny", **query):
        trace = page.request.post(f"{glass_url}api/trace", data={"model": model, "text": text}, timeout=60_000).json()
        return page.request.get(f"{glass_url}api/trace/{trace['trace']}/{view}", params=query, timeout=60_000).json()

    return ask


@pytest.fixture
def opened(shown):
    """opened(text, **state): the view of tokens."""
    return lambda text, **state: shown("tokens", text, "panel-tokens", **state)


def value(page, name):
    """data-value of the one element of a data-testid."""
    return json.loads(page.get_by_test_id(name).get_attribute("data-value"))


def test_ids_bytes_and_merges_are_those_of_the_api(opened, asked):
    page = opened(TEXT, token=1)
    data = asked("tokens", TEXT, at=1)["data"]
    pieces = page.locator("[data-testid=cut] button")
    assert [int(one.get_attribute("data-value")) for one in pieces.all()] == [token["id"] for token in data["tokens"]]
    octets = " ".join(page.get_by_test_id("octet").all_inner_texts())
    assert octets == TEXT.encode().hex(" ").upper()
    assert value(page, "rate") == data["bytes_per_token"]
    assert value(page, "specimen") == data["tokens"][1]["id"]
    word = next(word for word in data["words"] if 1 in word["places"])
    assert value(page, "merges") == len(word["merges"]) > 0
    assert value(page, "merge-rank") == word["merges"][-1]["rank"]


def test_a_character_in_several_tokens_stands_once_with_its_bytes(opened, asked):
    """Known answer of glassbox.md: joined bytes = input, and no replacement character anywhere."""
    tokens = asked("tokens", TEXT)["data"]["tokens"]
    split = [i for i, token in enumerate(tokens) if token["part"][1] == 3]
    page = opened(TEXT, token=split[1])
    assert [one.inner_text() for one in page.get_by_test_id("glyph").all()] == ["龘"]
    assert page.locator("[data-testid=specimen] .octets b").all_inner_texts() == ["E9", "BE", "98"]
    assert page.locator("[data-testid=specimen] .octets .own b").all_inner_texts() == ["BE"]
    whole = page.get_by_test_id("letter").filter(has_text="龘")
    assert whole.count() == 1
    assert whole.get_attribute("data-at") == " ".join(map(str, split))
    assert "�" not in page.get_by_test_id("stage").inner_text()


def test_keys_and_clicks_move_the_one_selection(opened, asked):
    page = opened(TEXT, token=0)
    ids = [token["id"] for token in asked("tokens", TEXT)["data"]["tokens"]]
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(f"[data-testid=specimen][data-value='{ids[1]}']")
    page.get_by_test_id("octet").last.click()
    page.wait_for_selector(f"[data-testid=specimen][data-value='{ids[-1]}']")
    page.get_by_test_id("letter").first.hover()
    assert page.locator("[data-testid=piece-0].lit").count() == 1
    page.wait_for_url(re.compile(f"token={len(ids) - 1}"))


def test_merges_can_be_stepped_through(opened):
    """Before the first step there are bytes alone, after the last the tokens."""
    page = opened("Anna had", token=0)
    slider = page.get_by_test_id("merge-step")
    slider.focus()
    steps = value(page, "merges")
    assert page.locator(".merge.later").count() == 0
    page.keyboard.press("Home")
    assert page.locator(".merge.later:not(.end)").count() == steps
    page.keyboard.press("ArrowRight")
    assert page.locator(".merge.now").count() == 1


def test_markup_and_marks_of_direction_are_inert(opened):
    """A token is never markup, and what turns a line round is spelt out."""
    page = opened("<img src=x onerror=window.hit=1> \u202eabc", token=2)
    assert page.locator("#stage img").count() == 0
    assert page.evaluate("window.hit") is None
    assert "⟨U+202E⟩" in "".join(page.get_by_test_id("letter").all_inner_texts())
    assert "\u202e" not in page.get_by_test_id("stage").inner_text()


def test_another_models_cut_stands_below_the_same_bytes(opened, asked):
    page = opened(TEXT, token=0, vs="bert")
    theirs = asked("tokens", TEXT, vs="bert")["data"]["other"]
    found = page.locator("[data-testid^=other-][data-testid]:not([data-testid=other-rate])")
    assert [int(one.get_attribute("data-value")) for one in found.all()] == [token["id"] for token in theirs["tokens"]]
    assert value(page, "other-rate") == theirs["bytes_per_token"]


def test_bytes_as_characters(page, glass_url):
    """UTF-8 that is cut within a character gives the whole ones, and the bytes of the rest alone."""
    page.goto(glass_url)
    found = page.evaluate(
        """async () => { const { letters, sizeOf } = await import("./views/tokens/octets.js");
        return [letters([65, 0xE7, 0x8B, 0x97, 0xC3, 0xA9, 0xE7, 0x8B]), sizeOf("<E7 8B>", [65, 0xE7, 0x8B], 1),
        sizeOf("<E7 8B>", [65, 0xE7, 0x8C], 1), sizeOf("<41>", [60, 52, 49, 62], 0),
        letters([0xF0, 0x9F, 0x98, 0x80])]; }"""
    )
    told = [{"text": text, "size": size} for text, size in (("A", 1), ("狗", 3), ("é", 2), ("", 1), ("", 1))]
    assert found == [told, 2, 0, 4, [{"text": "😀", "size": 4}]]


def test_a_panel_without_a_title_has_no_empty_row(opened):
    """Its menu stands among the tools of the first figure, and there is no header."""
    panel = opened(TEXT, token=1).get_by_test_id("panel-tokens")
    assert panel.locator("header").count() == 0
    assert panel.locator("figure").first.locator("details.menu").count() == 1
    assert panel.locator("details.menu").count() == 1


def test_a_word_that_is_longer_than_a_phone_is_wide_scrolls(page, opened):
    """At 320 px the page itself does not."""
    page.set_viewport_size({"width": 320, "height": 700})
    opened("internationalization " * 2, token=1)
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    assert page.get_by_test_id("cut").evaluate("el => el.getBoundingClientRect().right <= innerWidth")
