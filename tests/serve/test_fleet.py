"""Engines as processes: what is told arrives, and what becomes of those that die, and of those whose front does."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from instar.config import InputError
from instar.config.errors import Failed as Broken
from instar.config.options import SamplingOptions, ServeOptions
from instar.serve import fleet as module
from instar.serve.fleet import Fleet, environment
from instar.serve.wire import Ask, Facts, Told

# An engine that imports nothing of ours, to be quick: it repeats the first id of each prompt, and dies of 13.
ENGINE = """
import json, os, socket, sys, time

line = socket.socket(fileno=int(sys.argv[1]))
lines = line.makefile("rb")
start = json.loads(lines.readline())[1]
weights, room = start["options"]["model"], {}
tell = lambda kind, fields: line.sendall(json.dumps([kind, fields]).encode() + b"\\n")
if not os.path.isfile(weights):
    tell("failed", {"id": -1, "message": "no such folder: look for another"})
    sys.exit(2)
fingerprint = open(weights).read()
if fingerprint == "dies":
    os._exit(9)
if fingerprint == "hangs":
    time.sleep(60)
scarce = f"{weights}.{start['number']}"
if os.path.isfile(scarce):
    room = json.load(open(scarce))
    os.unlink(scarce)
tell("facts", FACTS | {"fingerprint": fingerprint} | room)
tell("beat", {"running": 0, "waiting": 0, "kv_free": 4, "kv_total": 4, "rss": 1, "steps": 0})
for kind, fields in map(json.loads, lines):
    if kind != "ask":
        continue
    first = fields["prompt"][0]
    if first == 13:
        os._exit(1)
    if first == 16:
        time.sleep(60)
    if first == 14:
        line.sendall(b"nonsense\\n")
    if first == 15:
        line.shutdown(socket.SHUT_RDWR)
        time.sleep(60)
    tell("told", {"events": [[fields["id"], first, 0.0, "length", None, 0]]})
"""
FACTS = Facts(True, False, True, 64, 64, 4, 99, 0, 1, 4, 4, 4, 2, "cpu", "float32", "", "words", 7)


class Desk:
    """Keeps what it hears, and lets tests wait for it."""

    def __init__(self, fleet):
        self.told, self.gone, self.changed = {}, [], asyncio.Event()
        fleet.desk = self

    def heard(self, engine, message):
        if isinstance(message, Told):
            self.told |= {id: token for id, token, *_ in message.events}
        self.changed.set()

    def lost(self, engine):
        self.gone.append(engine)
        self.changed.set()

    async def until(self, true):
        async with asyncio.timeout(20):
            while not true():
                self.changed.clear()
                await asyncio.wait([asyncio.ensure_future(self.changed.wait())], timeout=0.02)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """What the engines load: a file with their fingerprint. They are started again without a pause."""
    script, found = tmp_path / "engine.py", tmp_path / "weights"
    script.write_text(f"FACTS = {vars(FACTS)}\n{ENGINE}")
    found.write_text("one")
    monkeypatch.setattr(module, "PROGRAM", ("-I", "-S", str(script)))
    monkeypatch.setattr(module, "PAUSE", 0.0)
    return found


@pytest.fixture
def processes(monkeypatch):
    """Every process that was started."""
    started, popen = [], subprocess.Popen

    def start(*arguments, **options):
        started.append(popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(module.subprocess, "Popen", start)
    yield started
    assert all(process.poll() is not None for process in started), "an engine was left behind"


@asynccontextmanager
async def open_fleet(weights, **options):
    fleet = Fleet(ServeOptions(model=str(weights), **options))
    await fleet.start()
    try:
        yield fleet, Desk(fleet)
    finally:
        await fleet.close()


def ask(id, first):
    return Ask(id, [first], SamplingOptions(), 0)


def test_what_is_told_is_heard(weights, processes):
    """Each of two engines answers what it was told, both have beaten, and none is left when the fleet closes."""

    async def run():
        async with open_fleet(weights, replicas=2) as (fleet, desk):
            assert (fleet.facts.fingerprint, fleet.count, fleet.living()) == ("one", 2, [0, 1])
            fleet.tell(0, ask(5, 50))
            fleet.tell(1, ask(6, 60))
            await desk.until(lambda: len(desk.told) == 2 and len(fleet.beats) == 2)
            assert desk.told == {5: 50, 6: 60}
            assert set(fleet.heard_at) == {0, 1}
            assert not desk.gone
        assert fleet.living() == []

    asyncio.run(run())
    assert len(processes) == 2


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [(None, InputError, "look for another"), ("dies", Broken, "engine . ended with status 9 while it loaded")],
)
def test_a_fleet_that_cannot_load_says_why(weights, processes, text, kind, message):
    """The engine's own words where it has some, else how it ended; the other engines end too."""
    weights.unlink() if text is None else weights.write_text(text)
    with pytest.raises(kind, match=message):
        asyncio.run(Fleet(ServeOptions(model=str(weights), replicas=2)).start())
    assert len(processes) == 2


