"""Talking with a model on the page: numbers, branches, keyboard, input methods."""

import json
import math

import pytest

pytestmark = pytest.mark.page
ENDED = "[data-value=stop],[data-value=length],[data-value=stopped]"


def answered(page, n, side="a"):
    """Wait until message n is said -> its element."""
    selector = ",".join(f"[data-testid=answer-{n}-{side}]{state}" for state in ENDED.split(","))
    return page.wait_for_selector(selector, timeout=60_000)


def said(page, n=1, side="a"):
    """The tokens of an answer as the page shows them: (log p, text) in order."""
    marks = page.query_selector_all(f"[data-testid=answer-{n}-{side}] .tk")
    return {int(mark.get_attribute("data-i")): float(mark.get_attribute("data-value")) for mark in marks}


def events(body):
    """The server-sent events of a body: (name, data)."""
    found = []
    for block in body.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((fields["event"], json.loads(fields["data"])))
    return found


@pytest.fixture
def chat(page, glass_url):
    """chat(state of the link) -> the page, open at the chat."""

    def opened(state=""):
        page.goto(f"{glass_url}#{state}")
        page.wait_for_selector("[data-testid=view-chat]")
        return page

    return opened


def ask(page, text):
    """Ask -> the events of the API's answer, once the page has shown them."""
    field = page.get_by_test_id("composer")
    field.fill(text)
    with page.expect_response(lambda answer: "/generate" in answer.url) as got:
        field.press("Enter")
    got.value.finished()
    return events(got.value.text())


def test_each_token_shows_what_the_api_told_of_it(chat):
    """An answer's tokens carry the log p of the API, the card its p, rank, entropy and alternatives with their bars."""
    page = chat("most=8&temp=1")
    told = [data for name, data in ask(page, "Anna had a red ball.") if name == "token"]
    answered(page, 1)
    assert said(page) == {n: one["logprob"] for n, one in enumerate(told)}
    page.get_by_test_id("said-2").click()
    for key, name in (("p", "p"), ("p_after", "after"), ("rank", "rank"), ("entropy", "entropy"), ("kept", "kept")):
        assert float(page.get_by_test_id(f"token-{name}").get_attribute("data-value")) == told[2][key], key
    rows = page.query_selector_all("[data-testid^=alternative-]")
    found = [
        (int(row.get_attribute("data-testid").split("-")[1]), float(row.get_attribute("data-value"))) for row in rows
    ]
    assert found == [(id, p) for id, _, _, p, _ in told[2]["top"]]
    assert len(found) == 20


def test_a_fork_keeps_what_was_said_before_and_loses_nothing(chat):
    """Another token chosen at the third place: the new answer begins with the same two ids and the chosen one, which
    the request says; both answers can be turned to."""
    page = chat("most=8&temp=1")
    told = [data for name, data in ask(page, "Anna had a red ball.") if name == "token"]
    answered(page, 1)
    first = said(page)
    page.get_by_test_id("said-2").click()
    id, _, _, p, _ = next(one for one in told[2]["top"] if one[0] != told[2]["id"] and one[3] > 0)
    with page.expect_request(lambda asked: "/generate" in asked.url) as got:
        page.get_by_test_id(f"alternative-{id}").click()
    assert got.value.post_data_json["prefix_ids"] == [told[0]["id"], told[1]["id"], id]
    answered(page, 1)
    page.wait_for_selector("[data-testid=branch-1][data-value='2/2']")
    marks = said(page)
    assert (marks[0], marks[1]) == (told[0]["logprob"], told[1]["logprob"])
    assert math.exp(marks[2]) == pytest.approx(p, rel=1e-9)
    page.get_by_test_id("before-1").click()
    assert page.get_by_test_id("branch-1").get_attribute("data-value") == "1/2"
    assert said(page) == first


def test_editing_and_regenerating_branch(chat):
    """An edited question is a sibling of the old one, a regenerated answer of the old answer; the tree outlives a new
    load of the page."""
    page = chat("most=4")
    ask(page, "Anna had")
    answered(page, 1)
    page.get_by_test_id("edit-0").click()
    page.get_by_test_id("rewrite").fill("Tom had")
    page.get_by_test_id("rewrite").press("Enter")
    page.wait_for_selector("[data-testid=branch-0][data-value='2/2']")
    answered(page, 1)
    page.get_by_test_id("regenerate-1").click()
    page.wait_for_selector("[data-testid=branch-1][data-value='2/2']")
    answered(page, 1)
    page.wait_for_timeout(600)
    page.reload()
    page.wait_for_selector("[data-testid=branch-1][data-value='2/2']")
    assert "Tom had" in page.get_by_test_id("message-0").text_content()
    page.get_by_test_id("before-0").click()
    assert "Anna had" in page.get_by_test_id("message-0").text_content()
    assert page.get_by_test_id("answer-1-a").is_visible()


