"""Every endpoint through the official openai client, of any version from 1.40 on: `python openai_surface.py URL MODEL`.

Each function is one check of a server whose model may say anything; the client is strict, so that an answer outside its
types is an error. Prints the names of the checks that passed.
"""

import asyncio
import json
import math
import sys
from typing import Literal

import openai
from pydantic import BaseModel

HELLO = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Who had a ball?"}]


class Colour(BaseModel):
    name: Literal["red", "blue"]
    bright: bool


class FindBall(BaseModel):
    """Where a ball is."""

    colour: Literal["red", "blue"]


TOOL = {
    "type": "function",
    "function": {
        "name": "find_ball", "description": "Where a ball is.",
        "parameters": {
            "type": "object", "properties": {"colour": {"type": "string", "enum": ["red", "blue"]}},
            "required": ["colour"], "additionalProperties": False,
        },
    },
}  # fmt: skip


# the helpers take an answer that was cut at its longest for an error
WHOLE = {"structured_outputs": {"choice": ["Anna had it.", "Tom"]}}


def client_of(url, kind=openai.OpenAI, strict=True):
    return kind(base_url=url, api_key="none", max_retries=0, timeout=60, _strict_response_validation=strict)


def helpers(client):
    """Where .stream() and .parse() are: they left beta in 1.92."""
    here = client.chat.completions
    return here if hasattr(here, "parse") else client.beta.chat.completions


def check_usage(usage):
    assert usage.prompt_tokens > 0
    assert usage.completion_tokens >= 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def chat(client, model):
    answer = client.chat.completions.create(model=model, messages=HELLO, max_tokens=8, seed=1, temperature=0.5)
    assert answer.id.startswith("chatcmpl-")
    assert answer.object == "chat.completion"
    assert answer.model == model
    assert answer.system_fingerprint
    assert abs(answer.created) > 1_600_000_000
    choice = answer.choices[0]
    assert choice.index == 0
    assert choice.message.role == "assistant"
    assert isinstance(choice.message.content, str)
    assert choice.finish_reason in ("stop", "length")
    assert choice.logprobs is None
    check_usage(answer.usage)
    again = client.chat.completions.create(model=model, messages=HELLO, max_tokens=8, seed=1, temperature=0.5)
    assert again.choices[0].message.content == choice.message.content


def chat_of_many_choices(client, model):
    answer = client.chat.completions.create(model=model, messages=HELLO, max_tokens=4, n=3, stop=["\n"], user="a")
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    check_usage(answer.usage)


def chat_logprobs(client, model):
    answer = client.chat.completions.create(
        model=model, messages=HELLO, max_tokens=5, temperature=0, logprobs=True, top_logprobs=3
    )
    content = answer.choices[0].logprobs.content
    assert 0 < len(content) <= 5
    for token in content:
        assert token.logprob <= 0
        assert isinstance(token.bytes, list)
        assert len(token.top_logprobs) == 3
        assert all(other.logprob <= 0 for other in token.top_logprobs)
    text = b"".join(bytes(token.bytes) for token in content).decode(errors="replace")
    assert text.startswith(answer.choices[0].message.content)


def check_chunks(chunks, model):
    """The whole text of a stream that was asked for its usage."""
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert chunks[0].model == model
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[0].choices[0].delta.content == ""
    assert all(chunk.object == "chat.completion.chunk" for chunk in chunks)
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-1].choices == []
    check_usage(chunks[-1].usage)
    last = chunks[-2].choices[0]
    assert last.finish_reason in ("stop", "length")
    assert not last.delta.content
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])


def chat_stream(client, model):
    rules = dict(model=model, messages=HELLO, max_tokens=8, seed=2)
    chunks = list(client.chat.completions.create(**rules, stream=True, stream_options={"include_usage": True}))
    whole = client.chat.completions.create(**rules)
    assert check_chunks(chunks, model) == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def chat_stream_of_many_choices(client, model):
    chunks = list(client.chat.completions.create(model=model, messages=HELLO, max_tokens=4, n=3, stream=True))
    seen = [choice.index for chunk in chunks for choice in chunk.choices]
    assert list(dict.fromkeys(seen)) == [0, 1, 2]
    assert all(chunk.usage is None for chunk in chunks)
    assert sum(choice.finish_reason is not None for chunk in chunks for choice in chunk.choices) == 3


