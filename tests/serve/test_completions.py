"""POST /v1/completions: how texts go on, whole and in pieces, in OpenAI's shapes."""

import asyncio
import json

import httpx
import pytest
from openai.types import Completion

from instar.serve.app import create_app
from instar.serve.wire import Ask, Score

TEXT = "Anna had a red ball."
PATH = "/v1/completions"


@pytest.fixture
def ask(make_service):
    """ask(fields, service=...) -> the answer of an application without torch."""

    def send(fields, service=None, **more):
        app = create_app(service=service or make_service(**more))

        async def asking():
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return await client.post(PATH, json={"model": "tiny", "max_tokens": 50, **fields})

        return asyncio.run(asyncio.wait_for(asking(), 10))

    return send


def pieces_of(answer):
    """The events of a stream up to its end, as OpenAI's client reads them, and the choices in them."""
    lines = answer.text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    found = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    return found, [choice for chunk in found for choice in chunk["choices"]]


def refused(answer):
    return answer.status_code, answer.json()["error"]["param"], answer.json()["error"]["code"]


def test_an_answer_has_every_field(ask):
    """Section 5: id, object text_completion, created, model, system_fingerprint, choices, usage."""
    answer = ask({"prompt": "Tom"}, cached=1).json()
    Completion.model_validate(answer)
    assert set(answer) == {"id", "object", "created", "model", "system_fingerprint", "choices", "usage"}
    assert answer["object"] == "text_completion"
    assert answer["choices"] == [{"index": 0, "text": TEXT, "logprobs": None, "finish_reason": "stop"}]
    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 1}


def test_sixteen_tokens_where_nothing_is_said(ask, make_service, told):
    """Section 5: max_tokens is 16 by default, or what the context leaves."""
    for prompt, wanted in (("a", 16), ([5] * 505, 7)):
        service = make_service()
        assert ask({"prompt": prompt, "max_tokens": None}, service).status_code == 200
        assert told(service.desk.fleet, Ask)[0].options.max_new_tokens == wanted


@pytest.mark.parametrize("stream", [False, True])
def test_prompts_times_n(ask, make_service, tokenizer, told, stream):
    """Section 5: texts or lists of ids; the index of a choice is its prompt times n, and then its own."""
    rows = [tokenizer.prompt("a"), tokenizer.prompt("bc")]
    for prompt in (["a", "bc"], rows):
        service = make_service(lambda asked: [*asked.prompt, 65 + asked.seed])
        answer = ask({"prompt": prompt, "n": 2, "seed": 0, "stream": stream}, service)
        texts = ["", "", "", ""]
        for choice in pieces_of(answer)[1] if stream else answer.json()["choices"]:
            texts[choice["index"]] += choice["text"]
        assert texts == [tokenizer.decode([*row, 65 + n], continues=True) for row in rows for n in range(2)]
        assert [each.prompt for each in told(service.desk.fleet, Ask)] == [row for row in rows for _ in range(2)]
        if not stream:
            assert answer.json()["usage"]["prompt_tokens"] == sum(map(len, rows))


def test_one_list_of_ids_is_one_prompt(ask, make_service, told):
    """Section 5: token IDs, as they are."""
    service = make_service()
    ask({"prompt": [5, 6]}, service)
    assert [each.prompt for each in told(service.desk.fleet, Ask)] == [[5, 6]]


def test_a_stream_in_pieces(ask):
    """Section 5: one id, the same object, the reason with the last piece; usage where it was asked for."""
    chunks, choices = pieces_of(ask({"prompt": "a", "stream": True, "stream_options": {"include_usage": True}}))
    assert {(chunk["id"], chunk["object"], chunk["model"]) for chunk in chunks} == {
        (chunks[0]["id"], "text_completion", "tiny")
    }
    assert "".join(choice["text"] for choice in choices) == TEXT
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["stop"]
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == ask({"prompt": "a"}).json()["usage"]
    assert "usage" not in pieces_of(ask({"prompt": "a", "stream": True}))[0][0]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("echo", [False, True])