def test_stopping_keeps_what_was_said_and_continuing_goes_on(chat):
    """Stop leaves the tokens that were said; Continue asks for more behind exactly those ids."""
    page = chat("most=400&temp=2&topp=1")
    page.get_by_test_id("composer").fill("Anna had")
    page.get_by_test_id("composer").press("Enter")
    page.wait_for_selector("[data-testid=said-3]")
    page.get_by_test_id("stop-answer").click()
    answered(page, 1)
    before = said(page)
    assert 4 <= len(before) < 400
    page.get_by_test_id("set-most").fill("3")
    page.get_by_test_id("set-most").press("Tab")
    with page.expect_request(lambda asked: "/generate" in asked.url) as got:
        page.get_by_test_id("continue-1").click()
    assert len(got.value.post_data_json["prefix_ids"]) == len(before)
    answered(page, 1)
    after = said(page)
    # what is drawn next may be the end
    assert len(before) <= len(after) <= len(before) + 3
    assert {place: after[place] for place in before} == before
    assert {n: after[n] for n in before} == before


def test_enter_sends_but_not_while_a_word_is_composed(chat):
    """Enter in the middle of a composition (Chinese input) and Shift+Enter send nothing; Enter alone does."""
    page = chat("most=2")
    field = page.get_by_test_id("composer")
    field.fill("球")
    for how in ({"isComposing": True}, {"keyCode": 229}):
        page.evaluate(
            """(how) => document.querySelector("[data-testid=composer]").dispatchEvent(
            new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true, ...how }))""",
            how,
        )
    field.press("Shift+Enter")
    assert field.input_value() == "球\n"
    assert page.query_selector("[data-testid=message-0]") is None
    field.press("Enter")
    answered(page, 1)
    assert field.input_value() == ""


def test_the_keyboard_walks_tokens_and_opens_one(chat):
    """One token is in the order of tabs; arrows, Home and End move on, Enter opens it, Esc goes back to it."""
    page = chat("most=6&temp=1")
    ask(page, "Anna had a red ball.")
    answered(page, 1)
    assert page.evaluate("document.querySelectorAll('.said .tk[tabindex=\"0\"]').length") == 1
    page.get_by_test_id("said-0").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    focused = "document.activeElement.dataset.testid"
    assert page.evaluate(focused) == "said-2"
    page.keyboard.press("Home")
    assert page.evaluate(focused) == "said-0"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-testid^=alternative-]")
    page.keyboard.press("Escape")
    assert page.query_selector("[data-testid^=alternative-]") is None
    assert page.evaluate(focused) == "said-1"


def test_two_models_answer_side_by_side_with_one_seed(chat, glass_url):
    """With a second model both are asked the same with the same seed, and the second answer can be kept as a branch."""
    page = chat("most=4&seed=7&mode=text")
    other = page.evaluate(
        """[...document.querySelectorAll("[data-testid=vs] option")].map((one) => one.value)
        .find((id) => id.includes("dpo"))"""
    )
    page.get_by_test_id("vs").select_option(other)
    bodies = []
    page.on("request", lambda asked: "/generate" in asked.url and bodies.append(asked.post_data_json))
    page.get_by_test_id("composer").fill("Anna had")
    page.get_by_test_id("composer").press("Enter")
    answered(page, 1)
    answered(page, 1, "b")
    assert [one["model"] for one in bodies] == [bodies[0]["model"], other]
    assert bodies[0]["model"] != other
    assert {one["seed"] for one in bodies} == {7}
    assert bodies[0]["prompt"] == bodies[1]["prompt"] == "Anna had"
    second = said(page, 1, "b")
    page.get_by_test_id("keep-1").click()
    page.wait_for_selector("[data-testid=branch-1][data-value='2/2']")
    assert list(said(page).values())[: len(second)] == list(second.values())


def test_looking_inside_hands_the_very_ids_to_all_views(chat):
    """Look inside: the trace is of the prompt's ids and the answer's, with the token selected."""
    page = chat("most=5&temp=1&mode=text")
    heard = ask(page, "Anna had a red ball.")
    start = next(data for name, data in heard if name == "start")
    ids = [data["id"] for name, data in heard if name == "token"]
    answered(page, 1)
    page.get_by_test_id("said-1").click()
    with page.expect_request(lambda asked: asked.url.endswith("/glass/api/trace")) as got:
        page.get_by_test_id("inside").click()
    assert got.value.post_data_json["ids"] == start["ids"] + ids
    chosen = page.wait_for_selector(f"[data-testid=token-{len(start['ids']) + 1}][aria-selected=true]")
    assert int(chosen.get_attribute("data-value")) == ids[1]


