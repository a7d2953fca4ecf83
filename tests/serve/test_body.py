"""The body of a request: what is taken, what is refused, and by what name."""

import json
import math

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from instar.serve.body import DEEPEST, DIGITS, IGNORED, LARGE, MOST_IGNORED, parse, told
from instar.serve.failure import Refusal

DEEP = 100_000


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"temperature": NaN}', "temperature"),
        (b'{"temperature": Infinity}', "temperature"),
        (b'{"temperature": -Infinity}', "temperature"),
        (b'{"temperature": 1e999}', "temperature"),
        (b'{"temperature": -1e999}', "temperature"),
        (b'{"n": ' + b"9" * 5000 + b"}", "n"),
        (b'{"logit_bias": {"5": 1e999}}', "logit_bias"),
        (b'{"model": "a", "model": "b"}', "model"),
        (b'{"messages": [{"role": "user", "role": "tool"}]}', "messages"),
    ],
)
def test_what_pythons_parser_lets_pass_is_refused_by_name(body, param):
    """S7: numbers that are none, too large or endless, and keys said twice: 400 with param, nothing repeated."""
    with pytest.raises(Refusal) as caught:
        parse(body)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert "9999" not in caught.value.message


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b'"x"', b"1", b"true", b"NaN", b"{", b'{"a":}', b"{'a': 1}", b'{"a": 1,}', b'{"a": 01}',
        b"\xff\xfe{}", b'{"a": "\xff"}', b'\xef\xbb\xbf{"a": 1}', b'{"a": "\x00"}', b'{"a": "\\u0000"}',
        b'{"a": "\\ud800"}', b'{"a": ["x", {"b": "\\uDFFF"}]}', b'{"\\ud83d": 1}', b'{"a": {"\\u0000": 1}}',
        b"[" * DEEP, b'{"a":' * DEEP, b'{"a": ' + b"[" * DEEP + b"]" * DEEP + b"}",
        b'{"a": ' + b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1) + b"}",
    ],
    ids=lambda body: repr(body[:24]),
)  # fmt: skip
def test_what_is_no_object_of_texts_is_refused(body):
    """S8: no object, broken JSON, bytes that are no UTF-8, U+0000, half a surrogate pair, nesting without end: 400."""
    with pytest.raises(Refusal) as caught:
        parse(body)
    assert caught.value.status == 400


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc\u2028é", max_size=3), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=80, deadline=None)
@given(body=st.dictionaries(st.text("abc", max_size=3), values, max_size=4), ascii=st.booleans())
@example(body={"a": "👩‍👩‍👧 \ud7ff \ue000"}, ascii=True)  # a pair, and the neighbours of surrogates
@example(body={"a": [[]] * 200}, ascii=True)  # many, and not deep
def test_every_other_object_is_what_it_says(body, ascii):
    """S8: what JSON can say comes through unchanged."""
    assert parse(json.dumps(body, ensure_ascii=ascii).encode()) == body


def test_the_last_that_is_taken():
    """The limits are where they are said to be."""
    assert parse(b'{"a": ' + b"9" * DIGITS + b"}")["a"] == 10**DIGITS - 1
    assert parse(b'{"a": ' + b"[" * (DEEPEST - 1) + b"]" * (DEEPEST - 1) + b"}")
    assert math.isfinite(parse(b'{"a": 1e308}')["a"])


def test_only_plain_names_are_told():
    """Section 5: a client's own text never gets into a header."""
    unknown = ["b", "a", "a", "x\r\nset-cookie: 1", "é", "", "x" * 65, *(f"k{n}" for n in range(40))]
    names = list(told(unknown))
    assert names[:2] == ["a", "b"]
    assert len(names) == MOST_IGNORED
    assert all(name.isascii() and name.isalnum() for name in names)


@pytest.fixture
def post(make_service):
    """post(body, path) -> the answer of an application without torch."""
    import asyncio

    from instar.serve.app import create_app

    def send(body, path="/v1/chat/completions", service=None, headers=None):
        app = create_app(service=service or make_service())

        async def asking():
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                return await client.post(
                    path, content=content, headers={"content-type": "application/json", **(headers or {})}
                )

        return asyncio.run(asking())

    return send


ASKED = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}


def test_keys_that_are_ignored_are_named(post):
    """Section 5: unknown keys change nothing and stand in a header, wherever they were."""
    more = {"foo": 1, "store": True, "messages": [{"role": "user", "content": "hi", "mood": "sunny"}], "seed": 1}
    answer = post({**ASKED, **more})
    assert answer.status_code == 200
    assert answer.headers[IGNORED] == "foo, mood, store"
    plain = post({**ASKED, "seed": 1, "user": "u", "metadata": {"a": "b"}, "store": False, "service_tier": "auto"})
    assert IGNORED not in plain.headers
    assert plain.json()["choices"] == answer.json()["choices"]


def test_a_large_body_is_read_as_a_small_one(post):
    """A body that is parsed in a thread is refused and taken as others are."""
    long = "x" * LARGE
    answer = post(json.dumps({**ASKED, "messages": [{"role": "user", "content": long}]}).encode())
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    answer = post(b'{"temperature": NaN, "user": "' + long.encode() + b'"}')
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "temperature")


def test_an_error_has_all_four_keys_and_nothing_of_the_request(post):
    """Section 5, S23: the body of an error; what the client wrote is not in it."""
    answer = post({**ASKED, "temperature": "sizzling", "messages": [{"role": "CANARY", "content": "CANARY"}]})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"]) == ("invalid_request_error", "temperature")
    assert "CANARY" not in answer.text
    assert "sizzling" not in answer.text
