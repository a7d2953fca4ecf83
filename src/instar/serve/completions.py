"""POST /v1/completions: how texts go on; what an encoder-decoder is given are sources, which it answers."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ..config import InputError
from ..text.tokenizer import Stream
from .answers import Answers, Piece, heading, usage
from .asking import asks, room, sampling, speaker
from .body import StrictRoute
from .failure import Refusal, bad, from_input_error, too_long
from .logprobs import TextLogprobs
from .replies import STREAMED, Completion
from .schema import CompletionRequest
from .service import Card, Service, client_of, service_of
from .sse import DONE, EventStream, dumps_in_parts, while_connected
from .structured import constraint_of, in_its_terms
from .wire import Ask, Score, Scored

router = APIRouter(route_class=StrictRoute)
LONGEST = 16  # tokens of an answer where the request does not say
MOST_ANSWERS = 128  # to all prompts of a request together


@router.post("/v1/completions", response_model=Completion, responses=STREAMED)
async def completions(body: CompletionRequest, request: Request) -> Response:
    """n answers to each of some prompts, whole or as they come."""
    service = service_of(request)
    card = speaker(service, body.model)
    if body.echo and service.facts.reads_source:
        raise bad("This model answers a source, which is no part of its answer.", "echo")
    n = body.n or 1
    if len(body.prompt) * n > MOST_ANSWERS:
        raise bad(f"At most {MOST_ANSWERS} answers can be asked for at once; ask for fewer.", "n")
    constraint = constraint_of(body)
    if not service.facts.reads_source:
        for prompt in body.prompt:
            service.check_fits([prompt] if isinstance(prompt, str) else [], "prompt")
    rows = await while_connected(request, service.in_turn(client_of(request), rows_of, service, body.prompt))
    request.scope.setdefault("instar.note", {}).update(model=card.name, prompt=sum(map(len, rows)))
    asked = [ask for row in rows for ask in asked_of(service, body, card, row, constraint, client_of(request))]
    echoes = await while_connected(request, echoed(service, body, card, rows, client_of(request)))
    answers = Answers(service, request, asked, "completion", body.stops, tells=body.logprobs is not None)
    reply = Reply(service, answers, [echoes[number // n] for number in range(len(asked))], body, sum(map(len, rows)))
    try:
        if not body.stream:
            return await while_connected(request, reply.whole())
        await while_connected(request, answers.first())
    except Refusal as refusal:
        raise in_its_terms(refusal, body) from None
    finally:
        if not body.stream or not answers.begun:
            answers.close()
    return EventStream(reply.events(), answers.close)


def rows_of(service: Service, prompts: Sequence[str] | Sequence[Sequence[int]]) -> list[list[int]]:
    """Prompts as ids: a text that has not ended, or of an encoder-decoder a whole document. Raises Refusal (400)."""
    facts, tokenizer = service.facts, service.tokenizer
    encode = tokenizer.document if facts.reads_source else tokenizer.prompt
    try:
        rows = [encode(prompt) if isinstance(prompt, str) else list(prompt) for prompt in prompts]
    except InputError as error:
        raise from_input_error(error, "prompt") from None
    for number, row in enumerate(rows):
        if not row:
            raise bad(f"Prompt {number} is empty; a model needs at least one token to go on from.", "prompt")
        # a source may have a vocabulary of its own, which the engine knows
        if min(row) < 0 or (max(row) >= facts.vocab_size and not facts.reads_source):
            raise bad(f"Prompt {number} holds an id that is not from 0 to {facts.vocab_size - 1}.", "prompt")
    return rows


def asked_of(
    service: Service,
    body: CompletionRequest,
    card: Card,
    row: Sequence[int],
    constraint: Mapping[str, Any],
    client: str,
) -> list[Ask]:
    """What an engine is asked for one prompt. Raises Refusal (400) for one that is too long."""
    facts = service.facts
    if facts.reads_source and len(row) > facts.longest:
        raise too_long(len(row), 0, facts.longest, "prompt")
    before = 1 if facts.reads_source else len(row)
    longest = room(service, before, body.max_tokens, ("prompt", "max_tokens"), LONGEST)
    return asks(service, body, card, row, sampling(service, body, longest, constraint, body.logprobs or 0), client)


@dataclass(frozen=True)
class Echo:
    """A prompt that stands before its answer. offsets: where each of its ids begins in it, in characters; scored: how
    likely each id was, where that is told."""

    text: str = ""
    ids: Sequence[int] = ()
    offsets: Sequence[int] = ()
    scored: Scored | None = None


async def echoed(
    service: Service, body: CompletionRequest, card: Card, rows: Sequence[Sequence[int]], client: str
) -> list[Echo]:
    """What stands before the answers to each prompt. Raises Refusal."""
    if not body.echo:
        return [Echo()] * len(rows)
    found = []
    for prompt, row in zip(body.prompt, rows, strict=True):
        text, offsets = await service.in_turn(client, _placed, service, prompt, row)
        scored = None
        if body.logprobs is not None:
            scored = Scored(0, [], [])
            if len(row) > 1:
                scored = await service.desk.score(Score(0, list(row), body.logprobs, card.adapter), client)
        found.append(Echo(text, row, offsets, scored))
    return found


def _placed(service: Service, prompt: str | Sequence[int], row: Sequence[int]) -> tuple[str, list[int]]:
    """A prompt as text, and where each of its ids begins in it."""
    stream, offsets, text = Stream(service.tokenizer, skip_special=isinstance(prompt, str)), [], ""
    for id in row:
        offsets.append(len(text))
        text += stream.push(id)
    text += stream.end()
    if isinstance(prompt, str):  # which a tokenizer need not give back to the letter
        return prompt, [min(offset, len(prompt)) for offset in offsets]
    return text, offsets


class Reply:
    """The answers to one request in OpenAI's form. echoes: what stands before each answer."""

    def __init__(
        self, service: Service, answers: Answers, echoes: Sequence[Echo], body: CompletionRequest, prompt: int
    ) -> None:
        """prompt: tokens of all prompts."""
        self.service, self.answers, self.echoes, self.body, self.prompt = service, answers, echoes, body, prompt
        self.id, self.created = f"cmpl-{secrets.token_hex(12)}", int(time.time())

    async def whole(self) -> Response:
        """All at once. Raises Refusal."""
        await self.answers.first()
        texts = [[echo.text] for echo in self.echoes]
        told = [await self._logprobs(echo) for echo in self.echoes]
        ends: list[str | None] = [None for _ in self.echoes]
        async with aclosing(self.answers.pieces()) as pieces:
            async for number, piece in pieces:
                texts[number].append(piece.text)
                self._tell(told[number], number, piece)
                ends[number] = piece.finish
        choices = [
            self._choice(number, "".join(each), logprobs, end)
            for number, (each, logprobs, end) in enumerate(zip(texts, told, ends, strict=True))
        ]
        answer = {**self._head(), "choices": choices, "usage": usage(self.prompt, self.answers)}
        tokens = self.answers.said + sum(len(echo.ids) for echo in self.echoes)
        return await self.service.written(answer, tokens * (1 + (self.body.logprobs or 0)))

    async def events(self) -> AsyncGenerator[Mapping[str, Any] | str]:
        """Piece by piece; an echoed prompt comes first. Raises Refusal."""
        head = self._head()
        tail = {"usage": None} if self.body.counts else {}
        for number, echo in enumerate(self.echoes):
            if self.body.echo:
                choice = self._choice(number, echo.text, await self._logprobs(echo), None)
                yield await self.service.in_thread(dumps_in_parts, {**head, "choices": [choice], **tail})
        async with aclosing(self.answers.pieces()) as pieces:
            async for number, piece in pieces:
                logprobs = self._told()
                self._tell(logprobs, number, piece)
                yield {**head, "choices": [self._choice(number, piece.text, logprobs, piece.finish)], **tail}
        if self.body.counts:
            yield {**head, "choices": [], "usage": usage(self.prompt, self.answers)}
        yield DONE

    def _head(self) -> dict[str, Any]:
        return heading(self.service, self.id, "text_completion", self.created, self.body.model)

    def _told(self) -> TextLogprobs | None:
        """Where logprobs are collected, if they are told."""
        return None if self.body.logprobs is None else TextLogprobs(self.service.tokenizer, self.body.logprobs)

    async def _logprobs(self, echo: Echo) -> TextLogprobs | None:
        """The same with those of what stands before an answer."""
        logprobs = self._told()
        if logprobs is not None and echo.scored is not None:
            await self.service.in_thread(logprobs.add_prompt, echo.ids, echo.offsets, echo.scored)
        return logprobs

    def _tell(self, logprobs: TextLogprobs | None, number: int, piece: Piece) -> None:
        if logprobs is not None:
            logprobs.add(piece.tokens, len(self.echoes[number].text))

    def _choice(self, number: int, text: str, logprobs: TextLogprobs | None, finish: str | None) -> dict[str, Any]:
        """One answer, or a part of it."""
        told = None if logprobs is None else logprobs.body
        return {"index": number, "text": text, "logprobs": told, "finish_reason": finish}
