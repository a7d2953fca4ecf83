"""POST /v1/chat/completions: the next message of a conversation."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ..text.tokenizer import Tokenizer
from .answers import Answers, Piece, Placed, heading, usage
from .asking import asks, room, sampling, speaker
from .body import StrictRoute
from .calls import Arguments, Called, Said, ToolParser
from .failure import Refusal, bad
from .logprobs import of_chat
from .replies import STREAMED, ChatCompletion
from .schema import ChatRequest, Message
from .service import Service, client_of, service_of
from .sse import DONE, EventStream, while_connected
from .structured import calling_of, constraint_of, in_its_terms
from .ticket import Finish
from .tools import ToolFormat, tool_format

router = APIRouter(route_class=StrictRoute)
Delta = dict[str, Any]


@router.post("/v1/chat/completions", response_model=ChatCompletion, responses=STREAMED)
async def chat_completions(body: ChatRequest, request: Request) -> Response:
    """n answers to a conversation, whole or as they come."""
    service = service_of(request)
    card = speaker(service, body.model)
    template = service.renderer.template
    if service.facts.reads_source or template is None:
        why = "answers a source and holds no conversation" if service.facts.reads_source else "has no chat template"
        raise bad(f"This model {why}; ask it at /v1/completions.", "messages")
    format, calling = tool_format(template), calling_of(body)
    constraint = constraint_of(body, template)
    messages = [written(message) for message in body.messages]
    # a template may leave out what the model has said itself, as its thoughts
    service.check_fits(
        [text for message in body.messages if message.role != "assistant" for text in texts_of(message)], "messages"
    )
    ids = await while_connected(
        request,
        service.renderer.chat(messages, tools=calling.tools if calling else None, client=client_of(request)),
    )
    request.scope.setdefault("instar.note", {}).update(model=card.name, prompt=len(ids))
    fields = "messages", "max_completion_tokens" if body.max_tokens is None else "max_tokens"
    longest = room(service, len(ids), body.longest, fields, None)
    options = sampling(service, body, longest, constraint, body.top_logprobs or 0)
    answers = Answers(
        service, request, asks(service, body, card, ids, options, client_of(request)), "chat", body.stops,
        tells=bool(body.logprobs), spelt=marks(format, service.tokenizer) if calling else None,
    )  # fmt: skip
    try:
        one = body.parallel_tool_calls is False
        turns = [Turn(format.parser(calling.names, one=one) if calling and format else None) for _ in answers.choices]
        reply = Reply(service, answers, turns, body, len(ids))
        if not body.stream:
            return await while_connected(request, reply.whole())
        await while_connected(request, answers.first())
    except Refusal as refusal:
        raise in_its_terms(refusal, body) from None
    finally:
        if not body.stream or not answers.begun:
            answers.close()
    return EventStream(reply.events(), answers.close)


def written(message: Message) -> dict[str, Any]:
    """A message as the renderer takes it. An answer without content and calls has said nothing, which templates write
    as an empty text."""
    found = message.model_dump(exclude_none=True)
    if message.content is None and not message.tool_calls:
        found["content"] = message.refusal or ""
    return found


def texts_of(message: Message) -> list[str]:
    """What a message says."""
    if message.content is None or isinstance(message.content, str):
        return [message.content or ""]
    return [part.text or part.refusal or "" for part in message.content]


def marks(format: ToolFormat | None, tokenizer: Tokenizer) -> dict[int, str]:
    """Control tokens that stand around calls, with what they say: decoding would leave them out."""
    texts = () if format is None else (format.opener, format.closer)
    found = {tokenizer.specials[text]: text for text in texts if text in tokenizer.specials}
    return {id: text for id, text in found.items() if not tokenizer.visible_bytes([id])[0]}


class Turn:
    """The assistant's turn as the pieces of an answer come. content: its text; calls: of tools."""

    def __init__(self, parser: ToolParser | None) -> None:
        self.parser, self.content, self.calls = parser, "", list[dict[str, Any]]()

    def push(self, piece: Piece) -> list[Delta]:
        """What a piece adds to the message."""
        if self.parser is None:
            return [self._add(Said(piece.text))] if piece.text else []
        parts = self.parser.push(piece.text) + (self.parser.end() if piece.finish is not None else [])
        return [self._add(part) for part in parts]

    def _add(self, part: Said | Called | Arguments) -> Delta:
        if isinstance(part, Said):
            self.content += part.text
            return {"content": part.text}
        if isinstance(part, Called):
            function = {"name": part.name, "arguments": ""}
            self.calls.append({"id": part.id, "type": "function", "function": {**function}})
            return {"tool_calls": [{"index": part.index, "id": part.id, "type": "function", "function": function}]}
        self.calls[part.index]["function"]["arguments"] += part.text
        return {"tool_calls": [{"index": part.index, "function": {"arguments": part.text}}]}

    @property
    def over(self) -> bool:
        """Whether it has called the one tool that it may call."""
        return self.parser is not None and self.parser.over

    def finish(self, how: Finish) -> str:
        """OpenAI's finish_reason."""
        return "tool_calls" if self.calls and how == "stop" else how

    @property
    def message(self) -> dict[str, Any]:
        """The whole of it."""
        content = None if self.calls and not self.content else self.content
        calls = {"tool_calls": self.calls} if self.calls else {}
        return {"role": "assistant", "content": content, "refusal": None, **calls}


