"""Requests of every shape to every endpoint: answered, or refused in four keys without a word of theirs."""

import asyncio
import json
import os
import time

import httpx
import pytest
from hypothesis import HealthCheck, event, given, seed, settings
from hypothesis import strategies as st

from instar.serve.app import create_app

EVERYDAY = settings(
    max_examples=30, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
CANARY = "zq7xCanary"
texts = st.text(max_size=12) | st.sampled_from(["", CANARY, "\ud800", "\0", "<|im_end|>", "\u2028", "🏳️‍🌈", "a" * 3000])
numbers = st.integers(-3, 400) | st.floats() | st.sampled_from([2**31, 2**63, -(2**63), 10**40])
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
roles = st.sampled_from(["system", "developer", "user", "assistant", "tool"])
parts = st.fixed_dictionaries({"type": st.just("text"), "text": texts})
messages = st.lists(
    st.fixed_dictionaries(
        {"role": roles, "content": texts | st.lists(parts | values, max_size=3) | st.none()},
        optional={"tool_calls": values, "tool_call_id": texts, "name": texts},
    ),
    max_size=4,
)
rules = {
    "max_tokens": numbers, "temperature": numbers, "top_p": numbers, "n": st.integers(-1, 18), "stream": st.booleans(),
    "stop": st.lists(texts, max_size=5) | texts, "seed": numbers, "logit_bias": st.dictionaries(texts, numbers),
    "logprobs": st.booleans() | st.integers(-1, 7), "response_format": values, "tools": values,
    "stream_options": values, "echo": st.booleans(),
}  # fmt: skip
ids = st.lists(st.integers(-1, 400), max_size=5)
bodies = st.one_of(
    st.tuples(st.just("/v1/chat/completions"), st.fixed_dictionaries({"messages": messages}, optional=rules)),
    st.tuples(
        st.just("/v1/completions"),
        st.fixed_dictionaries({"prompt": texts | st.lists(texts, max_size=3) | ids}, optional=rules),
    ),
    st.tuples(
        st.just("/v1/embeddings"),
        st.fixed_dictionaries({"input": texts | st.lists(texts, max_size=3) | ids}, optional={"dimensions": numbers}),
    ),
    st.tuples(
        st.just("/v1/tokenize"), st.fixed_dictionaries({}, optional={"prompt": texts | values, "messages": messages})
    ),
)
requests = st.tuples(bodies, st.dictionaries(texts, values, max_size=2), st.sampled_from(["tiny", "tiny", CANARY]))


def check(answer, sent):
    """What may come back."""
    assert answer.status_code in (200, 400, 404), (sent, answer.text)
    event(f"{sent[0]} {answer.status_code}")
    if answer.status_code != 200:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        assert CANARY not in answer.text
    elif answer.headers["content-type"].startswith("text/event-stream"):
        lines = [line for line in answer.text.split("\n") if line]
        assert all(line.startswith("data: ") for line in lines)
        assert lines[-1] == "data: [DONE]"
        for line in lines[:-1]:
            assert json.loads(line.removeprefix("data: "))["object"] in ("chat.completion.chunk", "text_completion")
    else:
        answer.json()
    # which keys were ignored is told by name
    assert CANARY not in str([pair for pair in answer.headers.items() if pair[0] != "x-instar-ignored"])


def fuzz(app, many):
    """Run the property with these settings; all requests of one example are on their way together."""

    @many
    @given(st.lists(requests, min_size=1, max_size=6))
    def surface(sent):
        async def ask():
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:

                async def one(request):
                    (path, body), more, model = request
                    content = json.dumps({**more, **body, "model": model}).encode()
                    answer = await client.post(path, content=content, headers={"content-type": "application/json"})
                    check(answer, (path, content))

                await asyncio.gather(*map(one, sent))

        asyncio.run(ask())

    surface()


def test_any_request_is_answered_or_refused(make_service):
    """S7, S8: whatever is asked, beside whatever else."""
    service = make_service()
    fuzz(create_app(service=service), EVERYDAY)
    assert service.desk.waiting == service.desk.running == 0
    text = service.metrics.render(service.desk).decode()
    assert 'instar_http_requests_total{route="/v1/chat/completions",status="200"}' in text
    assert 'status="500"' not in text


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_any_request_for_long(make_service):
    """The same on new examples for INSTAR_FUZZ_SECONDS, or five minutes."""
    end = time.monotonic() + float(os.environ.get("INSTAR_FUZZ_SECONDS", "300"))
    service = make_service()
    app = create_app(service=service)
    while time.monotonic() < end:
        number = time.time_ns()
        print(f"seed {number}")  # shown where it fails
        fuzz(
            app,
            lambda check, number=number: seed(number)(settings(EVERYDAY, max_examples=500, derandomize=False)(check)),
        )
    assert service.desk.waiting == service.desk.running == 0
