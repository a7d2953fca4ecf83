"""The application around the routes: errors of one shape, whatever they come from, and nothing of a request in them."""

import asyncio
import logging
import sys

import httpx
import pytest

from instar.config import InputError
from instar.serve.app import STATUSES, create_app
from instar.serve.failure import late
from instar.serve.gate import GateRules

KEYS = {"message", "type", "param", "code"}
SECRET = "canary-7f3a"


@pytest.fixture
def broken(make_service, serve_here, monkeypatch):
    """broken(error) -> the answer to a request whose route raises that."""

    def ask(error):
        service = make_service()

        def fail(name):
            raise error

        monkeypatch.setattr(type(service), "card", lambda self, name: fail(name))
        hosted = serve_here(service)
        answer = httpx.post(f"{hosted.url}/v1/tokenize", json={"model": SECRET, "prompt": SECRET})
        return answer, service

    return ask


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("POST", "/v1/nothing", 404),
        ("GET", "/v1/models/", 404),
        ("DELETE", "/openapi.json", 405),
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/models", 405),
        ("GET", "/docs", 404),
        ("GET", "//v1/models", 404),
    ],
)
def test_what_no_route_answers_has_the_four_keys(method, path, status, make_service, serve_here):
    """Section 5: unknown addresses and methods are told as OpenAI's errors are, and nothing is redirected."""
    answer = httpx.request(method, f"{serve_here(make_service()).url}{path}", json={} if method == "POST" else None)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == KEYS
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.headers["x-request-id"].startswith("req_")
    if status == 405:
        assert answer.headers["allow"]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (late("waiting", 3), 504, "timeout"),
        (InputError(f"found {SECRET}"), 400, None),
        (ValueError(SECRET), 500, "internal_error"),
        (RecursionError(SECRET), 500, "internal_error"),
        (ExceptionGroup("a", [KeyError(SECRET)]), 500, "internal_error"),
    ],
)
def test_whatever_a_route_raises_is_told_without_its_words(error, status, code, broken, caplog, capfd):
    """S23: the client gets four keys, the log a place; the request's text is in neither, nor is a traceback."""
    caplog.set_level(logging.DEBUG, "instar")
    caplog.set_level(logging.DEBUG, "uvicorn")
    answer, service = broken(error)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == KEYS
    assert answer.json()["error"]["code"] == code
    said = answer.text + caplog.text + "".join(capfd.readouterr())
    assert SECRET not in said
    assert "Traceback" not in said
    if status == 500:
        assert f"{type(error).__name__} at test_app.py:" in caplog.text
    counted = service.metrics.render(service.desk).decode()
    assert f'instar_http_requests_total{{route="/v1/tokenize",status="{status}"}} 1.0' in counted


def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(make_service, serve_here, caplog):
    """An error behind the first byte breaks the connection: a client must not take half for all."""
    service = make_service()
    service.metrics.render = lambda desk, **rest: HalfWay()
    hosted = serve_here(service)
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{hosted.url}/metrics")
    assert SECRET not in caplog.text
    assert "ValueError at test_app.py:" in caplog.text


class HalfWay(bytes):
    """A body that breaks while it is sent."""

    def __new__(cls):
        return super().__new__(cls, 8)

    def __len__(self):
        frame = sys._getframe(1)
        if "protocols" in frame.f_code.co_filename or "h11" in frame.f_code.co_filename:
            raise ValueError(SECRET)
        return 8


def test_requests_wait_until_the_service_is_open(make_service):
    """A server listens at once and says 503 with Retry-After until its model is loaded; what it opened, it closes."""

    async def life():
        gate, service = asyncio.Event(), make_service()

        async def open():
            await gate.wait()
            return service

        app = create_app(open)
        inside = app.app
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            async with inside.router.lifespan_context(inside):
                early = await client.get("/v1/models")
                gate.set()
                while (answer := await client.get("/v1/models")).status_code == 503:
                    await asyncio.sleep(0)
            late = await client.get("/v1/models")
        return early, answer, late, service

    early, answer, late, service = asyncio.run(life())
    assert (early.status_code, early.json()["error"]["code"]) == (503, "loading")
    assert 0 < int(early.headers["retry-after"]) <= 120
    assert answer.status_code == 200
    assert late.status_code == 503
    assert not service.desk.fleet.living()


def test_an_opening_that_fails_keeps_nobody_from_ending(make_service):
    """Whoever gave the opening hears why it failed; the application ends in peace."""

    async def life():
        async def open():
            raise InputError("no such folder")

        inside = create_app(open).app
        async with inside.router.lifespan_context(inside):
            await asyncio.sleep(0)
            assert inside.state.service is None

    asyncio.run(life())
    with pytest.raises(ValueError, match="either a service"):
        create_app()
    with pytest.raises(ValueError, match="either a service"):
        create_app(open, service=make_service())


def test_the_schema_names_every_status_and_no_other(make_service, serve_here):
    """/openapi.json: each route may answer with any of our errors, in four keys, and never with FastAPI's 422."""
    schema = httpx.get(f"{serve_here(make_service()).url}/openapi.json").json()
    assert {
        "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/models", "/v1/models/{id}", "/v1/tokenize",
        "/health", "/ready", "/metrics",
    } == set(schema["paths"])  # fmt: skip
    for path in schema["paths"].values():
        for operation in path.values():
            assert set(operation["responses"]) == {"200", *map(str, STATUSES)}
    assert not [name for name in schema["components"]["schemas"] if "ValidationError" in name]
    error = schema["components"]["schemas"]["Error"]["properties"]["error"]
    assert set(error["required"]) == KEYS


def test_the_schema_says_where_a_key_is_wanted(make_service, serve_here):
    """S16: everywhere but at /health and /ready, and nowhere on a server without keys; the schema itself wants one."""
    service = make_service()
    url = serve_here(service, GateRules.of(service.options, ["letmein"])).url
    assert httpx.get(f"{url}/openapi.json").status_code == 401
    schema = httpx.get(f"{url}/openapi.json", headers={"Authorization": "Bearer letmein"}).json()
    for name, path in schema["paths"].items():
        for method, operation in path.items():
            assert ("security" in operation) == (name not in ("/health", "/ready"))
            if method == "get":
                answer = httpx.get(f"{url}{name}")
                assert (answer.status_code == 401) == ("security" in operation)
    plain = httpx.get(f"{serve_here(make_service()).url}/openapi.json").text
    assert "security" not in plain


def test_the_front_knows_nothing_of_torch(tokenizer):
    """The whole application is imported without torch, transformers and Ray."""
    import subprocess

    code = "import sys, instar.serve.server\nassert not {'torch', 'transformers', 'ray', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
