"""Who may come in, and with what: everything that is decided about a request before its body is understood.

In this order: by what name the server was called, from which web page, with which key, in which form, how much, and how
fast. The gate stands around the whole application and lets through what it knows, so that a route that somebody adds
is guarded too.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import logging
import re
import secrets
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..config import InputError
from ..config.options import ServeOptions
from .failure import Refusal, broken, unavailable
from .log import Entry, place, tell

HEADERS = 64 * 2**10  # bytes of all headers
BODY = 2 * 2**20  # bytes of a body
BODY_SECONDS = 60.0  # that a body may take to arrive
IDLE_SECONDS = 10.0  # that a body may stand still
OPEN = ("/health", "/ready")  # asked without a key
GLASS = "/glass/"  # the page that shows what a model computes: its files hold nothing of ours
GLASS_API = "/glass/api"  # which does
# what a browser may do with that page: nothing of anybody else's, and nowhere inside another page
SHIELD = [
    (b"content-security-policy", b"default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"), (b"x-frame-options", b"DENY"),
]  # fmt: skip
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# what a web page that may call us can send and read; the official clients describe themselves in x-stainless-*
SENDS = {
    "accept", "accept-language", "authorization", "content-language", "content-type", "idempotency-key", "openai-beta",
    "openai-organization", "openai-project", "user-agent",
}  # fmt: skip
READS = "retry-after, x-instar-ignored, x-request-id"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}\Z")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#@\\,*]+\Z")
_KEY = re.compile(r"[\x21-\x7e]+\Z")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GateRules:
    """Whom the gate lets in. digests: sha256 of each key; none asks for none. hosts: names by which the server may be
    called, beside addresses in numbers; None takes any. origins: web pages that may call."""

    digests: tuple[bytes, ...] = field(default=(), repr=False)
    hosts: frozenset[str] | None = frozenset({"localhost"})
    origins: frozenset[str] = frozenset()
    body: int = BODY
    body_seconds: float = BODY_SECONDS
    idle_seconds: float = IDLE_SECONDS

    @classmethod
    def of(cls, options: ServeOptions, keys: Iterable[str]) -> GateRules:
        """Raises InputError for a public address without a key, and for a key, a name or a page that is none."""
        keys = list(dict.fromkeys(keys))
        if not all(_KEY.match(key) for key in keys):
            raise InputError(
                "found a key that is empty, or holds a blank or a character beyond ASCII; wanted one such as "
                "`openssl rand -hex 32` gives"
            )
        if not (keys or options.insecure or is_loopback(options.host)):
            raise InputError(
                f"host={options.host} lets other machines call, and there is no key; set INSTAR_API_KEY, or give "
                "--api-key, or say --insecure where the network is trusted"
            )
        for origin in options.origins:
            if not _ORIGIN.match(origin):
                raise InputError(f"origins={origin}, wanted each exactly as https://chat.example.org, without a path")
        return cls(tuple(_digest(key.encode()) for key in keys), _hosts(options), frozenset(options.origins))


def is_page(path: str) -> bool:
    """Whether a path leads to the page or is one of its files."""
    return path in ("/", "/glass") or (path.startswith(GLASS) and not path.startswith(GLASS_API))


def shows_page(options: ServeOptions) -> bool:
    """Whether a server has the page: where it is wanted, or where only this machine can call."""
    return options.glass.mode == "on" or (options.glass.mode == "auto" and is_loopback(options.host))


def is_loopback(host: str) -> bool:
    """Whether only this machine can call that address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _hosts(options: ServeOptions) -> frozenset[str] | None:
    """The names of this machine, and those that the user adds."""
    if "*" in options.allowed_hosts:
        return None
    own = socket.gethostname().lower()
    names = {"localhost", options.host.lower(), own, f"{own}.local"}
    for name in options.allowed_hosts:
        if not _NAME.match(name):
            raise InputError(f"allowed_hosts={name}, wanted a name without scheme and port, or *")
        names.add(name.lower().rstrip("."))
    return frozenset(names)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


