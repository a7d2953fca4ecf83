"""A server's life, from the port to its exit status: with engines that are none, and as the real command."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from types import SimpleNamespace

import httpx
import pytest

from instar.config import InputError
from instar.serve import server
from instar.serve.gate import GateRules

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Where is the ball?"}], "stream": True}


@pytest.fixture
def lived(make_service, monkeypatch):
    """lived(act, **options of make_service) -> the exit status, and everything else that was seen.

    The server runs here, in the main thread, as signals want it; act(life) runs beside it once it listens. life: url,
    service, opening: an event that lets loading go on, ready: an event, closed: how often the service was closed,
    signal(number), post(): the lines of a streamed answer.
    """

    def live(act, *, ready_first=True, fails=None, **rest):
        listener = server.bind("127.0.0.1", 0)
        life = SimpleNamespace(
            url=server.address(listener), opening=threading.Event(), ready=threading.Event(), closed=0, service=None,
            signal=lambda number=signal.SIGTERM: os.kill(os.getpid(), number), error=None,
        )  # fmt: skip

        async def open_service(options):
            while not (ready_first or life.opening.is_set()):
                await asyncio.sleep(0.01)
            if fails is not None:
                raise fails
            life.loop = asyncio.get_running_loop()
            if "gate" in rest:
                rest["gate"] = life.gate = asyncio.Event()
            life.service = make_service(**rest)
            return life.service

        async def close_service(service):
            life.closed += 1
            await service.desk.fleet.close()

        monkeypatch.setattr(server, "open_service", open_service)
        monkeypatch.setattr("instar.serve.app.close_service", close_service)

        def beside():
            try:
                until(lambda: [signal.getsignal(number) for number in server.SIGNALS] != before)
                if ready_first and fails is None:
                    assert life.ready.wait(10)
                act(life)
            except BaseException as error:  # shown by the test, which runs in the other thread
                life.error = error
                for _ in range(2):
                    if [signal.getsignal(number) for number in server.SIGNALS] != before:
                        life.signal()

        options = make_service().options
        before = [signal.getsignal(number) for number in server.SIGNALS]
        thread = threading.Thread(target=beside, daemon=True)
        thread.start()
        try:
            life.status = server.run(options, GateRules.of(options, ()), listener, lambda service: life.ready.set())
        finally:
            thread.join(20)
            assert [signal.getsignal(number) for number in server.SIGNALS] == before
        if life.error is not None:
            raise life.error
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(listener_address(life.url), timeout=1)
        return life

    return live


def listener_address(url):
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


def streamed(life, said):
    """Read a streamed answer to its end into a list of its events; a refusal is one event."""
    with httpx.stream("POST", f"{life.url}/v1/chat/completions", json=CHAT, timeout=20) as answer:
        if answer.status_code != 200:
            said.append(answer.read())
        for line in answer.iter_lines():
            if line.startswith("data: "):
                said.append(line[6:])


def running(life, count, *, speaks=False):
    """So many streams, each in a thread, once all have reached the engine, or have begun -> threads, what they read."""
    saids = [[] for _ in range(count)]
    threads = [threading.Thread(target=streamed, args=(life, said), daemon=True) for said in saids]
    for thread in threads:
        thread.start()
    until(lambda: all(saids) if speaks else life.service.desk.running == count)
    return threads, saids


LONG = {"says": [70] * 400, "pace": 0.02}  # an answer of seconds


def cut_off(said):
    """An answer that began and was ended by an error event, never by silence."""
    assert len(said) > 1
    return json.loads(said[-1])["error"]["type"] == "server_error"


def until(claim, seconds=10):
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end, "it did not come to be in time"
        time.sleep(0.005)


def go(life):
    life.loop.call_soon_threadsafe(life.gate.set)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_answers_end_before_the_server_does(number, lived):
    """S14: at a signal /ready is 503 at once and new requests are refused, answers on their way are ended, and the exit
    status is 0; the service is closed once."""

    def act(life):
        threads, saids = running(life, 4)
        life.signal(number)
        until(lambda: httpx.get(f"{life.url}/ready").status_code == 503)
        refused = httpx.post(f"{life.url}/v1/chat/completions", json=CHAT)
        assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
        assert httpx.get(f"{life.url}/health").status_code == 200
        go(life)
        for thread in threads:
            thread.join(10)
        for said in saids:
            assert said[-1] == "[DONE]"
            assert json.loads(said[-2])["choices"][0]["finish_reason"] == "stop"

    life = lived(act, gate=True)
    assert (life.status, life.closed) == (0, 1)


def test_answers_that_do_not_end_in_time(lived):
    """S14: what goes on when the time is over gets an error event and never a silent end; the status is still 0."""

    def act(life):
        threads, saids = running(life, 3, speaks=True)
        life.signal()
        for thread in threads:
            thread.join(10)
        assert all(map(cut_off, saids))

    life = lived(act, drain_seconds=0.1, **LONG)
    assert (life.status, life.closed) == (0, 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_stops_at_once(number, lived):
    """S14: whoever presses Ctrl-C twice does not wait; the status tells of the signal, and engines are ended too."""

    def act(life):
        running(life, 2, speaks=True)
        life.signal(number)
        until(lambda: life.service.draining)
        life.began = time.monotonic()
        life.signal(number)

    life = lived(act, **LONG)
    assert time.monotonic() - life.began < 5 < life.service.options.drain_seconds
    assert (life.status, life.closed) == (128 + number, 1)


@pytest.mark.parametrize("stream", [False, True])
def test_requests_that_are_still_being_read(stream, lived, tokenizer):
    """S14: a request that had come before the signal and is still being rendered is answered, and not refused by a desk
    that does not know of it yet; one that comes later is refused."""

    class Slow:
        template = tokenizer.template
        begun, go = threading.Event(), threading.Event()

        async def chat(self, messages, *, tools=None, client=""):
            self.begun.set()
            while not self.go.is_set():
                await asyncio.sleep(0.005)
            return tokenizer.chat(messages, add_generation_prompt=True).ids

    def act(life):
        said = []

        def post():
            said.append(httpx.post(f"{life.url}/v1/chat/completions", json={**CHAT, "stream": stream}, timeout=20))

        thread = threading.Thread(target=post, daemon=True)
        thread.start()
        assert Slow.begun.wait(10)
        life.signal()
        until(lambda: life.service.draining)
        assert httpx.get(f"{life.url}/ready").status_code == 503
        assert "instar_ready 0.0" in httpx.get(f"{life.url}/metrics").text
        assert httpx.post(f"{life.url}/v1/chat/completions", json=CHAT).json()["error"]["code"] == "draining"
        Slow.go.set()
        thread.join(10)
        assert said[0].status_code == 200
        assert '"finish_reason":"stop"' in said[0].text

    life = lived(act, renderer=Slow())
    assert (life.status, life.closed) == (0, 1)


def test_an_idle_server_ends_at_once(lived):
    """S14: nobody waits where there is nothing to wait for, and open connections that ask nothing hold nobody up."""

    def act(life):
        with httpx.Client() as http:
            assert http.get(f"{life.url}/ready").status_code == 200
            life.began = time.monotonic()
            life.signal()
            until(lambda: life.closed, 3)

    assert lived(act).status == 0


def test_while_the_model_is_loaded(lived):
    """S2, S15: a server listens before it has its model, and says 503 with Retry-After until it has."""

    def act(life):
        for path in ("/ready", "/v1/models"):
            answer = httpx.get(life.url + path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "loading")
            assert int(answer.headers["retry-after"]) <= 120
        assert not life.ready.is_set()
        life.opening.set()
        assert life.ready.wait(10)
        assert httpx.get(f"{life.url}/ready").status_code == 200
        life.signal()

    assert lived(act, ready_first=False).status == 0


def test_a_signal_while_the_model_is_loaded(lived):
    """S14: loading is broken off, and nothing is left."""
    life = lived(lambda life: life.signal(), ready_first=False)
    assert (life.status, life.service) == (0, None)


@pytest.mark.parametrize("error", [InputError("no such folder"), OSError(28, "No space left", "x")])
def test_a_model_that_cannot_be_loaded(error, lived):
    """The error comes out as it is, so that the command can name it, and the port is free again."""
    with pytest.raises(type(error)) as found:
        lived(lambda life: None, fails=error)
    assert found.value is error


def test_the_death_of_the_last_engine(lived):
    """S15: clients get an error event, /health is 503, and the server ends with status 1."""

    def act(life):
        threads, saids = running(life, 3, speaks=True)
        life.loop.call_soon_threadsafe(life.service.desk.fleet.kill)
        for thread in threads:
            thread.join(10)
        assert all(map(cut_off, saids))
        assert httpx.get(f"{life.url}/health").status_code == 503

    life = lived(act, **LONG)
    assert (life.status, life.closed) == (1, 1)


def test_a_port_that_is_taken():
    """The error names the port and the remedy, before anything is loaded."""
    with contextlib.closing(server.bind("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} of 127.0.0.1 is taken.*--port 0"):
            server.bind("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "port", "words"),
    [
        ("127.0.0.1", 70000, "from 0 to 65535"), ("127.0.0.1", -1, "from 0 to 65535"),
        ("203.0.113.9", 0, "no address of this machine"), ("no.such.host.invalid", 0, "no name or address"),
        ("a" * 300, 0, "no name or address"),
    ],
)  # fmt: skip
def test_where_it_cannot_listen(host, port, words):
    """Addresses and ports that there are not are named with what was wanted."""
    with pytest.raises(InputError, match=words):
        server.bind(host, port)


@pytest.mark.parametrize(
    ("host", "url"), [("127.0.0.1", "http://127.0.0.1:"), ("0.0.0.0", "http://127.0.0.1:"), ("::1", "http://[::1]:")]
)
def test_where_it_is_found(host, url):
    """What is printed can be called from this machine."""
    try:
        listener = server.bind(host, 0)
    except InputError:
        pytest.skip("this machine has no IPv6")
    with contextlib.closing(listener):
        assert server.address(listener) == f"{url}{listener.getsockname()[1]}"


# --- the real command -------------------------------------------------------------------------------------------------


def children(pid):
    """Processes that a process has started, and those of those."""
    said = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = dict(map(int, line.split()) for line in said.splitlines())
    found = [pid]
    for parent in found:
        found += [child for child, owner in parents.items() if owner == parent]
    return found[1:]


def lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def load(url, count, tokens):
    """So many streams -> threads and what each read: its events, or the error that broke it."""
    saids = [[] for _ in range(count)]

    def one(said):
        body = CHAT | {"max_tokens": tokens, "ignore_eos": True}
        try:
            with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as answer:
                for line in answer.iter_lines():
                    if line.startswith("data: "):
                        said.append(line[6:])
        except httpx.HTTPError as error:
            said.append(error)

    threads = [threading.Thread(target=one, args=(said,), daemon=True) for said in saids]
    for thread in threads:
        thread.start()
    return threads, saids


def figure(url, name):
    """One figure of /metrics."""
    for line in httpx.get(f"{url}/metrics").text.splitlines():
        if line.startswith(f"{name} "):
            return float(line.split()[1])
    return 0.0


@pytest.mark.slow
def test_sigterm_under_load(start_server):
    """S14 of the real command: with 16 streams on their way SIGTERM lets all of them end, leaves no process, and exits
    with 0; the last line on stdout tells what was done."""
    found = start_server("--name", "tiny", "--drain-seconds", "30")
    threads, saids = load(found.url, 16, 200)
    until(lambda: figure(found.url, "instar_requests_running") == 16, 60)
    family = children(found.pid)
    assert family
    assert found.stop(signal.SIGTERM) == 0
    for thread in threads:
        thread.join(10)
    assert [said[-1] for said in saids] == ["[DONE]"] * 16
    until(lambda: not any(map(lives, family)))
    report = json.loads(found.line())
    assert report["statuses"]["200"] >= 16
    assert report["answer_tokens"] > 0


@pytest.mark.slow
def test_an_engine_that_is_killed(start_server):
    """S15 of the real command: kill -9 of the engine under load gives every client an error event, and the server ends
    with 1 and leaves no process."""
    found = start_server("--name", "tiny")
    threads, saids = load(found.url, 8, 400)
    until(lambda: figure(found.url, "instar_requests_running") == 8, 60)
    family = children(found.pid)
    (engine,) = [pid for pid in family if b"instar.serve.worker" in open(f"/proc/{pid}/cmdline", "rb").read()]  # noqa: SIM115
    os.kill(engine, signal.SIGKILL)
    assert found.process.wait(30) == 1
    for thread in threads:
        thread.join(10)
    for said in saids:
        assert json.loads(said[-1])["error"]["type"] == "server_error"
    until(lambda: not any(map(lives, family)))
    assert "engine" in found.log()


@pytest.mark.slow
def test_a_server_that_is_killed_leaves_no_engine(start_server):
    """S14: kill -9 of the server itself ends its engines, which find their socket closed."""
    found = start_server("--name", "tiny")
    family = children(found.pid)
    found.stop(signal.SIGKILL)
    until(lambda: not any(map(lives, family)), 20)


CANARY = "canary7f3a"


@pytest.mark.slow
def test_nothing_of_a_request_is_in_the_log(start_server, folder):
    """S23 of the real command: prompts, answers, keys, headers, paths and what is wrong in a request are searched for
    in all that it wrote, and are not there; nor is the folder of the model."""
    found = start_server("--name", "tiny", env={"INSTAR_API_KEY": f"sk-{CANARY}"})
    with httpx.Client(base_url=found.url, headers={"authorization": f"Bearer sk-{CANARY}"}, timeout=30) as http:
        said = [{"role": "user", "content": f"{CANARY}\r\n\x1b[31m{CANARY}"}]
        good = {"model": "tiny", "messages": said, "max_tokens": 8}
        answer = http.post("/v1/chat/completions", json=good)
        assert answer.status_code == 200
        text = answer.json()["choices"][0]["message"]["content"]
        answers = [
            http.post("/v1/chat/completions", json=good | change)
            for change in (
                {"model": CANARY}, {"model": f"../{CANARY}"}, {"temperature": CANARY}, {CANARY: 1},
                {"stop": [CANARY] * 9}, {"user": CANARY}, {"tools": [{"type": CANARY}]},
                {"response_format": {"type": CANARY}},
                {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": CANARY}}}},
                {"messages": [{"role": CANARY, "content": CANARY}]}, {"seed": CANARY}, {"logit_bias": {CANARY: 1}},
            )
        ]  # fmt: skip
        answers += [
            http.post("/v1/chat/completions", content=f'{{"{CANARY}', headers={"content-type": "application/json"}),
            http.post(f"/v1/{CANARY}", json={}), http.get(f"/{CANARY}?{CANARY}={CANARY}"), http.request(CANARY, "/"),
            http.get(f"/v1/models/{CANARY}"), http.get("/v1/models", headers={"x-request-id": CANARY}),
            http.get("/v1/models", headers={"authorization": f"Bearer {CANARY}"}),
            http.get("/v1/models", headers={"origin": f"http://{CANARY}"}),
            http.get("/v1/models", headers={"host": CANARY}),
            http.post("/v1/chat/completions", content=CANARY, headers={"content-type": CANARY}),
        ]  # fmt: skip
        assert all(answer.status_code < 500 for answer in answers)
    assert found.stop() == 0
    log = found.log()
    for secret in (CANARY, str(folder), folder.name + "/", "Traceback", *([text] if len(text) > 3 else [])):
        assert secret not in log
    assert all(line.isprintable() for line in log.splitlines())
    assert all(isinstance(json.loads(line), dict) for line in log.splitlines())


@pytest.mark.slow
def test_a_full_disk(start_server):
    """A log that cannot be written costs its lines; requests are answered, and the end is as it would be."""
    found = start_server("--name", "tiny", log="/dev/full")
    body = CHAT | {"stream": False, "max_tokens": 4}
    assert httpx.post(f"{found.url}/v1/chat/completions", json=body, timeout=30).status_code == 200
    assert found.stop() == 0
    assert json.loads(found.line())["lines_lost"] > 0
