"""The page as a whole: what its files may hold, that every view opens, and that what it shows is inert."""

import gzip
import json
import re
from pathlib import Path
from urllib.parse import quote

import pytest

import instar.serve.glass

WEB = Path(instar.serve.glass.__file__).parent / "web"
DOCS = Path(__file__).parents[3] / "docs"
CODE = sorted(WEB.rglob("*.js"))
STYLES = sorted(WEB.rglob("*.css"))
VIEWS = ("chat", "tokens", "position", "attention", "heads", "layers", "generation", "training")
STORY = "Anna had a red ball. 王明有一个红色的球。"
LOOKS = [(language, theme) for language in ("en", "zh") for theme in ("light", "dark")]


def link(url, **state):
    """An address that holds this state."""
    return f"{url}#" + "&".join(f"{name}={quote(str(value))}" for name, value in state.items())


def texts(language):
    """Every text of the page in that language."""
    found = {}
    for path in sorted(WEB.glob(f"i18n/**/*{language}.json")):
        found |= json.loads(path.read_text(encoding="utf-8"))
    return found


def test_no_markup_is_made_of_strings():
    """What a model says can become no element, no script and no style: nothing of the page makes any out of text."""
    forbidden = re.compile(
        r"\b(innerHTML|outerHTML|insertAdjacentHTML|createContextualFragment|srcdoc|document\.write|DOMParser)\b"
        r"|\beval\(|new Function|setTimeout\(\s*[\"'`]|setAttribute\(\s*[\"']style|javascript:"
    )
    for path in CODE:
        found = forbidden.search(path.read_text(encoding="utf-8"))
        assert found is None, f"{path.name}: {found.group()}"
    html = (WEB / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"\son\w+=|\sstyle=|<script(?![^>]*src=)|<style", html)


def test_no_address_of_elsewhere():
    """Offline: no file names another origin, but for the names of XML."""
    for path in (*CODE, *STYLES, WEB / "index.html"):
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//cdn|@import\s+url", text), path.name


def test_both_languages_say_the_same():
    """English and Chinese have the same keys, with the same gaps, and none is empty."""
    english, chinese = texts("en"), texts("zh")
    assert english.keys() == chinese.keys(), sorted(english.keys() ^ chinese.keys())
    for key, text in english.items():
        assert text.strip(), key
        assert chinese[key].strip(), key
        gaps = [sorted(re.findall(r"\{(\w+)\}", said)) for said in (text, chinese[key])]
        assert set(gaps[0]) == set(gaps[1]), f"{key}: {gaps}"
    latin = [key for key, text in chinese.items() if text == english[key] and re.search(r"[a-z]{4,} [a-z]{3,}", text)]
    assert not latin, f"not translated: {latin}"


