"""The gate: who may come in, by what name, from which page, with what key, and with how much."""

import asyncio
import io
import json
import logging
from dataclasses import replace

import pytest

from instar.config import InputError
from instar.config.options import ServeOptions
from instar.serve.app import create_app
from instar.serve.gate import BODY, HEADERS, Gate, GateRules
from instar.serve.log import logging_to

KEY, OTHER = "sk-Canary0123456789", "sk-second-9876543210"
PAGE = "https://chat.example.org"
JSON = {"content-type": "application/json"}


def rules_of(*keys, **options):
    return GateRules.of(replace(ServeOptions(model="m"), **options), keys)


def scope_of(method, path, headers, host, client):
    headers = [*([] if host is None else [("host", host)]), *headers]
    headers = [
        (name.encode(), value if isinstance(value, bytes) else value.encode("latin-1")) for name, value in headers
    ]
    return {
        "type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(),
        "query_string": b"", "root_path": "", "scheme": "http", "headers": headers, "client": client, "state": {},
        "server": ("127.0.0.1", 8000), "asgi": {"version": "3.0"},
    }  # fmt: skip


class Echo:
    """An application that answers with what it was given."""

    def __init__(self):
        self.calls = []

    async def __call__(self, scope, receive, send):
        message = await receive()
        self.calls.append((scope, message["body"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": message["body"]})


def ask(gate, method="GET", path="/v1/models", headers=(), body=None, host="127.0.0.1:8000", pieces=None, **scope):
    """Through the gate by ASGI alone -> status, headers, body. pieces: of a body, as they come; a number among them
    waits so many seconds, None is where the client leaves."""
    headers = list(headers.items() if isinstance(headers, dict) else headers)
    if body is not None:
        headers.append(("content-length", str(len(body))))
        pieces = [body]
    coming, said = list(pieces or [b""]), []

    async def receive():
        if not coming:
            return {"type": "http.disconnect"}
        piece = coming.pop(0)
        if piece is None:
            return {"type": "http.disconnect"}
        if isinstance(piece, float):
            await asyncio.sleep(piece)
            piece = b"x"
        return {"type": "http.request", "body": piece, "more_body": bool(coming)}

    async def send(message):
        said.append(message)

    whole = scope_of(method, path, headers, host, ("192.0.2.7", 4711)) | scope
    asyncio.run(gate(whole, receive, send))
    if not said:
        return 0, {}, b""
    found = {name.decode(): value.decode() for name, value in said[0]["headers"]}
    return said[0]["status"], found, b"".join(message.get("body", b"") for message in said[1:])


def refused(answer, status, code):
    """An error of that status, with the four keys and nothing that the client sent."""
    assert answer[0] == status
    error = json.loads(answer[2])["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert answer[1]["x-request-id"].startswith("req_")
    return error["message"]


@pytest.fixture
def guarded(make_service):
    """The whole application, with two keys."""
    return create_app(service=make_service(), rules=rules_of(KEY, OTHER))


def every_route(gate):
    """(method, path) of all that the application answers, and of what it does not."""
    paths = gate.app.openapi()["paths"]
    found = [(method.upper(), path.replace("{id}", "x")) for path in paths for method in paths[path]]
    assert len(found) >= 6
    others = ["GET /openapi.json", "GET /metrics", "GET /nothing", "GET /", "OPTIONS /v1/models"]
    return [*found, *(tuple(other.split()) for other in others)]


WRONG = [
    {}, {"authorization": ""}, {"authorization": "Bearer"}, {"authorization": f"Bearer {KEY.lower()}"},
    {"authorization": f"Bearer {KEY}x"}, {"authorization": f"Bearer {KEY[:-1]}"}, {"authorization": f"Basic {KEY}"},
    {"authorization": KEY}, {"authorization": f"Bearer {KEY} {KEY}"}, {"authorization": "Bearer schl\xfcssel"},
    {"authorization": b"Bearer \xff\xfe\x00"}, {"x-api-key": KEY},
    [("authorization", f"Bearer {KEY}"), ("authorization", f"Bearer {KEY}")],
]  # fmt: skip


def test_every_route_wants_the_key(guarded):
    """S16: whatever the application answers is refused with 401 without a key or with a wrong one, all but /health and
    /ready; also what it does not answer, so that nobody learns what there is."""
    for method, path in every_route(guarded):
        if path in ("/health", "/ready"):
            assert ask(guarded, method, path)[0] == 200
            continue
        for headers in WRONG if path == "/v1/models" else WRONG[:4]:
            answer = ask(guarded, method, path, headers, host="127.0.0.1")
            refused(answer, 401, "invalid_api_key")
            assert json.loads(answer[2])["error"]["type"] == "invalid_request_error"  # as OpenAI has it
            assert answer[1]["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("key", [KEY, OTHER])
def test_each_key_opens(key, guarded):
    """S16: any of the keys will do, however the scheme is written."""
    for scheme in ("Bearer", "bearer"):
        assert ask(guarded, headers={"authorization": f"{scheme} {key}"})[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/health/", "//health", "/health/../v1/models", "/v1/models?/health", "/HEALTH", "/health%2f", "/ready\x00",
        "/v1/models/health", "/health;/v1/models", "http://127.0.0.1/health",
    ],
)  # fmt: skip
def test_what_looks_like_an_open_route_is_none(path, guarded):
    """S16: only the very paths that are open are open."""
    refused(ask(guarded, path=path), 401, "invalid_api_key")


@pytest.mark.parametrize(
    "host", ["evil.example/health", "evil.example#", "127.0.0.1:8000/health?", "user@127.0.0.1", "localhost:80/health"]
)
def test_a_hostile_host_is_no_way_round_the_key(host, guarded):
    """S16, CVE-2026-48746: what a Host header says is never part of the address that decides."""
    for path in ("/v1/models", "/metrics"):
        status, _, body = ask(guarded, path=path, host=host)
        assert status in (401, 403)
        assert host.encode() not in body


def test_clients_are_told_apart():
    """A client is known by its key's digest, never by the key; without keys by its address."""
    for rules, headers, client in [
        (rules_of(KEY), {"authorization": f"Bearer {KEY}"}, "key:"), (rules_of(), {}, "addr:192.0.2.7"),
    ]:  # fmt: skip
        echo = Echo()
        assert ask(Gate(echo, rules), headers=headers)[0] == 200
        found = echo.calls[0][0]["instar.client"]
        assert found.startswith(client)
        assert KEY not in found


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200), ("localhost", 200), ("LOCALHOST:8000", 200), ("localhost.", 200), ("[::1]:8000", 200),
        ("192.168.1.7:8000", 200), ("models.example.org", 200), ("models.example.org:443", 200),
        ("evil.example", 403), ("evil.example:8000", 403), ("localhost.evil.example", 403), ("127.0.0.1.nip.io", 403),
        ("xmodels.example.org", 403), ("", 403), (None, 400),
    ],
)  # fmt: skip
def test_by_what_name_it_may_be_called(host, status):
    """S17: a name that was made to point here (DNS rebinding) is refused; this machine's, allowed ones and addresses in
    numbers are not. Even /health is refused, since a page could read it."""
    gate = Gate(Echo(), rules_of(allowed_hosts=("models.example.org",)))
    for path in ("/v1/models", "/health"):
        answer = ask(gate, path=path, host=host)
        assert answer[0] == status
        if status == 403:
            assert "--allowed-hosts" in refused(answer, 403, "host_not_allowed")


def test_a_star_takes_any_name():
    """--allowed-hosts * is for a proxy that has looked already."""
    assert ask(Gate(Echo(), rules_of(allowed_hosts=("*",))), host="evil.example")[0] == 200


@pytest.mark.parametrize(
    ("options", "keys", "words"),
    [
        ({"host": "0.0.0.0"}, (), "INSTAR_API_KEY"), ({"host": "::"}, (), "--insecure"), ({"host": ""}, (), "no key"),
        ({"host": "192.168.1.7"}, (), "other machines"), ({"host": "models.example.org"}, (), "no key"),
        ({}, ("",), "a key"), ({}, ("two words",), "a key"), ({}, ("\xfcber",), "a key"), ({}, ("a\r\nb",), "a key"),
        ({"origins": ("null",)}, (), "origins=null"), ({"origins": ("*",)}, (), "exactly"),
        ({"origins": (PAGE + "/",)}, (), "without a path"), ({"origins": ("chat.example.org",)}, (), "exactly"),
        ({"allowed_hosts": ("http://x",)}, (), "without scheme"), ({"allowed_hosts": ("x:80",)}, (), "without scheme"),
    ],
)  # fmt: skip
def test_rules_that_cannot_be(options, keys, words):
    """S17, S18: a public address without a key is refused before anything listens, as are rules that would let in
    anybody; the message names the remedy and no key."""
    with pytest.raises(InputError) as error:
        rules_of(*keys, **options)
    assert words in str(error.value)
    assert not any(key and key in str(error.value) for key in keys)


@pytest.mark.parametrize("options", [{"host": "127.0.0.9"}, {"host": "::1"}, {"host": "0.0.0.0", "insecure": True}])
def test_rules_that_need_no_key(options):
    """S17: this machine's own addresses, or whoever says --insecure."""
    assert rules_of(**options).digests == ()


def test_a_key_is_kept_as_its_digest():
    """S23: what is kept and printed of rules holds no key."""
    rules = rules_of(KEY)
    assert KEY not in repr(rules)
    assert KEY.encode() not in b"".join(rules.digests)


CORS = "access-control-"


@pytest.mark.parametrize(
    ("allowed", "origin", "own"),
    [
        ((PAGE,), PAGE, True), ((PAGE,), "https://evil.example", False), ((), PAGE, False),
        ((PAGE,), PAGE + ".evil.example", False), ((PAGE,), "http://chat.example.org", False), ((PAGE,), "null", False),
        ((PAGE,), PAGE + ":8443", False), ((PAGE,), PAGE.upper(), False), ((PAGE,), "", False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_which_pages_may_call(method, allowed, origin, own):
    """S18: only pages that are named exactly may call, read the answer, and ask beforehand; nothing of another's name
    is repeated, cookies are never allowed, and `null` is nobody."""
    echo = Echo()
    headers = {"origin": origin, **(JSON if method == "POST" else {})}
    if method == "OPTIONS":
        asked = "authorization, content-type, x-stainless-lang, cookie, x-evil"
        headers |= {CORS + "request-method": "POST", CORS + "request-headers": asked}
    status, found, body = ask(Gate(echo, rules_of(origins=allowed)), method, headers=headers)
    assert CORS + "allow-credentials" not in found
    if not own:
        refused((status, found, body), 403, "origin_not_allowed")
        assert not [name for name in found if name.startswith(CORS)]
        assert not echo.calls
        return
    assert (found[CORS + "allow-origin"], found["vary"]) == (PAGE, "Origin")
    assert "x-request-id" in found[CORS + "expose-headers"]
    if method == "OPTIONS":
        assert (status, found[CORS + "allow-methods"]) == (204, "GET, POST")
        assert found[CORS + "allow-headers"] == "authorization, content-type, x-stainless-lang"
        assert not echo.calls
    else:
        assert status == 200


def test_a_page_asks_before_it_has_a_key():
    """S18: a browser's question beforehand brings no key; what it then sends needs one."""
    gate = Gate(Echo(), rules_of(KEY, origins=(PAGE,)))
    headers = {"origin": PAGE, CORS + "request-method": "POST"}
    assert ask(gate, "OPTIONS", headers=headers)[0] == 204
    status, found, _ = ask(gate, "POST", headers={"origin": PAGE, **JSON}, body=b"{}")
    assert (status, found[CORS + "allow-origin"]) == (401, PAGE)  # the page may read why


def test_a_page_of_the_server_itself():
    """A page that this server gave may call it, by the name that it was called."""
    gate = Gate(Echo(), rules_of())
    assert ask(gate, headers={"origin": "http://localhost:8000"}, host="localhost:8000")[0] == 200
    assert ask(gate, headers={"origin": "http://localhost:8001"}, host="localhost:8000")[0] == 403
    # a rebound name is its own origin too
    assert ask(gate, headers={"origin": "http://evil.example"}, host="evil.example")[0] == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (JSON, 200), ({"content-type": "Application/JSON; charset=utf-8"}, 200),
        ({"content-type": "application/json; charset=utf-8; profile=x"}, 200),
        ({"content-type": "application/json; profile=x ; Charset = UTF-8"}, 200),
        ({"content-type": "application/json; profile=x; charset=latin-1"}, 415),
        ({"content-type": 'application/json; charset="UTF-8"'}, 200), ({}, 415), ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415), ({"content-type": "multipart/form-data"}, 415),
        ({"content-type": "application/json; charset=utf-16"}, 415), ({"content-type": "application/jsonx"}, 415),
        ([*JSON.items(), *JSON.items()], 415), ({**JSON, "content-encoding": "gzip"}, 415),
        ({**JSON, "content-encoding": "identity"}, 200), ({**JSON, "content-encoding": "identity, br"}, 415),
    ],
)  # fmt: skip
def test_in_what_form_a_body_may_come(headers, status):
    """S19, S18: JSON and nothing else, so that no page can send a form unasked; nothing that unpacks to more."""
    echo = Echo()
    answer = ask(Gate(echo, rules_of()), "POST", headers=headers, body=b'{"a": 1}')
    if status == 200:
        assert echo.calls[0][1] == b'{"a": 1}'
    else:
        refused(answer, 415, "unsupported_media_type")
        assert answer[1]["connection"] == "close"


CHUNKED = {**JSON, "transfer-encoding": "chunked"}


@pytest.mark.parametrize(
    ("headers", "pieces", "status"),
    [
        ({**JSON, "content-length": str(BODY)}, [b"x" * BODY], 200), ({**JSON, "content-length": "2097153"}, [], 413),
        ({**JSON, "content-length": "9" * 5000}, [], 413), ({**JSON, "content-length": "-1"}, [], 413),
        (CHUNKED, [b"x" * (BODY // 2)] * 2, 200), (CHUNKED, [b"x" * (BODY // 2), b"x" * (BODY // 2), b"x"], 413),
        ({**CHUNKED, "content-length": "5"}, [b"hello"], 400),
    ],
)  # fmt: skip
def test_how_large_a_body_may_be(headers, pieces, status):
    """S19: 2 MB, whether its length is told or not, and never by two lengths; one too large is not read."""
    echo = Echo()
    answer = ask(Gate(echo, rules_of()), "POST", headers=headers, pieces=pieces)
    assert answer[0] == status
    assert len(echo.calls) == (status == 200)


def test_a_body_that_comes_too_slowly():
    """S19: a body that stands still, and one that dribbles on, are both told 408."""
    for rules in (replace(rules_of(), idle_seconds=0.02), replace(rules_of(), body_seconds=0.05)):
        answer = ask(Gate(Echo(), rules), "POST", headers=CHUNKED, pieces=[b"{", *[0.03] * 20, b"}"])
        refused(answer, 408, "timeout")


def test_headers_that_are_too_large():
    """S19: 64 KB of headers, also where they come in one piece."""
    refused(ask(Gate(Echo(), rules_of()), headers={"x-a": "a" * HEADERS}), 400, "headers_too_large")


def test_who_leaves_before_the_body_is_there_is_not_asked_for():
    """S3: nothing is answered, and nothing begun, for a client that left."""
    echo = Echo()
    assert ask(Gate(echo, rules_of()), "POST", headers=CHUNKED, pieces=[b"{", None])[0] == 0
    assert not echo.calls


def test_a_web_socket_is_not_let_past():
    """S16: what is not HTTP has no way in."""
    said = []

    async def send(message):
        said.append(message)

    echo = Echo()
    asyncio.run(Gate(echo, rules_of())({"type": "websocket", "path": "/v1/models"}, None, send))
    assert [message["type"] for message in said] == ["websocket.close"]
    assert not echo.calls


@pytest.mark.parametrize("begun", [False, True])
def test_what_an_application_does_not_catch(begun, caplog):
    """S23: a fault is answered with 500 and without its words; where the answer has begun the connection is broken, so
    that half of it is not taken for all of it."""

    async def app(scope, receive, send):
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError(f"canary {scope['path']}")

    with caplog.at_level(logging.INFO, "instar"):
        if begun:
            with pytest.raises(ValueError, match="canary"):
                ask(Gate(app, rules_of()))
        else:
            refused(ask(Gate(app, rules_of())), 500, "internal_error")
    assert "canary" not in caplog.text


def test_what_the_log_tells_of_a_request(make_service):
    """S23: a line has figures and known names; what a route noted of a model that there is not is left out."""
    service = make_service()

    class Noting(Echo):
        state = type("State", (), {"service": service})

        async def __call__(self, scope, receive, send):
            scope["instar.note"].update(model=self.model, prompt=12, cached=8, answer=34, first=0.045)
            await super().__call__(scope, receive, send)

    stream, app = io.StringIO(), Noting()
    with logging_to(stream, json=False, quiet=False) as writer:
        for app.model in ("tiny", "canary\nmodel"):
            ask(Gate(app, rules_of()), "CANARY" if "\n" in app.model else "GET", "/canary", {"x-canary": "canary"})
    first, second = stream.getvalue().splitlines()
    assert "200 GET -  tiny  12+34 tokens (8 known)  first 45 ms, all " in first
    assert "200 ? -  12+34 tokens" in second
    assert "addr:192.0.2.7  req_" in first
    assert "canary" not in stream.getvalue().lower()
    assert (writer.tally.statuses[200], writer.tally.prompt, writer.tally.answer) == (2, 24, 68)


def test_what_the_gate_refused_is_counted(make_service):
    """S24: answers by HTTP status are all counted, once each, those of the gate too."""
    service = make_service()
    gate = create_app(service=service, rules=rules_of(KEY))
    ask(gate)
    ask(gate, headers={"authorization": f"Bearer {KEY}"})
    ask(gate, path="/health")
    said = service.metrics.render(service.desk).decode()
    assert 'instar_http_requests_total{route="other",status="401"} 1.0' in said
    assert 'instar_http_requests_total{route="/v1/models",status="200"} 1.0' in said
    assert 'instar_http_requests_total{route="/health",status="200"} 1.0' in said


def test_no_body_is_read_at_an_open_route():
    """S19: who has no key cannot have bodies kept by sending them to a route that wants none."""
    echo = Echo()
    pieces = [b"x" * 1000] * 3
    answer = ask(Gate(echo, rules_of(KEY)), "POST", "/health", {**JSON, "content-length": "3000"}, pieces=pieces)
    assert answer[0] == 200
    assert echo.calls[0][1] == b""


@pytest.mark.parametrize("begun", [False, True])
def test_a_request_that_the_end_cuts_off(begun):
    """S14: a request that is cancelled before anything was sent is told 503 in the four keys."""

    async def app(scope, receive, send):
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise asyncio.CancelledError

    said = []

    async def send(message):
        said.append(message)

    async def main():
        scope = scope_of("GET", "/v1/models", [], "127.0.0.1", ("192.0.2.7", 4711))
        with pytest.raises(asyncio.CancelledError):
            await Gate(app, rules_of())(scope, None, send)

    asyncio.run(main())
    if begun:
        assert len(said) == 1
        return
    assert said[0]["status"] == 503
    assert (b"retry-after", b"5") in said[0]["headers"]
    error = json.loads(said[1]["body"])["error"]
    assert (set(error), error["code"]) == ({"message", "type", "param", "code"}, "draining")
