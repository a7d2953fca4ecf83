"""R6: one malformed conversation hung every route of the server. vllm-project/vllm#44793.

Guard: bodies are read by one strict parser, conversations are rendered in a process of their own under limits, and a
route that fails is a 500 of that request alone.
"""

import copy
import json
import random
import runpy
import time
from pathlib import Path

import httpx
import pytest

SERVING = runpy.run_path(str(Path(__file__).parents[1] / "serve" / "conftest.py"))
tokenizer, folder, server = (SERVING[name] for name in ("tokenizer", "folder", "server"))
make_service, serve_here = SERVING["make_service"], SERVING["serve_here"]

HELLO = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": [{"type": "text", "text": "Who had a ball?"}]},
    {"role": "assistant", "content": None, "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "find", "arguments": '{"a": "b"}'}}]},
    {"role": "tool", "tool_call_id": "call_1", "content": "Anna."},
]  # fmt: skip
SCHEMA = {"type": "object", "properties": {"a": {"type": "string", "enum": ["b", "c"]}}, "required": ["a"]}
TOOL = {"type": "function", "function": {"name": "find", "description": "Finds.", "parameters": SCHEMA}}
PLAIN = {"model": "tiny", "messages": [{"role": "user", "content": "Who?"}], "max_tokens": 4}
ASKED = {
    "/v1/chat/completions": {
        "model": "tiny", "messages": HELLO, "max_tokens": 3, "temperature": 0.5, "top_p": 0.9, "n": 1, "stop": ["x"],
        "stream": False, "stream_options": None, "seed": 1, "logprobs": True, "top_logprobs": 2,
        "logit_bias": {"5": 1.5}, "presence_penalty": 0.1, "frequency_penalty": 0.1, "tools": [TOOL],
        "tool_choice": "auto", "response_format": {"type": "text"}, "user": "a", "metadata": {"a": "b"},
    },
    "/v1/completions": {
        "model": "tiny", "prompt": ["Anna", "Tom"], "max_tokens": 3, "echo": True, "logprobs": 1, "n": 1, "stop": "x",
    },
    "/v1/embeddings": {"model": "tiny", "input": ["Anna", "Tom"], "dimensions": 4, "encoding_format": "base64"},
    "/v1/tokenize": {"model": "tiny", "messages": HELLO, "tools": [TOOL], "return_token_strs": True},
}  # fmt: skip
CANARY = "zq7xCanary"
ODD = [
    None, True, False, 0, 1, -1, 2**31, -(2**63), 2**64, 10**30, 0.5, -0.0, 1e-300, 1e300, float("nan"), float("inf"),
    "", CANARY, "\ud800", "\0", "a" * 5000, "<|im_end|>", "{{ 7 * 7 }}", "../../etc/passwd", "🙂\u2028\x85",
    [], {}, [[]], [{}], {CANARY: CANARY}, {"type": CANARY}, [CANARY] * 40, {"role": "user", "content": CANARY},
    {"type": "json_schema", "json_schema": {"name": "a", "schema": {"$ref": "#"}}},
    {"type": "regex", "regex": "(a+)+$"},
]  # fmt: skip


def places(value, path=()):
    """Where something stands in a body."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inside:
        yield (*path, key)
        yield from places(item, (*path, key))


def harmed(body, luck):
    """A body with one to three things in it changed, gone, doubled or put beside; or broken as text."""
    body = copy.deepcopy(body)
    for _ in range(luck.randint(1, 3)):
        found = list(places(body))
        if not found:
            break
        *path, last = luck.choice(found)
        inside = body
        for key in path:
            inside = inside[key]
        kind = luck.randrange(6)
        if kind == 0:
            del inside[last]
        elif kind == 1 and isinstance(inside, list):
            inside.extend([inside[last]] * luck.choice([1, 30]))
        elif kind == 2 and isinstance(inside, dict):
            inside[luck.choice([CANARY, "best_of", "suffix", "ignore_eos", "functions"])] = copy.deepcopy(
                luck.choice(ODD)
            )
        else:
            inside[last] = copy.deepcopy(luck.choice(ODD))
    text = json.dumps(body).encode()
    if luck.random() < 0.15:
        cut = luck.randrange(len(text))
        text = text[:cut] + luck.choice([b"", b"\xff", b"[" * 3000, b"1e999", b'"', b"\x00"]) + text[cut + 1 :]
    return text


def survives(url, number, count=500):
    """Fuzzed requests, none of which is the server's fault, then a valid one that is answered at once."""
    luck = random.Random(number)
    statuses = {}
    with httpx.Client(base_url=url, timeout=20, headers={"content-type": "application/json"}) as client:
        for _ in range(count):
            path = luck.choice(list(ASKED))
            content = harmed(ASKED[path], luck)
            answer = client.post(path, content=content)
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
            assert answer.status_code in (200, 400, 404), (path, content, answer.text)
            if answer.status_code != 200:
                assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
                assert CANARY not in answer.text, (path, content, answer.text)
        began = time.monotonic()
        answer = client.post("/v1/chat/completions", json=PLAIN)
        assert answer.status_code == 200, answer.text
        assert time.monotonic() - began < 5
    # both kinds come often, so neither check is idle
    assert min(statuses[200], statuses[400]) > count / 20, statuses


def test_500_malformed_requests_and_then_a_good_one(make_service, serve_here):
    """None is a 5xx, no error repeats the request's text, and the next request is answered at once."""
    service = make_service()
    survives(serve_here(service).url, 6)
    assert not service.desk.waiting
    assert not service.desk.running


@pytest.mark.slow
def test_a_whole_server_survives_them(server):
    """The same on a real server, many more of them: its engine lives, and its health says so."""
    for number in range(10):
        survives(server.url, number)
    assert httpx.get(f"{server.url}/health").status_code == 200
