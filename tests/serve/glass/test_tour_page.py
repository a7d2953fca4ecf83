"""The guided tour: six steps through six views, by mouse and keyboard, in both languages and on a narrow screen."""

import pytest

pytestmark = pytest.mark.page
ROAD = ["tokens", "position", "attention", "layers", "generation", "training"]


@pytest.mark.parametrize(("language", "width", "word"), [("en", 1440, "Anna"), ("zh", 390, "安娜")])
def test_the_tour_leads_through_the_textbook(page, glass_url, troubles, language, width, word):
    """Each step opens its view, points at something of it that is seen, and stands in the address; the head of the
    third is the one that takes most from the word, and back and leave do what they say."""
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(f"{glass_url}#lang={language}")
    page.get_by_test_id("tour").click()
    card = page.get_by_test_id("tour-card")
    for number, view in enumerate(ROAD, 1):
        page.wait_for_url(f"**tour={number}**")
        page.get_by_test_id(f"view-{view}").wait_for(state="visible")
        page.locator(".pointed").wait_for(state="visible")
        assert card.get_attribute("data-value") == str(number)
        assert 80 < len(card.inner_text()) < 700
        seen = page.locator(".pointed").bounding_box()
        assert seen["y"] < 844
        assert seen["y"] + seen["height"] > 0
        if view == "attention":
            page.wait_for_url("**head=**")
        if number < len(ROAD):
            page.get_by_test_id("tour-next").click() if number % 2 else page.keyboard.press("n")
    assert word  # the story's, which the model of the tests splits as it likes
    page.keyboard.press("p")
    page.wait_for_url("**tour=5**")
    page.keyboard.press("Escape")
    card.wait_for(state="hidden")
    assert "tour=" not in page.url.split("#")[1] or page.wait_for_url(lambda url: "tour=" not in url) is None
    assert page.locator(".pointed").count() == 0


def test_a_link_opens_the_tour_where_it_was(page, glass_url):
    """tour=4 in the address is the fourth step, in the language that one asks for then."""
    page.goto(f"{glass_url}#tour=4&lang=en")
    page.get_by_test_id("view-layers").wait_for(state="visible")
    card = page.get_by_test_id("tour-card")
    english = card.inner_text()
    page.get_by_test_id("lang").click()
    page.wait_for_url("**lang=zh**")
    page.get_by_test_id("tour-next").get_by_text("下一步").wait_for()
    assert card.inner_text() != english
    page.get_by_test_id("tour-leave").click()
    card.wait_for(state="hidden")