def test_a_character_of_several_tokens_stands_there_once(chat):
    """Known answer "Tokens": three tokens that share 中 are one character with three marks, half a one is its bytes,
    and there is no replacement character."""
    page = chat()
    found = page.evaluate("""async () => {
      const { drawn } = await import("./views/chat/answer.js");
      const token = (text, b64, more = {}) => ({ text, b64, logprob: -1, piece: text, ...more });
      const told = [["", "5A=="], ["", "uA=="], ["中", "rQ=="], [" ok", "IG9r"], ["", "5A=="]];
      const tokens = told.map((one) => token(...one));
      const one = drawn({ tokens: tokens.slice(0, 2) }, { label: "x", pick() {}, peek() {} });
      const all = drawn({ tokens }, { label: "x", pick() {}, peek() {} });
      return { half: one.el.textContent, whole: all.el.textContent, marks: all.el.querySelectorAll(".tk").length };
    }""")
    assert found == {"half": "E4B8", "whole": "中 okE4", "marks": 5}


def test_a_lost_connection_keeps_what_was_said_and_can_be_tried_again(chat, troubles):
    """Where the stream breaks the tokens stay, and a button goes on behind them."""
    page = chat("most=6&temp=1")
    first = 'event: start\ndata: {"prompt_tokens":1,"ids":[5]}\n\n'
    token = {
        "step": 0, "id": 9, "text": "x", "piece": "x", "b64": "eA==", "logprob": -1, "rank": 1, "entropy": 1, "kept": 1,
        "u": 0.5, "p": 0.3, "p_after": 0.3, "top": [], "phase": "prefill", "kv_len": 1, "kv_bytes": 8, "ms": 1,
    }  # fmt: skip
    body = first + f"event: token\ndata: {json.dumps(token)}\n\n"
    page.route("**/glass/api/generate", lambda route: route.fulfill(content_type="text/event-stream", body=body))
    page.get_by_test_id("composer").fill("Anna")
    page.get_by_test_id("composer").press("Enter")
    page.wait_for_selector("[data-testid=error-offline]")
    assert list(said(page)) == [0]
    page.unroute("**/glass/api/generate")
    with page.expect_request(lambda asked: "/generate" in asked.url) as got:
        page.get_by_test_id("error-offline").get_by_role("button").click()
    assert (got.value.post_data_json["ids"], got.value.post_data_json["prefix_ids"]) == ([5], [9])
    answered(page, 1)
    assert page.query_selector("[data-testid=error-offline]") is None


def test_long_conversations_stay_small(chat):
    """Two hundred exchanges of two hundred tokens: fewer than 5,000 elements, the last answer in tokens, the first ones
    as text that can be opened."""
    page = chat()
    page.evaluate("""() => {
      const token = { id: 1, text: " word", piece: " word", b64: "IHdvcmQ=", logprob: -1, rank: 1, entropy: 1 };
      const said = { model: "tiny", adapter: "", begins: {}, prompt: [1], finish: "stop", error: null, stop: null };
      const nodes = [], picked = {};
      for (let n = 1; n <= 400; n++) {
        const tokens = Array.from({ length: n > 380 ? 200 : 2 }, () => token);
        nodes.push({ id: n, parent: n - 1, ...(n % 2 ? { role: "user", text: `ask ${n}` }
          : { role: "assistant", said: { ...said, tokens, checks: [], first: 1, rate: 1, bytes: 1, seed: 0 } }) });
        picked[n - 1] = n;
      }
      const kept = JSON.stringify({ nodes, picked, next: 401 });
      addEventListener("pagehide", () => sessionStorage.setItem("instar.chat", kept));
    }""")
    page.reload()
    page.wait_for_selector("[data-testid=message-399]")
    assert page.evaluate("document.querySelectorAll('*').length") < 5000
    assert page.evaluate("document.querySelectorAll('[data-testid=answer-399-a] .tk').length") == 200
    page.get_by_test_id("tokens-383").click()
    page.wait_for_selector("[data-testid=answer-383-a] .tk")


def test_an_encoder_says_why_it_cannot_speak(chat, troubles):
    """A model without a next token explains so, and offers one that has."""
    page = chat("model=bert")
    page.wait_for_selector("[data-testid=cannot-generate]")
    for dead in ("composer", "token-card", "settings"):
        assert not page.get_by_test_id(dead).is_visible()


def test_chinese_is_spoken(page, glass_url):
    """The page in Chinese: its own words are Chinese, none is missing."""
    page.goto(f"{glass_url}#lang=zh")
    page.wait_for_selector("[data-testid=view-chat]")
    text = page.get_by_test_id("view-chat").inner_text()
    assert "发送" in text
    assert "采样" in text
    assert "chat." not in text
