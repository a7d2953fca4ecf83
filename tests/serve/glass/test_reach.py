"""Whom the page reaches: those who listen, who type, whose screen is narrow, and who see little contrast."""

import re
from urllib.parse import quote

import pytest

pytestmark = pytest.mark.page
VIEWS = ("chat", "tokens", "position", "attention", "heads", "layers", "generation", "training")
STORY = "Anna had a red ball. 王明有一个红色的球。"


@pytest.fixture
def opened(page, glass_url, settled):
    """opened(view, ...): that view with the story, when it has got all that it asked for."""

    def go(view, **state):
        said = {"view": view, "text": STORY, "lang": "en", **state}
        page.goto(f"{glass_url}#" + "&".join(f"{name}={quote(str(value))}" for name, value in said.items()))
        settled(page, view)

    return go


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing_serious(page, opened, view, theme):
    """No serious or critical finding of axe-core, contrast AA among its rules, in any view and theme."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.emulate_media(reduced_motion="reduce")
    opened(view, theme=theme)
    found = axe.run(page).response["violations"]
    bad = [
        (one["id"], node["html"][:160], node["failureSummary"][:240])
        for one in found if one["impact"] in ("serious", "critical") for node in one["nodes"][:4]
    ]  # fmt: skip
    assert not bad, bad


@pytest.mark.parametrize("width", [320, 390, 1024, 1440])
@pytest.mark.parametrize("view", VIEWS)
def test_no_width_hides_anything_at_the_side(page, opened, view, width):
    """The page never scrolls sideways, down to 320 pixels, and no view begins above the foot of the header."""
    page.set_viewport_size({"width": width, "height": 800})
    opened(view)
    wide = page.evaluate(
        "[...document.querySelectorAll('#stage, body')].map((el) => [el.scrollWidth, el.clientWidth, el.id])"
    )
    assert all(scroll <= client + 1 for scroll, client, _ in wide), wide
    foot, top = page.evaluate(
        "[document.getElementById('top').getBoundingClientRect().bottom,"
        " document.getElementById('stage').getBoundingClientRect().top]"
    )
    assert top >= foot - 1


@pytest.mark.parametrize("view", VIEWS)
def test_all_that_can_be_clicked_can_be_reached_by_tab(page, opened, view):
    """Everything that takes the focus has a name, and what looks like a button is one."""
    opened(view)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll(
            'button, a[href], input, select, textarea, [role=button], [tabindex="0"]')]
        .filter((el) => el.getClientRects().length && !el.closest('[hidden]'))
        .filter((el) => !(el.textContent.trim() || el.getAttribute('aria-label') || el.getAttribute('aria-labelledby')
            || el.labels?.length || el.title || el.querySelector('title, svg[aria-label]')))
        .map((el) => el.outerHTML.slice(0, 160))"""
    )
    assert not nameless, nameless


def test_one_goes_round_by_keyboard_alone(page, opened):
    """Skip link, views by digits, tokens and layers by arrows, the prompt by /, help by ?, and Esc out of it."""
    opened("tokens")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "skip"
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("4")
    page.get_by_test_id("view-attention").wait_for(state="visible")
    page.keyboard.press("ArrowDown")
    page.wait_for_url(re.compile("layer="))
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.tagName") == "TEXTAREA"
    page.keyboard.press("Escape")
    page.locator("#stage").focus()
    page.keyboard.press("?")
    page.locator("dialog[open]").wait_for(state="visible")
    page.keyboard.press("Escape")
    page.locator("dialog[open]").wait_for(state="hidden")
