"""Events: what is sent, when, and when nobody listens any more."""

import asyncio
import json

import pytest
from starlette.requests import Request

from instar.serve.failure import Refusal
from instar.serve.sse import BLOCK, EventStream, dumps, dumps_in_parts, while_connected

SCOPE = {"type": "http", "method": "POST", "path": "/", "headers": []}


class Line:
    """A client's connection. gone: set when it hangs up; open: cleared when it reads nothing."""

    def __init__(self):
        self.sent, self.gone, self.open = [], asyncio.Event(), asyncio.Event()
        self.open.set()

    async def receive(self):
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        await self.open.wait()
        self.sent.append(message)

    @property
    def text(self):
        return b"".join(message.get("body", b"") for message in self.sent).decode()

    @property
    def whole(self):
        return self.sent[-1].get("more_body") is False


class Source:
    """Events, which may wait or fail; closed: how often whoever made it was told of the end."""

    def __init__(self, *events, ended=None):
        self.given, self.closed, self.left = events, 0, False
        self.gate = asyncio.Event()

    async def events(self):
        try:
            for event in self.given:
                if event is asyncio.Event:
                    await self.gate.wait()
                elif isinstance(event, Exception):
                    raise event
                else:
                    yield event
        finally:
            self.left = True

    def close(self):
        self.closed += 1


def run(scenario):
    """A scenario of a line and a source, at most five seconds."""
    return asyncio.run(asyncio.wait_for(scenario, 5))


def test_events_as_they_are_written():
    """Section 5: `data: {json}` and an empty line each, the end as it is; headers against buffering; one send for each
    event."""

    async def scenario():
        line, source = Line(), Source({"a": "x"}, {"b": 1}, "[DONE]")
        await EventStream(source.events(), source.close)(SCOPE, line.receive, line.send)
        return line, source

    line, source = run(scenario())
    assert line.text == 'data: {"a":"x"}\n\ndata: {"b":1}\n\ndata: [DONE]\n\n'
    assert len(line.sent) == 5
    headers = dict(line.sent[0]["headers"])
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert headers[b"x-accel-buffering"] == b"no"
    assert b"content-length" not in headers
    assert line.whole
    assert source.closed == 1


def test_nothing_that_line_readers_split_at():
    """Section 5: U+0085, U+2028, U+2029 and line ends inside of texts are escaped, and come back as they were."""
    text = "a\u0085b\u2028c\u2029d\r\ne\x0b\x0c\x1c\x1d\x1e👩球"
    said = dumps({"text": text})
    assert "👩球" in said  # for people, too
    assert len(said.splitlines()) == 1
    assert json.loads(said)["text"] == text
    with pytest.raises(ValueError, match="JSON"):
        dumps({"x": float("nan")})


@pytest.mark.parametrize(
    ("error", "code"), [(Refusal(504, "late", code="timeout"), "timeout"), (KeyError("CANARY"), "internal_error")]
)
def test_an_error_on_the_way_is_an_event(error, code):
    """Section 5, S23: the last event is an error with four keys, never a silent end, without the exception's words."""

    async def scenario():
        line, source = Line(), Source({"a": 1}, error)
        await EventStream(source.events(), source.close)(SCOPE, line.receive, line.send)
        return line, source

    line, source = run(scenario())
    last = json.loads(line.text.split("\n\n")[-2].removeprefix("data: "))
    assert set(last["error"]) == {"message", "type", "param", "code"}
    assert (last["error"]["type"], last["error"]["code"]) == ("server_error", code)
    assert "CANARY" not in line.text
    assert "[DONE]" not in line.text
    assert line.whole
    assert source.closed == 1


def test_a_client_that_leaves():
    """S3: while nothing is said, too: the source ends at once."""

    async def scenario():
        line, source = Line(), Source({"a": 1}, asyncio.Event)
        answering = asyncio.create_task(EventStream(source.events(), source.close)(SCOPE, line.receive, line.send))
        while len(line.sent) < 2:
            await asyncio.sleep(0)
        line.gone.set()
        await answering
        return source

    source = run(scenario())
    assert source.left
    assert source.closed == 1


@pytest.mark.parametrize("first", [True, False])
def test_a_client_that_does_not_read(first):
    """S4: it is given up after a while, at its first event, at a later one or at a ping, and the source ends."""

    async def scenario():
        line, source = Line(), Source({"a": 1}, *([{"b": 1}] if first else [asyncio.Event]))

        async def send(message):
            await line.send(message)
            if len(line.sent) == 2:
                line.open.clear()

        stream = EventStream(source.events(), source.close, ping=0.02, stalled=0.05)
        await stream(SCOPE, line.receive, send)
        return line, source

    line, source = run(scenario())
    assert not line.whole
    assert source.left
    assert source.closed == 1


def test_a_comment_where_there_is_nothing_to_say():
    """Section 5: comments only while idle."""

    async def scenario(ping):
        line, source = Line(), Source({"a": 1}, asyncio.Event, {"b": 2})
        stream = EventStream(source.events(), source.close, ping=ping)
        answering = asyncio.create_task(stream(SCOPE, line.receive, line.send))
        while len(line.sent) < (4 if ping < 1 else 2):
            await asyncio.sleep(0.001)
        source.gate.set()
        await answering
        return line.text

    assert run(scenario(0.01)).count(": still here\n\n") >= 2
    assert ": " not in run(scenario(15)).replace("data: ", "")


def test_one_that_was_never_begun_is_closed():
    """A client that leaves before the first event: whoever made the stream is told nevertheless."""

    async def scenario():
        line, source = Line(), Source({"a": 1})
        line.open.clear()
        line.gone.set()
        await EventStream(source.events(), source.close)(SCOPE, line.receive, line.send)
        return source

    assert run(scenario()).closed == 1


def test_work_for_a_client_that_leaves_is_ended():
    """S3: an answer in one piece is given up as soon as nobody waits for it."""

    async def scenario():
        line, ended = Line(), []
        request = Request(SCOPE, line.receive)

        async def work():
            try:
                line.gone.set()
                await asyncio.Event().wait()
            finally:
                ended.append(True)

        with pytest.raises(Refusal) as caught:
            await while_connected(request, work())
        return caught.value, ended

    refusal, ended = run(scenario())
    assert refusal.status == 499
    assert ended


def test_work_that_ends_gives_what_it_gives():
    """Its value, or what it raises."""

    async def scenario():
        request = Request(SCOPE, Line().receive)

        async def fails():
            raise KeyError("x")

        assert await while_connected(request, asyncio.sleep(0, 5)) == 5
        with pytest.raises(KeyError):
            await while_connected(request, fails())

    run(scenario())


def test_in_parts_it_is_the_same():
    """What is written a little at a time is what is written at once."""
    entries = [{"token": "\u2028", "bytes": [1, 2], "top": [{"token": "球"}]}] * (2 * BLOCK + 1)
    for value in (
        {}, {"a": []}, {"a": [[]], "b": {}, "c": None}, {"tokens": list(range(3 * BLOCK))},
        {"choices": [{"logprobs": {"content": entries, "refusal": None}, "text": '"'}] * 2, "usage": {"a": 1.5}},
    ):  # fmt: skip
        assert dumps_in_parts(value) == dumps(value)
