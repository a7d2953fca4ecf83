"""/glass/api: what it lets through to the process that computes, and how it tells what stands in the way."""

import json
import logging
import os
import signal
import threading
import time
from pathlib import Path

import httpx
import pytest

from instar.config.options import ServeOptions
from instar.serve.app import create_app
from instar.serve.glass.caller import WAITING, Caller

FAKE = ("-P", str(Path(__file__).parent / "fake_worker.py"))
CANARY = "canary-7f3a"
T = {"model": "m", "text": "x"}
CLIENT = httpx.Client(trust_env=False, verify=False, timeout=20)  # one for all: each makes a context of TLS


@pytest.fixture
def glass(make_service, serve_here, monkeypatch):
    """A server whose process says what it was asked."""
    monkeypatch.setattr(Caller, "program", FAKE)
    return serve_here(make_service(), glass=ServeOptions(model="/nowhere"))


def get(hosted, path, **query):
    return CLIENT.get(f"{hosted.url}/glass/api/{path}", params=query)


def post(hosted, path, body, **headers):
    return CLIENT.post(f"{hosted.url}/glass/api/{path}", json=body, headers=headers)


def fake(hosted, op, **args):
    """Let the fake process do something: it hears it from a text to be tokenized."""
    return post(hosted, "tokenize", {"model": "m", "text": json.dumps({"op": op, **args})})


def caller_of(hosted):
    return hosted.server.config.app.app.state.glass.caller


def until(true):
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


QUERIES = [
    ("trace/t1", {}, {"op": "traced", "args": {"trace": "t1"}}),
    (
        "trace/t1/lens", {"layer": "2", "sampling.temperature": "0.5", "top_k": "3", "vs": "a/b", "at": "-1"},
        {"op": "view", "args": {
            "trace": "t1", "view": "lens", "vs": "a/b",
            "ask": {"layer": 2, "at": -1, "sampling": {"temperature": 0.5, "top_k": 3}},
        }},
    ),
    (
        "trace/t1/effects",
        {
            "other_ids": "1,2,3", "sampling.stop_ids": "5,6", "logit_bias": "7=-5,8=2.5", "stop": "a,b",
            "parts": "data,arrays",
        },
        {"op": "view", "args": {
            "trace": "t1", "view": "effects", "parts": "data,arrays", "ask": {
                "other_ids": [1, 2, 3],
                "sampling": {"stop_ids": [5, 6], "logit_bias": [[7, -5.0], [8, 2.5]], "stop": ["a,b"]}},
        }},
    ),
    ("trace/t1/proof", {}, {"op": "view", "args": {"trace": "t1", "view": "proof", "ask": {}}}),
    (
        "trace/t1/atlas", {"layers": "0:8", "px": "16", "kind": "sinkless"},
        {"op": "atlas", "args": {"trace": "t1", "layers": [0, 8], "px": 16, "kind": "sinkless"}},
    ),
    (
        "trace/t1/attention/3/-1", {"rows": "5:9", "level": "word"},
        {"op": "attention", "args": {"trace": "t1", "layer": 3, "head": -1, "rows": [5, 9], "level": "word"}},
    ),
    ("trace/t1/logits/7", {}, {"op": "logits", "args": {"trace": "t1", "at": 7}}),
    ("trace/t1/logits/7", {"vs": "a/b"}, {"op": "logits", "args": {"trace": "t1", "at": 7, "vs": "a/b"}}),
    (
        "trace/t1.html", {"language": "zh", "layer": "1"},
        {"op": "export", "args": {"trace": "t1", "format": "html", "language": "zh", "ask": {"layer": 1}}},
    ),
    ("heads/demo/sft", {"set": "corpus", "text": "a"}, {"op": "heads", "args": {
        "model": "demo/sft", "set": "corpus", "text": "a"}}),
    ("vocabulary/a/b/c", {"ids": "1,22"}, {"op": "vocabulary", "args": {"model": "a/b/c", "ids": [1, 22]}}),
]  # fmt: skip


def test_a_query_arrives_as_numbers_and_words(glass):
    """What a view is asked is named as the options of `instar inspect` are, and of the kinds that those have."""
    for path, query, asked in QUERIES:
        answer = get(glass, path, **query)
        assert answer.status_code == 200, answer.text
        assert answer.json() == asked


