"""POST /v1/chat/completions: answers whole and in chunks, in OpenAI's shapes."""

import asyncio
import json
import threading

import httpx
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from instar.serve import service as service_module
from instar.serve.app import create_app
from instar.serve.wire import Ask, Refused

HI = [{"role": "user", "content": "hi"}]
TEXT = "Anna had a red ball."
CALL = '<tool_call>\n{"name": "find_ball", "arguments": {"colour": "red"}}\n</tool_call>'
TOOL = {"type": "function", "function": {"name": "find_ball", "parameters": {"type": "object"}}}
PATH = "/v1/chat/completions"


@pytest.fixture
def ask(make_service):
    """ask(fields, service=..., path=...) -> the answer of an application without torch."""

    def send(fields, service=None, path=PATH, **more):
        app = create_app(service=service or make_service(**more))

        async def asking():
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return await client.post(path, json={"model": "tiny", "messages": HI, **fields})

        return asyncio.run(asyncio.wait_for(asking(), 10))

    return send


def chunks_of(answer):
    """The chunks of a stream, each as OpenAI's client would read it, up to its end."""
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = answer.text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    found = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    for chunk in found:
        ChatCompletionChunk.model_validate(chunk)
    return found


def error_of(answer):
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return answer.status_code, error["param"], error["code"]


