"""POST /v1/embeddings: texts, or their ids, as vectors."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError

from ..config import InputError
from .body import StrictRoute
from .failure import Refusal, bad, from_input_error
from .schema import Strict
from .service import Card, Service, client_of, service_of
from .sse import while_connected
from .wire import Embed

INPUTS = 2048
TOKENS = 300_000  # of all inputs together, as OpenAI bounds them

Id = Annotated[int, Field(ge=0)]
Ids = Annotated[list[Id], Field(min_length=1, fail_fast=True)]
Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[list[Text], Field(min_length=1, max_length=INPUTS, fail_fast=True)]
Rows = Annotated[list[Ids], Field(min_length=1, max_length=INPUTS, fail_fast=True)]


def _one_of(given: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """One sentence in the place of what is wrong with each of the four kinds."""
    try:
        return handler(given)
    except ValidationError:
        raise PydanticCustomError(
            "input", f"wanted a text, texts, ids of a text or ids of texts: 1 to {INPUTS}, and none empty"
        ) from None


Input = Annotated[Text | Texts | Ids | Rows, WrapValidator(_one_of)]

router = APIRouter(route_class=StrictRoute)


class EmbeddingRequest(Strict):
    """input: a text, texts, ids of a text, or ids of texts, none of them empty. encoding_format: float where absent;
    OpenAI's own client asks for base64, float32 with the lowest byte first. dimensions: so many numbers of each
    vector, the first, brought to length one again, which suits models trained for it (Kusupati et al. 2022,
    "Matryoshka Representation Learning")."""

    input: Input
    model: str
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None
    user: str | None = None


class Embedding(BaseModel):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class Embeddings(BaseModel):
    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


@router.post("/v1/embeddings", response_model=Embeddings)
async def embeddings(body: EmbeddingRequest, request: Request) -> Response:
    """One vector for each input, in their order."""
    service = service_of(request)
    card, facts = service.card(body.model), service.facts
    if not facts.embeds:
        raise bad("This model gives no vectors of texts.", "model")
    if body.dimensions is not None and body.dimensions > facts.width:
        raise bad(f"The vectors of this model have {facts.width} numbers.", "dimensions")
    content = await while_connected(request, embedded(service, body, card, request))
    return Response(content, media_type="application/json")


async def embedded(service: Service, body: EmbeddingRequest, card: Card, request: Request) -> bytes:
    """The body of the answer. Raises Refusal."""
    rows = await service.in_turn(client_of(request), rows_of, body.input, service)
    total = sum(map(len, rows))
    request.scope.setdefault("instar.note", {}).update(model=card.name, prompt=total)
    vectors = await service.desk.embed(Embed(0, rows, card.adapter), client_of(request))
    usage = {"prompt_tokens": total, "total_tokens": total}
    form = body.encoding_format or "float"
    return await service.in_thread(written, vectors, body.dimensions, form, card.name, usage)


def rows_of(given: str | Sequence[Any], service: Service) -> list[list[int]]:
    """Inputs of any kind as ids. Raises Refusal (400) for an id that there is not, and for what is too long."""
    facts, rows = service.facts, []
    inputs: list[Any] = [given] if isinstance(given, str) or isinstance(given[0], int) else list(given)
    for number, each in enumerate(inputs):
        row: list[int] = ids_of(each, service) if isinstance(each, str) else each
        if any(id >= facts.vocab_size for id in row):
            raise bad(f"An id of input {number} is not below {facts.vocab_size}.", "input")
        if not 0 < len(row) <= facts.longest:
            raise bad(
                f"Input {number} has {len(row)} tokens; this model reads 1 to {facts.longest} of a text.", "input",
                "context_length_exceeded" if row else None,
            )  # fmt: skip
        rows.append(row)
    if (total := sum(map(len, rows))) > TOKENS:
        raise bad(f"The inputs have {total} tokens together; at most {TOKENS} are read.", "input")
    return rows


def ids_of(text: str, service: Service) -> list[int]:
    """A text as it was in training: what an encoder reads stands between its marks, a decoder's has not ended."""
    tokenizer, facts = service.tokenizer, service.facts
    goes_on = facts.speaks and not facts.reads_source
    try:
        return tokenizer.prompt(text) if goes_on else tokenizer.document(text)
    except InputError as error:
        raise from_input_error(error, "input") from None


def written(vectors: Any, dimensions: int | None, form: str, model: str, usage: dict[str, int]) -> bytes:
    """vectors (N, D) float32 -> the body of the answer. Vector by vector, so that a large answer lets others run."""
    if dimensions is not None:
        vectors = vectors[:, :dimensions]
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    data = []
    for number, row in enumerate(np.ascontiguousarray(vectors, "<f4")):
        if not np.isfinite(row).all():
            raise Refusal(500, "A vector is not finite.", code="internal_error")
        said = base64.b64encode(row.tobytes()).decode() if form == "base64" else row.tolist()
        data.append(json.dumps({"object": "embedding", "index": number, "embedding": said}))
    head, tail = json.dumps({"object": "list", "model": model, "usage": usage})[:-1], ", ".join(data)
    return f'{head}, "data": [{tail}]}}'.encode()
