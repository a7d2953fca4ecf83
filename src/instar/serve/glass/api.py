"""The API of the glass box: /glass/api. What it answers is computed in a process of its own, but for what models there
are, which is read from their configs here."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from ... import __version__
from ..sse import EventStream, dumps, while_connected
from . import asking
from .asking import Beam, Generate, Intervene, Kinds, Order, Tokenize, Traced, args_of, query, span, view_query
from .caller import Frame
from .front import glass_of
from .route import NO_STORE, GlassRoute
from .trouble import Trouble

SIDES = ("auto", "encoder", "decoder", "cross")
Named = tuple[str, str]  # name and data of an event
EXPORTS = ("html", "safetensors", "json")


router = APIRouter(prefix="/glass/api", route_class=GlassRoute)


async def asked(request: Request, op: str, args: Mapping[str, Any]) -> Response:
    """What an operation answers; where the client leaves before, it is abandoned."""
    header, body = await while_connected(request, glass_of(request).caller.ask(op, args))
    return answer_of(header, body)


def answer_of(header: Mapping[str, Any], body: bytes) -> Response:
    name = header.get("name", "")
    attached = {"content-disposition": f'attachment; filename="{name}"'} if name else {}
    return Response(body, media_type=header["type"], headers=NO_STORE | attached)


class Frames(EventStream):
    """Events with a name."""

    def written(self, event: Named) -> str:
        return "event: {}\ndata: {}\n\n".format(*event)


async def streamed(request: Request, op: str, args: Mapping[str, Any]) -> Response:
    """Events as they come. What stands in the way of the first is told by the status, later it is an event `error`."""
    frames = glass_of(request).caller.stream(op, args)
    try:
        first = await while_connected(request, _next(frames))
    except BaseException:
        await frames.aclose()
        raise
    return Frames(_events(request, first, frames))


async def _next(frames: AsyncGenerator[Frame]) -> Frame | None:
    return await anext(frames, None)


async def _events(request: Request, first: Frame | None, frames: AsyncGenerator[Frame]) -> AsyncGenerator[Named]:
    async with aclosing(frames):
        try:
            frame = first
            while frame is not None:
                header, body = frame
                yield header["name"], body.decode()
                frame = await anext(frames, None)
        except Trouble as trouble:
            request.scope.setdefault("instar.note", {})["error"] = trouble.code
            yield "error", dumps(trouble.body["error"])


@router.get("/models")
async def models(request: Request) -> Response:
    """What models and runs there are, from their configs alone."""
    if request.query_params:
        query(request.query_params.multi_items(), {})
    said = await glass_of(request).listing()
    return Response(dumps({**said, "version": __version__}), media_type="application/json", headers=NO_STORE)


@router.post("/tokenize")
async def tokenize(body: Tokenize, request: Request) -> Response:
    """A text, or messages, as tokens."""
    return await asked(request, "tokenize", args_of(body, ("text", "messages")))


@router.post("/trace")
async def trace(body: Traced, request: Request) -> Response:
    """Run a text through a model once, and keep what was computed."""
    return await asked(request, "trace", args_of(body, ("text", "ids", "messages")))


@router.get("/trace/{trace}.{format}")
async def export(trace: str, format: str, request: Request) -> Response:
    """All views of a trace as one file: html, safetensors or json."""
    if format not in EXPORTS:
        raise Trouble(404, "not_found", f"wanted one of {', '.join(EXPORTS)}")
    said = view_query(request.query_params.multi_items(), {"language": ("en", "zh"), "vs": str, "views": str})
    return await asked(request, "export", {"trace": trace, "format": format, **said})


@router.get("/trace/{trace}")
async def traced(trace: str, request: Request) -> Response:
    """What POST /trace said."""
    query(request.query_params.multi_items(), {})
    return await asked(request, "traced", {"trace": trace})


@router.get("/trace/{trace}/atlas")
async def atlas(trace: str, request: Request) -> Response:
    """A small picture of each head, as safetensors."""
    kinds: Kinds = {"layers": str, "px": int, "kind": ("raw", "sinkless"), "side": SIDES}
    said = query(request.query_params.multi_items(), kinds)
    if "layers" in said:
        said["layers"] = span("layers", said["layers"])
    return await asked(request, "atlas", {"trace": trace, **said})


@router.get("/trace/{trace}/attention/{layer}/{head}")
async def attention(trace: str, layer: int, head: int, request: Request) -> Response:
    """The attention of one head, of -1 the mean of all, as safetensors."""
    kinds: Kinds = {"kind": ("raw", "sinkless", "norm"), "level": ("token", "word"), "side": SIDES, "rows": str}
    said = query(request.query_params.multi_items(), kinds)
    if "rows" in said:
        said["rows"] = span("rows", said["rows"])
    return await asked(request, "attention", {"trace": trace, "layer": layer, "head": head, **said})


@router.get("/trace/{trace}/rollout")
async def rollout(trace: str, request: Request) -> Response:
    """Attention rolled out over the layers, as safetensors."""
    kinds: Kinds = {"layer": int, "level": ("token", "word"), "side": SIDES, "kind": ("raw",), "rows": str}
    said = query(request.query_params.multi_items(), kinds)
    if "rows" in said:
        said["rows"] = span("rows", said["rows"])
    return await asked(request, "rollout", {"trace": trace, **said})


@router.get("/trace/{trace}/logits/{at}")
async def logits(trace: str, at: int, request: Request) -> Response:
    """The logits of all tokens behind a place, as safetensors; vs: those of another model."""
    said = query(request.query_params.multi_items(), {"vs": str})
    return await asked(request, "logits", {"trace": trace, "at": at, **said})


@router.get("/trace/{trace}/{view}")
async def view(trace: str, view: str, request: Request) -> Response:
    """The panel of a view, as `instar inspect --format json` writes it; vs: held against another model; parts: those
    of data, arrays and figures that are wanted, with commas between them."""
    said = view_query(request.query_params.multi_items(), {"vs": str, "parts": str})
    return await asked(request, "view", {"trace": trace, "view": view, **said})


@router.post("/intervene")
async def intervene(body: Intervene, request: Request) -> Response:
    """The pass of a trace once more, with heads, positions or tokens changed."""
    return await asked(request, "intervene", args_of(body))


@router.post("/generate")
async def generate(body: Generate, request: Request) -> Response:
    """An answer token by token, as server-sent events: start, token, done, error."""
    return await streamed(request, "generate", args_of(body, ("messages", "prompt", "text", "ids", "trace")))


@router.post("/beam")
async def beam(body: Beam, request: Request) -> Response:
    """The panel of a beam search."""
    return await asked(request, "beam", args_of(body, ("text", "ids", "messages", "trace")))


@router.post("/order")
async def order(body: Order, request: Request) -> Response:
    """Two orders of the same words, with and without positions."""
    return await asked(request, "order", args_of(body))


@router.get("/heads/{model:path}")
async def heads(model: str, request: Request) -> Response:
    """What the heads of a model do: on probe sets, or on a text of one's own."""
    said = query(request.query_params.multi_items(), {"set": ("probe", "corpus"), "text": str, "adapter": str})
    return await asked(request, "heads", {"model": model, **said})


@router.get("/probes/{model:path}")
async def probes(model: str, request: Request) -> Response:
    """What linear probes find in the layers of a model."""
    said = query(request.query_params.multi_items(), {"adapter": str, "text": str})
    return await asked(request, "probes", {"model": model, **said})


@router.get("/vocabulary/{model:path}")
async def vocabulary(model: str, request: Request) -> Response:
    """The pieces of ids, or the ids of a text."""
    said = query(request.query_params.multi_items(), {"ids": str, "text": str, "adapter": str})
    if len(said.keys() & {"ids", "text"}) != 1:
        raise Trouble(422, "bad_input", "wanted either ids or text")
    if "ids" in said:
        said["ids"] = asking.numbers(said["ids"])
    return await asked(request, "vocabulary", {"model": model, **said})


@router.api_route("/{path:path}", methods=["GET", "POST"], include_in_schema=False)
async def nothing(path: str, request: Request) -> Response:
    """What no route before answers."""
    glass_of(request)
    raise Trouble(404, "not_found", "there is no such address in /glass/api")