class Reply:
    """The answers to one request in OpenAI's form."""

    def __init__(
        self, service: Service, answers: Answers, turns: Sequence[Turn], body: ChatRequest, prompt: int
    ) -> None:
        """prompt: its tokens."""
        self.service, self.answers, self.turns, self.body, self.prompt = service, answers, turns, body, prompt
        self.id, self.created = f"chatcmpl-{secrets.token_hex(12)}", int(time.time())

    async def whole(self) -> Response:
        """All at once. Raises Refusal."""
        entries: list[list[dict[str, Any]]] = [[] for _ in self.turns]
        ends: list[str | None] = [None for _ in self.turns]
        await self.answers.first()
        async with aclosing(self.answers.pieces()) as pieces:
            async for number, piece in pieces:
                _, finish = self._read(number, piece)
                if told := self._logprobs(piece.tokens):
                    entries[number] += told["content"]
                if finish is not None:
                    ends[number] = self.turns[number].finish(finish)
        choices = [
            {
                "index": number, "message": turn.message, "finish_reason": end,
                "logprobs": {"content": said, "refusal": None} if self.body.logprobs else None,
            }
            for number, (turn, said, end) in enumerate(zip(self.turns, entries, ends, strict=True))
        ]  # fmt: skip
        answer = {**self._head("chat.completion"), "choices": choices, "usage": usage(self.prompt, self.answers)}
        return await self.service.written(answer, self.answers.said * (1 + (self.body.top_logprobs or 0)))

    def _read(self, number: int, piece: Piece) -> tuple[list[Delta], Finish | None]:
        """What a piece adds to an answer, and whether that ends it."""
        turn = self.turns[number]
        if turn.over:  # it was read ahead
            return [], None
        deltas = turn.push(piece)
        if not turn.over:
            return deltas, piece.finish
        self.answers.choices[number].enough()
        return deltas, "stop"

    async def events(self) -> AsyncGenerator[Mapping[str, Any] | str]:
        """Chunk by chunk. All answers are begun first, in order: a client appends each as it first hears of it. Raises
        Refusal."""
        head = self._head("chat.completion.chunk")
        tail = {"usage": None} if self.body.counts else {}

        def chunk(number: int, delta: Delta, logprobs: Any = None, finish: str | None = None) -> dict[str, Any]:
            choice = {"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
            return {**head, "choices": [choice], **tail}

        for number in range(len(self.turns)):
            yield chunk(number, {"role": "assistant", "content": ""})
        async with aclosing(self.answers.pieces()) as pieces:
            async for number, piece in pieces:
                deltas, finish = self._read(number, piece)
                logprobs = self._logprobs(piece.tokens) if piece.tokens else None
                # a parser may hold a text back whose tokens are told
                for delta in deltas or ([{}] if logprobs else []):
                    yield chunk(number, delta, logprobs)
                    logprobs = None
                if finish is not None:
                    yield chunk(number, {}, finish=self.turns[number].finish(finish))
        if self.body.counts:
            yield {**head, "choices": [], "usage": usage(self.prompt, self.answers)}
        yield DONE

    def _head(self, kind: str) -> dict[str, Any]:
        return heading(self.service, self.id, kind, self.created, self.body.model)

    def _logprobs(self, placed: Sequence[Placed]) -> dict[str, Any] | None:
        if not self.body.logprobs:
            return None
        return of_chat(self.service.tokenizer, placed, self.body.top_logprobs or 0)
