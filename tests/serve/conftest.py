"""A server at every depth: a fleet without torch that says what it is told, the application of it in a thread, and the
real command in a process of its own."""

import asyncio
import base64
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from instar.config import InputError
from instar.config.options import ServeOptions
from instar.serve.desk import Desk
from instar.serve.failure import from_input_error
from instar.serve.metrics import Metrics
from instar.serve.service import Card, Service
from instar.serve.turns import tools_read, turns
from instar.serve.wire import Ask, Beat, Cancel, Embed, Facts, Failed, Refused, Score, Scored, Taken, Told, Vectors
from instar.text.tokenizer import Tokenizer

TEXTS = [
    "Anna had a red ball. She gave the ball to Tom. Tom said thank you and ran home with the ball.\n" * 4,
    'The quick brown fox jumps over the lazy dog; 0123456789 times?! {"name": [1, 2.5, true, null]}\n' * 2,
    "王明有一个红色的球。球在花园里。\n" * 2,
]
READY = 120  # seconds that a server has to load on a busy machine


@pytest.fixture(scope="session")
def tokenizer():
    """ChatML, barely merged: a Chinese character or an emoji is several tokens."""
    return Tokenizer.train(TEXTS, 384)


@pytest.fixture(scope="session")
def folder(tokenizer, tmp_path_factory):
    """The folder of a tiny chat model whose weights are random: a real engine answers nonsense, as varied as can be."""
    return make_folder(tokenizer, tmp_path_factory.mktemp("served") / "tiny")


def make_folder(tokenizer, path, seed=3, **changes):
    """A folder with a tiny model; its logits have a standard deviation above 1."""
    import torch

    from instar.config import ModelConfig
    from instar.hub.folders import save
    from instar.model.transformer import Transformer

    shape = dict(d_model=32, layers=2, heads=2, max_positions=1024, tied=False) | changes
    model = Transformer(ModelConfig(vocab_size=tokenizer.vocab_size, **shape), seed=seed)
    with torch.no_grad():
        if "lm" in model.heads:
            model.heads["lm"].weight *= 20
    save(model, tokenizer, path)
    return path


def facts_of(tokenizer, **changes):
    """What an engine of a tiny model tells of itself."""
    facts = Facts(
        speaks=True, reads_source=False, embeds=True, context=512, longest=512, width=8,
        vocab_size=tokenizer.vocab_size, start=0, weights=1000, weight_bytes=4000, kv_bytes=2**20, kv_blocks=64,
        slots=8, device="cpu", dtype="float32", fingerprint="0123456789abcdef" * 4, tokenizer="", created=1700000000,
    )  # fmt: skip
    return replace(facts, **changes)


class FakeFleet:
    """Engines without torch: what `says` gives for an Ask is said token by token.

    says: ids; or a mapping from prompts, as tuples of ids, to ids; or a function of the Ask. In the place of ids may
    stand a Refused or a Failed, which is sent instead (its id is filled in). An answer that is shorter than
    max_new_tokens is ended by a stop. pace: seconds between tokens. gate: an asyncio.Event without which no token
    comes. told: all messages in order; cancelled: ids of requests that were given up while they ran.
    """

    def __init__(self, says, facts, *, count=1, pace=0.0, gate=None, cached=0):
        self.says, self.facts, self.count, self.pace, self.gate, self.cached = says, facts, count, pace, gate, cached
        self.desk = None
        self.told, self.cancelled = [], set()
        self.running = {}  # id of a request -> (engine, task)
        self.alive = set(range(count))
        self.dead = asyncio.Event()
        self.beats = {engine: Beat(0, 0, facts.kv_blocks, facts.kv_blocks, 2**26, 0) for engine in range(count)}
        self.silent = False  # as if the engines' loops hung

    @property
    def heard_at(self):
        now = asyncio.get_running_loop().time()
        return dict.fromkeys(range(self.count), now - 1000 * self.silent)

    async def start(self):
        return self.facts

    async def close(self):
        for _, task in list(self.running.values()):
            task.cancel()
        self.alive.clear()

    def living(self):
        return sorted(self.alive)

    def kill(self, engine=0):
        """The engine's process ends, as by kill -9."""
        self.alive.discard(engine)
        for id, (owner, task) in list(self.running.items()):
            if owner == engine:
                task.cancel()
                del self.running[id]
        self.desk.lost(engine)
        if not self.alive:
            self.dead.set()

    def tell(self, engine, message):
        self.told.append(message)
        if engine not in self.alive:
            return
        if isinstance(message, Cancel):
            entry = self.running.pop(message.id, None)
            if entry is not None:
                self.cancelled.add(message.id)
                entry[1].cancel()
                self._say(engine, message.id, None, "cancelled")
        elif isinstance(message, Ask):
            self.running[message.id] = engine, asyncio.get_running_loop().create_task(self._answer(engine, message))
        elif isinstance(message, Embed | Score):
            asyncio.get_running_loop().call_soon(self._measure, engine, message)

    def _said(self, ask):
        if callable(self.says):
            return self.says(ask)
        return self.says[tuple(ask.prompt)] if isinstance(self.says, dict) else self.says

    async def _answer(self, engine, ask):
        said = self._said(ask)
        if isinstance(said, Refused | Failed):
            self.running.pop(ask.id, None)
            self.desk.heard(engine, replace(said, id=ask.id))
            return
        self.desk.heard(engine, Taken(ask.id))
        room = min(ask.options.max_new_tokens, self.facts.context - len(ask.prompt))
        said = list(said)
        for number, id in enumerate(said[:room]):
            if self.gate is not None:
                await self.gate.wait()
            await asyncio.sleep(self.pace)
            if ask.id not in self.running:
                return
            last = number + 1 == room
            if last:
                self.running.pop(ask.id)
            self._say(engine, ask.id, id, "length" if last else None, ask.options.top_logprobs, first=number == 0)
            if last:
                return
        if self.running.pop(ask.id, None) is not None:
            self._say(engine, ask.id, None, "stop", first=not said)

    def _say(self, engine, id, token, finish, top=0, first=False):
        size = self.facts.vocab_size
        others = (
            [[token, -0.5], *([(token + n) % size, -1.0 - n] for n in range(1, top))]
            if top and token is not None
            else None
        )
        event = [id, token, -0.5 if token is not None else 0.0, finish, others, self.cached if first else 0]
        self.desk.heard(engine, Told([event]))

    def _measure(self, engine, message):
        if isinstance(message, Score):
            places = len(message.ids) - 1
            tops = [[[id, -0.25], *([n, -3.0] for n in range(message.top - 1))] for id in message.ids[1:]]
            answer = Scored(message.id, [-0.25] * places, tops if message.top else [])
        else:
            rows = np.stack([vector(row, self.facts.width) for row in message.rows])
            answer = Vectors(message.id, base64.b64encode(rows.astype("<f4").tobytes()).decode(), self.facts.width)
        self.desk.heard(engine, answer)