def test_loading_can_be_broken_off(weights, processes):
    """Whoever stops the server while it loads waits for nothing, and no engine is left."""
    weights.write_text("hangs")

    async def run():
        task = asyncio.ensure_future(Fleet(ServeOptions(model=str(weights), replicas=2)).start())
        while len(processes) < 2:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    began = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - began < 10


def test_kill_9_of_the_only_engine_ends_the_fleet(weights, processes):
    """S15: its requests are given up at once, and the fleet is dead: the server ends."""

    async def run():
        async with open_fleet(weights) as (fleet, desk):
            os.kill(fleet.pids()[0], signal.SIGKILL)
            await asyncio.wait_for(fleet.dead.wait(), 10)
            assert (desk.gone, fleet.living(), fleet.beats) == ([0], [], {})
            fleet.tell(0, ask(1, 1))  # to nobody

    asyncio.run(run())
    assert len(processes) == 1


@pytest.mark.parametrize("first", [13, 14, 15])
def test_an_engine_that_only_stops_making_sense_is_ended(weights, processes, monkeypatch, first):
    """S12: a request that ends it, one by which it talks nonsense, and one by which it falls silent for good: it is
    lost, and its process does not stay."""
    monkeypatch.setattr(module, "PATIENCE", 0.1)

    async def run():
        async with open_fleet(weights) as (fleet, desk):
            fleet.tell(0, ask(1, first))
            await asyncio.wait_for(fleet.dead.wait(), 10)
            assert desk.gone == [0]
        assert processes[0].poll() is not None

    asyncio.run(run())


def test_kill_9_of_one_of_two_engines_is_survived(weights, processes):
    """S15: the other goes on, the dead one is started again and answers."""

    async def run():
        async with open_fleet(weights, replicas=2) as (fleet, desk):
            first = fleet.pids()[0]
            os.kill(first, signal.SIGKILL)
            await desk.until(lambda: desk.gone)
            fleet.tell(1, ask(1, 11))
            await desk.until(lambda: 1 in desk.told and fleet.living() == [0, 1])
            assert fleet.pids()[0] != first
            fleet.tell(0, ask(2, 22))
            await desk.until(lambda: 2 in desk.told)
            assert (desk.gone, desk.told) == ([0], {1: 11, 2: 22})
            assert not fleet.dead.is_set()

    asyncio.run(run())
    assert len(processes) == 3


def test_an_engine_that_dies_again_and_again_is_given_up(weights, processes, monkeypatch):
    """A request that kills engines costs each of them so many lives; the fleet is dead when none has any left."""
    monkeypatch.setattr(module, "DEATHS", 3)

    async def run():
        async with open_fleet(weights, replicas=2) as (fleet, desk):
            for engine in (0, 1):
                for death in range(3):
                    await desk.until(lambda engine=engine: engine in fleet.living())
                    assert not fleet.dead.is_set()
                    fleet.tell(engine, ask(death, 13))
                    await desk.until(lambda engine=engine, death=death: desk.gone.count(engine) > death)
            await asyncio.wait_for(fleet.dead.wait(), 10)

    asyncio.run(run())
    assert len(processes) == 6


def test_an_engine_with_other_weights_is_not_taken_back(weights, processes):
    """Where the folder has changed meanwhile, answers would depend on which engine gives them."""

    async def run():
        async with open_fleet(weights, replicas=2) as (fleet, desk):
            weights.write_text("another")
            fleet.tell(0, ask(1, 13))
            await desk.until(lambda: len(processes) == 3 and processes[2].poll() is not None)
            assert fleet.living() == [1]

    asyncio.run(run())


def test_an_engine_that_hangs_is_ended_and_started_again(weights, processes, monkeypatch):
    """S12, S15: one whose socket is open and which says nothing for longer than a first token may take is ended: its
    requests are lost as those of one that died, and it is started again."""
    monkeypatch.setattr(module, "HUNG", 0.2)

    async def run():
        async with open_fleet(weights, replicas=2, first_seconds=0.1) as (fleet, desk):
            fleet.tell(0, ask(1, 16))
            fleet.tell(1, ask(2, 2))
            await desk.until(lambda: 0 in desk.gone and len(processes) > 2)

    asyncio.run(run())
    assert processes[0].poll() == -signal.SIGKILL


def test_an_engine_that_beats_is_not_ended(weights, processes, monkeypatch):
    """S15: silence counts from the last word."""
    monkeypatch.setattr(module, "HUNG", 0.3)

    async def run():
        async with open_fleet(weights, first_seconds=0.1) as (fleet, desk):
            for id in range(8):
                fleet.tell(0, ask(id, 1))
                await asyncio.sleep(0.06)
            assert not desk.gone

    asyncio.run(run())


def test_a_server_that_stood_still_does_not_end_its_engines(weights, monkeypatch):
    """S15: where all of it stood still, as by Ctrl-Z or in a machine that was paused, nobody has been silent."""
    monkeypatch.setattr(module, "HUNG", 0.5)

    async def run():
        async with open_fleet(weights, first_seconds=0.1) as (fleet, desk):
            await asyncio.sleep(0.05)
            time.sleep(1.0)  # the loop itself stands
            fleet.tell(0, ask(1, 1))
            await asyncio.sleep(0.1)
            assert fleet.living() == [0]
            assert not desk.gone

    asyncio.run(run())