BODIES = [
    ("trace", {"model": "a/b", "messages": [{"role": "user", "content": "hi"}], "chat": True}),
    ("trace", {"model": "a", "ids": [1, 2], "adapter": "c"}),
    ("intervene", {"trace": "t1", "heads": [[0, 1]], "positions": False, "swap": [0, 2]}),
    ("beam", {"trace": "t1", "sampling": {"beams": 3}}),
    ("order", {"model": "a", "one": "狗咬人", "other": "人咬狗"}),
]  # fmt: skip


def test_a_body_arrives_as_it_was_said(glass):
    """And nothing beside it."""
    for path, body in BODIES:
        assert post(glass, path, body).json() == {"op": path, "args": body}


WRONG_QUERIES = [
    ("trace/t1/lens", {"layr": "2"}, "did you mean layer"),
    ("trace/t1/lens", {"sampling.temprature": "2"}, "did you mean sampling.temperature"),
    ("trace/t1/lens", {"layer": "two"}, "layer: found 'two', wanted a whole number"),
    ("trace/t1/lens", {"layer": "--2"}, "found '--2'"),
    ("trace/t1/lens", {"other_ids": "1,--model=x"}, "wanted a whole number"),
    ("trace/t1/lens", {"layer": ["1", "2"]}, "stands twice"),
    ("trace/t1/lens", {"config": "/etc/passwd"}, "unknown name config"),
    ("trace/t1/lens", {"help": ""}, "unknown name help"),
    ("trace/t1/lens", {"model": "x"}, "unknown name model"),
    ("trace/t1/lens", {"output": "/tmp/x"}, "unknown name output"),
    ("trace/t1/lens", {"kind": "row"}, "did you mean raw"),
    ("trace/t1/atlas", {"layers": "0"}, "such as 0:8"),
    ("trace/t1/atlas", {"px": "9" * 30}, "at most"),
    ("trace/t1/attention/x/0", {}, "layer"),
    ("trace/t1/rollout", {"lang": "zh"}, "unknown name lang"),
    ("heads/m", {"set": "corpora"}, "did you mean corpus"),
    ("vocabulary/m", {"ids": "1,x"}, "whole numbers"),
    ("vocabulary/m", {}, "either ids or text"),
    ("models", {"x": "1"}, "unknown name x"),
    ("runs/r/metrics", {"after": "x"}, "after"),
]  # fmt: skip


def test_a_query_that_cannot_be_meant_is_422(glass):
    """In the form of all errors of the page, naming what is at fault."""
    for path, query, words in WRONG_QUERIES:
        answer = get(glass, path, **query)
        assert answer.status_code == 422
        assert set(answer.json()) == {"error"}
        assert answer.json()["error"]["code"] == "bad_input"
        assert words in answer.json()["error"]["detail"]


WRONG_BODIES = [
    ("trace", {**T, "txt": "y"}), ("trace", {"model": "m"}), ("trace", {**T, "ids": [1]}),
    ("trace", {"model": 1, "text": "x"}), ("trace", {"text": "x"}), ("trace", {**T, "chat": "yes"}),
    ("trace", {"model": "m", "ids": [-1]}), ("trace", {"model": "m", "ids": [1.5]}),
    ("trace", {"model": "m", "messages": []}), ("trace", {"model": "m", "messages": [{"role": "user"}]}),
    ("trace", []), ("intervene", {"trace": "t", "heads": [[1]]}), ("intervene", {"trace": "t", "swap": [1]}),
    ("generate", {"model": "m", "prompt": "x", "sampling": {"temprature": 1}}),
    ("generate", {"model": "m", "prompt": "x", "seed": -1}), ("order", {"model": "m", "one": "x"}),
    ("tokenize", {"model": "m", "text": "x", "messages": [{"role": "user", "content": "x"}]}),
]  # fmt: skip


def test_a_body_that_cannot_be_meant_is_422(glass):
    """Strictly: an unknown name, a wrong kind, nothing to read or two things, and no process is started for it."""
    for path, body in WRONG_BODIES:
        answer = post(glass, path, body)
        assert answer.status_code == 422
        assert answer.json()["error"]["code"] == "bad_input"
        assert caller_of(glass).pid is None


@pytest.mark.parametrize(
    ("raw", "kind", "status"),
    [(b'{"model": NaN}', "application/json", 422), (b"{", "application/json", 422), (b"{}", "text/plain", 415)],
)
def test_what_is_no_json_is_told(raw, kind, status, glass):
    """By the route in the page's form, by the gate in that of /v1."""
    answer = CLIENT.post(f"{glass.url}/glass/api/trace", content=raw, headers={"content-type": kind})
    assert answer.status_code == status
    assert answer.json()["error"]["code"]


