"""The server as one ASGI application: the gate around, the routes within, and every error in OpenAI's four keys."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import __version__
from ..config import InputError
from ..config.options import ServeOptions
from . import catalog, chat, completions, embeddings, health
from .body import refusal_of
from .failure import Refusal, bad, broken
from .gate import GLASS, OPEN, Gate, GateRules, shows_page
from .glass import api, runs_api, site
from .glass.front import Glass
from .glass.route import TOLD, TROUBLES
from .log import place
from .opening import close_service
from .service import Service

log = logging.getLogger("instar.serve")

Open = Callable[[], Awaitable[Service]]
# what any request may be told beside its answer; those that a route adds stand with it
STATUSES = {
    400: "The request is at fault; param names the field.",
    401: "A key is wanted, or this one is wrong.",
    403: "This Host or Origin may not ask.",
    404: "There is no such address or model.",
    405: "The address is there, but not for this method.",
    408: "The request took too long to arrive.",
    413: "The body is too large.",
    415: "The body is not application/json, or compressed.",
    429: "Too many requests wait; Retry-After says when to come again.",
    500: "The server failed at this request.",
    503: "The server loads, drains, or its engine has died.",
    504: "The request's time ran out.",
}


def create_app(
    open: Open | None = None, *, service: Service | None = None, rules: GateRules | None = None,
    glass: ServeOptions | None = None,
) -> Gate:  # fmt: skip
    """The application of one service. open: makes the service once the server runs, and requests are told to wait
    (503) until it has; such a service is closed when the server stops. service: one that is open already and stays so.
    rules: whom the gate lets in; None is what a server without a key lets in at its own machine. glass: with the glass
    box, if these options do not turn it off."""
    if (open is None) == (service is None):
        raise ValueError("wanted either a service, or how to open one")

    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        opening = asyncio.create_task(_opened(app, open)) if open is not None else None
        yield
        if app.state.glass is not None:
            await app.state.glass.stop()
        if opening is not None:
            await _closed(app, opening)

    app = FastAPI(
        title="Instar", version=__version__, lifespan=life, docs_url=None, redoc_url=None, redirect_slashes=False,
        exception_handlers={
            Refusal: _refused, HTTPException: _no_route, RequestValidationError: _invalid, InputError: _unfit
        },
    )  # fmt: skip
    app.state.service = service
    for routes in (chat, completions, embeddings, catalog, health):
        app.include_router(routes.router, responses=_documented())
    app.state.glass = None if glass is None else _glass(app, glass)
    app.add_middleware(Caught)
    rules = rules or GateRules()
    app.openapi = lambda: _openapi(app, locked=bool(rules.digests))  # type: ignore[method-assign]
    return Gate(app, rules)


def _glass(app: FastAPI, options: ServeOptions) -> Glass | None:
    """Put the glass box on, and give it where it is not turned off."""
    glass = Glass(options) if shows_page(options) else None
    found = [runs_api.routes(glass.runs, glass.pause)] if glass is not None else []
    for router in (*found, api.router, site.router):
        app.include_router(router, responses=TROUBLES)
    return glass


class Caught:
    """Counts what was answered, by route and status; and what nobody caught is told to the log by its place alone, for
    its own words may hold a request's text."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 0

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _count(scope, status)  # before it is sent, so that whoever has an answer finds it counted
            await send(message)

        try:
            await self.app(scope, receive, told)
        except Exception as error:  # whatever it was, the client gets a body and the log a place, never the request
            log.error("request %s failed: %s", scope.get("instar.id", "-"), place(error))
            if status:
                # the answer has begun: all that is left is to break the connection, so that it is not taken as whole
                raise RuntimeError("an answer broke off; the line before says where") from None
            await _answer(Request(scope), broken())(scope, receive, told)


def _count(scope: Scope, status: int) -> None:
    service = scope["app"].state.service if "app" in scope else None
    if service is not None:
        service.metrics.http(getattr(scope.get("route"), "path", "other"), status)


def _answer(request: Request, refusal: Refusal) -> JSONResponse:
    request.scope.setdefault("instar.note", {})["error"] = refusal.code or refusal.kind
    return JSONResponse(refusal.body, refusal.status, headers=refusal.headers)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refusal)
    return _answer(request, error)


async def _unfit(request: Request, error: Exception) -> JSONResponse:
    """What the package refused and no route put into words of its own: those of the error may repeat the request."""
    log.warning("request %s was refused: %s", request.scope.get("instar.id", "-"), place(error))
    return _answer(request, bad("This request cannot be answered; something in it does not fit this model."))


async def _no_route(request: Request, error: Exception) -> JSONResponse:
    """What the router itself refuses: no such address (404), or not for this method (405)."""
    assert isinstance(error, HTTPException)
    words = {404: ("There is no such address.", "not_found"), 405: ("Not for this method.", "method_not_allowed")}
    message, code = words.get(error.status_code, ("The request cannot be read.", "bad_request"))
    return _answer(request, Refusal(error.status_code, message, code=code, headers=error.headers))


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return _answer(request, refusal_of(error.errors()))


async def _opened(app: FastAPI, open: Open) -> None:
    app.state.service = await open()


async def _closed(app: FastAPI, opening: asyncio.Task[None]) -> None:
    """Close what was opened. An opening that goes on is broken off; whoever gave it knows where it failed."""
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    service, app.state.service = app.state.service, None
    if service is not None:
        await close_service(service)


def _documented() -> dict[int | str, dict[str, Any]]:
    schema = {"$ref": "#/components/schemas/Error"}
    return {
        status: {"description": text, "content": {"application/json": {"schema": schema}}}
        for status, text in STATUSES.items()
    }


def _openapi(app: FastAPI, *, locked: bool) -> dict[str, Any]:
    """The schema of all routes, with our errors in the place of FastAPI's 422, which is never sent. locked: the gate
    wants a key, everywhere but at the routes that it leaves open."""
    if app.openapi_schema is not None:
        return app.openapi_schema
    schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    nullable = {"type": ["string", "null"]}
    keys = {"message": {"type": "string"}, "type": {"type": "string"}, "param": nullable, "code": nullable}
    error = {"type": "object", "properties": keys, "required": list(keys), "additionalProperties": False}
    schemas["Error"] = {"type": "object", "properties": {"error": error}, "required": ["error"]}
    trouble = {"type": "object", "properties": {name: {"type": "string"} for name in TOLD}, "required": list(TOLD)}
    schemas["Trouble"] = {"type": "object", "properties": {"error": trouble}, "required": ["error"]}
    if locked:
        schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for name, path in schema["paths"].items():
        for operation in path.values():
            if not name.startswith(GLASS):
                operation["responses"].pop("422", None)
            if locked and name not in OPEN:
                operation["security"] = [{"key": []}]
    app.openapi_schema = schema
    return schema
