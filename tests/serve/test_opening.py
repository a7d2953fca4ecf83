"""From options to a service that can answer, and back to nothing."""

import asyncio
import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from instar.config import InputError
from instar.config.options import ServeOptions
from instar.serve import opening
from instar.serve.opening import cards_of, close_service, open_service
from instar.serve.service import Card
from instar.serve.wire import Facts

FACTS = Facts(
    speaks=True, reads_source=False, embeds=True, context=64, longest=64, width=4, vocab_size=320, start=-1, weights=1,
    weight_bytes=4, kv_bytes=4, kv_blocks=4, slots=2, device="cpu", dtype="float32", fingerprint="abcdef0123456789",
    tokenizer="", created=7,
)  # fmt: skip


class Quiet:
    """In the place of a fleet or a renderer: it says whether it was closed."""

    def __init__(self, about, **limits):
        self.about, self.closed, self.desk, self.facts = about, False, None, FACTS

    async def start(self):
        return self.facts

    async def close(self):
        self.closed = True


@pytest.fixture
def quiet(monkeypatch, folder):
    """The fleet and the renderer that were made, which start no process."""
    made = []

    def make(about, **limits):
        made.append(Quiet(about, **limits))
        made[-1].facts = replace(FACTS, tokenizer=str(folder))
        return made[-1]

    monkeypatch.setattr(opening, "Fleet", make)
    monkeypatch.setattr(opening, "Renderer", make)
    return made


def test_a_service_opens_and_closes(quiet, folder, tokenizer):
    """What engines tell of themselves becomes the service; nothing is left when it closes."""

    async def run():
        service = await open_service(ServeOptions(model=str(folder), name="mine"))
        assert service.tokenizer.fingerprint == tokenizer.fingerprint
        assert service.fingerprint == "fp_abcdef012345"
        assert list(service.models) == ["mine"]
        assert service.desk.fleet is quiet[0]
        assert str(quiet[1].about) == str(folder)
        assert await service.in_thread(threading.get_ident) != threading.get_ident()
        await close_service(service)
        assert all(each.closed for each in quiet)
        with pytest.raises(RuntimeError):
            await service.in_thread(len, "a")

    asyncio.run(run())


def test_a_service_that_cannot_open_leaves_nothing(quiet, tmp_path, monkeypatch):
    """Where the front fails behind engines that have loaded, they are ended."""

    async def fail(self):
        raise InputError("no renderer")

    async def run():
        with pytest.raises(InputError, match="no renderer"):
            await open_service(ServeOptions(model="runs/x"))

    monkeypatch.setattr(opening, "Renderer", type("Broken", (Quiet,), {"start": fail}))
    asyncio.run(run())
    assert quiet[0].closed


def test_names_are_refused_before_anything_is_loaded(quiet):
    """No engine is started for options that cannot be."""
    with pytest.raises(InputError, match="adapters"):
        asyncio.run(open_service(ServeOptions(model="runs/x", adapters=("nothing",))))
    assert not quiet


def test_models_have_cards(tmp_path):
    """S20: names are keys: of the folder first, of its base where it holds an adapter, and of the adapters."""
    (tmp_path / "dpo").mkdir()
    os.utime(tmp_path / "dpo", (99, 99))
    options = ServeOptions(model="runs/demo", adapters=("sft=hf:org/sft", f"dpo={tmp_path / 'dpo'}"))
    assert cards_of(options, FACTS) == {
        "demo": Card("demo", "", 7),
        "sft": Card("sft", "sft", 7, "demo"),
        "dpo": Card("dpo", "dpo", 99, "demo"),
    }
    assert cards_of(ServeOptions(model="runs/sft"), replace(FACTS, base="demo")) == {
        "sft": Card("sft", "sft", 7, "demo"),
        "demo": Card("demo", "", 7),
    }
    assert list(cards_of(ServeOptions(model="runs/demo"), replace(FACTS, base="demo"))) == ["demo", "demo-base"]


def engines(pid):
    """The engines of a server: its children that are no renderers."""
    children = Path(f"/proc/{pid}/task").glob("*/children")
    pids = [int(each) for path in children for each in path.read_text().split()]
    return [each for each in pids if b"instar.serve.worker" in Path(f"/proc/{each}/cmdline").read_bytes()]


def read(url, new, begun):
    """The data of a streamed answer; what ends it is the last. begun: set with the first."""
    body = {"model": "tiny", "prompt": "Anna", "stream": True, "max_tokens": new, "ignore_eos": True}
    found = []
    with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=60) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            if line.startswith("data: "):
                found.append(line.removeprefix("data: "))
                begun.set()
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked for in /proc")
def test_kill_9_of_the_only_engine_ends_the_server(start_server):
    """S15: whoever waits is told by an error event, then the server ends with 1 and leaves no process."""
    server = start_server("--name", "tiny")
    begun = threading.Event()
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(read, server.url, 900, begun)
        assert begun.wait(30)
        (engine,) = engines(server.pid)
        os.kill(engine, signal.SIGKILL)
        last = json.loads(answer.result(30)[-1])
    assert last["error"]["type"] == "server_error"
    assert set(last["error"]) == {"message", "type", "param", "code"}
    assert server.process.wait(30) == 1


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked for in /proc")
def test_kill_9_of_one_of_two_engines_is_survived(start_server):
    """S15: answers of the other go on to their end, new ones are taken at once, and the dead one comes back."""
    server = start_server("--name", "tiny", "--replicas", 2)
    begun = [threading.Event() for _ in range(4)]
    with ThreadPoolExecutor() as pool:
        answers = [pool.submit(read, server.url, 600, each) for each in begun]
        assert all(each.wait(30) for each in begun)
        first, second = engines(server.pid)
        os.kill(first, signal.SIGKILL)
        lasts = [answer.result(60)[-1] for answer in answers]
    assert lasts.count("[DONE]") == 2
    assert all(last == "[DONE]" or json.loads(last)["error"]["code"] for last in lasts)
    assert read(server.url, 4, threading.Event())[-1] == "[DONE]"
    assert httpx.get(f"{server.url}/health").status_code == 200
    end = time.monotonic() + 60
    while len(engines(server.pid)) < 2:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert second in engines(server.pid)
    assert server.stop() == 0