@pytest.mark.parametrize("path", ["nothing", "trace/t1/lens/x", "trace/t1.exe", "runs/x/y/z", ""])
def test_what_is_no_address_is_404(path, glass):
    """In the page's form."""
    assert get(glass, path).status_code == 404
    assert get(glass, path).json()["error"]["code"] in ("not_found", "no_such_run")


TROUBLES = [
    (409, "trace_expired", {}), (413, "too_long", {"limit": 8, "got": 9}), (422, "unfit", {"zh": "不"}),
    (404, "no_such_model", {}), (507, "memory", {"need": 5, "budget": 3}), (500, "internal_error", {}),
]  # fmt: skip


def test_troubles_of_the_process_are_answered_with_their_figures(glass):
    """Status, code and figures as they are."""
    for status, code, more in TROUBLES:
        answer = fake(glass, "trouble", status=status, code=code, more=more)
        assert answer.status_code == status
        assert answer.json() == {"error": {"code": code, "detail": code, **more}}
        assert answer.headers["cache-control"] == "no-store"


def test_a_process_that_died_is_told_and_the_next_request_works(glass):
    """503 worker_died, with a hint to come again."""
    answer = fake(glass, "die")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "worker_died")
    assert answer.headers["retry-after"]
    assert post(glass, "trace", T).status_code == 200


def test_files_are_saved_under_their_names_and_large_replies_are_whole(glass):
    """16 MiB, and the other routes answer meanwhile."""
    answer = fake(glass, "large", bytes=16 * 2**20, name="m-t1.safetensors")
    assert len(answer.content) == 16 * 2**20
    assert answer.headers["content-disposition"] == 'attachment; filename="m-t1.safetensors"'
    assert answer.headers["content-type"] == "application/octet-stream"


def test_a_client_that_leaves_frees_the_process(glass, caplog):
    """Its job is abandoned and the next runs; the log says that it left, by its route."""
    caplog.set_level(logging.INFO, "instar.serve.requests")
    with pytest.raises(httpx.ReadTimeout):
        CLIENT.post(
            f"{glass.url}/glass/api/tokenize", json={"model": CANARY, "text": '{"op": "hang"}'},
            timeout=httpx.Timeout(20, read=0.3),
        )  # fmt: skip
    assert post(glass, "trace", {**T, "text": CANARY}).status_code == 200
    until(lambda: not caller_of(glass)._jobs)
    assert "499 POST /glass/api/tokenize" in caplog.text
    assert "200 POST /glass/api/trace" in caplog.text
    (left,) = [line for line in caplog.text.splitlines() if "499 POST" in line]
    assert "cancelled" in left
    assert CANARY not in caplog.text


def test_a_queue_that_is_full_is_429_and_no_other_route_waits(glass):
    """One works and eight wait; what models there are and /v1 are answered all the same."""
    clients = [threading.Thread(target=fake, args=(glass, "hang")) for _ in range(WAITING + 1)]
    for client in clients:
        client.start()
    until(lambda: len(caller_of(glass)._jobs) == WAITING + 1)
    answer = post(glass, "trace", T)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "busy")
    assert answer.headers["retry-after"]
    assert get(glass, "models").status_code == 200
    assert CLIENT.get(f"{glass.url}/v1/models").status_code == 200
    glass.call(caller_of(glass)._let_go)
    for client in clients:
        client.join(20)


def sse(text):
    """Events of a stream: (name, data)."""
    blocks = [dict(line.split(": ", 1) for line in block.split("\n")) for block in text.strip().split("\n\n")]
    return [(block["event"], json.loads(block["data"])) for block in blocks]


def test_a_stream_is_events_with_names_and_its_trouble_is_the_last(glass):
    """A trouble before the first event is the status; behind one, an event `error`."""
    said = {"model": "m", "prompt": json.dumps({"count": 3})}
    answer = post(glass, "generate", said)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert sse(answer.text) == [("token", {"step": step}) for step in range(3)]
    answer = post(glass, "generate", said | {"prompt": json.dumps({"count": 1, "then": "unfit"})})
    assert sse(answer.text) == [("token", {"step": 0}), ("error", {"code": "unfit", "detail": "unfit"})]
    answer = post(glass, "generate", said | {"prompt": json.dumps({"count": 0, "then": "unfit"})})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "unfit")


def test_a_client_that_leaves_a_stream_ends_it(glass):
    """The process is free for the next."""
    body = {"model": "m", "prompt": json.dumps({"count": 100_000})}
    with CLIENT.stream("POST", f"{glass.url}/glass/api/generate", json=body) as answer:
        next(answer.iter_lines())
    assert post(glass, "trace", T).status_code == 200
    until(lambda: not caller_of(glass)._jobs)