def chat_async(client, model):
    async def asking():
        async with client_of(client.base_url, openai.AsyncOpenAI) as other:
            rules = dict(model=model, messages=HELLO, max_tokens=6, seed=3)
            wholes = await asyncio.gather(*(other.chat.completions.create(**rules) for _ in range(3)))
            assert len({whole.choices[0].message.content for whole in wholes}) == 1
            told = {"include_usage": True}
            stream = await other.chat.completions.create(**rules, stream=True, stream_options=told)
            assert check_chunks([chunk async for chunk in stream], model) == wholes[0].choices[0].message.content
            async with helpers(other).stream(**rules | {"max_tokens": 40}, extra_body=WHOLE) as events:
                final = await events.get_final_completion()
            assert final.choices[0].message.content in WHOLE["structured_outputs"]["choice"]
            parsed = await helpers(other).parse(
                model=model, messages=HELLO, max_tokens=100, response_format=Colour, seed=3
            )
            assert isinstance(parsed.choices[0].message.parsed, Colour)

    asyncio.run(asking())


def chat_stream_helper(client, model):
    with helpers(client).stream(model=model, messages=HELLO, max_tokens=40, seed=2, n=2, extra_body=WHOLE) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    done = [event.content for event in events if event.type == "content.done"]
    assert sorted(done) == sorted(choice.message.content for choice in final.choices)
    assert set(done) <= set(WHOLE["structured_outputs"]["choice"])
    assert [choice.index for choice in final.choices] == [0, 1]


def chat_parse(client, model):
    answer = helpers(client).parse(model=model, messages=HELLO, max_tokens=100, response_format=Colour, seed=5)
    assert isinstance(answer.choices[0].message.parsed, Colour)
    with helpers(client).stream(
        model=model, messages=HELLO, max_tokens=100, response_format=Colour, seed=5, logprobs=True
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.parsed == answer.choices[0].message.parsed
    assert final.choices[0].logprobs.content


def chat_json_object(client, model):
    answer = client.chat.completions.create(
        model=model, messages=HELLO, max_tokens=60, response_format={"type": "json_object"}, seed=5
    )
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(answer.choices[0].message.content), dict)


def chat_tools(client, model):
    answer = client.chat.completions.create(
        model=model, messages=HELLO, max_tokens=120, tools=[TOOL], tool_choice="required", seed=5
    )
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    call = choice.message.tool_calls[0]
    assert call.type == "function"
    assert call.id
    assert call.function.name == "find_ball"
    assert json.loads(call.function.arguments)["colour"] in ("red", "blue")
    told = [*HELLO, choice.message, {"role": "tool", "tool_call_id": call.id, "content": "In the garden."}]
    after = client.chat.completions.create(model=model, messages=told, max_tokens=4, tools=[TOOL], tool_choice="none")
    assert after.choices[0].message.tool_calls is None


def chat_tools_stream(client, model):
    rules = dict(model=model, messages=HELLO, max_tokens=120, tools=[openai.pydantic_function_tool(FindBall)], seed=6)
    named = {"type": "function", "function": {"name": "FindBall"}}
    with helpers(client).stream(**rules, tool_choice=named) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    call = final.choices[0].message.tool_calls[0]
    assert isinstance(call.function.parsed_arguments, FindBall)
    assert final.choices[0].finish_reason in ("stop", "tool_calls")
    assert any(event.type == "tool_calls.function.arguments.done" for event in events)
    parsed = helpers(client).parse(**rules, tool_choice="required")
    assert isinstance(parsed.choices[0].message.tool_calls[0].function.parsed_arguments, FindBall)


