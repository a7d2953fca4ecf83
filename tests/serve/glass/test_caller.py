"""The front's side of the process of the glass box, with one that imports nothing of ours."""

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from instar.config.options import GlassOptions, ServeOptions
from instar.serve.glass import caller as module
from instar.serve.glass.caller import WAITING, Caller
from instar.serve.glass.trouble import Trouble

FAKE = ("-P", str(Path(__file__).parent / "fake_worker.py"))


@asynccontextmanager
async def calling(**glass):
    caller = Caller(ServeOptions(model="m", api_key=("secret",), glass=GlassOptions(**glass)))
    caller.program = FAKE
    try:
        yield caller
    finally:
        await caller.close()


async def ask(caller, op, **args):
    _, body = await asyncio.wait_for(caller.ask(op, args), 20)
    return json.loads(body)


async def events(caller, **args):
    return [json.loads(body)["step"] async for _, body in caller.stream("events", args)]


async def until(true):
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.005)


def gone(pid):
    """Whether a process has ended and was buried."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def run(work):
    asyncio.run(work())


def test_a_process_is_started_by_the_first_question_alone_and_ends_with_the_server():
    """It costs nothing until somebody asks, is told the options without keys, and none is left over."""

    async def work():
        async with calling() as caller:
            assert caller.pid is None
            said = await ask(caller, "pid")
            assert said["pid"] == caller.pid
            assert (await ask(caller, "pid"))["pid"] == caller.pid
            assert said["start"]["model"] == "m"
            assert said["start"]["api_key"] == []
            assert caller.loaded == ["a"]
        assert gone(said["pid"])
        with pytest.raises(Trouble, match="has ended"):
            await ask(caller, "pid")
        assert caller.pid is None

    run(work)


def test_a_process_that_is_killed_is_told_of_and_started_again():
    """What was asked fails with 503 worker_died, and the next question starts another process."""

    async def work():
        async with calling() as caller:
            first = (await ask(caller, "pid"))["pid"]
            waiting = asyncio.ensure_future(caller.ask("hang", {}))
            await until(lambda: len(caller._jobs) == 1)
            os.kill(first, signal.SIGKILL)
            with pytest.raises(Trouble) as caught:
                await asyncio.wait_for(waiting, 20)
            assert (caught.value.status, caught.value.code) == (503, "worker_died")
            assert caller.loaded == []
            assert (await ask(caller, "pid"))["pid"] != first
            await until(lambda: gone(first))

    run(work)


@pytest.mark.parametrize("op", ["die", "break", "nonsense"])
def test_a_process_that_breaks_off_fails_what_was_asked_and_no_more(op, monkeypatch):
    """It ends, ends in the middle of an answer, or says what is no message: each is the end of that process alone."""
    monkeypatch.setattr(module, "PATIENCE", 0.05)

    async def work():
        async with calling() as caller:
            with pytest.raises(Trouble, match="has ended"):
                await ask(caller, op)
            assert (await ask(caller, "echo", x=1))["args"] == {"x": 1}

    run(work)


def test_what_nobody_waits_for_is_abandoned_and_the_next_job_works():
    """Where the client leaves, the process is told, lets go, and answers the next."""

    async def work():
        async with calling() as caller:
            leaving = asyncio.ensure_future(caller.ask("hang", {}))
            await until(lambda: caller.pid is not None and len(caller._jobs) == 1)
            following = asyncio.ensure_future(ask(caller, "echo", x=2))
            await asyncio.sleep(0.05)
            assert not following.done()
            leaving.cancel()
            assert (await following)["args"] == {"x": 2}
            await until(lambda: not caller._jobs)

    run(work)


def test_a_queue_that_is_full_is_told_at_once():
    """One works and eight wait; a tenth is told 429. A job that was left keeps its place until the process lets go."""

    async def work():
        async with calling() as caller:
            jobs = [asyncio.ensure_future(caller.ask("hang", {"more": 0.05})) for _ in range(WAITING + 1)]
            await until(lambda: caller.pid is not None and len(caller._jobs) == WAITING + 1)
            with pytest.raises(Trouble) as caught:
                await ask(caller, "echo")
            assert (caught.value.status, caught.value.code, caught.value.more) == (429, "busy", {"limit": WAITING + 1})
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
            with pytest.raises(Trouble, match="come again"):
                await ask(caller, "echo")
            await until(lambda: len(caller._jobs) <= WAITING)
            assert (await ask(caller, "echo"))["op"] == "echo"

    run(work)


def test_who_leaves_while_the_process_starts_leaves_no_job_and_no_process_behind():
    """A question that is cancelled before the process has come up takes no place, and the process is used by the next
    and ended with the server."""

    async def work():
        async with calling() as caller:
            early = asyncio.ensure_future(caller.ask("echo", {}))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            early.cancel()
            await asyncio.gather(early, return_exceptions=True)
            assert not caller._jobs
            pid = (await ask(caller, "pid"))["pid"]
            assert pid == caller.pid
        assert gone(pid)

    run(work)


def test_large_replies_come_whole_and_the_loop_goes_on():
    """48 MiB in one frame, more than any line may have by default, while other things go on."""

    async def work():
        async with calling() as caller:
            await ask(caller, "echo")
            ticks = 0

            async def tick():
                nonlocal ticks
                while True:
                    ticks += 1
                    await asyncio.sleep(0)

            ticking = asyncio.ensure_future(tick())
            header, body = await caller.ask("large", {"bytes": 48 * 2**20, "name": "x.bin"})
            ticking.cancel()
            assert len(body) == 48 * 2**20
            assert set(body[:9] + body[-9:]) == {ord("x")}
            assert header["name"] == "x.bin"
            assert ticks > 20

    run(work)


def test_events_come_one_by_one_and_their_troubles_behind_them():
    """A stream ends by itself, or by the trouble that stood in its way."""

    async def work():
        async with calling() as caller:
            assert await events(caller, count=3) == [0, 1, 2]
            stream = caller.stream("events", {"count": 2, "then": "unfit"})
            found = [await anext(stream), await anext(stream)]
            assert [(header["name"], json.loads(body)["step"]) for header, body in found] == [
                ("token", 0),
                ("token", 1),
            ]
            with pytest.raises(Trouble, match="unfit"):
                await anext(stream)
            assert not caller._jobs

    run(work)


def test_a_stream_that_is_left_is_abandoned():
    """Closing it tells the process, which is free then."""

    async def work():
        async with calling() as caller:
            stream = caller.stream("events", {"count": 10_000})
            await anext(stream)
            await stream.aclose()
            assert (await ask(caller, "echo"))["op"] == "echo"  # all events would take longer than `ask` waits
            assert not caller._jobs

    run(work)


def test_troubles_come_with_their_figures():
    """What the process tells keeps its status, code and figures."""

    async def work():
        async with calling() as caller:
            with pytest.raises(Trouble) as caught:
                await ask(caller, "trouble", status=413, code="too_long", more={"limit": 4096, "got": 5210})
            assert caught.value.status == 413
            assert caught.value.body["error"] == {"code": "too_long", "detail": "too_long", "limit": 4096, "got": 5210}

    run(work)


def test_a_process_that_nobody_asks_ends_and_another_takes_its_place():
    """After glass.idle seconds; a job that works is no idleness."""

    async def work():
        async with calling(idle=0.1) as caller:
            first = (await ask(caller, "pid"))["pid"]
            assert len(await events(caller, count=20)) == 20  # 0.2 s
            assert caller.pid == first
            await until(lambda: caller.pid is None)
            await until(lambda: gone(first))
            assert (await ask(caller, "pid"))["pid"] != first

    run(work)


def test_a_process_that_cannot_be_started_is_told():
    """No Python there: 503, and the next question tries again."""

    async def work():
        async with calling() as caller:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(sys, "executable", "/nowhere/python")
                with pytest.raises(Trouble, match="has ended"):
                    await ask(caller, "echo")
            assert not caller._jobs
            assert (await ask(caller, "echo"))["op"] == "echo"

    run(work)


def test_a_process_ends_where_the_front_is_killed():
    """The socket closes with the front, whatever ended that, and the process has nobody to work for."""

    async def work():
        caller = Caller(ServeOptions(model="m"))
        caller.program = FAKE
        pid = (await ask(caller, "pid"))["pid"]
        child = caller._child
        caller._child = None  # as if nobody could tidy up
        child.writer.transport.abort()
        await asyncio.get_running_loop().run_in_executor(None, child.process.wait, 20)
        assert child.process.returncode == 0
        assert child.process.pid == pid
        await caller.close()

    run(work)
