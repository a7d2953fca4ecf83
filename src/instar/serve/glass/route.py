"""How routes of the glass box read what is asked, and tell what went wrong."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from ...config import InputError
from ..body import parse
from ..failure import Refusal
from ..log import place
from .trouble import Trouble, bad_input, broken, trouble_of

LOG = logging.getLogger("instar.serve")
NO_STORE = {"cache-control": "no-store"}
TOLD = ("code", "detail")  # of each trouble, beside figures of some
# what may be told in the place of an answer
TROUBLES: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Trouble"}}}}
    for status, text in {
        404: "There is no such model, run or address.",
        409: "The trace is no longer kept.",
        413: "The text has more tokens than can be looked at.",
        422: "The request is at fault, or does not apply to the model.",
        429: "Too many requests wait.",
        500: "The server failed at this request.",
        503: "The server loads, or the process that computes has ended.",
        507: "There is not enough memory.",
    }.items()
}
LARGE = 2**16  # bytes of a body that are parsed on the event loop at most


class GlassRoute(APIRoute):
    """A route whose faults are told as {"error": {"code", "detail", ...}}, and whose body is read strictly."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer, reads = super().get_route_handler(), self.body_field is not None

        async def handle(request: Request) -> Response:
            try:
                if reads:
                    raw = await request.body()
                    # Starlette gives this out as request.json()
                    request._json = await asyncio.to_thread(parse, raw) if len(raw) > LARGE else parse(raw)
                return await answer(request)
            except Trouble as trouble:
                return refused(request, trouble)
            except InputError as error:
                return refused(request, trouble_of(error))
            except RequestValidationError as error:
                return refused(request, bad_input(fault_of(error.errors())))
            except Refusal as refusal:
                return refused(request, of_refusal(refusal))
            except (HTTPException, ClientDisconnect):
                raise
            except Exception as error:  # a fault of ours, told in the form of this page and not in that of /v1
                LOG.error("request %s failed: %s", request.scope.get("instar.id", "-"), place(error))
                return refused(request, broken())

        return handle


def fault_of(errors: Sequence[Mapping[str, Any]]) -> str:
    """What pydantic found, naming the field, as in `messages[0].role`: the first of several."""
    error = errors[0]
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error["loc"][1:]).lstrip(".")
    said = {"missing": "this is required", "extra_forbidden": "there is no such field"}.get(error["type"], error["msg"])
    return f"{where[:64] or 'the body'}: {said[:1].lower()}{said[1:]}"


def of_refusal(refusal: Refusal) -> Trouble:
    """The same in our form; what is at fault in a request is 422 here."""
    if refusal.status == 400:
        return Trouble(422, "bad_input", refusal.message)
    return Trouble(refusal.status, refusal.code or "internal_error", refusal.message)


def refused(request: Request, trouble: Trouble) -> JSONResponse:
    request.scope.setdefault("instar.note", {})["error"] = trouble.code
    headers = NO_STORE | ({"retry-after": "2"} if trouble.status in (429, 503) else {})
    return JSONResponse(trouble.body, trouble.status, headers)
