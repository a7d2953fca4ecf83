"""A client's connection of HTTP/1.1 for one request, whose answer is read as it comes.

A client that measures a server on its own machine takes time from it: read so, an event costs about half of what it
does with httpx. No redirects, no proxies, no compression.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from urllib.parse import SplitResult, urlsplit

from ..config import InputError

LIMIT = 1 << 20  # bytes of headers, and of a line
PIECE = 1 << 16  # bytes read at a time
CONNECT_SECONDS = 10.0


class Broken(Exception):
    """The other side hung up, or does not speak HTTP."""


class Connection:
    """status, headers (names in small letters): of the answer, once `send` is through."""

    def __init__(self, url: SplitResult, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._url, self._reader, self._writer = url, reader, writer
        self.status, self.headers = 0, dict[str, str]()

    async def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> None:
        """path: below that of the address. Raises Broken where no answer begins."""
        named = {"host": self._url.netloc.rpartition("@")[2], "connection": "close", "accept-encoding": "identity"}
        if body:
            named |= {"content-type": "application/json", "content-length": str(len(body))}
        lines = [f"{method} {self._url.path}/{path} HTTP/1.1", *(f"{k}: {v}" for k, v in (named | {**headers}).items())]
        try:
            self._writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
            await self._writer.drain()
            await self._head()
            while self.status in range(100, 200):  # more is to come
                await self._head()
        except FAULTS as error:
            raise Broken(type(error).__name__) from error

    async def _head(self) -> None:
        first, *rest = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self.status = int(first.split(" ")[1])
        pairs = (line.partition(":") for line in rest if line)
        self.headers = {name.lower(): value.strip() for name, _, value in pairs}

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises Broken where it ends before its end."""
        try:
            if "chunked" in self.headers.get("transfer-encoding", ""):
                while size := int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16):
                    yield (await self._reader.readexactly(size + 2))[:size]
            elif length := self.headers.get("content-length"):
                yield await self._reader.readexactly(int(length))
            else:
                while piece := await self._reader.read(PIECE):
                    yield piece
        except FAULTS as error:
            raise Broken(type(error).__name__) from error

    async def body(self) -> bytes:
        """All of it."""
        return b"".join([piece async for piece in self.pieces()])


# what a server can do to a reader: hang up, send half, or something else than HTTP
FAULTS = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, IndexError)


@asynccontextmanager
async def connected(url: SplitResult) -> AsyncIterator[Connection]:
    """A connection for one request. Raises Broken where nobody listens."""
    secure = url.scheme == "https"
    port = url.port or (443 if secure else 80)
    context = ssl.create_default_context() if secure else None
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(url.hostname, port, ssl=context, limit=LIMIT)
    except OSError as error:  # TimeoutError is one
        raise Broken(type(error).__name__) from error
    try:
        yield Connection(url, reader, writer)
    finally:
        writer.close()
        with suppress(OSError):  # of a connection that the server has reset
            await writer.wait_closed()


def address(url: str) -> SplitResult:
    """An address up to its version: /v1 is added where it has no path. Raises InputError."""
    wanted = f"url={url}, wanted an address such as http://127.0.0.1:8000/v1"
    try:
        found = urlsplit(url.strip().rstrip("/"))
        known = found.scheme in ("http", "https") and found.hostname and (found.port or 1)
    except ValueError as error:  # a port or an IPv6 address that is none
        raise InputError(wanted) from error
    if (
        not known
        or found.query
        or found.fragment
        or not url.isascii()
        or any(letter <= " " for letter in found.geturl())
    ):
        raise InputError(wanted)
    return found._replace(path=found.path or "/v1")
