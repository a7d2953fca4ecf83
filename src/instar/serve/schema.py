"""What is asked of chat completions and of completions, as OpenAI writes it, with what vLLM adds to it.

A field that is known and cannot be done is refused by its name, never passed over; answers stand in replies.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, StringConstraints, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

MOST_MESSAGES, MOST_STOPS, LONGEST_STOP, MOST_BIASES, MOST_IDS = 2048, 4, 256, 1024, 1024
MOST_PARTS = 1024  # of one message
MOST_ANSWERS = 16  # to one prompt
MOST_PROMPTS, MOST_TOOLS = 128, 128
INT64 = 2**63

Name = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
Id = Annotated[int, Field(ge=0, lt=2**31)]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_STOP)]
Bias = Annotated[
    dict[Annotated[str, StringConstraints(pattern=r"^[0-9]{1,10}$")], Annotated[float, Field(ge=-100, le=100)]],
    Field(max_length=MOST_BIASES, json_schema_extra={"additionalProperties": False}),
]


def wrong(message: str) -> PydanticCustomError:
    """A fault that a validator found. message: without anything of the client's, braces doubled."""
    return PydanticCustomError("wrong", message)


class Strict(BaseModel):
    """An object of a request. Types are taken at their word ("1" is no number, and neither is true), null is the same
    as absent, and what we do not know is kept aside, to be named."""

    model_config = ConfigDict(strict=True, extra="allow")
    names: ClassVar[set[str]] = set()  # every field of every such object, which errors may name

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        Strict.names.update(field.alias or name for name, field in cls.model_fields.items())

    @model_validator(mode="before")
    @classmethod
    def _absent(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data

    def unknown(self) -> Iterator[str]:
        """Keys that we do not know, here and in the objects inside."""
        yield from self.model_extra or ()
        for name in type(self).model_fields:
            yield from unknown_in(getattr(self, name))


def unknown_in(value: Any) -> Iterator[str]:
    if isinstance(value, Strict):
        yield from value.unknown()
    elif isinstance(value, list) and value and isinstance(value[0], Strict):
        for item in value:
            yield from unknown_in(item)


class Part(Strict):
    """A piece of a message's content. Texts alone are read."""

    type: Literal["text", "refusal"]
    text: str | None = None
    refusal: str | None = None

    @model_validator(mode="after")
    def _has_its_text(self) -> Self:
        if (self.text if self.type == "text" else self.refusal) is None:
            raise wrong(f"a part of type {self.type} holds its text under {self.type}")
        return self


class CalledFunction(Strict):
    """arguments: JSON, as a text."""

    name: str
    arguments: str


class ToolCall(Strict):
    """A tool that an earlier answer called."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class Message(Strict):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[Part], Field(max_length=MOST_PARTS)] | None = None
    name: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        for name in ("function_call", "audio"):
            if name in (self.model_extra or {}):
                raise wrong(f"{name} is not supported; a called function stands in tool_calls")
        if self.content is None and self.role != "assistant":
            raise wrong(f"a message of role {self.role} wants content, a text or parts of one")
        if self.tool_calls is not None and self.role != "assistant":
            raise wrong("only a message of role assistant has tool_calls")
        if self.role == "tool" and self.tool_call_id is None:
            raise wrong("a message of role tool wants tool_call_id")
        return self


class Function(Strict):
    """A function that may be called. parameters: a JSON schema of its arguments."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Strict):
    """Something that an answer may call."""

    type: Literal["function"]
    function: Function


class NamedFunction(Strict):
    """The name of one of the tools."""

    name: Name


class NamedTool(Strict):
    """One of the tools."""

    type: Literal["function"]
    function: NamedFunction


class AllowedTools(Strict):
    """Some of the tools. mode: whether one of them has to be called."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=MOST_TOOLS)]


class ToolChoice(Strict):
    """A tool that has to be called, or those that may be."""

    type: Literal["function", "allowed_tools"]
    function: NamedFunction | None = None
    allowed_tools: AllowedTools | None = None

    @model_validator(mode="after")
    def _says_which(self) -> Self:
        if (self.function if self.type == "function" else self.allowed_tools) is None:
            raise wrong(f"type {self.type} wants {self.type} beside it")
        return self


class NamedSchema(Strict):
    """A JSON schema of an answer; without a schema it is any object."""

    name: Name
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class ResponseFormat(Strict):
    """What an answer has to look like: OpenAI's three, and a regular expression, a grammar as Lark writes it, or one
    of some texts."""

    type: Literal["text", "json_object", "json_schema", "regex", "grammar", "choice"]
    json_schema: NamedSchema | None = None
    regex: str | None = None
    grammar: str | None = None
    choice: list[str] | None = None


class StructuredOutputs(Strict):
    """The same as vLLM writes it; one of them. json: a schema, as an object or as its text."""

    json_: dict[str, Any] | str | None = Field(None, alias="json")
    json_object: bool | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None


class StreamOptions(Strict):
    """include_usage: a last chunk that counts tokens. include_obfuscation: we send none."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Asked(Strict):
    """What chat and text completions have in common. Absent values are the server's own."""

    model: str
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, lt=2**31)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    logit_bias: Bias | None = None
    max_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    min_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    ignore_eos: bool | None = None
    n: Annotated[int, Field(ge=1, le=MOST_ANSWERS)] | None = None
    seed: Annotated[int, Field(ge=-INT64, lt=INT64)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=MOST_STOPS)] | None = None
    stop_token_ids: Annotated[list[Id], Field(max_length=MOST_IDS)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    structured_outputs: StructuredOutputs | None = None
    user: str | None = None

    # fields that OpenAI knows and we cannot do, each with the values that ask for nothing
    unsupported: ClassVar[dict[str, tuple[Any, ...]]] = {}
    # fields that are taken and change nothing, named with what was ignored where they ask for something
    unheeded: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="after")
    def _can_be_done(self) -> Self:
        for name, neutral in self.unsupported.items():
            value = (self.model_extra or {}).get(name)
            if value is not None and value not in neutral:
                raise PydanticCustomError("unsupported", "this is not supported here", {"param": name})
        if self.stream_options is not None and not self.stream:
            raise PydanticCustomError("wrong", "this goes with stream: true alone", {"param": "stream_options"})
        return self

    def unknown(self) -> Iterator[str]:
        """Keys that are ignored. One that is known and says nothing is none of them."""
        known = {*self.unsupported, *(name for name in self.unheeded if not (self.model_extra or {}).get(name))}
        yield from (name for name in super().unknown() if name not in known)
        if self.stream_options is not None and self.stream_options.include_obfuscation:
            yield "include_obfuscation"

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that end the answer."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def counts(self) -> bool:
        """Whether a stream ends with a chunk of usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)


class ChatRequest(Asked):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MOST_MESSAGES)]
    max_completion_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Field(max_length=MOST_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None

    unsupported: ClassVar[dict[str, tuple[Any, ...]]] = {
        "audio": (), "function_call": ("none",), "functions": ([],), "modalities": (["text"],), "moderation": (),
        "prediction": (), "reasoning_effort": (), "service_tier": ("auto", "default"), "verbosity": ("medium",),
        "web_search_options": (), "chat_template": (), "chat_template_kwargs": ({},),
    }  # fmt: skip
    unheeded: ClassVar[tuple[str, ...]] = (
        "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "safety_identifier",
    )  # fmt: skip

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise PydanticCustomError("wrong", "this goes with logprobs: true alone", {"param": "top_logprobs"})
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise PydanticCustomError(
                "wrong", "this and max_completion_tokens say the same thing; leave it out", {"param": "max_tokens"}
            )
        return self

    def unknown(self) -> Iterator[str]:
        yield from super().unknown()
        if self.store:  # nothing is kept here
            yield "store"

    @property
    def longest(self) -> int | None:
        """Tokens of the answer at most; None is what the context leaves."""
        return self.max_completion_tokens if self.max_tokens is None else self.max_tokens


def _prompts(given: Any) -> list[str] | list[list[int]]:
    """A text, texts, ids or lists of ids, by its first item: a list of ids may be long, and is looked at once."""
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list) or not given:
        raise wrong("wanted a text, a list of texts, a list of token ids, or a list of such lists")
    if _are(given, str):
        rows: list[Any] = given
    elif _are(given, int):
        rows = [given]
    elif _are(given, list) and all(row and _are(row, int) for row in given):
        rows = given
    else:
        raise wrong("wanted all of the list to be texts, or token ids, or lists of token ids that are not empty")
    if len(rows) > MOST_PROMPTS:
        raise wrong(f"holds {len(rows)} prompts, wanted at most {MOST_PROMPTS}")
    return rows


def _are(items: list[Any], kind: type) -> bool:
    return all(type(item) is kind for item in items)


_IDS = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}, "minItems": 1}
Prompts = Annotated[
    Any,
    PlainValidator(_prompts),
    WithJsonSchema({"anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MOST_PROMPTS},
        _IDS,
        {"type": "array", "items": _IDS, "minItems": 1, "maxItems": MOST_PROMPTS},
    ]}),
]  # fmt: skip


class CompletionRequest(Asked):
    """POST /v1/completions. prompt: texts or lists of ids, always as a list."""

    prompt: Prompts
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    response_format: ResponseFormat | None = None

    unsupported: ClassVar[dict[str, tuple[Any, ...]]] = {"suffix": ("",)}

    @model_validator(mode="after")
    def _gives_all(self) -> Self:
        best = (self.model_extra or {}).get("best_of")
        if best is not None and (type(best) is not int or best != (self.n or 1)):
            raise PydanticCustomError(
                "unsupported", "all n answers are given; leave this out, or say n", {"param": "best_of"}
            )
        return self

    def unknown(self) -> Iterator[str]:
        yield from (name for name in super().unknown() if name != "best_of")