def test_every_text_that_is_asked_for_is_there():
    """No key is shown in the place of a text: each t("key") is known, and each t(`key.${part}`) has some."""
    known = texts("en")
    for path in CODE:
        said = re.sub(r"/\*.*?\*/|(?<!:)//[^\n]*", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        for key in re.findall(r"\bt\(\s*\"([^\"]+)\"", said) + re.findall(r"\btip:\s*\"([^\"]+)\"", said):
            assert key in known, f"{path.name} asks for {key}"
        for pattern in re.findall(r"\bt\(\s*`([^`]*\$\{[^`]*)`\s*[,)]", said):
            shape = re.sub(r"\\\$\\\{.*?\\\}", ".+", re.escape(pattern))
            assert any(re.fullmatch(shape, key) for key in known), f"{path.name} asks for {pattern}"


def test_files_are_short():
    """No file is longer than 400 lines, so that each is read at one sitting."""
    for path in (*CODE, *STYLES):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path.name


@pytest.mark.xfail(reason="the aim of 200,000 bytes is missed: docs/log.md says by how much, and why", strict=True)
def test_the_source_is_as_small_as_was_aimed_at():
    """JavaScript and CSS together at most 200 kB, as they are written."""
    assert sum(path.stat().st_size for path in (*CODE, *STYLES)) <= 200_000


def test_the_source_does_not_grow():
    """What crosses the wire, packed, stays below 200 kB, and the source below half a megabyte."""
    packed = sum(len(gzip.compress(path.read_bytes())) for path in (*CODE, *STYLES))
    assert packed <= 200_000, f"{packed:,} bytes"
    assert sum(path.stat().st_size for path in (*CODE, *STYLES)) <= 450_000


@pytest.mark.page
def test_it_opens(page, glass_url):
    """The first look: the page opens, the model reads a text, and its tokens are those that the API gives."""
    page.goto(link(glass_url, view="attention", text=STORY, lang="en"))
    page.get_by_test_id("view-attention").wait_for(state="visible")
    told = page.request.post(f"{glass_url}api/trace", data={"model": "tiny", "text": STORY}).json()
    shown = page.locator("[role=option][data-testid^=token-]")
    assert [int(shown.nth(i).get_attribute("data-value")) for i in range(shown.count())] == [
        token["id"] for token in told["tokens"]
    ]


@pytest.mark.page
@pytest.mark.parametrize(("language", "theme"), LOOKS)
def test_every_view_opens_by_mouse_and_by_key(page, glass_url, language, theme, settled):
    """Each shows something, in words of the language, without an error, and with at most 5,000 nodes."""
    page.goto(link(glass_url, text=STORY, lang=language, theme=theme))
    known = texts("en")
    for number, view in enumerate(VIEWS, 1):
        page.get_by_test_id(f"view-tab-{view}").click()
        settled(page, view)
        page.get_by_test_id(f"view-tab-{VIEWS[number - 2]}").click()
        settled(page, VIEWS[number - 2])
        page.locator("#stage").focus()
        page.keyboard.press(str(number))
        settled(page, view)
        assert page.evaluate("document.documentElement.lang") == {"en": "en", "zh": "zh-Hans"}[language]
        assert page.evaluate("document.documentElement.dataset.theme") == theme
        assert page.locator("[data-testid^=error-]").count() == 0, view
        words = page.locator("body").inner_text()
        bare = [key for key in re.findall(r"\b[a-z]+(?:\.[a-z_0-9]+)+\b", words) if key in known]
        assert not bare, f"{view} shows the keys {bare}"
        assert page.evaluate("document.querySelectorAll('*').length") <= 5000, view


@pytest.mark.page
def test_the_first_paint_comes_at_once(page, glass_url, settled):
    """Within 300 ms of the page's arrival something is drawn: the best of five, for a machine may be busy."""
    took = []
    for _ in range(5):
        page.goto("about:blank")
        page.goto(link(glass_url, lang="en"))
        settled(page, "chat")
        arrived, painted = page.evaluate(
            "[performance.getEntriesByType('navigation')[0].responseEnd,"
            " performance.getEntriesByName('first-contentful-paint')[0].startTime]"
        )
        took.append(round(painted - arrived))
    print(f"first paint after the arrival of the page, ms: {took}")
    assert min(took) <= 300, took


@pytest.mark.page
def test_nothing_may_come_from_elsewhere(page, glass_url, troubles):
    """The policy is sent with the page, it stands in the way of a stranger, and nothing asks for one."""
    answer = page.goto(glass_url)
    policy = answer.headers["content-security-policy"].split("; ")
    assert policy[0] == "default-src 'self'"
    assert not [rule for rule in policy if "unsafe" in rule or "http" in rule or "*" in rule]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert troubles.asked
    troubles.expect("example.invalid|Content Security Policy|Failed to fetch")
    blocked = page.evaluate(
        "new Promise((told) => {"
        " document.addEventListener('securitypolicyviolation', (event) => told(event.blockedURI));"
        " fetch('https://example.invalid/').catch(() => {}); })"
    )
    assert "example.invalid" in blocked


@pytest.mark.page
@pytest.mark.parametrize("view", VIEWS)
def test_what_a_text_holds_is_inert(page, glass_url, view, settled):
    """Markup stays text, and marks that turn the direction of writing are spelt out in every view."""
    evil = "<img src=x onerror=window.hacked=1><script>window.hacked=1</script> \u202eabc\u2066 {{7*7}}"
    page.goto(link(glass_url, view=view, text=evil, lang="en"))
    settled(page, view)
    assert page.evaluate("window.hacked") is None
    assert page.locator("img, script:not([type=module])").count() == 0
    words = page.evaluate("document.body.innerText")
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", words)


@pytest.mark.page
def test_a_link_holds_all_that_was_chosen(page, glass_url, browser, troubles, settled):
    """Another browser that opens the address shows the same view, text, token, layer, head, language and theme."""
    page.goto(link(glass_url, view="attention", text=STORY, lang="en", theme="dark"))
    settled(page, "attention")
    page.get_by_test_id("token-4").click()
    page.locator("#stage").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("]")
    page.keyboard.press("]")
    page.wait_for_url(re.compile("head=1"))
    state = dict(part.split("=") for part in page.url.split("#")[1].split("&"))
    assert (state["view"], state["token"], state["head"]) == ("attention", "4", "1")
    assert "layer" in state
    context = browser.new_context(locale="zh-CN", color_scheme="light")
    other = troubles.watch(context.new_page())
    other.goto(page.url)
    settled(other, "attention")
    assert other.get_by_test_id("token-4").get_attribute("aria-selected") == "true"
    assert other.evaluate("document.documentElement.dataset.theme") == "dark"
    assert other.evaluate("document.documentElement.lang") == "en"
    assert dict(part.split("=") for part in other.url.split("#")[1].split("&")) == state
    other.get_by_test_id("view-tab-layers").click()
    other.wait_for_url(re.compile("view=layers"))
    other.go_back()
    settled(other, "attention")
    context.close()


@pytest.mark.page
def test_an_input_method_is_left_alone(page, glass_url, settled):
    """While Chinese is being composed digits choose words and not views, and the text arrives as it was composed."""
    page.goto(link(glass_url, view="tokens", text=STORY, lang="zh"))
    settled(page, "tokens")
    box = page.locator("#prompt textarea")
    box.fill("")
    session = page.context.new_cdp_session(page)
    session.send("Input.imeSetComposition", {"text": "gou", "selectionStart": 3, "selectionEnd": 3})
    for key in ("4", "Enter", "ArrowLeft", "Escape"):
        page.evaluate(
            "(key) => document.activeElement.dispatchEvent(new KeyboardEvent('keydown',"
            " {key, isComposing: true, keyCode: 229, bubbles: true, cancelable: true}))",
            key,
        )
    page.evaluate(
        "document.body.dispatchEvent(new KeyboardEvent('keydown', {key: '4', isComposing: true, bubbles: true}))"
    )
    session.send("Input.insertText", {"text": "狗咬人。"})
    assert box.input_value() == "狗咬人。"
    assert page.get_by_test_id("view-tokens").is_visible()
    assert "text=%E7%8B%97" not in page.url  # nothing was sent before the composition ended
    box.press("4")
    assert box.input_value() == "狗咬人。4"
    assert page.get_by_test_id("view-tokens").is_visible()


def test_the_table_of_features_names_tests_that_there_are():
    """Each row of docs/glass.md names tests, which exist, and the Chinese page the same ones."""
    tests = Path(__file__).parent
    pages = [(DOCS / name).read_text(encoding="utf-8") for name in ("glass.md", "glass.zh.md")]
    found = [re.findall(r"`([\w/]+\.py)::(test_\w+)`", page) for page in pages]
    assert found[0] == found[1]
    assert len(found[0]) >= 13
    missing = [name for file, name in found[0] if f"def {name}(" not in (tests / file).read_text()]
    assert not missing
