"""`instar bench decode` and `instar bench serve`."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from instar.eval.limits import Limits

SHORT = ("--streams", "1", "2", "--prompt", "8", "--new", "12", "--repeats", "1")


@pytest.fixture(autouse=True)
def known_limits(monkeypatch):
    """A machine whose limits need no measuring."""
    limits = Limits(1e10, dict.fromkeys(("fp32", "bf16", "fp16"), 1e11))
    monkeypatch.setattr("instar.eval.limits.measure_limits", lambda device: limits)


def test_folder(grown, cli):
    """A row for each number of streams, for machines and for people."""
    report = cli("bench", "decode", "--model", grown.base, *SHORT, "--json").json
    assert [speed["streams"] for speed in report["speeds"]] == [1, 2]
    assert all(speed["rate"] > 0 and 0 < speed["rate_share"] < 1 for speed in report["speeds"])
    assert report["dtype"] == "fp32"
    assert report["weight_bytes"] == 4 * report["weights"]
    assert report["peak_bytes"] > report["weight_bytes"]
    shown = cli("bench", "decode", "--model", grown.base, *SHORT)
    assert shown.status == 0
    rows = [line.split() for line in shown.out.splitlines()]
    assert [row[0] for row in rows if row and row[0] in ("1", "2")] == ["1", "2"]
    assert "10.0 GB/s" in shown.out


def test_preset(cli):
    """A named shape needs no folder and no tokenizer, and takes the precision that is asked for."""
    report = cli("bench", "decode", "--preset", "t5-nano", *SHORT, "--dtype", "bf16", "--json").json
    assert report["dtype"] == "bf16"
    assert report["weight_bytes"] == 2 * report["weights"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "neither --model nor --preset"),
        (("--preset", "nano", "--model", "x"), "both --model and --preset"),
        (("--preset", "nanoo"), "nano"),
        (("--model", "nowhere"), "nowhere"),
        (("--preset", "bert-nano"), "decoder"),
        (("--preset", "nano", "--streams", "0"), "streams=(0,)"),
        (("--preset", "nano", "--streams"), "streams=()"),
        (("--preset", "nano", "--new", "1"), "new=1, wanted at least 2"),
        (("--preset", "nano", "--prompt", "0"), "prompt=0"),
        (("--preset", "nano", "--repeats", "0"), "repeats=0"),
        (("--preset", "nano", "--prompt", "2000"), "1024"),
    ],
)
def test_wrong(cli, words, said):
    """What cannot be measured is said in one line."""
    result = cli("bench", "decode", *words)
    assert (result.status, result.out) == (2, "")
    assert said in result.err
    assert result.err.count("\n") == 1


def test_too_large(cli, monkeypatch):
    """A shape that memory cannot hold is refused before its weights are drawn."""
    monkeypatch.setattr("instar.hub.memory.free_bytes", lambda device: 1 << 20)
    result = cli("bench", "decode", "--preset", "nano", *SHORT)
    assert result.status == 2
    assert "GB" in result.err


class Chat(BaseHTTPRequestHandler):
    """A server with one model that says three texts, and wants the key it is given; every fifth answer is a 429."""

    key, asked = "", 0

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.send(401 if self.key not in self.headers.get("authorization", "") else 200, {"data": [{"id": "tiny"}]})

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        type(self).asked += 1
        if self.asked % 5 == 0:
            self.send(429, {"error": {"message": "busy"}})
            return
        self.send_response(200)
        self.end_headers()
        for text, finish in [("a", None), ("b", None), ("c", "length")]:
            choice = {"delta": {"content": text}, "finish_reason": finish}
            self.wfile.write(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n")

    def send(self, status, body):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())


@pytest.fixture
def chat(monkeypatch):
    """Its address."""
    monkeypatch.setattr(Chat, "asked", 0)
    monkeypatch.delenv("INSTAR_API_KEY", raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Chat) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_server(cli, chat):
    """A row for each number of streams, for machines and for people; what failed is counted and said."""
    words = ("bench", "serve", "--url", chat, "--streams", "1", "2", "--requests", "6", "--new", "3")
    report = cli(*words, "--json").json
    assert [row["streams"] for row in report["rows"]] == [1, 2]
    assert all(row["whole"] + sum(row["faults"].values()) == 6 and row["rate"] > 0 for row in report["rows"])
    assert sum(row["faults"].get("429", 0) for row in report["rows"]) >= 2
    assert report["rows"][0]["tokens"] == 3
    shown = cli(*words)
    assert shown.status == 0
    assert "failed with 2 streams: 429" in shown.out
    assert "does not tell tokens" in shown.out
    assert len([line for line in shown.out.splitlines() if line.split()[:1] in (["1"], ["2"])]) >= 2


def test_server_wants_a_key(cli, chat, monkeypatch):
    """The key comes from the environment, or as an option, and its want is said."""
    monkeypatch.setattr(Chat, "key", "sesame")
    words = ("bench", "serve", "--url", chat, "--streams", "1", "--requests", "1", "--json")
    assert "INSTAR_API_KEY" in cli(*words).err
    assert cli(*words, "--api-key", "sesame").json["model"] == "tiny"
    monkeypatch.setenv("INSTAR_API_KEY", "sesame other")
    assert cli(*words).json["model"] == "tiny"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--url", "http://127.0.0.1:1"), "nothing answers at http://127.0.0.1:1/v1"),
        (("--url", "here"), "url=here"),
        (("--streams", "0"), "streams=(0,)"),
        (("--new", "0"), "new=0"),
        (("--requests", "-1"), "requests=-1"),
        (("--timeout", "0"), "timeout=0"),
    ],
)
def test_no_server(cli, words, said):
    """What cannot be measured is said in one line."""
    result = cli("bench", "serve", *words)
    assert (result.status, result.out) == (2, "")
    assert said in result.err
    assert result.err.count("\n") == 1
