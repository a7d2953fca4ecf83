"""X5: a request with extreme values took the whole server with it. ggml-org/llama.cpp#19367, #10380;
vllm-project/vllm#17313.

A float at the edge of its range, a count without bound, a pattern that takes for ever: each crashed or stalled servers
that others were using. Here every field has bounds, and what is outside is a 400 that names the field.
"""

import json
import runpy
from pathlib import Path

import httpx
import pytest

SERVING = runpy.run_path(str(Path(__file__).parents[1] / "serve" / "conftest.py"))
tokenizer, folder, server = (SERVING[name] for name in ("tokenizer", "folder", "server"))
make_service, serve_here = SERVING["make_service"], SERVING["serve_here"]

CHAT, TEXT, VECTORS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
ASKED = {
    CHAT: {"model": "tiny", "messages": [{"role": "user", "content": "Who?"}], "max_tokens": 4},
    TEXT: {"model": "tiny", "prompt": "Anna", "max_tokens": 4},
    VECTORS: {"model": "tiny", "input": "Anna"},
}


def nested(depth):
    """A JSON schema that is so deep."""
    schema = {"type": "object"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def shaped(schema):
    return {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}


# field -> values, as JSON, that are out of bounds; both endpoints that answer have them
BOTH = {
    "temperature": ["-0.1", "2.1", "1e308", "-1e308", "1e999", "NaN", "-Infinity", "true", '"1"', "[]"],
    "top_p": ["-0.1", "1.1", "1e999", "NaN", "true", '"1"'],
    "top_k": ["-2", "1.5", str(2**63), "true"],
    "min_p": ["-0.1", "1.1", "NaN"],
    "n": ["0", "-1", "17", "129", str(2**31), str(2**63), "1.5", "true", '"2"', "9" * 5000],
    "max_tokens": ["0", "-1", str(2**31), str(2**63), "1.5", "true", '"4"'],
    "presence_penalty": ["-2.1", "2.1", "1e999", "NaN"],
    "frequency_penalty": ["-2.1", "2.1", "1e308"],
    "repetition_penalty": ["0", "-1", "NaN", "1e999"],
    "seed": [str(2**63), str(-(2**63) - 1), "1.5", "true", "1e30"],
    "stop": ["5", '["a", "b", "c", "d", "e"]', json.dumps("a" * 257), '["a", 1]', '[""]'],
    "logit_bias": [
        '{"1": 101}', '{"1": -101}', '{"1": NaN}', '{"-1": 1}', '{"384": 1}', '{"a": 1}', '{"1e3": 1}', "[1]",
        json.dumps({str(n): 1 for n in range(1025)}),
    ],
    "stop_token_ids": ["[-1]", "[1.5]", "5"],
    "min_tokens": ["-1", str(2**31), "true"],
    "stream": ['"yes"', "1"],
}  # fmt: skip
EXTREMES = [(path, field, value) for path in (CHAT, TEXT) for field, values in BOTH.items() for value in values]
EXTREMES += [
    (CHAT, "messages", value)
    for value in (
        "[]", "{}", '"hello"', "[1]", '[{"role": "user"}]', '[{"role": "king", "content": "a"}]',
        '[{"role": "user", "content": 1}]', '[{"role": "user", "content": [{"type": "image_url"}]}]',
        json.dumps([{"role": "user", "content": "a"}] * 2049), '[{"role": "user", "content": "\\ud800"}]',
        '[{"role": "user", "content": "a\\u0000b"}]', json.dumps([{"role": "user", "content": "ball " * 2000}]),
    )
]  # fmt: skip
EXTREMES += [
    (CHAT, "top_logprobs", value) for value in ("-1", "21", "1.5", str(2**31), "3")  # 3 without logprobs
]  # fmt: skip
EXTREMES += [(CHAT, "logprobs", value) for value in ("5", '"yes"')]
EXTREMES += [(CHAT, "max_completion_tokens", value) for value in ("0", "-1", str(2**31))]
EXTREMES += [
    (CHAT, "response_format", json.dumps(value))
    for value in (
        {"type": "xml"}, "json_object", shaped(nested(40)), shaped({"$ref": "http://10.0.0.1/a.json"}),
        shaped({"type": "object", "description": "a" * 70_000}), {"type": "json_schema"},
        {"type": "regex", "regex": "a" * 513},
         {"type": "grammar", "grammar": "start: x" * 10_000},
    )
]  # fmt: skip
EXTREMES += [
    (CHAT, "tools", value)
    for value in ("{}", "[{}]", '[{"type": "function"}]', '[{"type": "function", "function": {"name": "a b"}}]')
]
EXTREMES += [
    (TEXT, "prompt", value)
    for value in (
        "{}",
        "[]",
        "[1.5]",
        "[-1]",
        "[384]",
        "[true]",
        '["a", 1]',
        "[[]]",
        json.dumps("ball " * 2000),
        "1e999",
    )
]
EXTREMES += [(TEXT, "logprobs", value) for value in ("-1", "6", "true", str(2**31))]
EXTREMES += [(TEXT, "best_of", "5"), (TEXT, "suffix", '"a"')]
EXTREMES += [
    (VECTORS, "input", value)
    for value in (
        '""',
        "[]",
        '[""]',
        "[[]]",
        "[-1]",
        "[384]",
        "[true]",
        "[1e999]",
        json.dumps(["a"] * 2049),
        "{}",
        "9" * 5000,
    )
]
EXTREMES += [(VECTORS, "dimensions", value) for value in ("0", "-1", "999", str(2**63), "1.5", "true")]
BODIES = [
    "[]",
    "null",
    "1",
    '"a"',
    "",
    "{",
    '{"a": }',
    "NaN",
    '{"model": "tiny", "model": "tiny"}',
    "\ufeff{}",
    '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
]


def body_of(path, field, value):
    """The request with this text in the place of a field's value."""
    rest = {name: item for name, item in ASKED[path].items() if name != field}
    if field == "max_completion_tokens":
        del rest["max_tokens"]
    return f'{json.dumps(rest)[:-1]}, "{field}": {value}}}'


def refused(url, extremes):
    """Each of them is a 400 that names its field; a broken or huge body is refused too; then all endpoints answer."""
    wrong = []
    with httpx.Client(base_url=url, timeout=20) as client:

        def post(path, body):
            return client.post(path, content=body.encode(), headers={"content-type": "application/json"})

        for path, field, value in extremes:
            answer = post(path, body_of(path, field, value))
            param = answer.json().get("error", {}).get("param") or ""
            if answer.status_code != 400 or not param.startswith(field):
                wrong.append((path, field, value[:60], answer.status_code, answer.text[:160]))
        for path in ASKED:
            for body in BODIES:
                answer = post(path, body)
                if answer.status_code != 400 or len(answer.json()["error"]) != 4:
                    wrong.append((path, body[:60], answer.status_code, answer.text[:160]))
            if (status := post(path, f'{{"a": "{"a" * 2**21}"}}').status_code) != 413:
                wrong.append((path, "2 MiB", status))
        assert not wrong, "\n".join(map(str, wrong))
        yield
        for path, body in ASKED.items():
            answer = post(path, json.dumps(body))
            assert answer.status_code == 200, answer.text


def test_extremes_are_refused_and_the_server_lives(make_service, serve_here):
    """S6, S7, S8, S19: every value out of bounds is refused before an engine hears of it; then all works."""
    service = make_service()
    for _ in refused(serve_here(service).url, EXTREMES):
        assert not service.desk.fleet.told


@pytest.mark.slow
def test_a_whole_server_refuses_them(server):
    """The same with an engine, which alone knows what a grammar costs."""
    costly = [{"type": "regex", "regex": each} for each in ("(a{1000}){1000}", "(?=a)b", "(a)\\1")]
    for _ in refused(server.url, [*EXTREMES, *((CHAT, "response_format", json.dumps(each)) for each in costly)]):
        pass


@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_what_is_not_said_is_no_extreme(path, make_service, serve_here):
    """Null is absent; the longest answer, where it is not said, is the rest of the context and costs nothing before it
    comes; whole numbers are welcome where fractions are."""
    service = make_service()
    url = serve_here(service).url
    names = [*BOTH, "max_completion_tokens", "response_format", "tools", "user", "metadata", "logprobs", "top_logprobs"]
    body = {"model": "tiny", **ASKED[path], **dict.fromkeys(names)}
    assert httpx.post(f"{url}{path}", json=body).status_code == 200
    asked = service.desk.fleet.told[0]
    rest = service.facts.context - len(asked.prompt)
    assert asked.options.max_new_tokens == (rest if path == CHAT else 16)
    assert httpx.post(f"{url}{path}", json={**body, "temperature": 0, "top_p": 1}).status_code == 200