def test_an_answer_has_every_field(ask):
    """Section 5, out: id, object, created, model, system_fingerprint, choices, usage, as OpenAI's types have them."""
    answer = ask({}, cached=2).json()
    ChatCompletion.model_validate(answer)
    assert set(answer) == {"id", "object", "created", "model", "system_fingerprint", "choices", "usage"}
    assert answer["id"].startswith("chatcmpl-")
    assert answer["object"] == "chat.completion"
    assert type(answer["created"]) is int
    assert answer["model"] == "tiny"
    assert answer["system_fingerprint"] == "fp_0123456789ab"
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": TEXT, "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    usage = answer["usage"]
    assert set(usage) == {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details"}
    assert usage["prompt_tokens_details"] == {"cached_tokens": 2}
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_usage_counts_what_was_read_and_said(ask, tokenizer, make_service, told):
    """Section 5: prompt_tokens are those that the engine was given, completion_tokens those that it said, of all n."""
    service = make_service()
    usage = ask({"n": 3}, service).json()["usage"]
    first = told(service.desk.fleet, Ask)[0]
    assert usage["prompt_tokens"] == len(first.prompt)
    assert first.prompt == tokenizer.chat(HI, add_generation_prompt=True).ids
    assert usage["completion_tokens"] == 3 * len(tokenizer.encode(TEXT))


def test_a_stream_chunk_by_chunk(ask):
    """Section 5, stream: one id, created and model; first role and empty content, last an empty delta with the reason;
    no usage where it was not asked for."""
    chunks = chunks_of(ask({"stream": True}))
    assert len({(chunk["id"], chunk["created"], chunk["model"], chunk["system_fingerprint"]) for chunk in chunks}) == 1
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert all(set(choice) == {"index", "delta", "logprobs", "finish_reason"} for choice in choices)
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    assert choices[-1]["delta"] == {}
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["stop"]
    assert "".join(choice["delta"].get("content", "") for choice in choices) == TEXT
    assert all(list(choice["delta"]) == ["content"] for choice in choices[1:-1])
    assert not any("usage" in chunk for chunk in chunks)


def test_usage_in_a_stream(ask):
    """Section 5: with include_usage every chunk has usage: null, then comes one with choices: []."""
    chunks = chunks_of(ask({"stream": True, "stream_options": {"include_usage": True}}))
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == ask({}).json()["usage"]


def test_answers_of_a_stream_are_begun_in_order(ask, tokenizer):
    """Section 5: n > 1: the first chunk is of index 0, each index is begun in order, whoever speaks first; each answer
    is whole."""
    texts = ["", "a", "Tom ran home.", "球 👩"]
    chunks = chunks_of(ask({"stream": True, "n": 4, "seed": 0}, says=lambda asked: tokenizer.encode(texts[asked.seed])))
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert [choice["index"] for choice in choices[:4]] == [0, 1, 2, 3]
    assert all(choice["delta"] == {"role": "assistant", "content": ""} for choice in choices[:4])
    for number, text in enumerate(texts):
        own = [choice for choice in choices if choice["index"] == number]
        assert "".join(choice["delta"].get("content", "") for choice in own) == text
        assert [choice["finish_reason"] for choice in own].count("stop") == 1
        assert own[-1]["finish_reason"] == "stop"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("stop", ["red", ["a red ball", "red b"], ["nowhere"], ["An"], [".", "ball."]])
def test_stop_texts(ask, stop, n, stream):
    """S10: the full text, cut at the first hit, whole and in a stream, of one answer or several."""
    stops = [stop] if isinstance(stop, str) else stop
    wanted = TEXT[: min((TEXT.find(each) for each in stops if each in TEXT), default=len(TEXT))]
    answer = ask({"stop": stop, "n": n, "stream": stream, "logprobs": True})
    if not stream:
        assert [choice["message"]["content"] for choice in answer.json()["choices"]] == [wanted] * n
        assert {choice["finish_reason"] for choice in answer.json()["choices"]} == {"stop"}
        return
    for number in range(n):
        choices = [each for chunk in chunks_of(answer) for each in chunk["choices"] if each["index"] == number]
        assert "".join(choice["delta"].get("content", "") for choice in choices) == wanted
        told = [entry["token"] for choice in choices for entry in (choice["logprobs"] or {"content": []})["content"]]
        assert wanted.startswith("".join(told))


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_is_too_long_for_its_room(ask, stream):
    """Section 5: finish_reason length."""
    answer = ask({"max_tokens": 3, "stream": stream})
    choices = chunks_of(answer)[-1]["choices"] if stream else answer.json()["choices"]
    assert choices[0]["finish_reason"] == "length"


def test_the_longest_answer(ask, make_service, told):
    """S6: absent it is what the context leaves; either name is heard."""
    for fields, wanted in (({}, None), ({"max_tokens": 5}, 5), ({"max_completion_tokens": 6}, 6)):
        service = make_service()
        ask(fields, service)
        (asked,) = told(service.desk.fleet, Ask)
        assert asked.options.max_new_tokens == (wanted or 512 - len(asked.prompt))


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs(ask, tokenizer, stream):
    """Section 5: logprobs of every token, with as many of the likeliest as were asked for, in order, in both modes."""
    answer = ask({"logprobs": True, "top_logprobs": 2, "stream": stream})
    if stream:
        choices = [choice for chunk in chunks_of(answer) for choice in chunk["choices"]]
        entries = [entry for choice in choices if choice["logprobs"] for entry in choice["logprobs"]["content"]]
    else:
        ChatCompletion.model_validate(answer.json())
        entries = answer.json()["choices"][0]["logprobs"]["content"]
    assert bytes(byte for entry in entries for byte in entry["bytes"]).decode() == TEXT
    assert [entry["bytes"] for entry in entries] == [list(tokenizer.token_bytes(id)) for id in tokenizer.encode(TEXT)]
    assert all(len(entry["top_logprobs"]) == 2 for entry in entries)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("choice", ["auto", "required", {"type": "function", "function": {"name": "find_ball"}}])
def test_a_tool_is_called(ask, tokenizer, stream, choice):
    """Section 5: tool_calls with ids, names and arguments, content null, finish_reason tool_calls."""
    answer = ask(
        {"tools": [TOOL], "tool_choice": choice, "stream": stream, "logprobs": True}, says=tokenizer.encode(CALL)
    )
    if not stream:
        (found,) = answer.json()["choices"]
        ChatCompletion.model_validate(answer.json())
        assert found["message"]["content"] is None
        (call,) = found["message"]["tool_calls"]
    else:
        chunks = chunks_of(answer)
        found, calls = (
            chunks[-1]["choices"][0],
            [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", [])],
        )
        assert {call["index"] for call in calls} == {0}
        assert [bool(call.get("id")) for call in calls] == [True] + [False] * (len(calls) - 1)
        call = {**calls[0], "function": {**calls[0]["function"]}}
        call["function"]["arguments"] = "".join(call["function"]["arguments"] for call in calls)
    assert found["finish_reason"] == "tool_calls"
    assert call["type"] == "function"
    assert call["id"]
    assert call["function"]["name"] == "find_ball"
    assert json.loads(call["function"]["arguments"]) == {"colour": "red"}


def test_tools_that_are_not_to_be_called(ask, tokenizer, make_service, told):
    """tool_choice none: the model is told of no tools, and what it says is text."""
    service = make_service(tokenizer.encode(CALL))
    answer = ask({"tools": [TOOL], "tool_choice": "none"}, service).json()["choices"][0]
    assert answer["message"]["content"] == CALL
    assert answer["finish_reason"] == "stop"
    assert told(service.desk.fleet, Ask)[0].prompt == tokenizer.chat(HI, add_generation_prompt=True).ids


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"model": "other"}, (404, "model", "model_not_found")),
        ({"model": "../tiny"}, (404, "model", "model_not_found")),
        ({"model": "/etc/passwd"}, (404, "model", "model_not_found")),
        ({"model": "%2e%2e%2ftiny"}, (404, "model", "model_not_found")),
        ({"messages": [{"role": "user", "content": "x" * 9000}]}, (400, "messages", "context_length_exceeded")),
        ({"max_tokens": 511}, (400, "max_tokens", "context_length_exceeded")),
        ({"max_completion_tokens": 511}, (400, "max_completion_tokens", "context_length_exceeded")),
        ({"logit_bias": {"9999": 1}}, (400, "logit_bias", None)),
        ({"response_format": {"type": "xml"}}, (400, "response_format.type", None)),
        ({"tool_choice": "required"}, (400, "tool_choice", None)),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_refused(ask, fields, wanted, stream):
    """S5, S6, S7, S20: a status and the field, also where a stream was asked for."""
    assert error_of(ask({**fields, "stream": stream})) == wanted