def test_what_models_there_are_starts_no_process(glass):
    """From configs alone: a folder that is not there is listed with the reason, and the version of the package."""
    said = get(glass, "models").json()
    assert [one["id"] for one in said["models"]] == [said["served"]] == ["nowhere"]
    assert "no such folder" in said["models"][0]["why"]
    assert said["runs"] == []
    assert said["version"]
    assert caller_of(glass).pid is None


def test_until_the_model_is_loaded_the_page_is_there_and_its_api_says_wait(serve_here, monkeypatch):
    """503 loading, with a hint to come again; the files come."""

    async def never():
        raise OSError

    app = create_app(never, glass=ServeOptions(model="/nowhere"))
    from starlette.testclient import TestClient

    client = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
    assert client.get("/glass/").status_code == 200
    answer = client.get("/glass/api/models")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "loading")
    assert answer.headers["retry-after"]
    assert client.post("/glass/api/trace", json=T).json()["error"]["code"] == "loading"


def test_the_api_is_documented(glass):
    """All of its routes stand in /openapi.json with their errors, and the page's files do not."""
    schema = CLIENT.get(f"{glass.url}/openapi.json").json()
    paths = {path for path in schema["paths"] if path.startswith("/glass")}
    assert {"/glass/api/models", "/glass/api/trace/{trace}/{view}", "/glass/api/generate"} <= paths
    assert not {path for path in paths if not path.startswith("/glass/api/")}
    responses = schema["paths"]["/glass/api/trace"]["post"]["responses"]
    assert responses["422"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Trouble"}
    assert "422" not in schema["paths"]["/v1/chat/completions"]["post"]["responses"]
    assert schema["paths"]["/glass/api/trace"]["post"]["requestBody"]


def test_without_options_of_it_a_server_has_no_page(make_service, serve_here):
    """An application of /v1 alone stays what it was."""
    hosted = serve_here(make_service())
    assert get(hosted, "models").status_code == 404
    assert set(get(hosted, "models").json()["error"]) == {"message", "type", "param", "code"}


def children_of(pid):
    """The processes of the glass box that a server started."""
    found = Path(f"/proc/{pid}/task/{pid}/children")
    pids = [int(each) for path in found.parent.parent.glob("*/children") for each in path.read_text().split()]
    return [each for each in pids if b"glass.worker" in Path(f"/proc/{each}/cmdline").read_bytes()]


@pytest.mark.slow
def test_a_real_process_is_killed_left_and_orphaned(start_server):
    """Of a real server: what is killed by -9 is told once and then there again, with traces of its own; probes that
    nobody waits for are abandoned, so that the next trace is soon there; /v1 answers meanwhile; and where the server
    itself is killed by -9, no process is left."""
    server = start_server("--glass.budget", str(2**20))
    url = f"{server.url}/glass/api"
    asked = {"model": "tiny", "text": "Anna has a ball."}
    first = CLIENT.post(f"{url}/trace", json=asked, timeout=120).json()
    (pid,) = children_of(server.pid)
    with pytest.raises(httpx.ReadTimeout):
        CLIENT.get(f"{url}/probes/tiny", timeout=httpx.Timeout(20, read=0.5))
    assert CLIENT.post(f"{server.url}/v1/tokenize", json={"model": "tiny", "prompt": "x"}).status_code == 200
    assert CLIENT.post(f"{url}/trace", json=asked, timeout=120).status_code == 200
    assert children_of(server.pid) == [pid]
    large = CLIENT.post(f"{url}/trace", json={**asked, "text": "猫" * 300}, timeout=120)
    assert (large.status_code, large.json()["error"]["code"]) == (507, "memory")
    assert large.json()["error"]["need"] > large.json()["error"]["budget"] == 2**20
    os.kill(pid, signal.SIGKILL)
    assert CLIENT.get(f"{url}/trace/{first['trace']}", timeout=120).json()["error"]["code"] in (
        "worker_died", "trace_expired",
    )  # fmt: skip
    assert CLIENT.post(f"{url}/trace", json=asked, timeout=120).json()["trace"] != first["trace"]
    assert CLIENT.get(f"{url}/trace/{first['trace']}").json()["error"]["code"] == "trace_expired"
    (pid,) = children_of(server.pid)
    server.stop(signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}").exists() or b"glass" not in Path(f"/proc/{pid}/cmdline").read_bytes())
