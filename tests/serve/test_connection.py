"""The client's connection: bodies of every kind as they come, what servers break, and addresses."""

import asyncio

import pytest

from instar.config import InputError
from instar.serve.connection import Broken, address, connected

HEAD = b"HTTP/1.1 200 OK\r\n"


def fetched(scripted, said):
    """What is read of an answer that consists of these bytes and pauses: status, headers, pieces."""

    async def main():
        async with scripted(lambda *_: said) as server, connected(address(server.url)) as connection:
            await connection.send("GET", "x", {})
            return connection.status, connection.headers, [piece async for piece in connection.pieces()]

    return asyncio.run(main())


@pytest.mark.parametrize(
    "said",
    [
        [HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;a=b\r\n world\r\n0\r\n\r\n"],
        [HEAD + b"transfer-encoding: chunked\r\n\r", b"\n5\r\nhel", 0, b"lo\r\n6\r\n worl", 0, b"d\r\n0\r\n", b"\r\n"],
        [HEAD + b"Content-Length: 11\r\n\r\nhello", 0, b" world and what is not of it"],
        [HEAD + b"\r\nhello", 0, b" world"],
        [b"HTTP/1.1 100 Continue\r\n\r\n", HEAD + b"\r\nhello world"],
    ],
)
def test_bodies(scripted, said):
    """In chunks, of a length, or up to the end; in whatever pieces they come."""
    status, _, pieces = fetched(scripted, said)
    assert (status, b"".join(pieces)) == (200, b"hello world")


def test_as_it_comes(scripted):
    """A chunk is there before the next is sent."""

    async def main():
        more = asyncio.Event()
        said = [HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\none\r\n", more, b"3\r\ntwo\r\n0\r\n\r\n"]
        async with scripted(lambda *_: said) as server, connected(address(server.url)) as connection:
            await connection.send("GET", "x", {})
            pieces = connection.pieces()
            assert await anext(pieces) == b"one"
            more.set()
            assert await anext(pieces) == b"two"

    asyncio.run(main())


@pytest.mark.parametrize(
    "said",
    [
        [],
        [b"HTTP/1.1 200"],
        [b"no HTTP\r\n\r\n"],
        [b"HTTP/1.1 fine\r\n\r\n"],
        [HEAD + b"Content-Length: 11\r\n\r\nhello"],
        [HEAD + b"Content-Length: eleven\r\n\r\nhello world"],
        [HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nhel"],
        [HEAD + b"transfer-encoding: chunked\r\n\r\nfive\r\nhello\r\n0\r\n\r\n"],
        [HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"],
    ],
)
def test_broken(scripted, said):
    """Half an answer, or none, is an error of one kind and never a shorter answer."""
    with pytest.raises(Broken):
        fetched(scripted, said)


def test_nobody_listens():
    """A closed port is the same error."""

    async def main():
        async with connected(address("http://127.0.0.1:1")):
            pass

    with pytest.raises(Broken, match="ConnectionRefusedError"):
        asyncio.run(main())


def test_what_is_sent(scripted):
    """Path below the address, length, type and headers; an encoding of the body is not asked for."""

    async def main():
        async with scripted(lambda *_: [HEAD + b"\r\n"]) as server:
            async with connected(address(server.url)) as connection:
                await connection.send("POST", "chat/completions", {"authorization": "Bearer key"}, b'{"a": 1}')
            return server.port, server.heard[0]

    port, (method, path, headers, body) = asyncio.run(main())
    assert (method, path, body) == ("POST", "/v1/chat/completions", {"a": 1})
    assert headers["host"] == f"127.0.0.1:{port}"
    assert headers["authorization"] == "bearer key"
    assert headers["content-type"] == "application/json"
    assert headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/v1"),
        ("https://example.org/openai/v1/", "https://example.org/openai/v1"),
        ("http://[::1]:80/v2", "http://[::1]:80/v2"),
    ],
)
def test_addresses(said, read):
    """The version is added where there is no path."""
    assert address(said).geturl() == read


@pytest.mark.parametrize(
    "said",
    [
        "", "localhost:8000", "ftp://a/v1", "http://", "http://a:port", "http://a:99999", "http://[::1", "http://a/v1?b=c",
        "http://a/v1#b", "http://a/v 1", "http://ä/v1",
    ],
)  # fmt: skip
def test_wrong_addresses(said):
    """What is no address is the user's fault and says what one looks like."""
    with pytest.raises(InputError, match="wanted an address such as"):
        address(said)
