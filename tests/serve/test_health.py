"""What watches the server asks for."""

import asyncio

import httpx
import pytest

from instar.serve.app import create_app


@pytest.fixture
def get(make_service):
    """get(address, before=..., method=..., service options) -> what the application answers, after before(service)."""

    def asked(address, before=lambda service: None, method="GET", **options):
        async def asking():
            service = make_service(**options)
            found = before(service)
            if asyncio.iscoroutine(found):
                await found
            transport = httpx.ASGITransport(create_app(service=service))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await client.request(method, address)

        return asyncio.run(asking())

    return asked


def kill(service):
    for engine in service.desk.fleet.living():
        service.desk.fleet.kill(engine)


def hang(service):
    service.desk.fleet.silent = True


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("address", ["/health", "/ready"])
def test_a_server_that_runs_is_well(address, method, get):
    """S15: both probes are 200 while an engine lives and the server takes requests."""
    assert get(address, method=method).status_code == 200


@pytest.mark.parametrize(
    ("address", "before", "code"),
    [
        ("/health", kill, "engine_died"),
        ("/health", hang, "engine_stuck"),
        ("/ready", kill, "engine_died"),
        ("/ready", lambda service: service.desk.drain(0), "draining"),
    ],
)
def test_a_server_that_cannot_answer_says_so(address, before, code, get):
    """S14, S15: a dead engine and one that hangs are not healthy, a server that drains is not ready; each is 503 with
    all four keys and a Retry-After."""
    response = get(address, before)
    assert response.status_code == 503
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    assert response.json()["error"]["code"] == code
    assert int(response.headers["retry-after"]) <= 120


def test_a_server_that_drains_is_healthy(get):
    """S15: a server that is about to stop is not to be killed by who watches it: only /ready sends clients away."""
    assert get("/health", lambda service: service.desk.drain(0)).status_code == 200


def test_one_dead_engine_of_two_is_no_illness(get):
    """S15: as long as one engine lives the server is healthy and ready."""
    for address in ("/health", "/ready"):
        assert get(address, lambda service: service.desk.fleet.kill(0), count=2).status_code == 200


def test_metrics_are_text_that_prometheus_reads(get):
    """S24: /metrics names its format, and tells of the desk and each engine."""
    response = get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    assert 'instar_engine_kv_blocks_free{engine="0"} 64.0' in response.text
    assert 'instar_requests_started_total{kind="chat"} 0.0' in response.text
