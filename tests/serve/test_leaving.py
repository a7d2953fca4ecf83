"""Requests that are given up: whose clients leave, whose time runs out, or for which there is no room."""

import asyncio
import json
import time

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from instar.serve.app import create_app

LONG = {"model": "tiny", "max_tokens": 400, "ignore_eos": True, "messages": [{"role": "user", "content": "Tell all."}]}


def counters(text):
    """Of /metrics: sums over all labels, by name."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


async def settled(client, wanted, seconds):
    """Ask for the counters until they are as wanted -> the counters, after so many seconds at most."""
    end = time.monotonic() + seconds
    while True:
        now = counters((await client.get("/metrics")).text)
        if wanted(now) or time.monotonic() > end:
            return now
        await asyncio.sleep(0.02)


async def leave(client, stream):
    """Ask for a long answer and hang up: for half of them when it has begun."""
    try:
        async with asyncio.timeout(5):
            async with client.stream("POST", "/v1/chat/completions", json={**LONG, "stream": stream}) as response:
                if response.status_code != 200:
                    return response.status_code
                async for _ in response.aiter_bytes():
                    break
    except (TimeoutError, httpx.TimeoutException):
        pass
    return 200


@pytest.mark.parametrize("requests", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_requests_that_time_out_cost_the_next_nothing(requests, server):
    """S3, S24: requests whose clients hang up, streaming or not, are given up within half a second, all of their blocks
    are free, the next request is answered in five seconds, and every one is counted once as it started and ended."""

    async def leaving():
        limits = httpx.Limits(max_connections=25)
        short = httpx.Timeout(5, read=0.05)
        async with (
            httpx.AsyncClient(base_url=server.url, timeout=short, limits=limits) as leaver,
            httpx.AsyncClient(base_url=server.url, timeout=30) as client,
        ):
            before = await settled(client, lambda now: now["instar_requests_running"] == 0, 5)
            statuses = await asyncio.gather(*(leave(leaver, stream=bool(n % 2)) for n in range(requests)))
            still = lambda now: now["instar_requests_running"] + now["instar_requests_waiting"]  # noqa: E731
            await client.get("/health")  # it has heard of them all
            at_once = await settled(client, lambda now: not still(now), 0.5)
            began = time.monotonic()
            good = await client.post("/v1/chat/completions", json={**LONG, "max_tokens": 2})
            took = time.monotonic() - began
            # the engine tells of its blocks once a second
            blocks = "instar_engine_kv_blocks_free"
            after = await settled(client, lambda now: now[blocks] == before[blocks], 3)
            return before, statuses, still(at_once), good, took, after

    before, statuses, still, good, took, after = asyncio.run(leaving())
    assert set(statuses) == {200}
    assert still == 0
    assert good.status_code == 200
    assert took <= 5
    assert after["instar_engine_kv_blocks_free"] == before["instar_engine_kv_blocks_free"]
    started = after["instar_requests_started_total"] - before["instar_requests_started_total"]
    ended = after["instar_requests_ended_total"] - before["instar_requests_ended_total"]
    assert ended == started
    assert requests / 10 <= started <= requests + 1  # a busy machine takes up some only when they have left


@pytest.fixture
def asked(make_service):
    """asked(requests, fleet's gate and options of ServeOptions) -> the service, and what each request is answered; they
    come at the same time."""

    def ask(*requests, **options):
        async def asking():
            service = make_service(**options)
            transport = httpx.ASGITransport(create_app(service=service))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                posts = [client.post("/v1/chat/completions", json={**LONG, **request}) for request in requests]
                return service, await asyncio.gather(*posts)

        return asyncio.run(asking())

    return ask


@pytest.mark.parametrize("stream", [False, True])
def test_a_late_answer_is_an_error_with_a_status(stream, asked):
    """S25: an answer whose first token does not come in time is 504 with all four keys, even where a stream was asked
    for, and its row is given back."""
    service, [response] = asked({"stream": stream}, gate=asyncio.Event(), first_seconds=0.05)
    assert response.status_code == 504
    assert response.json()["error"] == {
        "message": "The request took more than 0.05 s of waiting for its first token.",
        "type": "server_error", "param": None, "code": "timeout",
    }  # fmt: skip
    assert service.desk.running == 0
    assert not service.desk.fleet.running


def test_a_stream_that_takes_too_long_ends_with_an_error(asked):
    """S25: where the first tokens have been sent, the last event says that time ran out: never a silent end."""
    _, [response] = asked({"stream": True}, pace=0.05, total_seconds=0.2)
    assert response.status_code == 200
    events = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    assert json.loads(events[0])["choices"][0]["delta"]["role"] == "assistant"
    assert json.loads(events[-1])["error"]["code"] == "timeout"


def test_a_full_queue_is_told_in_a_header(asked):
    """S2: of three requests to a server with one row and one place to wait, the third is 429 with Retry-After, and the
    others are answered."""
    _, responses = asked({}, {}, {}, facts={"slots": 1}, queue=1)
    assert sorted(response.status_code for response in responses) == [200, 200, 429]
    full = next(response for response in responses if response.status_code == 429)
    assert 1 <= int(full.headers["retry-after"]) <= 120
    assert full.json()["error"]["type"] == "rate_limit_error"
