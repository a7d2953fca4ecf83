"""The server's side of a connection: uvicorn's own protocol, with limits on how slowly a client may write and read.

Headers that do not come, a body that nobody reads, an answer that nobody fetches: each would keep memory and a file
descriptor for as long as the client likes.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from .failure import Refusal, unavailable
from .gate import headers_too_large

HEAD_SECONDS = 10.0  # from a connection's begin, or a request's first byte, to the end of the headers
STALL_SECONDS = 30.0  # that a client may read nothing of an answer that waits for it
LINGER_SECONDS = 2.0  # that what a client still sends is thrown away, so that it gets to read why
CONNECTIONS = 4096  # open at a time
AHEAD = 64 * 2**10  # bytes that a client may send of its next requests while an answer is on its way
BUFFER = 256 * 2**10  # bytes that the system keeps of an answer on its way; by itself it grows to megabytes


class Protocol(H11Protocol):
    """See the module. Faults of HTTP itself are answered with the four keys of all errors."""

    head_seconds, stall_seconds, linger_seconds = HEAD_SECONDS, STALL_SECONDS, LINGER_SECONDS
    most = CONNECTIONS

    _head: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None
    _linger: asyncio.TimerHandle | None = None
    _said = False  # whether a byte came
    _refused = False  # whether the connection itself was answered, and not a request

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(asyncio.Transport, Closing(transport, self)))
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        if len(self.connections) > self.most:
            self._refuse(unavailable("Too many connections are open.", "too_many_connections"))
        else:
            self._head = self.loop.call_later(self.head_seconds, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head, self._stall, self._linger):
            if timer is not None:
                timer.cancel()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._said = True
        super().data_received(data)
        self._read_on()
        if self.conn.their_state is not h11.IDLE:
            self._forget_head()
        elif self._head is None and self.timeout_keep_alive_task is None and not self.transport.is_closing():
            self._head = self.loop.call_later(self.head_seconds, self._head_is_late)

    def eof_received(self) -> None:
        if self.lingers:
            self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stall is None:
            self._watch_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._read_on()  # the next request is being answered, and one more has come
        if self.conn.their_state is h11.SEND_BODY:  # nobody will read the rest of it
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn where h11 cannot make a request of what came."""
        error = sys.exc_info()[1]
        large = isinstance(error, h11.RemoteProtocolError) and error.error_status_hint == 431
        self._refuse(headers_too_large() if large else Refusal(400, "This is not HTTP.", code="bad_request"))

    @property
    def lingers(self) -> bool:
        """Whether nothing more is answered, and what comes is thrown away."""
        return self._linger is not None

    def may_close(self, transport: asyncio.Transport) -> bool:
        """Whether the connection can be closed at once. Where the client still sends it cannot: the system would answer
        that with a reset, which wipes out what the client has not read yet. It then lingers instead."""
        sends = self._refused or self.conn.their_state in (h11.SEND_BODY, h11.ERROR)
        if not sends or transport.is_closing():
            return True
        if not self.lingers:
            self._linger = self.loop.call_later(self.linger_seconds, transport.abort)
            if transport.can_write_eof():
                transport.write_eof()
            self.flow.resume_reading()
        return False

    def _read_on(self) -> None:
        """uvicorn stops reading at the next request until this one is answered, and would not see the client leave."""
        if self.flow.read_paused and self.conn.their_state in (h11.DONE, h11.MIGHT_SWITCH_PROTOCOL):
            if len(self.conn.trailing_data[0]) > AHEAD:
                self.transport.abort()
            else:
                self.flow.resume_reading()

    def _forget_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _head_is_late(self) -> None:
        self._head = None
        if self._said:
            self._refuse(Refusal(408, "The headers took too long to arrive.", code="timeout"))
        else:  # a browser opens connections ahead; nothing was asked, so nothing is answered
            self.transport.close()

    def _watch_reader(self, waiting: int) -> None:
        """Break the connection where nothing more was read in the time that a client has."""

        def look() -> None:
            still = self.transport.get_write_buffer_size()
            if still < waiting:
                self._watch_reader(still)
            else:
                self.transport.abort()

        self._stall = self.loop.call_later(self.stall_seconds, look)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer without the application, and close."""
        self._forget_head()
        self._refused = True
        body = json.dumps(refusal.body).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
        response = h11.Response(
            status_code=refusal.status, headers=[*(headers | refusal.headers).items()],
            reason=STATUS_PHRASES[refusal.status],
        )  # fmt: skip
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class Closing:
    """A transport whose `close` first asks the protocol."""

    def __init__(self, transport: asyncio.Transport, protocol: Protocol) -> None:
        self._transport, self._protocol = transport, protocol

    def close(self) -> None:
        if self._protocol.may_close(self._transport):
            self._transport.close()

    def is_closing(self) -> bool:
        return self._protocol.lingers or self._transport.is_closing()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
