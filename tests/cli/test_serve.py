"""`instar serve`: what it refuses before it starts, what it says when it answers, and how it ends."""

import builtins
import json
import os
import shlex
import sys
import time
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import pytest

from instar.cli import serve as command
from instar.config import InputError
from instar.config.options import ServeOptions
from instar.serve import server
from instar.serve.wire import Facts

FACTS = Facts(
    speaks=True, reads_source=False, embeds=True, context=4096, longest=4096, width=64, vocab_size=512, start=0,
    weights=123_456_789, weight_bytes=493_827_156, kv_bytes=2_000_000_000, kv_blocks=100, slots=64, device="cpu",
    dtype="float32", fingerprint="0" * 64, tokenizer="", created=0,
)  # fmt: skip


def service(template="{{ x }}", facts=FACTS, names=("demo",), **options):
    """As much of a service as a greeting looks at."""
    return SimpleNamespace(
        options=replace(ServeOptions(model="runs/demo"), **options), facts=facts, models=dict.fromkeys(names),
        renderer=SimpleNamespace(template=template),
    )  # fmt: skip


def refused(result, words):
    """Status 2, one line on stderr with these words, nothing on stdout."""
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith("instar: ")
    assert words in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--host 0.0.0.0", "INSTAR_API_KEY"), ("--host 192.168.7.7", "--insecure"), ("--origins null", "origins=null"),
        ("--port 70000", "port=70000"), ("--host 203.0.113.9 --insecure", "no address of"), ("--queue 0", "queue=0"),
        ("--replicas 0", "replicas=0"), ("--temperature 3", "from 0 to 2"), ("--top-p 1.5", "top_p=1.5"),
        ("--queue-seconds nan", "queue_seconds: found nan"), ("--total-seconds -1", "total_seconds=-1"),
        ("--name ../x?", "cannot be called"),
    ],
)  # fmt: skip
def test_what_is_refused_before_anything_is_loaded(flags, words, cli, monkeypatch):
    """S17: a public address without a key, and what is out of its range, end with 2 at once."""
    monkeypatch.setattr(server, "run", lambda *_: pytest.fail("it started"))
    refused(cli("serve", "--model", "runs/demo", "--port", "0", *flags.split()), words)


def test_without_a_model(cli):
    """The option that is missing is named."""
    refused(cli("serve"), "--model")


def test_a_port_that_is_taken(cli):
    """It is told at once, with the port and the remedy, and nothing is loaded."""
    with closing(server.bind("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        began = time.monotonic()
        refused(cli("serve", "--model", "runs/demo", "--port", port), f"port {port} of 127.0.0.1 is taken")
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn", "prometheus_client"])
def test_a_library_that_is_missing(missing, cli, monkeypatch):
    """The package that brings it is named."""
    imported = builtins.__import__

    def lacking(name, *rest, **more):
        if name.partition(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=missing)
        return imported(name, *rest, **more)

    import instar

    monkeypatch.delattr(instar, "serve", raising=False)
    for name in [name for name in sys.modules if name.startswith("instar.serve")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", lacking)
    refused(cli("serve", "--model", "runs/demo"), f'serve needs {missing}: pip install "instar[serve]"')


def test_a_model_that_cannot_be_loaded(cli, monkeypatch):
    """Its error is told as that of any command, with status 2; the server listened meanwhile and does no more."""

    async def fail(options):
        raise InputError("runs/nothing has no config.json; wanted a run folder")

    monkeypatch.setattr(server, "open_service", fail)
    result = cli("serve", "--model", "runs/nothing", "--port", "0", "--quiet")
    refused(result, "runs/nothing has no config.json")


def test_keys_of_the_environment_are_taken_away(cli, monkeypatch):
    """Keys that the environment gives guard the server; engines and templates never see them."""
    seen = {}

    def run(options, rules, listener, ready):
        seen.update(rules=rules, environment=dict(os.environ))
        listener.close()
        return 0

    monkeypatch.setattr(server, "run", run)
    monkeypatch.setenv("INSTAR_API_KEY", "sk-one sk-two")
    result = cli("serve", "--model", "runs/demo", "--port", "0", "--api-key", "sk-three")
    assert result.status == 0
    assert len(seen["rules"].digests) == 3
    assert "INSTAR_API_KEY" not in seen["environment"]
    assert "sk-" not in result.out + result.err


def test_what_it_says_of_itself():
    """The address, names, memory, context and defaults; nothing of the machine's folders."""
    found = service(names=("demo", "sft"), temperature=0.7, top_p=0.9)
    assert command.greeting(found, "http://127.0.0.1:8000", guarded=False)[:-1] == [
        "http://127.0.0.1:8000/v1 answers as demo, sft",
        "weights   123,456,789 in 493.8 MB of float32 on cpu",
        "keys      2.0 GB, of 64 answers at a time",
        "context   4,096 tokens of prompt and answer",
        "sampling  temperature 0.7, top_p 0.9, where a request does not say",
        "page      http://127.0.0.1:8000/glass/ shows what the model computes",
    ]
    assert "the likeliest token" in command.greeting(service(temperature=0.0), "", guarded=False)[4]
    vectors = command.greeting(service(facts=replace(FACTS, speaks=False)), "", guarded=False)
    assert "vectors   64 wide, of texts of 4,096 tokens at most" in vectors


@pytest.mark.parametrize(
    ("found", "path", "keys"),
    [
        (service(), "chat/completions", {"model", "messages"}), (service(None), "completions", {"model", "prompt"}),
        (service(facts=replace(FACTS, speaks=False)), "embeddings", {"model", "input"}),
    ],
)  # fmt: skip
def test_the_line_to_try(found, path, keys):
    """It asks for what the model can do, and takes a key from the environment."""
    for guarded in (False, True):
        words = shlex.split(command.curl(found, "http://127.0.0.1:8000", guarded=guarded))
        assert words[:2] == ["curl", f"http://127.0.0.1:8000/v1/{path}"]
        assert set(json.loads(words[-1])) == keys
        assert ("Authorization: Bearer $INSTAR_API_KEY" in words) == guarded


@pytest.fixture
def short(monkeypatch):
    """A server that answers and ends at once."""

    def run(options, rules, listener, ready):
        ready(service())
        listener.close()
        return 0

    monkeypatch.setattr(server, "run", run)


def test_a_life_for_people(short, cli):
    """Lines on stderr, the first before the model is loaded, the last when all is over; --quiet leaves nothing."""
    result = cli("serve", "--model", "runs/demo", "--port", "0")
    lines = result.err.splitlines()
    assert (result.status, result.out) == (0, "")
    assert lines[0].endswith(" loads demo")
    assert lines[-2].startswith("try ")
    assert lines[-1] == "ended after 0 s; requests: none; tokens read 0, said 0"
    result = cli("serve", "--model", "runs/demo", "--port", "0", "--quiet")
    assert (result.status, result.out, result.err) == (0, "", "")


def test_a_life_for_programs(short, capsys):
    """With --json: the address and the process when it answers, a report when it has ended, and a log of JSON lines."""
    assert command.serve(["--model", "runs/demo", "--port", "0", "--json"]) == 0
    out, err = capsys.readouterr()
    first, last = map(json.loads, out.splitlines())
    assert first["url"].startswith("http://127.0.0.1:")
    assert first["pid"] == os.getpid()
    assert (last["status"], last["requests"], last["lines_lost"]) == (0, 0, 0)
    assert all("message" in json.loads(line) for line in err.splitlines())