@pytest.mark.parametrize("stream", [False, True])
def test_what_the_engine_refuses_has_a_status(ask, stream):
    """Until its first token a stream can still be refused as any other answer."""
    answer = ask({"stream": stream}, says=Refused(0, "no", "prompt"))
    assert error_of(answer) == (400, "messages", None)


@pytest.mark.parametrize("facts", [{"speaks": False}, {"reads_source": True}])
def test_models_that_hold_no_conversation(ask, facts):
    """Encoders and encoder-decoders are refused with what to do instead."""
    answer = ask({}, facts=facts)
    assert answer.status_code == 400
    assert "/v1/" in answer.json()["error"]["message"]


def test_an_adapter_is_chosen_by_name(ask, make_service, told):
    """A base and its adapters in one process."""
    service = make_service(adapters=("sft",))
    assert ask({"model": "sft"}, service).json()["model"] == "sft"
    assert [each.adapter for each in told(service.desk.fleet, Ask)] == ["sft"]


@pytest.mark.parametrize("stream", [False, True])
def test_the_engine_dies_in_the_middle(make_service, tokenizer, stream):
    """S15, section 5: a stream that has begun ends with an error event, an answer in one piece is 503."""

    async def scenario():
        gate = asyncio.Event()
        service = make_service(lambda _: tokenizer.encode(TEXT), pace=0.005, gate=gate)
        fleet, app = service.desk.fleet, create_app(service=service)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            asking = asyncio.create_task(client.post(PATH, json={"model": "tiny", "messages": HI, "stream": stream}))
            gate.set()
            while not any(each.count for each in service.desk._running.values()):
                await asyncio.sleep(0.001)
            fleet.kill()
            return await asking

    answer = asyncio.run(asyncio.wait_for(scenario(), 10))
    if not stream:
        assert error_of(answer) == (503, None, "engine_died")
        return
    last = json.loads(answer.text.split("\n\n")[-2].removeprefix("data: "))
    assert last["error"]["code"] == "engine_died"
    assert "[DONE]" not in answer.text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("begun", [False, True])