def test_the_last_engine_is_given_up_before_its_process_is_buried(weights, processes, monkeypatch):
    """S15: the server hears of it at once, not when a process that hangs has been ended; and that is not forgotten."""
    monkeypatch.setattr(module, "PATIENCE", 0.5)

    async def run():
        async with open_fleet(weights) as (fleet, desk):
            fleet.tell(0, ask(1, 15))
            await asyncio.wait_for(fleet.dead.wait(), 10)
            assert desk.gone == [0]
            assert processes[0].poll() is None
        assert processes[0].poll() is not None

    asyncio.run(run())


def test_an_engine_that_reads_nothing_is_ended_from_a_thread(weights, processes, monkeypatch):
    """S14: its socket, where much waits to be sent, is given up by the loop that owns it."""
    monkeypatch.setattr(module, "PATIENCE", 0.05)

    async def run():
        async with open_fleet(weights) as (fleet, _):
            fleet.tell(0, ask(1, 16))
            fleet.tell(0, Ask(2, [1] * 2**20, SamplingOptions(), 0))

    asyncio.run(run(), debug=True)


def test_what_is_promised_is_what_every_engine_has(weights, processes):
    """Of context, longest text and rows the least that any engine found memory for; one that is started again and has
    less is not taken, but tried once more."""
    weights.with_name("weights.1").write_text('{"context": 32, "longest": 16, "slots": 1}')

    async def run():
        async with open_fleet(weights, replicas=2) as (fleet, desk):
            facts = fleet.facts
            assert (facts.context, facts.longest, facts.slots, facts.fingerprint) == (32, 16, 1, "one")
            weights.with_name("weights.0").write_text('{"context": 31}')
            fleet.tell(0, ask(1, 13))
            await desk.until(lambda: len(processes) == 4 and fleet.living() == [0, 1])
            assert processes[2].poll() is not None

    asyncio.run(run())


def test_a_fleet_can_be_closed_while_an_engine_is_started_again(weights, processes):
    """No orphan is left by that either."""

    async def run():
        async with open_fleet(weights, replicas=2) as (fleet, desk):
            weights.write_text("hangs")
            fleet.tell(0, ask(1, 13))
            await desk.until(lambda: len(processes) == 3)

    asyncio.run(run())


def test_engines_are_started_without_keys_and_with_threads_that_sleep(monkeypatch):
    """What they inherit: no key, as many threads as each has cores, unless the user has said otherwise."""
    monkeypatch.setenv("INSTAR_API_KEY", "sk-canary")
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    found = environment(ServeOptions(replicas=256))
    assert "sk-canary" not in " ".join(found.values())
    assert (found["OMP_WAIT_POLICY"], found["OMP_NUM_THREADS"]) == ("PASSIVE", "1")
    assert "OMP_NUM_THREADS" not in environment(ServeOptions())
    monkeypatch.setenv("GOMP_SPINCOUNT", "100")
    assert "OMP_WAIT_POLICY" not in environment(ServeOptions())


# A front that starts engines, asks one of them, and then does nothing.
FRONT = """
import asyncio, sys
from instar.config.options import EngineOptions, SamplingOptions, ServeOptions
from instar.serve import fleet as module
from instar.serve.wire import Ask, Told

class Desk:
    def heard(self, engine, message):
        if isinstance(message, Told):
            assert "torch" not in sys.modules
            print(message.events[0][0], *fleet.pids().values(), flush=True)

async def run():
    global fleet
    fleet = module.Fleet(ServeOptions(model=sys.argv[1], replicas=2, engine=EngineOptions(slots=2)))
    await fleet.start()
    fleet.desk = Desk()
    fleet.tell(0, Ask(77, [1, 2, 3], SamplingOptions(max_new_tokens=1), 0))
    await asyncio.sleep(100)

module.PROGRAM = tuple(sys.argv[2:]) or module.PROGRAM
asyncio.run(run())
"""


def ended(pid):
    """Whether a process is no more, or waits for its burial by a stranger."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def orphans(command):
    """Whether an engine outlives a front that is killed without a word."""
    with subprocess.Popen([sys.executable, "-c", FRONT, *command], stdout=subprocess.PIPE, text=True) as front:
        try:
            said, *pids = map(int, front.stdout.readline().split())
            assert said == 77
            assert len(pids) == 2
        finally:
            front.kill()
    until = time.monotonic() + 10
    while not (gone := all(map(ended, pids))) and time.monotonic() < until:
        time.sleep(0.01)
    return not gone


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked for in /proc")
def test_no_engine_keeps_another_from_ending(weights, tmp_path):
    """S14: no engine has inherited the front's end of another's socket, so that all hear of the front's death."""
    assert not orphans([str(weights), "-I", "-S", str(tmp_path / "engine.py")])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked for in /proc")
def test_no_engine_outlives_its_front(folder):
    """S14: real engines end by themselves too."""
    assert not orphans([str(folder)])