class Gate:
    """An ASGI application around another. It gives each request scope["instar.id"], scope["instar.client"], and
    scope["instar.note"], where routes note for the log: model, prompt, cached, answer, first, error."""

    def __init__(self, app: ASGIApp, rules: GateRules) -> None:
        self.app, self.rules = app, rules
        self._secret = secrets.token_bytes(32)  # so that what the log says of a key cannot confirm a guess of it

    @property
    def state(self) -> Any:
        """Of the application within."""
        return getattr(self.app, "state", None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._guard(Visit(scope, receive, send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self.app(scope, receive, send)

    async def _guard(self, visit: Visit) -> None:
        try:
            self._check_host(visit)
            if self._check_origin(visit):
                await visit.answer(204, b"")
                return
            visit.scope["instar.client"] = self._client(visit)
            _check_form(visit)
            body = b"" if self._is_open(visit.path) else await self._body(visit)
            if body is not None:
                visit.entered = True
                await self.app(visit.scope, visit.replaying(body), visit.send)
        except Refusal as refusal:
            await visit.refuse(refusal)
        except asyncio.CancelledError:  # the server ends, and nobody else would tell the client
            if not visit.status:
                await visit.refuse(unavailable("The server is stopping.", "draining"))
            raise
        except Exception as error:  # the log has its place, the client a body, and neither its words
            if not visit.entered:  # the application has told of its own
                log.error("request %s failed: %s", visit.id, place(error))
            visit.scope["instar.note"]["error"] = "internal_error"
            if visit.status and not visit.whole:
                visit.broken = True
                raise  # uvicorn then breaks the connection, so that half an answer is not taken for a whole one
            if not visit.status:
                await visit.refuse(broken())
        finally:
            self._tell(visit)

    def _is_open(self, path: str) -> bool:
        return path in OPEN or (is_page(path) and getattr(self.state, "glass", None) is not None)

    def _check_host(self, visit: Visit) -> None:
        """A page whose name was made to point here (DNS rebinding) calls us by that name. Addresses in numbers have no
        name that could be made to point elsewhere."""
        said = visit.headers(b"host")
        if len(said) != 1:
            raise Refusal(400, "Wanted one Host header.", code="bad_request")
        if self.rules.hosts is None:
            return
        name = _host_name(said[0])
        if name not in self.rules.hosts and not _is_address(name):
            raise Refusal(
                403, "This server does not go by that name; whoever runs it can allow it by --allowed-hosts.",
                code="host_not_allowed",
            )  # fmt: skip

    def _check_origin(self, visit: Visit) -> bool:
        """Whether a browser asks before it sends (CORS preflight). Raises Refusal for a page that may not call."""
        said = visit.headers(b"origin")
        if not said:
            return False
        origin = said[0].decode("latin-1")
        host = visit.headers(b"host")[0].decode("latin-1")
        if len(said) > 1 or origin not in self.rules.origins:
            if len(said) == 1 and origin.lower() in (f"http://{host}".lower(), f"https://{host}".lower()):
                return False  # a page of this server's own
            raise Refusal(
                403, "Pages of that origin may not call this server; whoever runs it can allow one by --origins.",
                code="origin_not_allowed",
            )  # fmt: skip
        visit.added += [
            (b"access-control-allow-origin", said[0]), (b"vary", b"Origin"),
            (b"access-control-expose-headers", READS.encode()),
        ]  # fmt: skip
        if visit.scope["method"] != "OPTIONS" or not visit.headers(b"access-control-request-method"):
            return False
        wanted = b",".join(visit.headers(b"access-control-request-headers")).decode("latin-1").lower()
        names = [name for name in map(str.strip, wanted.split(",")) if name in SENDS or _is_stainless(name)]
        visit.added += [
            (b"access-control-allow-methods", b"GET, POST"),
            (b"access-control-allow-headers", ", ".join(names).encode()), (b"access-control-max-age", b"600"),
        ]  # fmt: skip
        return True

    def _client(self, visit: Visit) -> str:
        """Who asks. Raises Refusal (401) where a key is wanted and none of ours was brought."""
        address = visit.scope.get("client")
        by_address = f"addr:{address[0] if address else 'local'}"
        if not self.rules.digests:
            return by_address
        said = visit.headers(b"authorization")
        scheme, _, key = said[0].partition(b" ") if len(said) == 1 else (b"", b"", b"")
        digest = _digest(key.strip(b" "))
        # all are compared, each in constant time: how long it takes tells nothing of a key
        known = [hmac.compare_digest(digest, own) for own in self.rules.digests]
        if any(known) and scheme.lower() == b"bearer":
            return f"key:{hmac.digest(self._secret, digest, 'sha256').hex()[:8]}"
        visit.scope["instar.client"] = by_address
        if self._is_open(visit.path):
            return by_address
        raise Refusal(
            401, "This server wants a key: Authorization: Bearer KEY.", code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )  # fmt: skip

    async def _body(self, visit: Visit) -> bytes | None:
        """The whole body; None where the client left. Raises Refusal for one too large or too slow."""
        length = visit.headers(b"content-length")
        if not length and not visit.headers(b"transfer-encoding"):
            return b""
        if any(not text.isdigit() or len(text) > 20 or int(text) > self.rules.body for text in length):
            raise _too_large(self.rules.body)
        parts: list[bytes] = []
        size, end = 0, time.monotonic() + self.rules.body_seconds
        while True:
            try:
                async with asyncio.timeout(min(self.rules.idle_seconds, max(0.0, end - time.monotonic()))):
                    message = await visit.receive()
            except TimeoutError:
                raise Refusal(408, "The body took too long to arrive.", code="timeout") from None
            if message["type"] == "http.disconnect":
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self.rules.body:
                raise _too_large(self.rules.body)
            if not message.get("more_body", False):
                return b"".join(parts)

    def _tell(self, visit: Visit) -> None:
        """Into the log; and what the gate itself refused into the figures, where the application counts the rest."""
        route = getattr(visit.scope.get("route"), "path", None)
        service = getattr(self.state, "service", None)
        if service is not None and visit.status and not visit.entered:
            service.metrics.http("other", visit.status)
        note, names = visit.scope["instar.note"], service.models if service is not None else ()
        tell(
            Entry(
                id=visit.id, status=visit.status or 499, method=visit.method, route=route or "-",
                client=visit.scope.get("instar.client", "-"), total=time.perf_counter() - visit.began,
                model=note.get("model") if note.get("model") in names else None, prompt=note.get("prompt"),
                cached=note.get("cached"), answer=note.get("answer"), first=note.get("first"),
                error=note.get("error"), left=not (visit.whole or visit.broken),
            )
        )  # fmt: skip


class Visit:
    """One request on its way through. status: what was answered, 0 where nothing was; whole: the answer was sent to its
    end; broken: it failed on its way; added: headers that it gets; entered: the application got to see the request."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope, self.receive, self._send = scope, receive, send
        self.id, self.began = f"req_{secrets.token_hex(16)}", time.perf_counter()
        self.status, self.whole, self.entered, self.broken = 0, False, False, False
        self.added = [(b"x-request-id", self.id.encode()), (b"x-content-type-options", b"nosniff")]
        scope["instar.id"], scope["instar.note"] = self.id, {}
        if self.path in ("/", "/glass") or self.path.startswith(GLASS):
            self.added += SHIELD

    @property
    def method(self) -> str:
        """For the log: a method is the client's text."""
        return self.scope["method"] if self.scope["method"] in METHODS else "?"

    @property
    def path(self) -> str:
        """What routes are chosen by. It is never put together with what the Host header says."""
        root, path = self.scope.get("root_path", ""), self.scope["path"]
        return path[len(root) :] if root and path.startswith(f"{root}/") else path

    def headers(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.scope["headers"] if key == name]

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", []), *self.added]}
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.whole = True

    def replaying(self, body: bytes) -> Receive:
        """Gives the body that was read, once, then waits until the client leaves."""
        waiting = [body]

        async def receive() -> Message:
            if waiting:
                return {"type": "http.request", "body": waiting.pop(), "more_body": False}
            while (message := await self.receive())["type"] == "http.request":
                pass  # that there is no body is told as well, where none was waited for
            return message

        return receive

    async def refuse(self, refusal: Refusal) -> None:
        self.scope["instar.note"]["error"] = refusal.code or refusal.kind
        headers = [(name.lower().encode(), value.encode()) for name, value in refusal.headers.items()]
        headers.append((b"content-type", b"application/json"))
        if not self.entered and (self.headers(b"content-length") or self.headers(b"transfer-encoding")):
            headers.append((b"connection", b"close"))  # its body was not read
        await self.answer(refusal.status, json.dumps(refusal.body).encode(), headers)

    async def answer(self, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        length = [(b"content-length", str(len(body)).encode())] if status != 204 else []
        await self.send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
        await self.send({"type": "http.response.body", "body": body})


def _check_form(visit: Visit) -> None:
    """Raises Refusal: 400 for headers that are too large or contradict each other; 415 for a body that is compressed,
    since it may unpack to anything, or not JSON, since a web page may send other forms unasked."""
    if sum(len(key) + len(value) for key, value in visit.scope["headers"]) > HEADERS:
        raise headers_too_large()
    if visit.headers(b"transfer-encoding") and visit.headers(b"content-length"):
        raise Refusal(400, "Wanted either Content-Length or Transfer-Encoding.", code="bad_request")
    if any(value.strip().lower() != b"identity" for value in visit.headers(b"content-encoding")):
        raise Refusal(415, "Wanted a body that is not compressed.", code="unsupported_media_type")
    if visit.scope["method"] == "POST":  # no route takes another method with a body
        kinds = visit.headers(b"content-type")
        kind, *parameters = kinds[0].lower().split(b";") if len(kinds) == 1 else [b""]
        sets = [
            value.strip(b' \t"') for name, _, value in (each.partition(b"=") for each in parameters)
            if name.strip() == b"charset"
        ]  # fmt: skip
        if kind.strip() != b"application/json" or any(each not in (b"utf-8", b"utf8") for each in sets):
            raise Refusal(415, "Wanted Content-Type: application/json, in UTF-8.", code="unsupported_media_type")


def headers_too_large() -> Refusal:
    return Refusal(400, f"The headers are larger than {HEADERS} bytes.", code="headers_too_large")


def _too_large(limit: int) -> Refusal:
    return Refusal(413, f"The body is larger than {limit} bytes.", code="body_too_large")


def _host_name(value: bytes) -> str:
    """Without port and brackets. Example: [::1]:8000 -> ::1"""
    text = value.decode("latin-1").strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    name, colon, port = text.rpartition(":")
    return (name if colon and port.isdigit() else text).rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_stainless(name: str) -> bool:
    return name.startswith("x-stainless-") and bool(_NAME.match(name))