@pytest.mark.parametrize("prompt", ["Tom 👩 ", "ids"])
def test_logprobs(ask, tokenizer, stream, echo, prompt):
    """Section 5: four lists of equal length, offsets into the text, bytes where a token is no text; an echoed prompt is
    told with them, its first token without a probability."""
    given = tokenizer.prompt("Tom 👩 ") if prompt == "ids" else prompt
    answer = ask({"prompt": given, "logprobs": 2, "echo": echo, "stream": stream})
    choices = pieces_of(answer)[1] if stream else answer.json()["choices"]
    text = "".join(choice["text"] for choice in choices)
    assert text == ("Tom 👩 " if echo else "") + TEXT
    lists = {name: [item for choice in choices for item in choice["logprobs"][name]] for name in choices[0]["logprobs"]}
    assert set(lists) == {"tokens", "token_logprobs", "top_logprobs", "text_offset"}
    said = [*(tokenizer.prompt("Tom 👩 ") if echo else []), *tokenizer.encode(TEXT)]
    assert {len(each) for each in lists.values()} == {len(said)}
    for token, start, end in zip(lists["tokens"], lists["text_offset"], [*lists["text_offset"][1:], len(text)]):
        assert text[start:end] == token or token.startswith("bytes:\\x")
    assert lists["token_logprobs"].count(None) == (1 if echo else 0)
    assert echo == (lists["top_logprobs"][0] is None)
    assert all(1 <= len(top) <= 3 for top in lists["top_logprobs"] if top is not None)


@pytest.mark.parametrize("stream", [False, True])
def test_echo(ask, make_service, told, stream):
    """Section 5: each prompt stands before each of its answers; nothing is measured where nobody asks for it."""
    service = make_service()
    answer = ask({"prompt": ["a ", "b "], "n": 2, "echo": True, "stream": stream}, service)
    texts = ["", "", "", ""]
    for choice in pieces_of(answer)[1] if stream else answer.json()["choices"]:
        texts[choice["index"]] += choice["text"]
    assert texts == ["a " + TEXT, "a " + TEXT, "b " + TEXT, "b " + TEXT]
    assert not told(service.desk.fleet, Score)


def test_stop_texts_do_not_look_into_the_prompt(ask):
    """S10: the answer is cut, its echo is not."""
    answer = ask({"prompt": "a red", "echo": True, "stop": [" red"]}).json()["choices"][0]
    assert answer["text"] == "a redAnna had a"
    assert answer["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"prompt": ""}, (400, "prompt", None)),
        ({"prompt": [-1]}, (400, "prompt", None)),
        ({"prompt": [99999]}, (400, "prompt", None)),
        ({"prompt": [5, 10**30]}, (400, "prompt", None)),
        ({"prompt": "x" * 9000}, (400, "prompt", "context_length_exceeded")),
        ({"prompt": "a", "max_tokens": 512}, (400, "max_tokens", "context_length_exceeded")),
        ({"prompt": ["a"] * 128, "n": 2}, (400, "n", None)),
        ({"prompt": "a", "model": "other"}, (404, "model", "model_not_found")),
        ({"prompt": "a", "suffix": "b"}, (400, "suffix", None)),
        ({"prompt": "a", "best_of": 3}, (400, "best_of", None)),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_refused(ask, fields, wanted, stream):
    """S5, S6, S7, S20: a status and the field, also where a stream was asked for."""
    assert refused(ask({**fields, "stream": stream})) == wanted


def test_an_encoder_decoder_answers_sources(ask, make_service, tokenizer, told):
    """A text is read as the document that it is; the answer begins with nothing; there is no echo."""
    service = make_service(facts={"reads_source": True, "longest": 20})
    assert ask({"prompt": "Tom"}, service).json()["choices"][0]["text"] == TEXT
    (asked,) = told(service.desk.fleet, Ask)
    assert (asked.source, asked.prompt) == (tokenizer.document("Tom"), [])
    assert refused(ask({"prompt": "Tom", "echo": True}, service)) == (400, "echo", None)
    assert refused(ask({"prompt": "x" * 99}, service)) == (400, "prompt", "context_length_exceeded")
