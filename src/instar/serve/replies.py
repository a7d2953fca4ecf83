"""What answers look like, as OpenAI writes them: for /openapi.json. The routes write them without going through these
objects, token by token; tests hold the two together."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel


class PromptTokensDetails(BaseModel):
    """cached_tokens: of the prompt, those whose keys were known."""

    cached_tokens: int


class Usage(BaseModel):
    """Counts of tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class TopLogprob(BaseModel):
    """One of the likeliest tokens at a place."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(TopLogprob):
    """A token that was said, and the likeliest ones at its place."""

    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(BaseModel):
    """Of a chat's answer, or of a piece of it."""

    content: list[TokenLogprob] | None
    refusal: list[TokenLogprob] | None


class ReplyFunction(BaseModel):
    """arguments: JSON, as the model said it."""

    name: str
    arguments: str


class ReplyToolCall(BaseModel):
    """A tool that the answer calls."""

    id: str
    type: Literal["function"]
    function: ReplyFunction


class ReplyMessage(BaseModel):
    """An assistant's message. content: null where tools are called and nothing is said."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    tool_calls: list[ReplyToolCall] = []


class ChatChoice(BaseModel):
    """One of n answers."""

    index: int
    message: ReplyMessage
    logprobs: ChoiceLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"]


class ChatCompletion(BaseModel):
    """The answer to a conversation."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage


class Delta(BaseModel):
    """What is new in a message. tool_calls: each with its index; its id, type and name come once, then its arguments
    in pieces."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    tool_calls: list[dict[str, Any]] = []


class ChunkChoice(BaseModel):
    """What is new in one of n answers."""

    index: int
    delta: Delta
    logprobs: ChoiceLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"] | None


class ChatCompletionChunk(BaseModel):
    """One event of a stream. usage: there only where it was asked for, null but in the last one."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: Usage | None = None


class CompletionLogprobs(BaseModel):
    """Four lists of equal length; the first token of an echoed prompt has no probability."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(BaseModel):
    """One answer; index: that of its prompt times n, and then its own."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Literal["stop", "length", "content_filter"] | None


class Completion(BaseModel):
    """The answers to prompts; also one event of a stream, where finish_reason is null until the last one."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage | None = None


# the answer where stream: true was asked for
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"description": "The answer; with stream: true in events.",
          "content": {"text/event-stream": {"schema": {"type": "string"}}}}
}  # fmt: skip
