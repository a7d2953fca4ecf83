"""Connections as raw bytes: what is not HTTP, comes too slowly, is never read, or breaks off."""

import asyncio
import json
import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import replace

import pytest
import uvicorn

from instar.config.options import ServeOptions
from instar.serve.gate import Gate, GateRules
from instar.serve.protocol import Protocol
from instar.serve.server import Listening

GET = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
LARGE = 6_000_000
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


class Hasty(Protocol):
    """The same protocol with less patience."""

    head_seconds, stall_seconds, linger_seconds, most = 0.15, 0.15, 5, 8


class Application:
    """Answers with what it was sent; /flood with more than anybody reads, /large with much at once, /slow when
    it is told to, /wait never. left: how many requests were given up; begun, go: of /slow and /wait."""

    def __init__(self):
        self.bodies, self.left = [], 0
        self.begun, self.go = threading.Event(), threading.Event()

    async def __call__(self, scope, receive, send):
        message = await receive()
        self.bodies.append(message["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            if scope["path"] == "/flood":
                while (await self.next(receive)) is None:
                    await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
                self.left += 1
                return
            if scope["path"] == "/large":
                await send({"type": "http.response.body", "body": b"x" * LARGE, "more_body": True})
            if scope["path"] == "/wait":  # as routes do: uvicorn reads on whenever it is asked anew
                self.begun.set()
                await receive()
                self.left += 1
                return
            if scope["path"] == "/slow":
                self.begun.set()
                while not self.go.is_set():
                    if (await self.next(receive)) is not None:
                        self.left += 1
                        return
        except asyncio.CancelledError:
            self.left += 1
            raise
        await send({"type": "http.response.body", "body": message["body"]})

    async def next(self, receive):
        """The next message, if it comes within a moment."""
        try:
            async with asyncio.timeout(0.01):
                return await receive()
        except TimeoutError:
            return None


class Host:
    def __init__(self):
        self.application, rules = Application(), GateRules.of(ServeOptions(model="m"), ())
        gate = Gate(self.application, replace(rules, idle_seconds=0.15, body_seconds=0.3))
        self.server = Listening(
            uvicorn.Config(
                gate, port=0, http=Hasty, ws="none", lifespan="off", log_config=None, access_log=False,
                h11_max_incomplete_event_size=65536, server_header=False,
            )
        )  # fmt: skip
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive()
            time.sleep(0.005)
        self.address = self.server.servers[0].sockets[0].getsockname()

    @property
    def connections(self):
        return len(self.server.server_state.connections)

    def until(self, claim, seconds=5):
        """Wait until it holds."""
        end = time.monotonic() + seconds
        while not claim():
            assert time.monotonic() < end, "it did not come to be in time"
            time.sleep(0.005)


@pytest.fixture(scope="module")
def whole():
    found = Host()
    yield found
    found.server.should_exit = found.server.force_exit = True
    found.thread.join(10)


@pytest.fixture
def host(whole):
    """A server in this process, which after each test has no connection left and answers as before."""
    whole.application.__init__()
    yield whole
    whole.until(lambda: not whole.connections)
    with connect(whole) as line:
        line.sendall(GET)
        assert answer(line)[0] == 200
        line.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        assert answer(line)[0] == 200


def connect(host, **options):
    line = socket.create_connection(host.address, timeout=5)
    for name, value in options.items():
        line.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
    return line


def answer(line):
    """Read one answer -> status, headers, body; the connection stays."""
    with line.makefile("rb", buffering=0) as file:
        first = file.readline()
        if not first:
            return 0, {}, b""
        headers = {}
        while (row := file.readline().strip()) != b"":
            name, _, value = row.partition(b": ")
            headers[name.lower()] = value
        if headers.get(b"transfer-encoding") == b"chunked":
            body = b""
            while size := int(file.readline(), 16):
                body += file.read(size)
                file.readline()
            file.readline()
        else:
            body = file.read(int(headers.get(b"content-length", 0)))
        return int(first.split()[1]), headers, body


def ended(line):
    """Whether the other side hangs up, and says no more."""
    try:
        return line.recv(1) == b""
    except ConnectionError:
        return True


def refused(line, status, code):
    """An error in four keys, after which the connection ends."""
    found, headers, body = answer(line)
    error = json.loads(body)["error"]
    assert (found, error["code"]) == (status, code)
    assert set(error) == {"message", "type", "param", "code"}
    assert headers[b"connection"] == b"close"
    assert ended(line)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00", b"canary\r\n\r\n", b"GET /\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: b\x00\r\n\r\n", POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        POST + b"Content-Length: x\r\n\r\n", POST + b"Transfer-Encoding: gzip\r\n\r\n", b"G\xc3T / HTTP/1.1\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_not_http(sent, host):
    """S8: bytes that are no request are told so in the four keys, without being repeated."""
    with connect(host) as line:
        line.sendall(sent)
        status, _, body = answer(line)
        assert (status, json.loads(body)["error"]["type"]) == (400 if status != 501 else 501, "invalid_request_error")
        assert b"canary" not in body
        assert ended(line)
    assert not host.application.bodies


@pytest.mark.parametrize("size", [70_000, 2_000_000])
def test_headers_without_end(size, host):
    """S19: more than 64 KB of headers are refused, and the refusal can be read though more was sent."""
    with connect(host) as line:
        line.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: " + b"a" * size)
        refused(line, 400, "headers_too_large")


def test_slow_headers(host):
    """S19: headers that dribble on (slowloris) are told 408; who says nothing at all is hung up on."""
    with connect(host) as line, connect(host) as silent:
        for byte in GET[:5]:
            line.sendall(bytes([byte]))
            time.sleep(0.01)
        refused(line, 408, "timeout")
        assert ended(silent)


def test_slow_headers_of_a_second_request(host):
    """S19: the limit holds on a connection that was used before, too."""
    with connect(host) as line:
        line.sendall(GET)
        assert answer(line)[0] == 200
        line.sendall(GET[:5])
        refused(line, 408, "timeout")


@pytest.mark.parametrize("parts", [[b"{"], [b" "] * 20])
def test_slow_bodies(parts, host):
    """S19: a body that stands still, and one that dribbles on, are told 408 and never reach the application."""
    with connect(host) as line:
        line.sendall(POST + b"Content-Length: 100\r\n\r\n")
        try:
            for part in parts:
                line.sendall(part)
                time.sleep(0.02)
        except ConnectionError:
            pass
        refused(line, 408, "timeout")
    assert not host.application.bodies


@pytest.mark.parametrize("start", [POST + b"Content-Length: 8000000\r\n\r\n", CHUNKED + b"7a1200\r\n"])
def test_a_body_too_large_is_told_so_while_it_is_sent(start, host):
    """S19: a client that sends on and on gets to read 413, and not a reset that wipes it out."""
    with connect(host) as line:
        line.sendall(start)
        for _ in range(80):
            line.sendall(b"x" * 100_000)
        refused(line, 413, "body_too_large")


def test_expecting_to_go_on(host):
    """A client that asks before it sends a body that is too large (Expect: 100-continue) is told at once."""
    with connect(host) as line:
        line.sendall(POST + b"Content-Length: 8000000\r\nExpect: 100-continue\r\n\r\n")
        assert answer(line)[0] == 413
    with connect(host) as line:
        line.sendall(POST + b"Content-Length: 2\r\nConnection: close\r\nExpect: 100-continue\r\n\r\n")
        assert answer(line)[0] == 100
        line.sendall(b"{}")
        assert answer(line)[::2] == (200, b"{}")


def test_chunks_in_any_pieces(host):
    """S8: a body in chunks, sent byte by byte, arrives as it was."""
    sent = (
        CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        + b'3\r\n{"a\r\n6;x=y\r\n": [1]\r\n1\r\n}\r\n0\r\n\r\n'
    )
    with connect(host) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in sent:
            line.sendall(bytes([byte]))
        assert answer(line)[::2] == (200, b'{"a": [1]}')


@pytest.mark.parametrize("chunk", [b"-1\r\n", b"x\r\nabc", b"fffffffffffffffffffff\r\n", b"3\r\nabcdef\r\n"])
def test_chunks_that_are_none(chunk, host):
    """S8: a length that is none ends the request with 400."""
    with connect(host) as line:
        line.sendall(CHUNKED + chunk)
        refused(line, 400, "bad_request")
    assert not host.application.bodies


def test_requests_sent_ahead(host):
    """S8: requests that are sent before the first is answered (pipelining) are answered in their order; what follows
    them and is no request ends the connection, not their answers."""
    one = POST + b"Content-Length: 1\r\n\r\n"
    with connect(host) as line:
        line.sendall(one + b"1" + one + b"2" + one + b"3" + b"garbage\r\n\r\n")
        assert [answer(line)[2] for _ in range(3)] == [b"1", b"2", b"3"]
        refused(line, 400, "bad_request")


def test_a_request_is_not_smuggled_in_a_body(host):
    """S8: one request with two lengths is one refusal, whatever its body looks like."""
    with connect(host) as line:
        line.sendall(CHUNKED[:-2] + b"Content-Length: 5\r\n\r\n0\r\n\r\n" + GET)
        assert answer(line)[0] == 400
        assert ended(line)
    assert not host.application.bodies


@pytest.mark.parametrize("reset", [False, True])
def test_who_leaves_gives_up_the_answer(reset, host):
    """S3: a client that hangs up, or only stops sending, is not answered for any longer."""
    with connect(host) as line:
        line.sendall(GET.replace(b"/ ", b"/slow "))
        assert host.application.begun.wait(5)
        if reset:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            line.shutdown(socket.SHUT_WR)
        line.close()
        host.until(lambda: host.application.left == 1)


@pytest.mark.parametrize("reset", [False, True])
def test_who_leaves_is_seen_though_more_was_sent(reset, host):
    """S3: a byte of a next request does not hide that the client has left."""
    with connect(host) as line:
        line.sendall(GET.replace(b"/ ", b"/wait "))
        assert host.application.begun.wait(5)
        for byte in b"GET":
            line.sendall(bytes([byte]))
            time.sleep(0.01)
        if reset:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        line.close()
        host.until(lambda: host.application.left == 1)


def test_who_sends_much_ahead_is_hung_up_on(host):
    """S19: what waits behind the request that is answered is bounded."""
    with connect(host) as line:
        line.sendall(GET.replace(b"/ ", b"/wait "))
        assert host.application.begun.wait(5)
        line.sendall(POST + b"Content-Length: 1000\r\n\r\n" + b"x" * 1000)  # which is not too much
        time.sleep(0.05)
        assert not host.application.left
        with suppress(ConnectionError):
            line.sendall(b"x" * 100_000)
        with suppress(ConnectionError):
            while line.recv(65536):  # up to where it is hung up
                pass
        host.until(lambda: host.application.left == 1)


def test_half_a_request(host):
    """S8: a client that stops in the middle of headers or of a body leaves nothing behind."""
    for sent in (GET[:9], POST + b"Content-Length: 100\r\n\r\n{"):
        with connect(host) as line:
            line.sendall(sent)
            line.shutdown(socket.SHUT_WR)
            assert ended(line)
    assert not host.application.bodies


def test_who_does_not_read_is_hung_up_on(host):
    """S4: an answer that nobody fetches ends the connection in the time that is set, and others are answered
    meanwhile."""
    with connect(host, SO_RCVBUF=4096) as line:
        line.sendall(GET.replace(b"/ ", b"/flood "))
        with connect(host) as other:
            other.sendall(GET.replace(b"1\r\n\r\n", b"1\r\nConnection: close\r\n\r\n"))
            assert answer(other)[0] == 200
        host.until(lambda: host.application.left == 1)


def test_who_reads_slowly_is_not_hung_up_on(host):
    """S4: who reads slowly does read, and is given the time, though the answer waits for longer than it may stand
    still."""
    with connect(host) as line:
        line.sendall(GET.replace(b"/ ", b"/large "))
        began, size = time.monotonic(), 0
        while size < LARGE:
            piece = line.recv(65536)
            assert piece
            size += len(piece)
            time.sleep(0.006)
        assert time.monotonic() - began > 2 * Hasty.stall_seconds


def test_too_many_connections(host):
    """S19: connections are bounded; one more is told so, in the four keys."""
    lines = [connect(host) for _ in range(8)]
    host.until(lambda: host.connections == 8)
    with connect(host) as line:
        refused(line, 503, "too_many_connections")
    for line in lines:
        line.close()


def test_upgrades_are_not_made(host):
    """S16: a request to change to another protocol is answered as HTTP."""
    asked = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA\r\n\r\n"
    with connect(host) as line:
        line.sendall(GET[:-2] + asked)
        assert answer(line)[0] == 200