def vector(ids, width):
    """What the fake engines give as the vector of a text: of length one, and another for other ids."""
    row = np.cos(np.arange(1, width + 1) * (1 + sum((n + 1) * id for n, id in enumerate(ids)) % 97))
    return (row / np.linalg.norm(row)).astype(np.float32)


class PlainRenderer:
    """Renders in this process what the real one renders in another."""

    def __init__(self, tokenizer):
        self.tokenizer, self.template = tokenizer, tokenizer.template

    async def start(self):
        pass

    async def chat(self, messages, *, tools=None, client=""):
        try:
            tools = tools_read(tools) if tools else None
            return self.tokenizer.chat(turns(messages), add_generation_prompt=True, tools=tools).ids
        except InputError as error:
            raise from_input_error(error, "messages") from None

    async def close(self):
        pass


@pytest.fixture
def make_service(tokenizer):
    """make_service(says, fleet=..., facts={...}, renderer=..., adapters=(names), gate=..., pace=..., count=..., and
    options of ServeOptions) -> a Service without torch; `says` is FakeFleet's, and its default says "Anna had a red
    ball." The fleet is service.desk.fleet."""
    pools = []

    def make(says=None, *, fleet=None, facts=None, renderer=None, adapters=(), tokenizer=tokenizer, **rest):
        own = {name: rest.pop(name) for name in ("gate", "pace", "count", "cached") if name in rest}
        options = replace(ServeOptions(model="runs/tiny", name="tiny", port=0), **rest)
        if fleet is None:
            says = tokenizer.encode("Anna had a red ball.") if says is None else says
            fleet = FakeFleet(says, facts_of(tokenizer, **{"adapters": list(adapters), **(facts or {})}), **own)
        metrics = Metrics()
        desk = Desk(fleet, metrics, options)
        pools.append(ThreadPoolExecutor(2))
        cards = [Card(options.name, "", fleet.facts.created)]
        cards += [Card(name, name, fleet.facts.created, options.name) for name in adapters]
        return Service(
            options=options, tokenizer=tokenizer, models={card.name: card for card in cards}, facts=fleet.facts,
            desk=desk, renderer=renderer or PlainRenderer(tokenizer), metrics=metrics, threads=pools[-1],
        )  # fmt: skip

    yield make
    for pool in pools:
        pool.shutdown(wait=False, cancel_futures=True)


class Hosted:
    """An application behind uvicorn in a thread of its own; loop: where its coroutines run."""

    def __init__(self, app):
        import uvicorn

        config = uvicorn.Config(
            app, host="127.0.0.1", port=0, log_level="warning", lifespan="on", http="h11", timeout_graceful_shutdown=1
        )  # fmt: skip
        self.server, self.loop = uvicorn.Server(config), None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive(), "the application did not start"
            time.sleep(0.005)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def _run(self):
        async def serve():
            self.loop = asyncio.get_running_loop()
            await self.server.serve()

        asyncio.run(serve())

    def call(self, work, *arguments):
        """Run work(*arguments) on the server's loop, and wait for what it gives (or awaits)."""

        async def calling():
            result = work(*arguments)
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(calling(), self.loop).result(30)

    def close(self, seconds=10):
        self.server.should_exit = True
        self.thread.join(seconds)