def test_a_client_that_leaves(make_service, tokenizer, serve_here, stream, begun):
    """S3: in both modes, before and after the first token, its answers are given up within half a second."""
    service = make_service(lambda _: [5] * 400, pace=0.01 if begun else 60.0)
    hosted, fleet = serve_here(service), service.desk.fleet

    async def given_up():
        while len(fleet.cancelled) < 2:
            await asyncio.sleep(0.005)

    asked = {"json": {"model": "tiny", "messages": HI, "stream": stream, "n": 2}}
    with httpx.Client(base_url=hosted.url, timeout=0.2) as client:
        if stream and begun:
            with client.stream("POST", PATH, **asked) as answer:
                next(answer.iter_lines())
        else:
            with pytest.raises(httpx.ReadTimeout):
                client.post(PATH, **asked)
    hosted.call(asyncio.wait_for, given_up(), 0.5)
    assert not fleet.running


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n", [1, 2])
def test_one_call_alone(ask, tokenizer, make_service, stream, n):
    """Section 5: parallel_tool_calls: false ends the answer behind its first call, also where no grammar holds it to
    one, and the engine is told."""
    said = f"Sure.\n{CALL}\n{CALL} and more " + "ball " * 30
    service = make_service(says=tokenizer.encode(said), pace=0.001)
    answer = ask({"tools": [TOOL], "parallel_tool_calls": False, "stream": stream, "n": n}, service)
    if stream:
        choices = [choice for chunk in chunks_of(answer) for choice in chunk["choices"]]
        assert [choice["finish_reason"] for choice in choices].count("tool_calls") == n
        begun = [call for choice in choices for call in choice["delta"].get("tool_calls", []) if "id" in call]
        assert len(begun) == n
    else:
        for choice in answer.json()["choices"]:
            assert choice["finish_reason"] == "tool_calls"
            assert choice["message"]["content"] == "Sure."
            assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["find_ball"]
    assert len(service.desk.fleet.cancelled) == n


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_utf_8_cannot_say(ask, tokenizer, stream):
    """S8: a model that escapes half a surrogate pair in a call causes no 500."""
    said = '<tool_call>{"arguments": {"a": "\\ud800"}, "name": "find_ball"}</tool_call>'
    answer = ask({"tools": [TOOL], "stream": stream}, says=tokenizer.encode(said))
    assert answer.status_code == 200
    assert "internal_error" not in answer.text
    if not stream:
        (call,) = answer.json()["choices"][0]["message"]["tool_calls"]
        assert json.loads(call["function"]["arguments"]) == {"a": "\ud800"}


def test_what_can_never_fit_is_not_read(ask, make_service, tokenizer):
    """S5, S25: more bytes than the longest tokens of a whole context is refused before anything is rendered; what the
    model has said itself does not count, since a template may leave it out."""

    class Counting:
        template = tokenizer.template
        asked = 0

        async def chat(self, messages, *, tools=None, client=""):
            self.asked += 1
            return [1, 2]

    service = make_service(renderer=Counting())
    long = "a" * (service.most_bytes + 1)
    for content in (long, [{"type": "text", "text": long}]):
        answer = ask({"messages": [*HI, {"role": "user", "content": content}]}, service)
        assert error_of(answer) == (400, "messages", "context_length_exceeded")
    reading, service.in_turn = service.in_turn, None
    answer = ask({"prompt": long}, service, "/v1/completions")
    service.in_turn = reading
    assert error_of(answer) == (400, "prompt", "context_length_exceeded")
    assert service.renderer.asked == 0
    for fits in (long[1:], " " * 10**6):
        assert ask({"messages": [{"role": "user", "content": fits}]}, service).status_code == 200
    assert ask({"messages": [{"role": "assistant", "content": long}, *HI]}, service).status_code == 200


def test_answers_share_what_may_wait(ask, make_service):
    """S4: what waits for the reader of n answers is counted together."""
    service, tickets = make_service(), []
    queue = service.desk.ask
    service.desk.ask = lambda *asked, **how: tickets.extend(queue(*asked, **how)) or tickets
    assert ask({"n": 3}, service).status_code == 200
    assert len(tickets) == 3
    assert len({id(ticket.backlog) for ticket in tickets}) == 1


def test_a_large_answer_is_written_in_a_thread(ask, make_service, monkeypatch):
    """S25: many logprobs do not hold up the event loop, and are the same as few."""
    threads = []
    original = service_module.dumps_in_parts
    monkeypatch.setattr(
        service_module, "dumps_in_parts", lambda value: threads.append(threading.current_thread()) or original(value)
    )
    few = ask({"logprobs": True, "top_logprobs": 3, "seed": 0}).json()["choices"]
    assert not threads
    monkeypatch.setattr(service_module, "MANY", 0)
    assert ask({"logprobs": True, "top_logprobs": 3, "seed": 0}).json()["choices"] == few
    assert threads
    assert threading.main_thread() not in threads


def test_a_fault_behind_the_asking_gives_the_answers_up(ask, make_service, monkeypatch):
    """S12, S24: where what reads the answers cannot be made, none of them stays in an engine."""
    service = make_service(gate=asyncio.Event())
    monkeypatch.setattr("instar.serve.chat.Turn", lambda parser: {}[parser])
    assert ask({"n": 2}, service=service).status_code == 500
    assert service.desk.running == 0
