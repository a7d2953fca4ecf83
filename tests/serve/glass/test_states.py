"""What the page shows where something is missing or goes wrong: why, and what can be done."""

import json
import re
from urllib.parse import quote

import pytest

pytestmark = pytest.mark.page
TEXT = "Anna had a red ball."


def link(url, **state):
    return f"{url}#" + "&".join(f"{name}={quote(str(value))}" for name, value in state.items())


def refuse(page, pattern, status, times=None, **error):
    """Answer what is asked of these addresses with an error, the first `times` times."""
    left = [times if times is not None else 10**9]

    def answer(route):
        left[0] -= 1
        if left[0] < 0:
            return route.fallback()
        body = {"error": {"detail": "said by the server", **error}}
        return route.fulfill(status=status, content_type="application/json", body=json.dumps(body))

    page.route(re.compile(pattern), answer)


@pytest.mark.parametrize(
    ("code", "status", "more", "said"),
    [
        ("too_long", 413, {"limit": 4096, "got": 5210}, ["4,096", "5,210"]),
        ("memory", 507, {"need": 3_000_000_000, "budget": 1_073_741_824}, ["3.0 GB", "1.1 GB"]),
        ("busy", 429, {}, []),
        ("worker_died", 503, {}, []),
        ("bad_input", 422, {}, ["said by the server"]),
        ("unfit", 422, {"zh": "服务器说的"}, ["服务器说的"]),
        ("internal_error", 500, {}, ["500"]),
    ],
)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_each_error_says_why_and_what_to_do(page, glass_url, troubles, code, status, more, said, language):
    """In both languages with its figures, and trying again helps where the cause has gone."""
    if code == "unfit" and language == "en":
        said = ["said by the server"]
    troubles.expect(f"status of {status}")
    refuse(page, r"/glass/api/trace$", status, times=1, code=code, **more)
    page.goto(link(glass_url, view="tokens", text=TEXT, lang=language))
    card = page.locator("[data-testid^=error-]").first
    card.wait_for(state="visible")
    words = card.inner_text()
    assert all(part in words for part in said), words
    assert bool(re.search("[\u4e00-\u9fff]", words)) == (language == "zh")
    card.get_by_role("button").first.click()
    page.get_by_test_id("view-tokens").wait_for(state="visible")
    assert page.locator("[data-testid^=error-]").count() == 0


def test_a_trace_that_has_expired_is_made_again_in_silence(page, glass_url, troubles, settled):
    """A panel is told that its trace has gone: the text is read once more, and nobody sees any of it."""
    troubles.expect("status of 409")
    refuse(page, r"/glass/api/trace/[^/]+/", 409, times=1, code="trace_expired")
    page.goto(link(glass_url, view="layers", text=TEXT, lang="en"))
    settled(page, "layers")
    assert any("status of 409" in said for said in troubles)
    assert sum(url.endswith("/glass/api/trace") for url in troubles.asked) == 2
    assert page.locator("[data-testid^=error-]").count() == 0


def test_the_server_still_loads(page, glass_url, troubles):
    """The page says so, and goes on by itself once the model is there."""
    troubles.expect("status of 503")
    refuse(page, r"/glass/api/models", 503, times=1, code="loading")
    page.goto(link(glass_url, view="tokens", text=TEXT, lang="en"))
    page.get_by_test_id("error-loading").wait_for(state="visible")
    page.get_by_test_id("view-tokens").wait_for(state="visible")


def test_the_server_has_gone_and_comes_back(page, glass_url, troubles):
    """A banner says it, what is on the page stays, and it goes away with the cause."""
    troubles.expect("ERR_INTERNET_DISCONNECTED|Failed to fetch")
    page.goto(link(glass_url, view="tokens", text=TEXT, lang="en"))
    page.get_by_test_id("view-tokens").wait_for(state="visible")
    page.context.set_offline(True)
    page.get_by_test_id("offline").wait_for(state="visible")
    assert page.get_by_test_id("view-tokens").is_visible()
    page.context.set_offline(False)
    page.get_by_test_id("offline").wait_for(state="hidden")


def test_nothing_is_looked_at_yet(page, glass_url):
    """Without a text a view offers some; one click and it has something to show."""
    page.goto(link(glass_url, view="tokens", lang="en"))
    page.get_by_test_id("example-1").click()
    page.get_by_test_id("view-tokens").wait_for(state="visible")
    assert page.get_by_test_id("token-0").is_visible()


def test_weights_that_have_learned_nothing_are_told(page, glass_url):
    """Beside a loss that is near ln V the page says that these weights predict almost evenly."""
    page.goto(link(glass_url, view="tokens", model="fresh", text=TEXT, lang="en"))
    page.get_by_test_id("view-tokens").wait_for(state="visible")
    page.get_by_test_id("inspector").get_by_text("almost evenly").wait_for(state="visible")
    page.goto(link(glass_url, view="tokens", text=TEXT, lang="en"))
    page.get_by_test_id("inspector").get_by_text("almost evenly").wait_for(state="hidden")


@pytest.mark.parametrize("model", ["bert", "pair"])
@pytest.mark.parametrize("view", ["chat", "tokens", "position", "attention", "heads", "layers", "generation"])
def test_other_kinds_of_models_fit_every_view(page, glass_url, troubles, settled, model, view):
    """An encoder and an encoder-decoder are shown, or told why not; nothing of the page breaks."""
    troubles.expect("status of 422")
    page.goto(link(glass_url, view=view, model=model, text=TEXT, lang="en"))
    settled(page, view)
    assert page.get_by_test_id("error-page").count() == 0