@pytest.fixture
def serve_here():
    """serve_here(service, rules=None, glass=None) -> Hosted: its url has the application behind real HTTP, in this
    process; glass: options with which the glass box is on."""
    hosted = []

    def serve(service, rules=None, glass=None):
        from instar.serve.app import create_app

        hosted.append(Hosted(create_app(service=service, rules=rules, glass=glass)))
        return hosted[-1]

    yield serve
    for each in hosted:
        each.close(0)  # uvicorn looks ten times a second whether it should end, which no test need wait for


class Started:
    """A real `instar serve` in a process of its own. url, pid: as it said; lines: what it wrote since, as a queue;
    log(): all that it wrote on stderr."""

    def __init__(self, folder, flags, log, env=None):
        self.path = log
        command = [
            sys.executable,
            "-c",
            "from instar.cli import main; main()",
            "serve",
            "--model",
            str(folder),
            "--port",
            "0",
            "--json",
            "--engine.no-tune",  # a model so small has nothing to measure
            *flags,
        ]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", **(env or {})}
        with open(log, "wb") as file:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, env=env, text=True)
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            ready = self.line(READY)
            assert ready is not None, f"the server ended: {self.log()}"
            self.ready = json.loads(ready)
        except BaseException:
            self.process.kill()
            raise
        self.url, self.pid = self.ready["url"].removesuffix("/v1").rstrip("/"), self.ready["pid"]

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def line(self, seconds=30):
        """The next line on stdout; None where it has ended."""
        return self.lines.get(timeout=seconds)

    def log(self):
        return Path(self.path).read_text(errors="replace")

    def stop(self, signal=signal.SIGTERM, seconds=45):
        """Send a signal -> the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


@pytest.fixture
def start_server(folder, tmp_path):
    """start_server(*flags, model=folder, env=None, log=a file) -> Started; stopped when the test ends."""
    started = []

    def start(*flags, model=folder, env=None, log=None):
        log = log or tmp_path / f"server-{len(started)}.log"
        started.append(Started(model, [str(flag) for flag in flags], log, env))
        return started[-1]

    yield start
    for each in started:
        each.stop(signal.SIGKILL if each.process.poll() is None else signal.SIGTERM)


@pytest.fixture(scope="session")
def server(folder, tmp_path_factory):
    """One real server for all tests that leave it as it was: the tiny model under the name tiny."""
    started = Started(folder, ["--name", "tiny"], tmp_path_factory.mktemp("server") / "server.log")
    yield started
    started.stop()


@pytest.fixture
def sdk():
    """sdk(url or Hosted or Started, **options) -> an openai client of it, which tries once."""
    import openai

    clients = []

    def make(where, **options):
        url = f"{getattr(where, 'url', where)}/v1"
        clients.append(openai.OpenAI(**{"base_url": url, "api_key": "none", "max_retries": 0, **options}))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def told():
    """told(fleet, kind) -> what a fake fleet was told of that kind of message."""

    def of(fleet, kind):
        return [message for message in fleet.told if isinstance(message, kind)]

    return of


@pytest.fixture
def fake_fleet(tokenizer):
    """fake_fleet(says, facts={...}, ...) -> a FakeFleet."""

    def make(says=(), *, facts=None, **rest):
        return FakeFleet(says, facts_of(tokenizer, **(facts or {})), **rest)

    return make


class Scripted:
    """A server that answers byte for byte what a script gives: script(method, path, body) -> bytes that are sent,
    numbers of seconds to wait in between, or events to wait for; then it hangs up. heard: (method, path, headers, body)
    of each request; most: how many were open at a time."""

    def __init__(self, script):
        self.script, self.heard, self.open, self.most = script, [], 0, 0

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_):
        self.server.close()

    async def _answer(self, reader, writer):
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            method, path, _ = first.split(" ")
            headers = dict(line.lower().split(": ", 1) for line in lines if line)
            sent = await reader.readexactly(int(headers.get("content-length", 0)))
            self.heard.append((method, path, headers, json.loads(sent) if sent else None))
            for said in self.script(method, path, self.heard[-1][3]):
                if isinstance(said, bytes):
                    writer.write(said)
                    await writer.drain()
                else:
                    await (said.wait() if isinstance(said, asyncio.Event) else asyncio.sleep(said))
        except ConnectionError:
            pass  # the client has left
        finally:
            self.open -= 1
            writer.close()


@pytest.fixture
def scripted():
    """scripted(script) -> a server that says what it is told to: async with scripted(...) as server."""
    return Scripted


@pytest.fixture(scope="session")
def launch():
    """launch(folder, flags, log, env=None) -> Started, which the caller stops."""
    return Started


@pytest.fixture(scope="session")
def build():
    """build(tokenizer, path, seed=3, **shape) -> path, the folder of a tiny model with random weights."""
    return make_folder