def completions(client, model):
    answer = client.completions.create(model=model, prompt="Anna had", max_tokens=6, seed=1)
    assert answer.id.startswith("cmpl-")
    assert answer.object == "text_completion"
    assert answer.choices[0].finish_reason in ("stop", "length")
    check_usage(answer.usage)
    # the type of its chunks wants a finish_reason in each, which OpenAI's have in the last alone
    with client_of(client.base_url, strict=False) as lenient:
        chunks = list(lenient.completions.create(model=model, prompt="Anna had", max_tokens=6, seed=1, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == answer.choices[0].text
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == [
        answer.choices[0].finish_reason
    ]
    many = client.completions.create(model=model, prompt=["Anna", "Tom"], n=2, max_tokens=2)
    assert [choice.index for choice in many.choices] == [0, 1, 2, 3]
    assert client.completions.create(model=model, prompt=[[10, 11], [12]], max_tokens=1).usage.prompt_tokens == 3


def completions_logprobs(client, model):
    # nor does its type allow the null that OpenAI gives to a first token, before which nothing stands
    with client_of(client.base_url, strict=False) as lenient:
        answer = lenient.completions.create(
            model=model, prompt="Anna had", max_tokens=3, temperature=0, echo=True, logprobs=2
        )
    choice = answer.choices[0]
    assert choice.text.startswith("Anna had")
    told = choice.logprobs
    assert len(told.tokens) == len(told.token_logprobs) == len(told.top_logprobs) == len(told.text_offset)
    assert told.token_logprobs[0] is None
    assert all(logprob <= 0 for logprob in told.token_logprobs[1:])
    assert told.text_offset[0] == 0
    assert list(told.text_offset) == sorted(told.text_offset)


def embeddings(client, model):
    # the strict client wants a list of floats even where it asked for base64 itself, before it unpacks that
    with client_of(client.base_url, strict=False) as lenient:
        packed = lenient.embeddings.create(model=model, input=["Anna had a ball.", "Tom"])
    plain = client.embeddings.create(model=model, input=["Anna had a ball.", "Tom"], encoding_format="float")
    assert [row.index for row in packed.data] == [0, 1]
    for left, right in zip(packed.data, plain.data, strict=True):
        assert max(abs(a - b) for a, b in zip(left.embedding, right.embedding, strict=True)) < 1e-6
        assert abs(math.hypot(*left.embedding) - 1) < 1e-5
    assert packed.usage.total_tokens == packed.usage.prompt_tokens > 0
    short = client.embeddings.create(model=model, input="Tom", dimensions=4, encoding_format="float").data[0].embedding
    assert len(short) == 4
    assert abs(math.hypot(*short) - 1) < 1e-5
    assert len(client.embeddings.create(model=model, input=[[10, 11], [12]], encoding_format="float").data) == 2


def models(client, model):
    listed = client.models.list()
    assert model in [each.id for each in listed]
    found = client.models.retrieve(model)
    assert (found.id, found.object) == (model, "model")


def raw_responses(client, model):
    raw = client.chat.completions.with_raw_response.create(model=model, messages=HELLO, max_tokens=2)
    assert raw.headers["x-request-id"]
    assert raw.parse().choices
    assert client.models.with_raw_response.list().status_code == 200
    with client.chat.completions.with_streaming_response.create(model=model, messages=HELLO, max_tokens=2) as response:
        assert response.headers["content-type"].startswith("application/json")
        assert json.loads(response.read())["choices"]
    raw = client.chat.completions.with_raw_response.create(model=model, messages=HELLO, max_tokens=2, stream=True)
    assert raw.headers["content-type"].startswith("text/event-stream")
    assert list(raw.parse())


def raised(asking):
    """The error that the client makes of a refusal."""
    try:
        asking()
    except openai.APIStatusError as error:
        return error
    raise AssertionError("nothing was raised")


def errors(client, model):
    def chatting(**changes):
        return lambda: client.chat.completions.create(**{"model": model, "messages": HELLO, **changes})

    long = "Anna " * 5000
    wrong, missing = openai.BadRequestError, openai.NotFoundError
    for asking, kind, param, code in [
        (chatting(model="../x"), missing, "model", "model_not_found"),
        (lambda: client.models.retrieve("nobody/here"), missing, "model", "model_not_found"),
        (chatting(messages=[]), wrong, "messages", None),
        (chatting(temperature=3), wrong, "temperature", None),
        (chatting(max_tokens=0), wrong, "max_tokens", None),
        (lambda: client.completions.create(model=model, prompt=long), wrong, "prompt", "context_length_exceeded"),
        (lambda: client.embeddings.create(model=model, input=""), wrong, "input", None),
        (lambda: client.post("/nothing", cast_to=object, body={}), missing, None, "not_found"),
    ]:
        error = raised(asking)
        assert type(error) is kind, error
        assert error.param == param, error
        assert error.code == code, error
        assert error.type == "invalid_request_error"
        assert error.request_id


def leaving_early(client, model):
    stream = client.chat.completions.create(model=model, messages=HELLO, max_tokens=200, stream=True)
    next(iter(stream))
    stream.close()
    chat(client, model)


CHECKS = [
    chat, chat_of_many_choices, chat_logprobs, chat_stream, chat_stream_of_many_choices, chat_async,
    chat_stream_helper, chat_parse, chat_json_object, chat_tools, chat_tools_stream, completions, completions_logprobs,
    embeddings, models, raw_responses, errors, leaving_early,
]  # fmt: skip


def main(url, model):
    with client_of(url) as client:
        for check in CHECKS:
            check(client, model)
            print(check.__name__, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
