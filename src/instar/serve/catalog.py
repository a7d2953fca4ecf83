"""GET /v1/models, POST /v1/tokenize: what there is, and how it reads a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from ..config import InputError
from .body import StrictRoute
from .failure import bad, from_input_error
from .schema import Strict
from .service import Card, Service, client_of, service_of
from .sse import dumps_in_parts, while_connected

MESSAGES = 2048

router = APIRouter(route_class=StrictRoute)


class Model(BaseModel):
    """parent: the name of an adapter's base; max_model_len: tokens of prompt and answer together, by the name that vLLM
    gives it."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "instar"
    parent: str | None = None
    max_model_len: int


class Models(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]


class TokenizeRequest(Strict):
    """prompt: a text as /v1/completions reads it; or messages, and tools, as /v1/chat/completions does, up to where the
    answer begins. return_token_strs: what each token says, too."""

    model: str
    prompt: str | None = None
    messages: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MESSAGES)] | None = None
    tools: list[dict[str, Any]] | None = None
    return_token_strs: bool | None = None


class Tokens(BaseModel):
    """tokens: ids; token_strs: each for the eye, its bytes where it is no whole text, such as <E4 B8>."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


@router.get("/v1/models")
async def models(request: Request) -> Models:
    """The model and its adapters."""
    service = service_of(request)
    return Models(data=[shown(card, service) for card in service.models.values()])


@router.get("/v1/models/{id:path}")
async def model(id: str, request: Request) -> Model:
    """One of them. A name is looked up and never opened."""
    service = service_of(request)
    return shown(service.card(id), service)


@router.post("/v1/tokenize", response_model=Tokens)
async def tokenize(body: TokenizeRequest, request: Request) -> Response:
    """A text, or a conversation, as the ids that the model reads."""
    service = service_of(request)
    card = service.card(body.model)
    for name in ("chat_template", "chat_template_kwargs"):
        if name in (body.model_extra or {}):
            raise bad("The template is the model's own.", name)
    if (body.prompt is None) == (body.messages is None):
        raise bad("Wanted either prompt or messages.", "prompt")
    if body.messages is not None:
        ids = await while_connected(
            request, service.renderer.chat(body.messages, tools=body.tools, client=client_of(request))
        )
    elif body.tools is not None:
        raise bad("Tools go with messages.", "tools")
    else:
        try:
            reading = service.in_turn(client_of(request), service.tokenizer.prompt, body.prompt)
            ids = await while_connected(request, reading)
        except InputError as error:
            raise from_input_error(error, "prompt") from None
    request.scope.setdefault("instar.note", {}).update(model=card.name, prompt=len(ids))
    content = await while_connected(request, service.in_thread(written, service, ids, bool(body.return_token_strs)))
    return Response(content, media_type="application/json")


def shown(card: Card, service: Service) -> Model:
    return Model(id=card.name, created=card.created, parent=card.parent, max_model_len=service.facts.context)


def pieces_of(service: Service, ids: Sequence[int]) -> list[str]:
    return [service.tokenizer.piece(id) for id in ids]


def written(service: Service, ids: Sequence[int], told: bool) -> str:
    """The body of the answer. told: what each token says, too."""
    pieces = pieces_of(service, ids) if told else None
    return dumps_in_parts(
        {"count": len(ids), "max_model_len": service.facts.context, "tokens": list(ids), "token_strs": pieces}
    )
